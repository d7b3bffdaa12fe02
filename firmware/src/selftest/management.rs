//! The management bus: whether it reads the same every time, and whether the PHYs are those that the switch has.

use super::lab::{Lab, Outcome, Reads, Trouble, detail};
use hal::net::mdio::{PhyAddr, RegAddr};
use hal::net::mv88e6xxx::errand::{Place, Step};

/// Reads of the switch's identifier.
const READS: u32 = 10_000;
/// So many at a time: links are looked after in between.
const AT_ONCE: u32 = 200;
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
    let (mut differ, mut silent) = (0, 0);
    let mut first = None;
    let mut other = 0;
    for _ in 0..READS / AT_ONCE {
        let reads: Reads = lab.errands(&[IDENTIFIER], AT_ONCE as usize).await?;
        silent += reads.silent;
        let expected = *first.get_or_insert(reads.first);
        let mut odd = |count, value| {
            other = if differ == 0 { value } else { other };
            differ += count;
        };
        match reads.first == expected {
            true if reads.differ == 0 => {}
            true => odd(reads.differ, reads.other),
            false => odd(AT_ONCE - reads.silent - reads.differ, reads.first),
        }
    }
    let id = first.unwrap_or(0);
    if differ == 0 && silent == 0 && PRODUCTS.contains(&(id >> 4)) {
        return Ok(detail(format_args!(
            "{READS} reads of {id:#06x}, 0 differ, 0 without an answer"
        )));
    }
    Err(Trouble::wrong(format_args!(
        "{READS} reads of {id:#06x}, {differ} differ, first {other:#06x}, {silent} without an answer"
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
