//! Any address, for who asked for it with `unsafe=1`: the commands `peek` and `poke`.
//!
//! | what is there | read | write |
//! | --- | --- | --- |
//! | the image: code, data, heap, rings | yes | no: Rust relies on it |
//! | other memory, by the devicetree | no: nobody has mapped it, and it may be the secure world's | no |
//! | anything else | its page is mapped as a device's | so, too |
//!
//! An abort comes back as its syndrome. What the boot firmware takes to itself first (TF-A may, `HANDLE_EA_EL3_FIRST_NS`)
//! does not come back at all.

use super::mmu::{Image, Kind, Mapper};
use crate::shell::Refusal;
use hal::arch::exceptions;
use hal::devicetree::Tree;

pub(super) struct Raw {
    pub(super) mapper: Mapper,
    pub(super) tree: &'static Tree<'static>,
    pub(super) allowed: bool,
}

impl Raw {
    /// Makes sure that the address may be used, and is mapped if anything there can be.
    fn reach(&mut self, address: u64, write: bool) -> Result<usize, Refusal> {
        if !self.allowed {
            return Err(Refusal::Forbidden(
                "refused: boot with unsafe=1 to allow it",
            ));
        }
        if !address.is_multiple_of(4) {
            return Err(Refusal::Failed("not a multiple of 4"));
        }
        let image = Image::here();
        if (image.start..image.end).contains(&address) {
            return match write {
                false => Ok(address as usize),
                true => Err(Refusal::Forbidden("refused: the image's own memory")),
            };
        }
        let within =
            |region: hal::devicetree::Region| address.wrapping_sub(region.address) < region.size;
        if self.tree.memory().flatten().any(within) {
            return Err(Refusal::Forbidden("refused: memory that nobody has mapped"));
        }
        match self.mapper.map(address, 4, Kind::Device) {
            Ok(()) => Ok(address as usize),
            Err(_) => Err(Refusal::Forbidden("refused: this page cannot be mapped")),
        }
    }

    pub(super) fn peek(&mut self, address: u64) -> Result<u32, Refusal> {
        let at = self.reach(address, false)?;
        // SAFETY: what is not the image's is a device's, and who asks has been told that it is unsafe.
        unsafe { exceptions::load(at) }.map_err(|syndrome| Refusal::Abort(address, syndrome))
    }

    pub(super) fn poke(&mut self, address: u64, value: u32) -> Result<(), Refusal> {
        let at = self.reach(address, true)?;
        // SAFETY: as above, and it is not the image's.
        unsafe { exceptions::store(at, value) }
            .map_err(|syndrome| Refusal::Abort(address, syndrome))
    }
}
