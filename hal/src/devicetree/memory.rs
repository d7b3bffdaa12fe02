//! Memory: what there is, and what of it belongs to somebody else.

use super::{Error, Node, Region, Tree};

/// A part of memory that is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Where.
    pub region: Region,
    /// It must not even be mapped: the CPU could touch it while guessing ahead.
    pub no_map: bool,
}

impl Tree<'_> {
    /// All memory: every region of every enabled node with `device_type = "memory"`. Empty regions are left out.
    pub fn memory(&self) -> impl Iterator<Item = Result<Region, Error>> {
        self.nodes()
            .filter(|node| node.property("device_type") == Some(b"memory\0") && node.is_enabled())
            .flat_map(|node| node.regs())
            .filter(|region| region.is_err() || region.is_ok_and(|region| region.size > 0))
    }

    /// The memory reservation block. An entry that runs past the last address is cut there.
    pub fn reservations(&self) -> impl Iterator<Item = Region> {
        let entries = self.reservations.chunks_exact(16).map_while(|entry| {
            let (address, size) = entry.split_first_chunk()?;
            let (address, size) = (
                u64::from_be_bytes(*address),
                u64::from_be_bytes(*size.first_chunk()?),
            );
            (address != 0 || size != 0).then_some((address, size))
        });
        entries.map(|(address, size)| Region {
            address,
            // `!address` is the distance to the last address, so one byte more fits; except for the whole space.
            size: size.min((!address).saturating_add(1)),
        })
    }

    /// The enabled children of `/reserved-memory` that have a place; those that only have a size are ours to place,
    /// and nobody here asks for one.
    pub fn reserved_memory(&self) -> impl Iterator<Item = Result<Reserved, Error>> {
        let parent = self.root().child("reserved-memory");
        parent
            .into_iter()
            .flat_map(|parent: Node<'_>| parent.children())
            .filter(|node| node.has("reg") && node.is_enabled())
            .flat_map(|node| {
                let no_map = node.has("no-map");
                node.regs()
                    .map(move |region| region.map(|region| Reserved { region, no_map }))
            })
    }
}
