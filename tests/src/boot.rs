//! Booting: memory sizes, load addresses, entry levels, processors, and devicetrees that are not what QEMU makes.

use std::path::PathBuf;

use crate::check::{During, Random, Result, ensure, fail, wait};
use crate::clients::{curl, get};
use crate::dt::Node;
use crate::machine::{Guest, IMAGE_AT, Machine};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("boot-64m", Tier::Quick, |cx| {
        serves(Machine::new(cx).memory("64M"))
    }),
    test("boot-256m", Tier::Quick, |cx| {
        serves(Machine::new(cx).memory("256M"))
    }),
    test("boot-2g", Tier::Quick, |cx| {
        serves(Machine::new(cx).memory("2G"))
    }),
    test("boot-el2", Tier::Quick, |cx| serves(Machine::new(cx).el2())),
    test("boot-el2-2g", Tier::Ci, |cx| {
        serves(Machine::new(cx).memory("2G").el2())
    }),
    test("boot-four-cores", Tier::Ci, |cx| {
        serves(Machine::new(cx).arg("-smp").arg("4"))
    }),
    test("boot-cortex-a72", Tier::Ci, |cx| {
        serves(Machine::new(cx).cpu("cortex-a72"))
    }),
    test("boot-cpu-max", Tier::Ci, |cx| {
        serves(Machine::new(cx).cpu("max"))
    }),
    test("boot-virtio-modern", Tier::Quick, |cx| {
        serves(
            Machine::new(cx)
                .arg("-global")
                .arg("virtio-mmio.force-legacy=false"),
        )
    }),
    test("boot-at-end-of-bank", Tier::Quick, at_end_of_bank),
    test("boot-across-1gib", Tier::Quick, |cx| {
        at(cx, "2G", 0x7fe0_0000)
    }),
    test("boot-across-1gib-el2", Tier::Ci, |cx| {
        placed(Machine::new(cx).memory("2G").el2(), 0x7fc0_0000)
    }),
    test("boot-above-4gib", Tier::Ci, |cx| {
        at(cx, "6G", 0x1_4020_0000)
    }),
    test("boot-many-addresses", Tier::Nightly, many_addresses),
    test("boot-misaligned-parks", Tier::Quick, misaligned),
    test("boot-without-tree-parks", Tier::Quick, without_tree),
    test("boot-bad-header-parks", Tier::Quick, bad_header),
    test("boot-damaged-image-parks", Tier::Quick, damaged_image),
    test("boot-bad-block-parks", Tier::Ci, bad_block),
    test("boot-unpacked", Tier::Quick, unpacked),
    test("boot-without-chosen", Tier::Quick, without_chosen),
    test("boot-without-rng-seed-warns", Tier::Quick, without_seed),
    test("boot-not-dma-coherent", Tier::Quick, not_coherent),
    test("boot-gic-behind-ranges", Tier::Quick, gic_behind_ranges),
    test(
        "boot-gic-at-wrong-address",
        Tier::Quick,
        gic_at_wrong_address,
    ),
    test("boot-without-essentials", Tier::Quick, without_essentials),
    test("boot-reserved-memory", Tier::Quick, reserved_memory),
    test("boot-two-devices", Tier::Quick, two_devices),
    test("boot-three-devices", Tier::Ci, |cx| several_devices(cx, 3)),
    test("boot-eight-devices", Tier::Ci, |cx| several_devices(cx, 8)),
    test("boot-no-device", Tier::Quick, no_device),
    test("boot-truncated-trees", Tier::Quick, truncated_trees),
    test("boot-corrupted-trees", Tier::Quick, corrupted_trees),
];

const fn test(name: &'static str, tier: Tier, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier,
        needs: Needs::Qemu,
        limit_s: 600,
        run,
    }
}

/// `BOOT_STATUS` and `x0` after the image stopped: "RSTO" and the reason.
const PARKED: u64 = 0x5253_544f_0000_0000;
const PARK_LOAD_ADDRESS: u64 = 1;
const PARK_NO_TREE: u64 = 2;
const PARK_BAD_TREE: u64 = 3;
const PARK_UNPACK: u64 = 8;

