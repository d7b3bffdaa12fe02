//! Paths, aliases, strings, states.

use super::*;

fn board() -> Vec<u8> {
    tree(|root| {
        root.bus(2, 2)
            .node("aliases", |node| {
                node.text("serial0", "/soc/uart@12000")
                    .text("serial1", "/soc/uart@13000")
                    .text("ethernet0", "/soc/ethernet@30000")
                    .text("ethernet1", "/gone")
                    .text("ethernet-phy", "/soc")
                    .text("loop", "loop")
                    .bytes("broken", b"/soc")
            })
            .node("chosen", |node| {
                node.text("stdout-path", "serial0:115200n8")
            })
            .node("soc", |node| {
                node.bus(1, 1)
                    .flag("ranges")
                    .flag("dma-coherent")
                    .node("uart@12000", |node| {
                        node.bytes("compatible", b"marvell,armada-3700-uart\0ns16550a\0")
                            .cells("reg", &[0x12000, 0x18])
                            .text("status", "okay")
                            .cells("phandle", &[7])
                    })
                    .node("uart@13000", |node| node.text("status", "disabled"))
                    .node("ethernet@30000", |node| {
                        node.cells("phandle", &[9])
                            .cells("phandle", &[10])
                            .bytes("local-mac-address", &[0; 6])
                            .bytes("mac-address", &[1, 2, 3, 4, 5, 6])
                            .bytes("address", &[2, 0, 0, 0, 0, 1])
                            .flag("dma-noncoherent")
                            .node("mdio", |node| {
                                node.node("phy@1", |node| node.cells("reg", &[1]))
                            })
                    })
                    .node("bus@0", |node| {
                        node.text("status", "fail")
                            .node("child", |node| node.text("status", "okay"))
                    })
            })
    })
}

#[test]
fn paths_and_aliases_lead_to_nodes() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let path = |text: &str| tree.find(text).map(|node| node.path().to_string());
    let uart = Some("/soc/uart@12000".to_string());
    assert_eq!(path("/soc/uart@12000"), uart);
    assert_eq!(path("/soc/uart@12000:115200n8"), uart);
    assert_eq!(path("/soc/uart"), uart, "the unit address may be left out");
    assert_eq!(path("/soc//uart/"), uart);
    assert_eq!(path("serial0"), uart);
    assert_eq!(path("serial0:9600"), uart);
    assert_eq!(
        path("ethernet0/mdio/phy").unwrap(),
        "/soc/ethernet@30000/mdio/phy@1"
    );
    assert_eq!(path("/").unwrap(), "/");
    for nowhere in [
        "",
        ":",
        "serial9",
        "/soc/uart@1",
        "/soc/uar",
        "ethernet1",
        "loop",
        "broken",
        "soc",
    ] {
        assert_eq!(path(nowhere), None, "{nowhere:?}");
    }
    assert_eq!(tree.damage(), None);
}

#[test]
fn exact_names_go_before_names_without_unit_address() {
    let blob = tree(|root| {
        root.node("port@1", |node| node)
            .node("port", |node| node.flag("exact"))
            .node("port", |node| node.node("child", |node| node))
    });
    let tree = Tree::new(&blob).unwrap();
    assert!(tree.find("/port").unwrap().has("exact"));
    assert_eq!(
        tree.find("/port/child"),
        None,
        "the second twin is out of reach by path"
    );
    assert_eq!(tree.nodes().count(), 5);
    assert_eq!(tree.root().children().count(), 3);
}

#[test]
fn console_comes_with_its_options() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let (node, options) = tree.stdout().unwrap();
    assert_eq!((node.name(), options), ("uart@12000", Some("115200n8")));

    let chosen = |property: &'static str, value: &'static str| {
        super::tree(|root| {
            root.node("chosen", |node| node.text(property, value))
                .node("uart", |node| node)
        })
    };
    let blob = chosen("linux,stdout-path", "/uart");
    assert_eq!(Tree::new(&blob).unwrap().stdout().unwrap().1, None);
    let blob = chosen("stdout-path", "serial0:9600");
    assert_eq!(
        text(Tree::new(&blob).unwrap().stdout()),
        "/chosen: `stdout-path` names no node"
    );
    let blob = chosen("bootargs", "");
    assert_eq!(
        text(Tree::new(&blob).unwrap().stdout()),
        "/chosen: no `stdout-path`"
    );
    let blob = super::tree(|root| root);
    assert_eq!(
        text(Tree::new(&blob).unwrap().stdout()),
        "devicetree: no /chosen"
    );
}

#[test]
fn aliases_number_nodes() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let number = |path: &str, stem: &str| tree.alias_of(tree.find(path).unwrap(), stem);
    assert_eq!(number("/soc/ethernet", "ethernet"), Some(0));
    assert_eq!(number("/soc/uart@13000", "serial"), Some(1));
    assert_eq!(number("/soc/uart@13000", "ethernet"), None);
    assert_eq!(number("/soc", "ethernet"), None);
}

