//! The management bus: whether it reads the same every time, and whether the PHYs are those that the switch has.

use super::Verdict;
use super::lab::{Lab, NO_SWITCH, Outcome};
use super::registers::read;
use hal::net::mdio::{PhyAddr, RegAddr};
use hal::net::mv88e6xxx::errand::{Place, Step};

/// Reads of the switch's identifier.
const READS: u32 = 10_000;
/// So many at a time: links are looked after in between.
const AT_ONCE: usize = 200;
/// So many errands that end in an error are enough.
const ERRORS: u32 = 8;
/// The identifier of the switch, in register 3 of its port 0: product and revision.
const IDENTIFIER: Step = Step::Read(Place::Switch(PhyAddr(0x10)), RegAddr(3));
/// Products that are 88E6341 or 88E6141.
const PRODUCTS: [u16; 2] = [0x341, 0x340];
/// Identifiers of a PHY inside, registers 2 and 3: Marvell's number; the model, bits 9:4 of the latter, reads 0, and the
/// revision is anything. Spec: Linux marvell.c, mv88e6xxx/chip.c.
const PHY_ID: [u16; 2] = [0x0141, 0x0c00];
const PHY_ID_MASK: u16 = 0xfff0;

/// The switch's identifier, ten thousand times.
pub(super) async fn mdio(lab: &Lab) -> Outcome {
    let (mut done, mut differ, mut errors) = (0, 0, 0);
    let (mut first, mut other) = (None, 0);
    while done < READS && errors < ERRORS {
        lab.errands(&[IDENTIFIER], AT_ONCE).await;
        let reads = lab.reads.get();
        if reads.error == Some(NO_SWITCH) {
            return Err(NO_SWITCH);
        }
        errors += u32::from(reads.error.is_some());
        done += reads.done;
        let expected = *first.get_or_insert(reads.first);
        // If the first of them is odd, so are all that are like it.
        let (odd, value) = match reads.first == expected {
            true => (reads.differ, reads.other),
            false => (reads.done - reads.differ, reads.first),
        };
        if odd > 0 && differ == 0 {
            other = value;
        }
        differ += odd;
    }
    let id = first.unwrap_or(0);
    lab.say(
        0,
        format_args!("{done} reads of {id:#06x}, {differ} differ, {errors} errors"),
    );
    if differ > 0 {
        lab.say(0, format_args!("first {other:#06x}"));
    }
    if differ + errors > 0 || !PRODUCTS.contains(&(id >> 4)) {
        lab.judge(0, Verdict::Failed);
    }
    Ok(())
}

/// The identifiers of every PHY.
pub(super) async fn phy_ids(lab: &Lab) -> Outcome {
    for port in lab.ports().await?.iter() {
        let at = usize::from(port.get());
        if let Err(trouble) = lab.errand(&[read(port, 2), read(port, 3)]).await {
            lab.end(at, trouble);
            continue;
        }
        let (high, low) = (lab.reads.get().first, lab.reads.get().last);
        lab.say(at, format_args!("{high:#06x} {low:#06x}"));
        if [high, low & PHY_ID_MASK] != PHY_ID {
            lab.wrong(at, format_args!("not 0x0141 0x0c0."));
        }
    }
    Ok(())
}