/// Boots, gets an address and answers HTTP to a client that is not ours.
fn serves(machine: Machine) -> Result {
    let mut guest = machine.user()?.boot()?;
    hello(&mut guest)
}

fn hello(guest: &mut Guest) -> Result {
    guest.healthy(30)?;
    let said = curl(&[&format!("http://{}/hello", guest.services.http)])?;
    ensure!(said == "Hello, world!", "/hello said {said:?}");
    Ok(())
}

/// Boots the image at `address` and checks that it says so.
fn at(cx: &Context, memory: &str, address: u64) -> Result {
    placed(Machine::new(cx).memory(memory), address)
}

fn placed(machine: Machine, address: u64) -> Result {
    // Boot loader and tree go to the start of memory, or behind the image if that is there.
    let loader = if address < 0x4030_0000 {
        0x4600_0000
    } else {
        0x4010_0000
    };
    let machine = machine.user()?.load_at(address, loader).with_own_tree()?;
    let mut guest = machine.boot()?;
    guest.line(&format!("image at {address:#x}.."), 20)?;
    hello(&mut guest)
}

/// Bytes that the image says it needs, from its header.
fn image_size(cx: &Context) -> Result<u64> {
    let image = std::fs::read(&cx.image)?;
    match image.get(16..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(bytes) => Ok(u64::from_le_bytes(*bytes)),
        None => fail!("the image has no header"),
    }
}

fn at_end_of_bank(cx: &Context) -> Result {
    let end = 0x4000_0000 + (256 << 20);
    at(cx, "256M", (end - image_size(cx)?) & !0x1f_ffff)
}

fn many_addresses(cx: &Context) -> Result {
    let mut random = Random::new(1);
    let size = image_size(cx)?;
    for _ in 0..40 {
        let room = ((2_u64 << 30) - size - 0x20_0000) >> 21;
        let address = IMAGE_AT + ((random.below(room as usize) as u64) << 21);
        at(cx, "2G", address).during(format!("{address:#x}"))?;
    }
    Ok(())
}

/// Waits for the core to stop without a word, and checks the code in `x0` and in RAM.
fn parked(cx: &Context, machine: Machine, image_at: u64, reason: u64) -> Result {
    let mut guest = machine.boot()?;
    let expected = PARKED | reason;
    let seen = wait(10, &format!("x0 = {expected:#x}"), || {
        guest
            .qmp()
            .ok()?
            .register("x00")
            .ok()
            .filter(|x0| *x0 == expected)
    });
    if let Err(error) = seen {
        let x0 = guest.qmp()?.register("x00")?;
        fail!(
            "{error}; it is {x0:#x}, and the console says {:?}",
            guest.console()
        );
    }
    ensure!(guest.console().is_empty(), "it spoke: {}", guest.console());
    let status = image_at + symbol(cx, "BOOT_STATUS")?;
    let code = guest.qmp()?.memory(status)?;
    ensure!(
        code == expected,
        "BOOT_STATUS at {status:#x} is {code:#x}, x0 is {expected:#x}"
    );
    Ok(())
}