#[test]
fn phandles_lead_to_nodes() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.by_phandle(7).unwrap().name(), "uart@12000");
    assert_eq!(tree.by_phandle(9).unwrap().name(), "ethernet@30000");
    assert_eq!(
        tree.by_phandle(10),
        None,
        "the first property of a name counts"
    );
    assert_eq!(tree.by_phandle(0), None, "most nodes have none");

    let blob = super::tree(|root| {
        root.cells("phandle", &[u32::MAX])
            .node("a", |node| node.cells("phandle", &[0]))
    });
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(
        (tree.by_phandle(u32::MAX), tree.by_phandle(0)),
        (None, None)
    );
}

#[test]
fn nodes_know_their_surroundings() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let soc = tree.find("/soc").unwrap();
    let names: Vec<_> = soc.children().map(|node| node.name()).collect();
    assert_eq!(
        names,
        ["uart@12000", "uart@13000", "ethernet@30000", "bus@0"]
    );
    assert_eq!(soc.parent(), Some(tree.root()));
    assert_eq!(tree.root().parent(), None);
    assert_eq!(tree.root().name(), "");
    assert_eq!(tree.find("/soc/uart@13000").unwrap().children().count(), 0);
}

#[test]
fn status_counts_along_the_whole_path() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let enabled = |path: &str| tree.find(path).unwrap().is_enabled();
    assert!(enabled("/soc/uart@12000"));
    assert!(!enabled("/soc/uart@13000"));
    assert!(enabled("/soc/ethernet"));
    assert!(!enabled("/soc/bus/child"));
}

#[test]
fn strings_and_compatible() {
    let blob = tree(|root| {
        root.bytes("compatible", b"a,b\0c,d\0")
            .bytes("mixed", b"one\0\xff\xfe\0three")
            .bytes("open", b"text")
            .bytes("latin", b"\xe9\0")
            .flag("empty")
            .bytes("zero", b"\0")
    });
    let tree = Tree::new(&blob).unwrap();
    let root = tree.root();
    assert!(root.is_compatible("a,b") && root.is_compatible("c,d"));
    assert!(
        !root.is_compatible("a,") && !root.is_compatible("") && !root.is_compatible("a,b\0c,d")
    );
    assert_eq!(
        root.strings("mixed").collect::<Vec<_>>(),
        ["one", "", "three"]
    );
    assert_eq!(
        root.strings("empty").count() + root.strings("none").count(),
        0
    );
    assert_eq!(root.str("compatible"), Ok("a,b"));
    assert_eq!(root.str("zero"), Ok(""));
    assert_eq!(
        text(root.str("open")),
        "/: `open` is not a terminated string"
    );
    assert_eq!(
        text(root.str("latin")),
        "/: `latin` is not a terminated string"
    );
    assert_eq!(text(root.str("none")), "/: no `none`");
}

#[test]
fn numbers_have_their_size() {
    let blob = tree(|root| {
        root.node("node", |node| {
            node.cells("one", &[5])
                .cells("two", &[1, 2])
                .bytes("odd", &[0; 6])
                .flag("empty")
        })
    });
    let tree = Tree::new(&blob).unwrap();
    let node = tree.find("/node").unwrap();
    assert_eq!(node.u32("one"), Ok(5));
    assert_eq!(node.u64("one"), Ok(5));
    assert_eq!(node.u64("two"), Ok(0x1_0000_0002));
    assert_eq!(text(node.u32("two")), "/node: `two` is 8 bytes, not 4");
    assert_eq!(text(node.u64("odd")), "/node: `odd` is 6 bytes, not 8");
    assert_eq!(text(node.u32("empty")), "/node: `empty` is 0 bytes, not 4");
}

#[test]
fn mac_addresses_are_usable_ones() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let ethernet = tree.find("ethernet0").unwrap();
    assert_eq!(ethernet.mac_address(), Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(tree.root().mac_address(), None);
}

#[test]
fn coherence_is_what_the_nearest_bus_says() {
    let blob = board();
    let tree = Tree::new(&blob).unwrap();
    let coherent = |path: &str| tree.find(path).unwrap().dma_coherent();
    assert!(coherent("/soc/uart@12000") && coherent("/soc"));
    assert!(!coherent("/soc/ethernet") && !coherent("/soc/ethernet/mdio") && !coherent("/"));
}

#[test]
fn long_paths_keep_their_end_in_errors() {
    let blob = tree(|root| {
        root.node("a-bus-with-quite-a-long-name@d0000000", |node| {
            node.node("a-device-with-quite-a-long-name@12000", |node| {
                node.cells("reg", &[1])
            })
        })
    });
    let tree = Tree::new(&blob).unwrap();
    let node = tree.nodes().nth(2).unwrap();
    assert_eq!(
        text(node.u32("a-property-with-quite-a-long-name")),
        "...long-name@d0000000/a-device-with-quite-a-long-name@12000: no `...property-with-quite-a-long-name`"
    );
    let path = "/a-bus-with-quite-a-long-name@d0000000/a-device-with-quite-a-long-name@12000";
    assert_eq!(node.path().to_string(), path);
}

#[test]
fn the_index_is_small_enough_for_a_stack() {
    assert!(size_of::<Tree>() < 26 * 1024, "{}", size_of::<Tree>());
    assert!(size_of::<Error>() <= 120, "{}", size_of::<Error>());
    assert!(size_of::<Node>() <= 24, "{}", size_of::<Node>());
}
