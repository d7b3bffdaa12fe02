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
    /// Reads a word, or writes it.
    pub(super) fn access(&mut self, address: u64, write: Option<u32>) -> Result<u32, Refusal> {
        if !self.allowed {
            return Err(Refusal::Forbidden(
                "refused: boot with unsafe=1 to allow it",
            ));
        }
        if !address.is_multiple_of(4) {
            return Err(Refusal::Failed("not a multiple of 4"));
        }
        let image = Image::here();
        let ours = (image.start..image.end).contains(&address);
        let mut memory = self.tree.memory().flatten();
        let elsewhere = memory.any(|region| address.wrapping_sub(region.address) < region.size);
        if ours && write.is_some() || elsewhere && !ours {
            return Err(Refusal::Forbidden("refused: memory"));
        }
        if !ours && self.mapper.map(address, 4, Kind::Device).is_err() {
            return Err(Refusal::Forbidden("refused: this page cannot be mapped"));
        }
        // SAFETY: what is not the image's is a device's, which alone is written to; and who asks has been told that it is
        // unsafe.
        let result = unsafe {
            match write {
                None => exceptions::load(address as usize),
                Some(value) => exceptions::store(address as usize, value).map(|()| value),
            }
        };
        result.map_err(|syndrome| Refusal::Abort(address, syndrome))
    }
}
