//! Damaged blobs: what is refused, what is salvaged, and that nothing panics.

use super::*;

/// The names of all nodes.
fn names(blob: &[u8]) -> Vec<String> {
    Tree::new(blob)
        .unwrap()
        .nodes()
        .map(|node| node.path().to_string())
        .collect()
}

fn damage(blob: &[u8]) -> Option<DamageKind> {
    Tree::new(blob).unwrap().damage().map(|damage| damage.kind)
}

fn patched(mut blob: Vec<u8>, field: usize, value: u32) -> Vec<u8> {
    blob[field * 4..][..4].copy_from_slice(&value.to_be_bytes());
    blob
}

#[test]
fn headers_are_checked_first() {
    let blob = || tree(|root| root.text("model", "x"));
    let total = blob().len();
    assert_eq!(Tree::blob_len(&blob()[..40]), Ok(total));
    assert_eq!(
        Tree::blob_len(&blob()[..39]),
        Err(Error::TooShort { len: 39 })
    );
    assert_eq!(Tree::blob_len(&[]), Err(Error::TooShort { len: 0 }));
    let refused = |field, value| Tree::new(&patched(blob(), field, value)).err();
    assert_eq!(refused(0, 0xfeed_d00d), Some(Error::Magic(0xfeed_d00d)));
    assert_eq!(
        refused(5, 16),
        Some(Error::Version {
            version: 16,
            compatible: 16
        })
    );
    assert_eq!(
        refused(6, 18),
        Some(Error::Version {
            version: 17,
            compatible: 18
        })
    );
    assert_eq!(refused(5, 18), None, "a later version may be compatible");
    for size in [0, 39, MAX_BLOB_BYTES as u32 + 1, u32::MAX] {
        assert_eq!(refused(1, size), Some(Error::TotalSize(size)));
    }
    let longer = total as u32 + 1;
    assert_eq!(
        refused(1, longer),
        Some(Error::Truncated {
            len: total,
            total: total + 1
        })
    );
    for field in [2, 3, 4, 8, 9] {
        for value in [total as u32 + 1, u32::MAX, u32::MAX - 8, 1 << 31] {
            assert!(
                matches!(refused(field, value), Some(Error::Block { .. })),
                "{field} {value}"
            );
        }
    }
    assert!(
        matches!(refused(2, 8), Some(Error::Block { .. })),
        "a block inside the header"
    );
}

#[test]
fn tiny_structure_blocks_have_no_root() {
    let blob = tree(|root| root);
    for len in 0..5 {
        assert_eq!(
            Tree::new(&patched(blob.clone(), 9, len)).err(),
            Some(Error::NoRoot),
            "{len}"
        );
    }
    assert_eq!(Tree::new(&Builder::new().blob()).err(), Some(Error::NoRoot));
}

#[test]
fn unaligned_blobs_are_read() {
    let mut blob = vec![0];
    blob.extend(tree(|root| {
        root.node("uart", |node| node.cells("reg", &[1, 2, 3]))
    }));
    assert_eq!(names(&blob[1..]), ["/", "/uart"]);
}

#[test]
fn nodes_before_the_damage_stay() {
    let start = || {
        Builder::new()
            .begin("")
            .begin("uart")
            .text("status", "okay")
            .end()
    };
    let blob = start().word(0x77).begin("lost").unfinished_blob();
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.find("/uart").unwrap().str("status"), Ok("okay"));
    let damage = tree.damage().unwrap();
    assert_eq!(
        damage.to_string(),
        "devicetree damaged at byte 0x64: 0x00000077 is no token"
    );

    let blob = start().unfinished_blob();
    assert_eq!(names(&blob), ["/", "/uart"]);
    assert_eq!(super::damage::damage(&blob), Some(DamageKind::NoEnd));
    let blob = start().blob();
    assert_eq!(super::damage::damage(&blob), Some(DamageKind::EarlyEnd));
}

