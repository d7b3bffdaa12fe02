//! From bus addresses to CPU addresses.

use super::*;

/// The outcome of `reg(0)` of `path`.
fn reg(blob: &[u8], path: &str) -> Result<Region, Error> {
    Tree::new(blob).unwrap().find(path).unwrap().reg(0)
}

fn region(address: u64, size: u64) -> Result<Region, Error> {
    Ok(Region { address, size })
}

#[test]
fn cells_of_the_parent_count() {
    let blob = tree(|root| {
        root.bus(1, 1)
            .node("one", |node| {
                node.bus(2, 2).cells("reg", &[0x1000, 0x10, 0x2000, 0x20])
            })
            .node("odd", |node| node.bytes("reg", &[0; 6]))
            .node("empty", |node| node.flag("reg"))
            .node("none", |node| node)
    });
    assert_eq!(reg(&blob, "/one"), region(0x1000, 0x10));
    let tree = Tree::new(&blob).unwrap();
    let one = tree.find("/one").unwrap();
    assert_eq!(one.reg(1), region(0x2000, 0x20));
    assert_eq!(one.regs().count(), 2);
    assert_eq!(text(one.reg(2)), "/one: `reg` has no entry 2");
    assert_eq!(
        text(one.reg(usize::MAX)),
        format!("/one: `reg` has no entry {}", usize::MAX)
    );
    assert_eq!(
        text(reg(&blob, "/odd")),
        "/odd: `reg` is 6 bytes, not a multiple of 8"
    );
    assert_eq!(text(reg(&blob, "/empty")), "/empty: `reg` has no entry 0");
    assert_eq!(text(reg(&blob, "/none")), "/none: no `reg`");
    assert_eq!(
        tree.find("/odd").unwrap().regs().collect::<Vec<_>>().len(),
        1,
        "one error"
    );
}

#[test]
fn cells_have_defaults() {
    let blob = tree(|root| root.node("node", |node| node.cells("reg", &[1, 2, 3])));
    assert_eq!(reg(&blob, "/node"), region(0x1_0000_0002, 3));
}

#[test]
fn entries_have_names() {
    let blob = tree(|root| {
        root.bus(1, 1).node("node", |node| {
            node.cells("reg", &[1, 2, 3, 4])
                .bytes("reg-names", b"first\0second\0third\0")
        })
    });
    let tree = Tree::new(&blob).unwrap();
    let node = tree.find("/node").unwrap();
    assert_eq!(node.reg_named("second"), region(3, 4));
    assert_eq!(text(node.reg_named("third")), "/node: `reg` has no entry 2");
    assert_eq!(
        text(node.reg_named("fourth")),
        "/node: `reg-names` does not have the name asked for"
    );
    assert_eq!(text(tree.root().reg_named("x")), "/: no `reg-names`");
}

#[test]
fn addresses_go_through_every_bus() {
    let blob = tree(|root| {
        root.bus(2, 2).node("soc", |node| {
            node.bus(2, 2)
                .flag("ranges")
                .node("internal-regs@d0000000", |node| {
                    node.bus(1, 1)
                        .cells("ranges", &[0, 0, 0xd000_0000, 0x200_0000])
                        .node("uart@12000", |node| node.cells("reg", &[0x12000, 0x18]))
                        .node("late@2000000", |node| {
                            node.cells("reg", &[0x1ff_fff0, 0x20])
                        })
                        .node("dead-bus", |node| {
                            node.bus(1, 0).node("phy@1", |node| node.cells("reg", &[1]))
                        })
                })
        })
    });
    let regs = "/soc/internal-regs@d0000000";
    assert_eq!(
        reg(&blob, &format!("{regs}/uart")),
        region(0xd001_2000, 0x18)
    );
    assert_eq!(
        text(reg(&blob, &format!("{regs}/late"))),
        format!("{regs}: `ranges` does not cover 0x20 bytes at 0x1fffff0")
    );
    assert_eq!(
        text(reg(&blob, &format!("{regs}/dead-bus/phy"))),
        format!("{regs}/dead-bus: no `ranges`, its children have no CPU address")
    );
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(
        tree.find(&format!("{regs}/dead-bus/phy"))
            .unwrap()
            .bus_reg(0),
        Ok(1)
    );
}

#[test]
fn pci_address_spaces_are_kept_apart() {
    let blob = tree(|root| {
        root.bus(2, 2).node("pcie@10000000", |node| {
            node.text("device_type", "pci")
                .bus(3, 2)
                .cells("ranges", &[0x0100_0000, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000])
                .node("config", |node| {
                    node.cells("reg", &[0x0000_0800, 0, 0, 0, 0])
                })
                .node("io", |node| {
                    node.cells("reg", &[0x8100_0000, 0, 0x100, 0, 0x10])
                })
                .node("memory", |node| {
                    node.cells("reg", &[0x0200_0000, 0, 0x100, 0, 0x10])
                })
        })
    });
    assert_eq!(reg(&blob, "/pcie/io"), region(0x3eff_0100, 0x10));
    assert!(matches!(
        reg(&blob, "/pcie/config"),
        Err(Error::OutsideRanges { .. })
    ));
    assert!(matches!(
        reg(&blob, "/pcie/memory"),
        Err(Error::OutsideRanges { .. })
    ));
}

