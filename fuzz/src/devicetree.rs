//! The devicetree: whatever the blob, lookups end, agree with each other, and say the same twice.

use std::fmt::{Debug, Write};

use hal::devicetree::{Error, MAX_DEPTH, MAX_NODES, Node, Region, Tree};

use crate::Target;
use crate::mutate::{Rng, put};

/// See [`target`].
pub const TARGET: Target = Target {
    name: "devicetree",
    run: target,
    iterations: 1_000,
    corpus: &[
        include_bytes!("../../hal/tests/data/qemu-virt.dtb"),
        include_bytes!("../../hal/tests/data/board.dtb"),
    ],
    words: &[
        b"\0\0\0\x01",
        b"\0\0\0\x02",
        b"\0\0\0\x03",
        b"\0\0\0\x04",
        b"\0\0\0\x09",
        b"\0\0\0\x01a\0\0\0",
        b"phandle\0",
        b"ranges\0",
        b"reg\0",
        b"#address-cells\0",
        b"interrupt-parent\0",
    ],
    mutate,
};

/// Asks a blob everything there is to ask.
pub fn target(data: &[u8]) {
    let first = answers(data);
    // Nothing has a memory from which a second answer could differ; now and then is enough.
    if data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) % 16 == 0 {
        assert_eq!(first, answers(data), "two readings differ");
    }
}

/// All that the interface says about a blob, as text.
fn answers(data: &[u8]) -> String {
    let mut out = String::new();
    say(&mut out, Tree::blob_len(data));
    let tree = match Tree::new(data) {
        Ok(tree) => tree,
        Err(error) => return error.to_string(),
    };
    if let Some(damage) = tree.damage() {
        assert!(damage.offset <= data.len(), "{damage}");
        let _ = write!(out, "{damage}");
    }
    let mut count = 0;
    for node in tree.nodes() {
        count += 1;
        place(&tree, node);
        values(&mut out, &tree, node);
    }
    assert!((1..=MAX_NODES).contains(&count), "{count} nodes");
    whole(&mut out, &tree);
    out
}

/// Whether the node is where it says it is.
fn place(tree: &Tree<'_>, node: Node<'_>) {
    assert!(node.children().all(|child| child.parent() == Some(node)));
    match node.parent() {
        Some(parent) => assert_eq!(parent.children().filter(|child| *child == node).count(), 1),
        None => assert_eq!(node, tree.root()),
    }
    let path = node.path().to_string();
    assert!(
        path.starts_with('/') && path.matches('/').count() < MAX_DEPTH + 1,
        "{path}"
    );
    // A twin that comes first takes the path, for this node and for all below.
    let mut lineage = std::iter::successors(Some(node), Node::parent);
    let first = lineage.all(|node| {
        node.parent()
            .is_none_or(|parent| parent.child(node.name()) == Some(node))
    });
    if tree.damage().is_none() && first {
        assert_eq!(tree.find(&path), Some(node));
        assert_eq!(tree.find(&format!("{path}:options")), Some(node));
    }
}

fn values<'t>(out: &mut String, tree: &'t Tree<'t>, node: Node<'t>) {
    const NAMES: &[&str] = &[
        "status",
        "compatible",
        "reg",
        "ranges",
        "phandle",
        "interrupts",
        "clock-frequency",
        "method",
        "",
        "reg\0",
    ];
    for name in NAMES {
        say(out, node.u32(name));
        say(out, node.u64(name));
        say(out, node.str(name));
        let _ = write!(out, "{:?} {}", node.property(name), node.has(name));
        node.strings(name).for_each(|string| out.push_str(string));
    }
    // One that is not UTF-8 reads as empty.
    let mut readable = node.compatible().filter(|string| !string.is_empty());
    assert!(readable.all(|string| node.is_compatible(string)));
    let _ = write!(
        out,
        "{} {} {:?}",
        node.is_enabled(),
        node.dma_coherent(),
        node.mac_address()
    );
    for index in [0, 1, 2, 63, usize::MAX] {
        say(out, node.bus_reg(index));
        say_region(out, node.reg(index));
        for (property, cells) in [
            ("clocks", "#clock-cells"),
            ("reset-gpios", "#gpio-cells"),
            ("reg", "reg"),
        ] {
            say(
                out,
                node.reference(property, cells, index)
                    .map(|found| format!("{found:?}")),
            );
        }
        interrupt(out, node, index);
    }
    node.regs()
        .take(256)
        .for_each(|region| say_region(out, region));
    say_region(out, node.reg_named("irq"));
    say(out, node.interrupt_named("uart-rx"));
    for property in ["interrupt-parent", "ethernet", "phandle"] {
        say(out, node.target(property));
    }
    if let Ok(phandle) = node.u32("phandle") {
        assert_eq!(
            tree.by_phandle(phandle).is_some(),
            phandle != 0 && phandle != u32::MAX,
            "phandle {phandle:#x}"
        );
    }
    say(out, node.child("a").ok_or(()));
    let _ = write!(out, "{:?}", tree.alias_of(node, "serial"));
}

fn interrupt(out: &mut String, node: Node<'_>, index: usize) {
    let interrupt = node.interrupt(index);
    if let Ok(interrupt) = interrupt {
        assert!((1..=4).contains(&interrupt.cells().len()));
        assert!(interrupt.controller().has("#interrupt-cells"));
        if let Ok(gic) = interrupt.gic() {
            assert!((16..1020).contains(&gic.intid()), "{gic:?}");
        }
        say(out, interrupt.gic());
    }
    say(out, interrupt);
}