#[test]
fn every_truncation_leaves_what_was_complete() {
    let whole = tree(|root| {
        root.text("model", "x")
            .node("a@1", |node| node.text("status", "okay"))
            .node("b", |node| {
                node.cells("reg", &[1, 2, 3])
                    .node("c", |node| node.flag("f"))
            })
    });
    let structs_len = u32::from_be_bytes(whole[36..40].try_into().unwrap());
    let mut most = 0;
    for len in 8..structs_len {
        let blob = patched(whole.clone(), 9, len);
        let tree = Tree::new(&blob).unwrap();
        assert!(tree.damage().is_some(), "{len}");
        let count = tree.nodes().count();
        assert!(count >= most);
        most = count;
    }
    assert_eq!(most, 4);
}

#[test]
fn properties_before_a_bad_one_stay() {
    let blob = Builder::new()
        .begin("")
        .begin("uart")
        .cells("reg", &[1, 2, 3])
        .word(3)
        .word(0xffff_fff0)
        .word(0)
        .unfinished_blob();
    let tree = Tree::new(&blob).unwrap();
    assert!(tree.find("/uart").unwrap().reg(0).is_ok());
    assert_eq!(
        tree.damage().unwrap().kind,
        DamageKind::PropertyLength(0xffff_fff0)
    );
}

#[test]
fn a_bad_property_name_costs_one_property() {
    let blob = Builder::new()
        .begin("")
        .word(3)
        .word(4)
        .word(0x1000)
        .word(0)
        .text("model", "x")
        .end()
        .blob();
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.root().str("model"), Ok("x"));
    assert_eq!(
        tree.damage().unwrap().kind,
        DamageKind::PropertyName(0x1000)
    );
}

#[test]
fn nodes_behind_a_superfluous_end_are_kept() {
    let blob = Builder::new()
        .begin("")
        .node("a", |node| node.end())
        .node("b", |node| node)
        .end()
        .blob();
    assert_eq!(names(&blob), ["/", "/a", "/b"]);
    assert_eq!(damage(&blob), Some(DamageKind::ExtraEndNode));
}

#[test]
fn nops_are_skipped() {
    let blob = Builder::new()
        .word(4)
        .begin("")
        .word(4)
        .text("a", "x")
        .word(4)
        .text("b", "y")
        .word(4)
        .end()
        .word(4)
        .blob();
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(
        (tree.root().str("a"), tree.root().str("b")),
        (Ok("x"), Ok("y"))
    );
    assert_eq!(tree.damage(), None);
}

#[test]
fn odd_names_are_reported() {
    for name in ["", "a/b", "a:b", "a b", "é"] {
        let blob = tree(|root| root.node(name, |node| node.flag("here")));
        let tree = Tree::new(&blob).unwrap();
        assert_eq!(tree.damage().unwrap().kind, DamageKind::Name, "{name:?}");
        assert!(tree.nodes().nth(1).unwrap().has("here"));
    }
    let blob = Builder::new().word(1).word(0x2020_2020).unfinished_blob();
    assert_eq!(
        Tree::new(&blob).err(),
        Some(Error::NoRoot),
        "the name has no end"
    );
}

#[test]
fn properties_after_children_are_reported() {
    let blob = tree(|root| root.node("a", |node| node).bus(7, 7).node("b", |node| node));
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.damage().unwrap().kind, DamageKind::PropertyOrder);
    assert!(!tree.root().has("#address-cells"));
    assert!(tree.find("/b").is_some());
}

/// Found by fuzz: what the index noted, lookups could not see.
#[test]
fn properties_behind_a_superfluous_end_are_nobodys() {
    let blob = Builder::new()
        .begin("")
        .end()
        .cells("#interrupt-cells", &[3])
        .cells("phandle", &[1])
        .end()
        .blob();
    let tree = Tree::new(&blob).unwrap();
    assert!(!tree.root().has("phandle") && tree.by_phandle(1).is_none());

    let mut deep = Builder::new();
    for _ in 0..=MAX_DEPTH {
        deep = deep.begin("n");
    }
    deep = deep.end().cells("phandle", &[1]);
    for _ in 0..MAX_DEPTH {
        deep = deep.end();
    }
    let blob = deep.blob();
    assert_eq!(Tree::new(&blob).unwrap().by_phandle(1), None);
}

