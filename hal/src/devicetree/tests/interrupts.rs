//! Interrupts and other references.

use super::*;

/// A GIC and a GPIO controller below a bus, both taking interrupts.
fn with(inside: impl FnOnce(Builder) -> Builder) -> Vec<u8> {
    tree(|root| {
        let root = root
            .bus(1, 1)
            .cells("interrupt-parent", &[1])
            .node("gic", |node| {
                node.flag("interrupt-controller")
                    .cells("#interrupt-cells", &[3])
                    .cells("phandle", &[1])
            });
        let root = root.node("gpio", |node| {
            node.cells("#interrupt-cells", &[2])
                .cells("#gpio-cells", &[2])
                .cells("phandle", &[2])
        });
        inside(root)
    })
}

#[test]
fn parents_are_inherited() {
    let blob = with(|root| {
        root.node("bus", |node| {
            node.node("uart", |node| {
                node.cells("interrupts", &[0, 11, 4, 1, 13, 0xf08, 0, 12, 1])
                    .bytes("interrupt-names", b"uart-sum\0timer\0uart-rx\0")
            })
        })
        .node("button", |node| {
            node.cells("interrupt-parent", &[2])
                .cells("interrupts", &[5, 2])
        })
    });
    let tree = Tree::new(&blob).unwrap();
    let uart = tree.find("/bus/uart").unwrap();
    let first = uart.interrupt(0).unwrap();
    assert_eq!(
        (first.controller().name(), first.cells()),
        ("gic", &[0, 11, 4][..])
    );
    let gic = first.gic().unwrap();
    assert_eq!(
        (gic.kind, gic.trigger, gic.intid()),
        (GicKind::Spi, Trigger::Level, 43)
    );
    let gic = uart.interrupt_named("timer").unwrap().gic().unwrap();
    assert_eq!(
        (gic.kind, gic.trigger, gic.intid()),
        (GicKind::Ppi, Trigger::Level, 29)
    );
    let gic = uart.interrupt_named("uart-rx").unwrap().gic().unwrap();
    assert_eq!(
        (gic.kind, gic.trigger, gic.intid()),
        (GicKind::Spi, Trigger::Edge, 44)
    );
    assert_eq!(
        text(uart.interrupt(3)),
        "/bus/uart: `interrupts` has no entry 3"
    );
    assert_eq!(
        text(uart.interrupt_named("dma")),
        "/bus/uart: `interrupt-names` does not have the name asked for"
    );

    let button = tree.find("/button").unwrap().interrupt(0).unwrap();
    assert_eq!(
        (button.controller().name(), button.cells()),
        ("gpio", &[5, 2][..])
    );
    assert_eq!(
        text(button.gic()),
        "/gpio: <0x5 0x2 0x0> is not an interrupt of a GIC"
    );
}

#[test]
fn extended_interrupts_name_their_controllers() {
    let blob = with(|root| {
        root.node("device", |node| {
            node.cells("interrupts-extended", &[2, 5, 1, 0, 1, 0, 7, 4, 99])
                .cells("interrupts", &[0, 1, 4])
        })
    });
    let tree = Tree::new(&blob).unwrap();
    let device = tree.find("/device").unwrap();
    assert_eq!(device.interrupt(0).unwrap().controller().name(), "gpio");
    assert!(
        matches!(device.interrupt(1), Err(Error::NoEntry { .. })),
        "phandle 0 is a hole"
    );
    assert_eq!(device.interrupt(2).unwrap().cells(), [0, 7, 4]);
    assert_eq!(
        text(device.interrupt(3)),
        "/device: `interrupts-extended` names phandle 0x63, which no node has"
    );
}

#[test]
fn circles_of_interrupt_parents_end() {
    let blob = tree(|root| {
        root.node("a", |node| {
            node.cells("phandle", &[1]).cells("interrupt-parent", &[2])
        })
        .node("b", |node| {
            node.cells("phandle", &[2]).cells("interrupt-parent", &[1])
        })
        .node("self", |node| {
            node.cells("phandle", &[3]).cells("interrupt-parent", &[3])
        })
        .node("device", |node| {
            node.cells("interrupt-parent", &[1])
                .cells("interrupts", &[1])
        })
        .node("other", |node| {
            node.cells("interrupt-parent", &[3])
                .cells("interrupts", &[1])
        })
        .node("orphan", |node| node.cells("interrupts", &[1]))
    });
    let tree = Tree::new(&blob).unwrap();
    for path in ["/device", "/other", "/orphan"] {
        assert_eq!(
            text(tree.find(path).unwrap().interrupt(0)),
            format!("{path}: `interrupts` leads to no interrupt controller")
        );
    }
}