#[test]
fn pci_bridges_nest() {
    let blob = tree(|root| {
        root.bus(2, 2).node("pcie", |node| {
            node.text("device_type", "pci")
                .bus(3, 2)
                .cells(
                    "ranges",
                    &[0x0200_0000, 0, 0x1000_0000, 0, 0xe800_0000, 0, 0x100_0000],
                )
                .node("bridge", |node| {
                    node.text("device_type", "pci")
                        .bus(3, 2)
                        .cells(
                            "ranges",
                            &[0x0300_0000, 0, 0, 0x0200_0000, 0, 0x1000_0000, 0, 0x1_0000],
                        )
                        .node("nic", |node| {
                            node.cells("reg", &[0x4300_0000, 0, 0x40, 0, 8])
                        })
                })
        })
    });
    assert_eq!(reg(&blob, "/pcie/bridge/nic"), region(0xe800_0040, 8));
}

#[test]
fn chip_selects_are_spaces_of_their_own() {
    // A static memory controller: the first cell is the chip select, so 2 cells are one number per space.
    let blob = tree(|root| {
        root.bus(1, 1).node("smc", |node| {
            node.bus(2, 1)
                .cells(
                    "ranges",
                    &[0, 0, 0x4000_0000, 0x1000, 1, 0, 0x5000_0000, 0x1000],
                )
                .node("flash", |node| node.cells("reg", &[1, 0x10, 0x20]))
        })
    });
    assert_eq!(reg(&blob, "/smc/flash"), region(0x5000_0010, 0x20));
}

#[test]
fn nothing_overflows() {
    let max = u32::MAX;
    let blob = tree(|root| {
        root.bus(2, 2)
            .node("top", |node| node.cells("reg", &[max, max, 0, 1]))
            .node("over", |node| node.cells("reg", &[max, max, 0, 2]))
            .node("all", |node| node.cells("reg", &[0, 0, max, max]))
            .node("bus", |node| {
                node.bus(2, 2)
                    .cells("ranges", &[0, 0, max, 0, max, max])
                    .node("child", |node| node.cells("reg", &[0, 1, 0, 1]))
                    .node("far", |node| node.cells("reg", &[1, 0, 0, 1]))
            })
            .node("shift", |node| {
                node.bus(2, 1)
                    .cells("ranges", &[0, 0, max, max, max])
                    .node("child", |node| node.cells("reg", &[0, 8, 1]))
            })
            .node("wide", |node| {
                node.bus(3, 2)
                    .flag("ranges")
                    .node("child", |node| node.cells("reg", &[1, 2, 3, 4, 5]))
            })
            .node("huge", |node| {
                node.bus(4, 2)
                    .flag("ranges")
                    .node("child", |node| node.cells("reg", &[0; 6]))
            })
            .node("sizes", |node| {
                node.bus(1, 3)
                    .flag("ranges")
                    .node("child", |node| node.cells("reg", &[0; 4]))
            })
    });
    assert_eq!(reg(&blob, "/top"), region(u64::MAX, 1));
    assert_eq!(
        text(reg(&blob, "/over")),
        "/over: `reg` runs past the end of the address space"
    );
    assert_eq!(reg(&blob, "/all"), region(0, u64::MAX));
    assert_eq!(reg(&blob, "/bus/child"), region(0xffff_ffff_0000_0001, 1));
    assert_eq!(
        text(reg(&blob, "/bus/far")),
        "/bus: `ranges` runs past the end of the address space"
    );
    assert_eq!(
        text(reg(&blob, "/shift/child")),
        "/shift: `ranges` runs past the end of the address space"
    );
    assert_eq!(
        reg(&blob, "/wide/child"),
        region(0x2_0000_0003, 0x4_0000_0005)
    );
    assert_eq!(
        text(reg(&blob, "/huge/child")),
        "/huge: `#address-cells` is 4, which cannot be used here"
    );
    assert_eq!(
        text(reg(&blob, "/sizes/child")),
        "/sizes: `#size-cells` is 3, which cannot be used here"
    );
}

#[test]
fn ranges_that_are_not_whole_entries_are_refused() {
    let blob = tree(|root| {
        root.bus(1, 1).node("bus", |node| {
            node.bus(1, 1)
                .cells("ranges", &[0, 0, 0x1000, 0])
                .node("child", |node| node.cells("reg", &[0, 4]))
        })
    });
    assert_eq!(
        text(reg(&blob, "/bus/child")),
        "/bus: `ranges` is 16 bytes, not a multiple of 12"
    );
}
