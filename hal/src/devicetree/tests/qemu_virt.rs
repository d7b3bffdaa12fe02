//! The tree that QEMU gives to its `virt` machine: QEMU 7.2, `-M virt,gic-version=3 -cpu cortex-a53 -m 256`,
//! dumped with `dumpdtb` and repacked by `dtc -I dtb -O dtb` (it comes in 1 MiB of padding).

use super::*;

const BLOB: &[u8] = include_bytes!("../../../tests/data/qemu-virt.dtb");

#[test]
fn everything_a_boot_needs_is_found() {
    let tree = Tree::new(BLOB).unwrap();
    assert_eq!(tree.damage(), None);
    let memory: Vec<_> = tree.memory().collect();
    assert_eq!(
        memory,
        [Ok(Region {
            address: 0x4000_0000,
            size: 256 << 20
        })]
    );
    assert_eq!(
        (tree.reservations().count(), tree.reserved_memory().count()),
        (0, 0)
    );

    let (uart, options) = tree.stdout().unwrap();
    assert_eq!(
        (uart.path().to_string().as_str(), options),
        ("/pl011@9000000", None)
    );
    assert!(uart.is_compatible("arm,pl011") && uart.is_enabled());
    assert_eq!(
        uart.reg(0),
        Ok(Region {
            address: 0x900_0000,
            size: 0x1000
        })
    );
    assert_eq!(uart.interrupt(0).unwrap().gic().unwrap().intid(), 33);
    let clock = uart.reference("clocks", "#clock-cells", 1).unwrap();
    assert_eq!(clock.node.u32("clock-frequency"), Ok(24_000_000));

    let gic = tree.compatible("arm,gic-v3").next().unwrap();
    assert_eq!(gic.reg(0).unwrap().address, 0x800_0000);
    assert_eq!(gic.reg(1).unwrap().address, 0x80a_0000);
    assert_eq!(uart.interrupt(0).unwrap().controller(), gic);

    let timer = tree.compatible("arm,armv8-timer").next().unwrap();
    let timers: Vec<_> = (0..4)
        .map(|index| timer.interrupt(index).unwrap().gic().unwrap().intid())
        .collect();
    assert_eq!(timers, [29, 30, 27, 26]);

    assert_eq!(tree.find("/psci").unwrap().str("method"), Ok("hvc"));
    assert_eq!(tree.find("/cpus/cpu").unwrap().bus_reg(0), Ok(0));
    assert!(tree.find("/cpus/cpu").unwrap().reg(0).is_err());

    let transports: Vec<_> = tree.compatible("virtio,mmio").collect();
    assert_eq!(transports.len(), 32);
    assert!(transports.iter().all(Node::dma_coherent));
    assert_eq!(transports[31].reg(0).unwrap().address, 0xa00_3e00);
    assert_eq!(
        transports[31].interrupt(0).unwrap().gic().unwrap().intid(),
        32 + 47
    );
    assert_eq!(
        transports[31].interrupt(0).unwrap().gic().unwrap().trigger,
        Trigger::Edge
    );
}

#[test]
fn padding_as_qemu_gives_it_does_not_matter() {
    let mut blob = BLOB.to_vec();
    blob.resize(1 << 20, 0);
    blob[4..8].copy_from_slice(&(1u32 << 20).to_be_bytes());
    assert_eq!(Tree::blob_len(&blob), Ok(1 << 20));
    assert_eq!(Tree::new(&blob).unwrap().damage(), None);
}

#[test]
fn every_path_leads_back_to_its_node() {
    let tree = Tree::new(BLOB).unwrap();
    for node in tree.nodes() {
        assert_eq!(tree.find(&node.path().to_string()), Some(node));
    }
}

/// An independent reading: the crate `fdt` walks the same blob by itself.
#[test]
fn the_crate_fdt_sees_the_same_nodes() {
    let tree = Tree::new(BLOB).unwrap();
    let fdt = fdt::Fdt::new_unaligned_fallible(BLOB).unwrap();
    let ours: Vec<_> = tree
        .nodes()
        .skip(1)
        .map(|node| {
            let properties: Vec<_> = node
                .properties()
                .map(|property| (property.name().unwrap(), property.value))
                .collect();
            (
                node.lineage().count() - 1,
                node.name().to_string(),
                properties,
            )
        })
        .collect();
    let theirs: Vec<_> = fdt
        .root()
        .unwrap()
        .all_nodes()
        .unwrap()
        .map(|node| {
            let (depth, node) = node.unwrap();
            let properties = node.properties().unwrap().into_iter().map(|property| {
                let property = property.unwrap();
                (property.name, property.value)
            });
            (
                depth,
                node.name().unwrap().to_string(),
                properties.collect::<Vec<_>>(),
            )
        })
        .collect();
    assert!(ours.len() > 50);
    assert_eq!(ours, theirs);
}
