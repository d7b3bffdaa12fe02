//! The management bus: whether it reads the same every time, and whether the PHYs are those that the switch has.

use super::lab::{Answer, Lab, Outcome, Reads, Trouble, detail};
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
    let (mut read, mut differ, mut errors) = (0, 0, 0);
    let (mut first, mut other) = (None, 0);
    while read < READS && errors < ERRORS {
        let Answer::Errand(reads) = lab.errands(&[IDENTIFIER], AT_ONCE).await else {
            break;
        };
        let reads = reads?;
        errors += u32::from(reads.error.is_some());
        read += reads.done;
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
    let told = detail(format_args!(
        "{read} reads of {id:#06x}, {differ} differ, {errors} errors"
    ));
    if differ == 0 && errors == 0 && PRODUCTS.contains(&(id >> 4)) {
        return Ok(told);
    }
    Err(Trouble::wrong(format_args!(
        "{told}, first other {other:#06x}"
    )))
}

/// The identifiers of every PHY.
pub(super) async fn phy_ids(lab: &Lab) -> Result<(), Trouble> {
    for port in lab.ports().await?.iter() {
        let read = |reg| Step::Read(Place::Phy(port), RegAddr(reg));
        let outcome = match lab.errand(&[read(2), read(3)]).await {
            Err(trouble) => Err(trouble),
            Ok(Reads { first, last, .. }) => {
                let id = detail(format_args!("{first:#06x} {last:#06x}"));
                match [first, last & PHY_ID_MASK] == PHY_ID {
                    true => Ok(id),
                    false => Err(Trouble::wrong(format_args!(
                        "{id} instead of 0x0141 0x0c0x"
                    ))),
                }
            }
        };
        lab.note_port("phy-id", port, outcome);
    }
    Ok(())
}
