//! The first sector of a card: the partition table that every firmware and system understands.

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Linux's file systems.
pub const LINUX: u8 = 0x83;
/// FAT16, found by its sector number.
pub const FAT16: u8 = 0x0e;

/// One partition, in bytes; both are multiples of [`SECTOR`].
pub struct Partition {
    /// What is in it: [`LINUX`], [`FAT16`].
    pub kind: u8,
    /// Marked for booting.
    pub bootable: bool,
    /// Where it begins.
    pub at: u64,
    /// How long it is.
    pub bytes: u64,
}

/// The sector. `id` tells disks apart.
pub fn sector(id: u32, partitions: &[Partition; 2]) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    sector[440..444].copy_from_slice(&id.to_le_bytes());
    for (partition, entry) in partitions.iter().zip(sector[446..510].chunks_exact_mut(16)) {
        // Cylinder, head and sector of either end: beyond what they can say, so the numbers behind them count.
        entry[..8].copy_from_slice(&[0, 0xfe, 0xff, 0xff, partition.kind, 0xfe, 0xff, 0xff]);
        entry[0] = if partition.bootable { 0x80 } else { 0 };
        let sectors = |bytes: u64| ((bytes / SECTOR) as u32).to_le_bytes();
        entry[8..12].copy_from_slice(&sectors(partition.at));
        entry[12..].copy_from_slice(&sectors(partition.bytes));
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_where_they_should_be() {
        let partition = |kind, bootable, at| Partition {
            kind,
            bootable,
            at,
            bytes: 1 << 20,
        };
        let table = [
            partition(LINUX, true, 1 << 20),
            partition(FAT16, false, 2 << 20),
        ];
        let sector = sector(0x1234_5678, &table);
        assert_eq!(sector[440..444], [0x78, 0x56, 0x34, 0x12]);
        let (first, second) = (&sector[446..462], &sector[462..478]);
        assert_eq!((first[0], first[4]), (0x80, 0x83));
        assert_eq!(first[8..], [0, 8, 0, 0, 0, 8, 0, 0]);
        assert_eq!((second[0], second[4]), (0, 0x0e));
        assert_eq!(second[8..], [0, 16, 0, 0, 0, 8, 0, 0]);
        assert!(sector[478..510].iter().all(|byte| *byte == 0));
        assert_eq!(sector[510..], [0x55, 0xaa]);
    }
}
