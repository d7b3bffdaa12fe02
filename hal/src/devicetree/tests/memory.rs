//! Memory, reserved memory, reservations.

use super::*;

fn board() -> Vec<u8> {
    Builder::new()
        .reserve(0x4000_0000, 0x1000)
        .reserve(u64::MAX - 1, 8)
        .reserve(0, u64::MAX)
        .node("", |root| {
            root.bus(2, 2)
                .node("memory@0", |node| {
                    node.text("device_type", "memory")
                        .cells("reg", &[0, 0, 0, 0x2000_0000, 0, 0, 0, 0, 1, 0, 0, 0x1000])
                })
                .node("memory@9", |node| {
                    node.text("device_type", "memory")
                        .text("status", "disabled")
                        .cells("reg", &[0, 9, 0, 9])
                })
                .node("memory@a", |node| {
                    node.text("device_type", "memory").bytes("reg", &[0; 15])
                })
                .node("reserved-memory", |node| {
                    node.bus(2, 2)
                        .flag("ranges")
                        .node("psci-area@4000000", |node| {
                            node.cells("reg", &[0, 0x400_0000, 0, 0x20_0000])
                                .flag("no-map")
                        })
                        .node("dynamic", |node| node.cells("size", &[0, 0x1000]))
                        .node("off@1", |node| {
                            node.cells("reg", &[0, 1, 0, 1]).text("status", "disabled")
                        })
                        .node("buffer@2", |node| {
                            node.cells("reg", &[0, 2, 0, 3, 0, 4, 0, 5])
                        })
                        .node("bad@3", |node| node.cells("reg", &[0, 2]))
                })
        })
        .blob()
}

#[test]
fn memory_of_enabled_nodes_is_found() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let memory: Vec<_> = tree.memory().collect();
    assert_eq!(
        memory[..2],
        [
            Ok(Region {
                address: 0,
                size: 0x2000_0000
            }),
            Ok(Region {
                address: 1 << 32,
                size: 0x1000
            }),
        ]
    );
    assert_eq!(
        text(memory[2]),
        "/memory@a: `reg` is 15 bytes, not a multiple of 16"
    );
    assert_eq!(memory.len(), 3);
}

#[test]
fn reservations_end_at_the_zero_entry() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let reservations: Vec<_> = tree
        .reservations()
        .map(|region| (region.address, region.size))
        .collect();
    assert_eq!(
        reservations,
        [(0x4000_0000, 0x1000), (u64::MAX - 1, 2), (0, u64::MAX)]
    );
}

#[test]
fn reservations_end_with_their_block() {
    // Without its zero entry, the block would go on in the structure block.
    let mut blob = board();
    blob[40 + 48..][..16].fill(1);
    assert_eq!(Tree::new(&blob).unwrap().reservations().count(), 4);
    // It begins where only half an entry is left.
    let at = blob.len() as u32 - 8;
    blob[16..20].copy_from_slice(&at.to_be_bytes());
    assert_eq!(Tree::new(&blob).unwrap().reservations().count(), 0);
}

#[test]
fn reserved_memory_says_what_must_not_be_mapped() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let reserved: Vec<_> = tree.reserved_memory().collect();
    let region = |address, size, no_map| {
        Ok(Reserved {
            region: Region { address, size },
            no_map,
        })
    };
    assert_eq!(
        reserved[..3],
        [
            region(0x400_0000, 0x20_0000, true),
            region(2, 3, false),
            region(4, 5, false),
        ]
    );
    assert_eq!(
        text(reserved[3]),
        "/reserved-memory/bad@3: `reg` is 8 bytes, not a multiple of 16"
    );
    assert_eq!(reserved.len(), 4);
}