fn whole(out: &mut String, tree: &Tree<'_>) {
    say(out, tree.stdout());
    say(out, tree.chosen().ok_or(()));
    tree.memory()
        .take(1000)
        .for_each(|region| say_region(out, region));
    tree.reservations()
        .take(1000)
        .for_each(|region| say_region(out, Ok(region)));
    for reserved in tree.reserved_memory().take(1000) {
        say_region(out, reserved.map(|reserved| reserved.region));
    }
    for path in [
        "",
        "/",
        ":",
        "serial0",
        "serial0:115200",
        "serial1/",
        "//",
        "/soc/pcie/nic",
        "ethernet0/mdio",
    ] {
        say(out, tree.find(path).ok_or(()));
    }
    for phandle in [0, 1, 2, 0x8002, u32::MAX] {
        say(out, tree.by_phandle(phandle).ok_or(()));
    }
    let _ = write!(out, "{}", tree.compatible("virtio,mmio").count());
}

fn say(out: &mut String, answer: Result<impl Debug, impl Debug>) {
    let _ = write!(out, "{answer:?};");
}

fn say_region(out: &mut String, region: Result<Region, Error>) {
    match region {
        Ok(region) => {
            assert!(
                region
                    .address
                    .checked_add(region.size.saturating_sub(1))
                    .is_some(),
                "{region}"
            );
            let _ = write!(out, "{region};");
        }
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.bytes().all(|byte| matches!(byte, b' '..=b'~')),
                "{error:?} is not fit for a console"
            );
            out.push_str(&error);
        }
    }
}

/// What stands where in a structure block.
enum Part {
    /// A token, or a word where one should be.
    Token(usize),
    /// A node's name and how long it is.
    Name(usize, usize),
    /// The length of a property's value; the name's offset follows.
    Length(usize),
    /// A value and how long it is.
    Value(usize, usize),
}

/// Changes one part of a tree on purpose.
#[expect(clippy::ptr_arg, reason = "the type is that of `Target::mutate`")]
fn mutate(blob: &mut Vec<u8>, rng: &mut Rng) {
    // One in eight: a field of the header.
    if rng.below(8) == 0 {
        let value = if rng.below(2) == 0 {
            rng.interesting()
        } else {
            rng.below(blob.len() + 8) as u32
        };
        return put(blob, 4 * rng.below(10), &value.to_be_bytes());
    }
    let parts = parts(blob);
    let word = |at: usize| word(blob, at).unwrap_or(0).to_be_bytes();
    match parts.get(rng.below(parts.len())) {
        Some(&Part::Token(at)) => {
            let token = [1, 2, 3, 4, 9, 0, 0xffff_ffff]
                .get(rng.below(7))
                .copied()
                .unwrap_or(0u32);
            put(blob, at, &token.to_be_bytes());
        }
        Some(&Part::Name(at, len)) => {
            let letter = b"/:@,a\0\xff "[rng.below(8)];
            put(blob, at + rng.below(len + 1), &[letter]);
        }
        Some(&Part::Length(at)) => match rng.below(3) {
            0 => put(blob, at, &rng.interesting().to_be_bytes()),
            1 => {
                let near = u32::from_be_bytes(word(at))
                    .wrapping_add(rng.below(16) as u32)
                    .wrapping_sub(8);
                put(blob, at, &near.to_be_bytes());
            }
            // Another property's name: `reg` becomes `ranges`, and so on.
            _ => {
                let others: Vec<_> = parts
                    .iter()
                    .filter_map(|part| {
                        if let Part::Length(at) = part {
                            Some(at + 4)
                        } else {
                            None
                        }
                    })
                    .collect();
                let other = others
                    .get(rng.below(others.len()))
                    .copied()
                    .unwrap_or(at + 4);
                let name = word(other);
                put(blob, at + 4, &name);
            }
        },
        Some(&Part::Value(at, len)) => {
            let cell = at + (rng.below(len + 1) & !3);
            match rng.below(3) {
                0 => {
                    let from = rng.below(blob.len()) & !3;
                    let value = word(from);
                    put(blob, cell, &value);
                }
                _ => put(blob, cell, &rng.interesting().to_be_bytes()),
            }
        }
        None => put(blob, 0, b"\xd0\x0d\xfe\xed"),
    }
}

fn word(blob: &[u8], at: usize) -> Option<u32> {
    blob.get(at..)?
        .first_chunk()
        .map(|word| u32::from_be_bytes(*word))
}

/// Finds the parts as far as the structure block can be read. Knows nothing of how `hal` reads it.
fn parts(blob: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = word(blob, 8).unwrap_or(0) as usize;
    while let Some(token) = word(blob, at) {
        parts.push(Part::Token(at));
        at += 4;
        match token {
            1 => {
                let len = blob.iter().skip(at).take_while(|&&byte| byte != 0).count();
                parts.push(Part::Name(at, len));
                at += (len + 4) & !3;
            }
            3 => {
                let len = word(blob, at).unwrap_or(0) as usize;
                parts.push(Part::Length(at));
                parts.push(Part::Value(at + 8, len.min(blob.len())));
                at = at
                    .saturating_add(8)
                    .saturating_add(len.saturating_add(3) & !3);
            }
            2 | 4 => {}
            _ => break,
        }
    }
    parts
}