#[test]
fn damaged_interrupts_are_refused() {
    let blob = with(|root| {
        root.node("short", |node| node.cells("interrupts", &[0, 1]))
            .node("none", |node| node)
            .node("odd", |node| {
                node.bytes("interrupt-parent", &[1])
                    .cells("interrupts", &[0])
            })
            .node("cut", |node| {
                node.bytes("interrupts-extended", &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0])
            })
            .node("map", |node| {
                node.cells("phandle", &[5])
                    .cells("#interrupt-cells", &[1])
                    .flag("interrupt-map")
            })
            .node("mapped", |node| node.cells("interrupts-extended", &[5, 1]))
            .node("wide", |node| {
                node.cells("phandle", &[6]).cells("#interrupt-cells", &[5])
            })
            .node("too-wide", |node| {
                node.cells("interrupts-extended", &[6, 1, 2, 3, 4, 5])
            })
            .node("zero", |node| {
                node.cells("phandle", &[7]).cells("#interrupt-cells", &[0])
            })
            .node("zeroed", |node| {
                node.cells("interrupt-parent", &[7]).flag("interrupts")
            })
            .node("huge", |node| {
                node.cells("phandle", &[8])
                    .cells("#interrupt-cells", &[u32::MAX])
            })
            .node("too-huge", |node| {
                node.cells("interrupts-extended", &[8, 1])
            })
            .node("espi", |node| {
                node.cells("interrupts", &[2, 1, 4, 0, 2000, 4, 1, 16, 4, 0, 1, 0])
            })
    });
    let tree = Tree::new(&blob).unwrap();
    let node = |path: &str| tree.find(path).unwrap();
    let fault = |path: &str| text(node(path).interrupt(0));
    assert_eq!(
        fault("/short"),
        "/short: `interrupts` is 8 bytes, not a multiple of 12"
    );
    assert_eq!(fault("/none"), "/none: no `interrupts`");
    assert_eq!(
        fault("/cut"),
        "/cut: `interrupts-extended` ends inside an entry"
    );
    assert_eq!(
        fault("/mapped"),
        "/map: interrupts behind an `interrupt-map` are not supported"
    );
    assert_eq!(
        fault("/too-wide"),
        "/wide: `#interrupt-cells` is 5, which cannot be used here"
    );
    assert_eq!(
        fault("/zeroed"),
        "/zero: `#interrupt-cells` is 0, which cannot be used here"
    );
    assert_eq!(
        fault("/too-huge"),
        format!(
            "/huge: `#interrupt-cells` is {}, which cannot be used here",
            u32::MAX
        )
    );
    for index in 0..4 {
        assert!(matches!(
            node("/espi").interrupt(index).unwrap().gic(),
            Err(Error::GicForm { .. })
        ));
    }
}

#[test]
fn references_carry_arguments() {
    let blob = with(|root| {
        root.node("clock", |node| {
            node.cells("phandle", &[4]).cells("#clock-cells", &[0])
        })
        .node("device", |node| {
            node.cells("clocks", &[4, 0, 4])
                .cells("reset-gpios", &[2, 3, 1, 4])
        })
    });
    let tree = Tree::new(&blob).unwrap();
    let device = tree.find("/device").unwrap();
    let clock = device.reference("clocks", "#clock-cells", 2).unwrap();
    assert_eq!((clock.node.name(), clock.arguments()), ("clock", &[][..]));
    assert!(device.reference("clocks", "#clock-cells", 1).is_err());
    assert!(device.reference("clocks", "#clock-cells", 3).is_err());
    let gpio = device.reference("reset-gpios", "#gpio-cells", 0).unwrap();
    assert_eq!((gpio.node.name(), gpio.arguments()), ("gpio", &[3, 1][..]));
    assert_eq!(
        text(device.reference("reset-gpios", "#gpio-cells", 1)),
        "/clock: no `#gpio-cells`"
    );
}