/// A little-endian number in a file; zero behind its end.
fn number(file: &[u8], at: u64, len: usize) -> u64 {
    let bytes = file.get(at as usize..at as usize + len).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The address of a symbol, from the start of the image.
fn symbol(cx: &Context, name: &str) -> Result<u64> {
    let elf = std::fs::read(&cx.elf).during(cx.elf.display())?;
    let number = |at: u64, len: usize| number(&elf, at, len);
    // Spec: System V ABI, ELF-64. Section headers: offset at 0x28, size at 0x3a, count at 0x3c.
    let section = |index: u64| number(0x28, 8) + index * number(0x3a, 2);
    let symbols = (0..number(0x3c, 2))
        .map(section)
        .find(|header| number(header + 4, 4) == 2);
    let Some(symbols) = symbols else {
        fail!("no symbols in {}", cx.elf.display())
    };
    let (table, len) = (number(symbols + 0x18, 8), number(symbols + 0x20, 8));
    let strings = number(section(number(symbols + 0x28, 4)) + 0x18, 8);
    let wanted = [name.as_bytes(), b"\0"].concat();
    for entry in (table..table + len).step_by(24) {
        let at = (strings + number(entry, 4)) as usize;
        if elf.get(at..at + wanted.len()) == Some(&wanted) {
            return Ok(number(entry + 8, 8));
        }
    }
    fail!("no symbol {name} in {}", cx.elf.display())
}

fn misaligned(cx: &Context) -> Result {
    let address = IMAGE_AT + 0x8_0000;
    let machine = Machine::new(cx)
        .load_at(address, 0x4010_0000)
        .with_own_tree()?;
    parked(cx, machine, address, PARK_LOAD_ADDRESS)
}

fn without_tree(cx: &Context) -> Result {
    // None, not aligned, and memory without a tree in it.
    for x0 in [0, 0x4000_0004, 0x4300_0000] {
        let machine = Machine::new(cx).x0(x0);
        parked(cx, machine, IMAGE_AT, PARK_NO_TREE).during(format!("x0 = {x0:#x}"))?;
    }
    let el2 = Machine::new(cx).el2().x0(0);
    parked(cx, el2, IMAGE_AT, PARK_NO_TREE).during("at EL2")
}

fn bad_header(cx: &Context) -> Result {
    let machine = || Machine::new(cx);
    let sound = machine().own_tree()?.to_blob();
    // Total size too small, structure block outside, unknown version.
    for (at, value) in [(4, 16_u32), (8, 0x00ff_fff0), (24, 99)] {
        let mut blob = sound.clone();
        blob[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let outcome = settled(machine().blob(blob))?;
        let said = format!("header word {at:#x} = {value:#x}: {outcome:?}");
        match outcome {
            Outcome::Parked(reason) => ensure!(reason == PARK_BAD_TREE, "{said}"),
            Outcome::Spoke(line) => ensure!(line.contains("devicetree"), "{said}"),
            Outcome::Mute => fail!("{said}"),
        }
    }
    Ok(())
}

// Of the header, behind what every arm64 image has: docs/decisions/0019-packed-image.md.
const PACKED_BYTES: usize = 64;
const PACKED_CRC: usize = 72;
const PACKED_AT: u64 = 80;

/// Writes an image that is to be booted in place of ours.
fn written(cx: &Context, image: &[u8]) -> Result<PathBuf> {
    let file = cx.out.join(format!("{}.image", cx.name));
    std::fs::write(&file, image)?;
    Ok(file)
}

/// Downloads that were cut short or went wrong, on their way behind the boot code.
fn damaged_image(cx: &Context) -> Result {
    let sound = std::fs::read(&cx.image)?;
    let start = number(&sound, PACKED_AT, 8) as usize;
    let mut random = Random::new(1);
    let mut damaged: Vec<(String, Vec<u8>)> = Vec::new();
    for len in [start, start + 1, sound.len() / 2, sound.len() - 40] {
        damaged.push((format!("{len} bytes"), sound[..len].to_vec()));
    }
    let mut places = vec![PACKED_BYTES, PACKED_BYTES + 7, PACKED_CRC, start];
    places.extend((0..4).map(|_| start + random.below(sound.len() - start)));
    for at in places {
        let mut image = sound.clone();
        image[at] ^= 0x40;
        damaged.push((format!("byte {at:#x}"), image));
    }
    // A sector of the card in place of its neighbour.
    let mut image = sound.clone();
    image.copy_within(0x8000..0x8200, 0x8200);
    damaged.push(("a sector twice".to_owned(), image));
    for (what, image) in damaged {
        let machine = Machine::new(cx).image(written(cx, &image)?);
        parked(cx, machine, IMAGE_AT, PARK_UNPACK).during(what)?;
    }
    let el2 = Machine::new(cx)
        .el2()
        .image(cx.out.join(format!("{}.image", cx.name)));
    parked(cx, el2, IMAGE_AT, PARK_UNPACK).during("at EL2")
}

/// A block that arrived as it was packed, but is none that fills its place.
fn bad_block(cx: &Context) -> Result {
    let sound = std::fs::read(&cx.image)?;
    let start = number(&sound, PACKED_AT, 8) as usize;
    let long = [[0xff].repeat(3000), vec![0]].concat();
    let long_match = [b"\x1fa\x01\0".to_vec(), [0xff].repeat(3000), vec![0]].concat();
    for (what, mut block) in [
        ("a match from nowhere", vec![0; 32]),
        ("a long one", b"\x0f\0\0\x20".to_vec()),
        ("too many literals", long),
        ("too long a match", long_match),
    ] {
        block.resize(block.len().next_multiple_of(32), 0);
        let mut image = sound[..start].to_vec();
        image[PACKED_BYTES..][..8].copy_from_slice(&(block.len() as u64).to_le_bytes());
        image[PACKED_CRC..][..4].copy_from_slice(&crate::sdcard::crc32(&block).to_le_bytes());
        image.extend(block);
        let machine = Machine::new(cx).image(written(cx, &image)?);
        parked(cx, machine, IMAGE_AT, PARK_UNPACK).during(what)?;
    }
    Ok(())
}

/// What the linker made boots as well, laid out in memory as a debugger does it: nothing is packed.
fn unpacked(cx: &Context) -> Result {
    let elf = std::fs::read(&cx.elf).during(cx.elf.display())?;
    let mut image = Vec::new();
    // Spec: System V ABI, ELF-64. Program headers: offset at 0x20, size at 0x36, count at 0x38.
    for index in 0..number(&elf, 0x38, 2) {
        let header = number(&elf, 0x20, 8) + index * number(&elf, 0x36, 2);
        let [offset, address, bytes] =
            [0x08, 0x10, 0x20].map(|at| number(&elf, header + at, 8) as usize);
        const PT_LOAD: u64 = 1;
        if number(&elf, header, 4) == PT_LOAD && bytes > 0 {
            image.resize(image.len().max(address + bytes), 0);
            image[address..address + bytes].copy_from_slice(&elf[offset..offset + bytes]);
        }
    }
    ensure!(number(&image, PACKED_BYTES as u64, 8) == 0, "it is packed");
    serves(Machine::new(cx).image(written(cx, &image)?))
}

/// The report where the tree puts a device at an address where there is none: the read itself is the exception.
const NOTHING_THERE: &str = "external abort: nothing answers there";

/// What became of a boot with a tree that makes no sense.
#[derive(Debug)]
enum Outcome {
    /// A line on the console about what is wrong, or the network came up all the same.
    Spoke(String),
    /// The documented code, without a console.
    Parked(u64),
    /// It runs and waits for interrupts: the damage has hit nothing but the console's own node.
    Mute,
}

/// Boots and waits until the image has come as far as it will.
fn settled(machine: Machine) -> Result<Outcome> {
    let mut guest = machine.boot()?;
    let settled = wait(10, "a console line or a park code", || {
        let console = guest.console();
        if console.contains("] Ristretto ") {
            // Complaints come after the greeting, and `sealed` or `cannot start` ends what can be said.
            let complaint = console.lines().find(|line| line.contains("devicetree:"));
            let end = console.lines().find(|line| {
                ["sealed", "cannot start", "PANIC", NOTHING_THERE]
                    .iter()
                    .any(|end| line.contains(end))
            });
            return end.map(|end| Outcome::Spoke(complaint.unwrap_or(end).to_owned()));
        }
        let x0 = guest.qmp().ok()?.register("x00").ok()?;
        if x0 & !0xffff_ffff == PARKED {
            return Some(Outcome::Parked(x0 & 0xffff_ffff));
        }
        // Asleep behind a WFI; a stopped core waits in WFE.
        let at = guest.qmp().ok()?.register("pc").ok()?.checked_sub(4)?;
        let instruction = guest.qmp().ok()?.memory(at).ok()? as u32;
        (instruction == 0xd503_207f).then_some(Outcome::Mute)
    });
    let console = guest.console();
    let start: String = console.chars().take(500).collect();
    settled.during(format!("the console said {start:?}"))
}

fn without_chosen(cx: &Context) -> Result {
    let machine = Machine::new(cx).user()?;
    let mut tree = machine.own_tree()?;
    tree.remove("/chosen")?;
    let mut guest = machine.tree(&tree).boot()?;
    guest.line("Ristretto", 10)?;
    hello(&mut guest)
}

fn without_seed(cx: &Context) -> Result {
    let warning = "no rng-seed";
    let machine = Machine::new(cx).user()?;
    let mut tree = machine.own_tree()?;
    ensure!(
        tree.node("/chosen")?.unset("rng-seed"),
        "QEMU gave no rng-seed to remove"
    );
    let mut guest = machine.tree(&tree).boot()?;
    guest.line(warning, 10)?;
    hello(&mut guest)?;
    // And not where there is one.
    let mut guest = Machine::new(cx).id(1).boot()?;
    guest.line("sealed", 10)?;
    ensure!(
        !guest.console().contains(warning),
        "it warns although there is an rng-seed"
    );
    Ok(())
}

fn not_coherent(cx: &Context) -> Result {
    let machine = Machine::new(cx).user()?;
    let mut tree = machine.own_tree()?;
    let mut removed = 0;
    tree.root
        .each(&mut |node| removed += usize::from(node.unset("dma-coherent")));
    ensure!(removed > 30, "only {removed} nodes were dma-coherent");
    let mut guest = machine.tree(&tree).boot()?;
    hello(&mut guest)?;
    crate::echo::tcp_sums(guest.services.echo_tcp, 1 << 20)
}

/// The interrupt controller moves below a bus whose addresses are others than the CPU's.
fn gic_behind_ranges(cx: &Context) -> Result {
    let machine = Machine::new(cx).user()?;
    let mut tree = machine.own_tree()?;
    let mut gic = tree.remove("/intc")?;
    gic.name = "intc@10000".into();
    gic.set_cells("reg", &[0x1_0000, 0x1_0000, 0xa_0000 + 0x1_0000, 0xf6_0000]);
    // Its own children have nothing to say here.
    gic.children.clear();
    gic.unset("ranges");
    let mut bus = Node::new("bus@7ff0000");
    bus.set("compatible", b"simple-bus\0")
        .set_cells("#address-cells", &[1]);
    bus.set_cells("#size-cells", &[1])
        .set_cells("ranges", &[0, 0, 0x7ff_0000, 0x200_0000]);
    bus.children.push(gic);
    tree.root.children.push(bus);
    let mut guest = machine.tree(&tree).boot()?;
    hello(&mut guest)
}

fn gic_at_wrong_address(cx: &Context) -> Result {
    let machine = Machine::new(cx);
    let sound = machine.own_tree()?;
    // Nothing answers there; there is memory; there is another device; beyond what can be addressed.
    for (high, low) in [
        (0, 0x0c00_0000_u32),
        (0, 0x4400_0000),
        (0, 0x0900_0000),
        (0xff00_0000, 0),
    ] {
        let mut tree = sound.clone();
        let gic = tree.node("/intc")?;
        gic.set_cells(
            "reg",
            &[
                high,
                low,
                0,
                0x1_0000,
                high,
                low.wrapping_add(0x1_0000),
                0,
                0xf6_0000,
            ],
        );
        let guest = Machine::new(cx).tree(&tree).boot()?;
        // Reading where nothing answers is an exception, whoever reads: that report has to say so.
        let says = ["cannot start: ", NOTHING_THERE];
        wait(15, "a line that says what is wrong", || {
            let console = guest.console();
            says.iter().any(|says| console.contains(says)).then_some(())
        })
        .during(format!(
            "reg {high:#x} {low:#x}, console {:?}",
            guest.console()
        ))?;
    }
    Ok(())
}

/// Without what nothing can run, one line says what is missing; without the rest, the rest runs.
fn without_essentials(cx: &Context) -> Result {
    let sound = Machine::new(cx).own_tree()?;
    for (path, says) in [
        ("/intc", "cannot start: the devicetree has no arm,gic-v3"),
        (
            "/timer",
            "cannot start: the devicetree has no arm,armv8-timer",
        ),
        ("/psci", "no PSCI"),
    ] {
        let mut tree = sound.clone();
        tree.remove(path)?;
        let mut guest = Machine::new(cx).tree(&tree).boot()?;
        guest.line(says, 10).during(format!("without {path}"))?;
    }
    Ok(())
}

/// Memory that the tree reserves under the image's feet or elsewhere does not stop it.
fn reserved_memory(cx: &Context) -> Result {
    let machine = Machine::new(cx).user()?;
    let mut tree = machine.own_tree()?;
    let mut reserved = Node::new("reserved-memory");
    reserved
        .set_cells("#address-cells", &[2])
        .set_cells("#size-cells", &[2])
        .set("ranges", b"");
    let mut firmware = Node::new("firmware@44000000");
    firmware
        .set_cells("reg", &[0, 0x4400_0000, 0, 0x20_0000])
        .set("no-map", b"");
    reserved.children.push(firmware);
    tree.root.children.push(reserved);
    let mut guest = machine.tree(&tree).boot()?;
    hello(&mut guest)
}

fn two_devices(cx: &Context) -> Result {
    let mut guest = Machine::new(cx)
        .user()?
        .netdev("user,id=n1,net=10.1.1.0/24,ipv6=off".into())
        .boot()?;
    guest.line("eth0: address 10.0.2.15/24 (dhcp)", 20)?;
    guest.line("eth1: address 10.1.1.15/24 (dhcp)", 20)?;
    hello(&mut guest)?;
    let json =
        String::from_utf8_lossy(&get(guest.services.http, "/api/v1/status")?.body).into_owned();
    for name in ["\"eth0\"", "\"eth1\""] {
        ensure!(json.contains(name), "no {name} in {json}");
    }
    Ok(())
}

/// In the least memory that is promised to be enough, with all that takes some of it.
fn several_devices(cx: &Context, count: usize) -> Result {
    let machine = Machine::new(cx).memory("16M").append("admin=s3cret");
    let mut machine = machine.user()?;
    for id in 1..count {
        machine = machine.netdev(format!("user,id=n{id},net=10.1.{id}.0/24,ipv6=off"));
    }
    let mut guest = machine.boot()?;
    for id in 1..count {
        guest.line(&format!("eth{id}: address 10.1.{id}.15/24 (dhcp)"), 20)?;
    }
    ensure!(
        !guest.console().contains("capture: "),
        "no memory for captures"
    );
    hello(&mut guest)
}

fn no_device(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).boot()?;
    guest.line("no network device", 10)?;
    Ok(())
}

/// A cut-off tree ends in words or in the documented code, never in silence and never in a panic.
fn truncated_trees(cx: &Context) -> Result {
    let sound = Machine::new(cx).own_tree()?;
    let blob = sound.to_blob();
    let count = cx.scaled(6, 24, 100);
    for index in 0..count {
        let len = 40 + (blob.len() - 40) * index / count;
        let mut cut = blob.clone();
        cut[len..].fill(0);
        check_settled(cx, cut).during(format!("cut off after {len} bytes"))?;
    }
    Ok(())
}

fn corrupted_trees(cx: &Context) -> Result {
    let sound = Machine::new(cx).own_tree()?;
    let blob = sound.to_blob();
    for seed in 0..cx.scaled(10, 40, 400) as u64 {
        let mut random = Random::new(seed);
        let mut damaged = blob.clone();
        for _ in 0..1 << random.below(7) {
            let at = 40 + random.below(damaged.len() - 40);
            damaged[at] ^= 1 << random.below(8);
        }
        check_settled(cx, damaged).during(format!("seed {seed}"))?;
    }
    Ok(())
}

fn check_settled(cx: &Context, blob: Vec<u8>) -> Result {
    match settled(Machine::new(cx).blob(blob))? {
        Outcome::Spoke(line) => ensure!(!line.contains("PANIC"), "{line}"),
        Outcome::Parked(reason) => {
            ensure!((1..=5).contains(&reason), "parked for reason {reason}")
        }
        Outcome::Mute => {}
    }
    Ok(())
}
