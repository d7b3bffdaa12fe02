//! `tests/data/board.dts`, compiled by `dtc`: nested buses, a PCI host, aliases, reserved memory.

use super::*;

const BLOB: &[u8] = include_bytes!("../../../tests/data/board.dtb");

#[test]
fn the_console_is_found_behind_two_buses() {
    let tree = Tree::new(BLOB).unwrap();
    assert_eq!(tree.damage(), None);
    let (uart, options) = tree.stdout().unwrap();
    assert_eq!(
        uart.path().to_string(),
        "/soc/internal-regs@d0000000/serial@12000"
    );
    assert_eq!(options, Some("115200n8"));
    let address = 0xd001_2000;
    assert_eq!(
        uart.reg(0),
        Ok(Region {
            address,
            size: 0x18
        })
    );
    let intid = |name| uart.interrupt_named(name).unwrap().gic().unwrap().intid();
    assert_eq!(
        [intid("uart-sum"), intid("uart-tx"), intid("uart-rx")],
        [43, 44, 45]
    );
    let clock = uart.reference("clocks", "#clock-cells", 1).unwrap();
    assert_eq!(
        (clock.node.name(), clock.arguments()),
        ("clock@13000", &[3][..])
    );
}

#[test]
fn the_network_is_found() {
    let tree = Tree::new(BLOB).unwrap();
    let enabled: Vec<_> = tree.compatible("marvell,armada-3700-neta").collect();
    assert_eq!(enabled.len(), 1);
    assert_eq!(tree.alias_of(enabled[0], "ethernet"), Some(0));
    assert_eq!(enabled[0].mac_address(), Some([0xf0, 0xad, 0x4e, 1, 2, 3]));
    let switch = tree.compatible("marvell,mv88e6085").next().unwrap();
    assert_eq!(switch.bus_reg(0), Ok(1));
    let names: Vec<_> = switch
        .child("ports")
        .unwrap()
        .children()
        .map(|port| port.str("label").unwrap())
        .collect();
    assert_eq!(names, ["cpu", "wan"]);
    let cpu_port = switch.child("ports").unwrap().child("port@0").unwrap();
    assert_eq!(cpu_port.target("ethernet"), Ok(enabled[0]));
    assert!(cpu_port.target("label").is_err() && cpu_port.target("phy-handle").is_err());
}

#[test]
fn interrupts_go_to_different_controllers() {
    let tree = Tree::new(BLOB).unwrap();
    let uart = tree.find("serial1").unwrap();
    assert!(!uart.is_enabled());
    let edge = uart.interrupt(0).unwrap().gic().unwrap();
    assert_eq!((edge.intid(), edge.trigger), (62, Trigger::Edge));
    assert_eq!(
        uart.interrupt(1).unwrap().controller(),
        tree.find("/soc/internal-regs/gpio").unwrap()
    );
    let nic = tree.find("/soc/pcie/nic").unwrap();
    assert!(matches!(nic.interrupt(0), Err(Error::InterruptMap(_))));
}

#[test]
fn pci_windows_translate() {
    let tree = Tree::new(BLOB).unwrap();
    let nic = tree.find("/soc/pcie/nic").unwrap();
    assert!(
        matches!(nic.reg(0), Err(Error::OutsideRanges { .. })),
        "configuration space"
    );
    assert_eq!(
        nic.reg(1),
        Ok(Region {
            address: 0xe800_0000,
            size: 0x4000
        })
    );
    assert_eq!(
        nic.reg(2),
        Ok(Region {
            address: 0xef00_0100,
            size: 0x20
        })
    );
}

#[test]
fn secure_memory_is_reserved_twice() {
    let tree = Tree::new(BLOB).unwrap();
    let secure = Region {
        address: 0x400_0000,
        size: 0x20_0000,
    };
    assert_eq!(tree.reservations().collect::<Vec<_>>(), [secure]);
    let reserved: Vec<_> = tree.reserved_memory().map(Result::unwrap).collect();
    assert_eq!(
        reserved[0],
        Reserved {
            region: secure,
            no_map: true
        }
    );
    assert_eq!((reserved.len(), reserved[1].no_map), (2, false));
    assert_eq!(tree.memory().count(), 2);
}