#[test]
fn too_deep_and_too_many_nodes_are_left_out() {
    let mut deep = Builder::new().begin("");
    for _ in 0..1000 {
        deep = deep.begin("n").flag("p");
    }
    for _ in 0..1000 {
        deep = deep.end();
    }
    let blob = deep
        .node("after", |node| node.cells("reg", &[0, 1, 2]))
        .end()
        .blob();
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.damage().unwrap().kind, DamageKind::Depth);
    assert_eq!(tree.nodes().count(), MAX_DEPTH + 1);
    assert_eq!(tree.find("/after").unwrap().reg(0).unwrap().address, 1);
    let deepest = tree.nodes().nth(MAX_DEPTH - 1).unwrap();
    assert_eq!(deepest.path().to_string(), "/n".repeat(MAX_DEPTH - 1));
    assert_eq!(tree.find(&deepest.path().to_string()), Some(deepest));

    let mut many = Builder::new().begin("");
    for index in 0..2000 {
        many = many.node(&format!("n@{index:x}"), |node| {
            node.node("child", |node| node.cells("phandle", &[9]))
        });
    }
    let blob = many.end().blob();
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.damage().unwrap().kind, DamageKind::Nodes);
    assert_eq!(tree.nodes().count(), MAX_NODES);
    assert_eq!(tree.root().children().count(), 512);
}

/// Damages every word of the structure blocks of two trees. Most of it must cost the console nothing, and no damage that
/// is noticed may move the console to another address: that would be worse than no console.
#[test]
fn the_console_survives_nearly_any_damaged_word() {
    let trees: [(&[u8], u64); 2] = [
        (
            include_bytes!("../../../tests/data/qemu-virt.dtb"),
            0x900_0000,
        ),
        (include_bytes!("../../../tests/data/board.dtb"), 0xd001_2000),
    ];
    for (whole, address) in trees {
        let word = |field: usize| u32::from_be_bytes(whole[field * 4..][..4].try_into().unwrap());
        let structs = word(2) as usize / 4..(word(2) + word(9)) as usize / 4;
        let (mut count, mut found) = (0, 0);
        for field in structs {
            let flipped = [0, 1, 2, 5, 9, 30].map(|bit| word(field) ^ 1 << bit);
            for value in flipped.into_iter().chain([0]) {
                let blob = patched(whole.to_vec(), field, value);
                let tree = Tree::new(&blob).unwrap();
                let console = tree.stdout().and_then(|(node, _)| node.reg(0));
                count += 1;
                match console {
                    Ok(region) if region.address == address => found += 1,
                    Ok(region) => {
                        assert_eq!(tree.damage(), None, "{field} = {value:#x}: {region}");
                    }
                    Err(_) => {}
                }
            }
        }
        println!("{found} of {count}");
        assert!(found * 100 > count * 90, "{found} of {count}");
    }
}

/// Blocks made so that a careless reader looks at the same bytes again and again: 1 MiB that takes milliseconds to read
/// once and minutes to read for every node.
#[test]
fn crafted_trees_are_read_in_linear_time() {
    let node_with_far_property = |blob: Builder| {
        let far = (1 << 19) - blob.structs.len() as u32;
        blob.begin("a").word(3).word(far).word(0)
    };
    let patterns: [fn(Builder) -> Builder; 7] = [
        |blob| blob.word(0x4141_4141),
        |blob| blob.word(1),
        |blob| blob.word(2),
        |blob| blob.word(4),
        |blob| blob.word(3).word(0).word(u32::MAX),
        |blob| blob.begin("a").word(0x4141_4141),
        |blob| blob.word(3).word(4).word(0).word(0x4141_4141),
    ];
    let start = std::time::Instant::now();
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    for pattern in patterns {
        let mut blob = Builder::new().begin("").text("p", "");
        while blob.structs.len() < 1 << 20 {
            blob = pattern(blob);
        }
        blobs.push(blob.unfinished_blob());
    }
    let mut blob = Builder::new().begin("").text("p", "");
    while blob.structs.len() < 1 << 18 {
        blob = node_with_far_property(blob);
    }
    blob.structs.resize(1 << 20, b'A');
    blobs.push(blob.unfinished_blob());
    for blob in blobs {
        let tree = Tree::new(&blob).unwrap();
        assert!(tree.damage().is_some());
        assert!(tree.nodes().all(|node| !node.has("q")));
        assert_eq!(tree.memory().count(), 0);
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
