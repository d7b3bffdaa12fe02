//! Makes the arm64 `Image` from the linked ELF file, and checks what a boot loader and the CPU rely on.
//!
//! It unpacks itself at start (`hal/src/arch/boot.rs`, `docs/decisions/0019-packed-image.md`): all but the header and the
//! boot code is in the file as one LZ4 block.
//!
//! ```text
//! Image   0  code0, code1         first instructions
//!         8  text_offset  u64     0: load at any 2 MiB boundary
//!        16  image_size   u64     memory it takes, BSS and stacks included
//!        24  flags        u64     little-endian, 4 KiB pages, anywhere in memory
//!        56  magic                "ARM\x64"
//!        64  packed_bytes u64     the block with zeros up to a multiple of 32; 0: nothing is packed
//!        72  packed_crc   u64     their CRC-32
//!        80  packed_at    u64     where the block starts, and what it unpacks to
//!        88  unpacked_end u64     where that ends: at the start of BSS
//! ```
//!
//! The last four are our own; the linker knows two of them, and [`pack`] fills in the others.
//!
//! Spec: Linux, Documentation/arch/arm64/booting.rst, "Call the kernel image".

use crate::crc32::crc32;
use crate::elf::{Elf, Segment};
use crate::errata::{self, Erratum};
use crate::lz4;

/// What `out/Image` may take (issue: at most 512 KiB).
pub const BUDGET_BYTES: usize = 512 * 1024;

/// Bit 0: little-endian. Bits 1 and 2: 1, pages of 4 KiB. Bit 3: anywhere in memory.
const FLAGS: u64 = 0b1010;

const PACKED_BYTES: usize = 64;
const PACKED_CRC: usize = 72;
const PACKED_AT: usize = 80;
const UNPACKED_END: usize = 88;
/// The boot code copies so much at once.
const PACKED_UNIT: usize = 32;

/// Something that was looked at, and what was wrong with it.
pub type Check = (&'static str, Result<(), String>);

/// Lays the segments out as they lie in memory, as far as the file has bytes.
///
/// # Errors
///
/// A sentence that says why these segments make no image.
pub fn from_elf(elf: &Elf, file: &[u8]) -> Result<Vec<u8>, String> {
    const LARGEST: u64 = 64 << 20;

    let base = base(elf)?;
    let mut image = Vec::new();
    for segment in elf.segments.iter().filter(|segment| segment.file_bytes > 0) {
        let start = segment.address - base;
        let end = start.saturating_add(segment.file_bytes);
        if start < image.len() as u64 {
            return Err(format!(
                "the segment at {:#x} overlaps the one before",
                segment.address
            ));
        }
        if end > LARGEST {
            return Err(format!(
                "the segment at {:#x} ends {end:#x} bytes behind the start",
                segment.address
            ));
        }
        image.resize(start as usize, 0);
        image.extend_from_slice(bytes(segment.offset, segment.file_bytes, file)?);
    }
    Ok(image)
}

/// Packs what [`from_elf`] laid out, as far as the image unpacks it itself.
///
/// # Errors
///
/// A sentence that says why this image cannot be packed.
pub fn pack(raw: &[u8]) -> Result<Vec<u8>, String> {
    let (start, end) = packed_range(raw)?;
    expect(raw.len() <= end, || {
        format!("{} bytes, but unpacking ends at {end}", raw.len())
    })?;
    let mut content = raw[start..].to_vec();
    content.resize(end - start, 0);
    let mut block = lz4::compress(&content);
    block.resize(block.len().next_multiple_of(PACKED_UNIT), 0);
    expect(block.len() <= content.len(), || {
        "packing makes it larger".to_owned()
    })?;
    let mut image = raw[..start].to_vec();
    set_field(&mut image, PACKED_BYTES, block.len() as u64);
    set_field(&mut image, PACKED_CRC, u64::from(crc32(&block)));
    image.extend(block);
    Ok(image)
}

/// What the boot code makes of an image: the reverse of [`pack`].
fn unpack(image: &[u8]) -> Result<Vec<u8>, String> {
    let (start, end) = packed_range(image)?;
    let block = &image[start..];
    expect(field(image, PACKED_BYTES)? == block.len() as u64, || {
        format!("the block has {} bytes", block.len())
    })?;
    let crc = crc32(block);
    expect(field(image, PACKED_CRC)? == u64::from(crc), || {
        format!("the block's checksum is {crc:#x}")
    })?;
    let mut raw = image[..start].to_vec();
    set_field(&mut raw, PACKED_BYTES, 0);
    set_field(&mut raw, PACKED_CRC, 0);
    raw.extend(lz4::decompress(block, end - start)?);
    Ok(raw)
}

/// From where to where the image is packed, as offsets of what is unpacked.
fn packed_range(image: &[u8]) -> Result<(usize, usize), String> {
    let start = field(image, PACKED_AT)? as usize;
    let end = field(image, UNPACKED_END)? as usize;
    let possible = UNPACKED_END < start && start <= image.len() && start <= end;
    expect(possible, || {
        format!("{start:#x} to {end:#x} is to be packed")
    })?;
    Ok((start, end))
}

fn field(image: &[u8], offset: usize) -> Result<u64, String> {
    let bytes = image.get(offset..offset + 8);
    match bytes.and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => Ok(u64::from_le_bytes(bytes)),
        None => Err("the image has no header".to_owned()),
    }
}

/// Writes a field of the header, which is there: it was read before.
fn set_field(image: &mut [u8], offset: usize, value: u64) {
    image[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// Checks the packed image, what it was packed from and the ELF file against each other and against the boot protocol, one
/// line per check.
pub fn check(elf: &Elf, file: &[u8], raw: &[u8], image: &[u8]) -> Vec<Check> {
    let is = |name: &str, offset: usize, wanted: u64| {
        field(image, offset).and_then(|found| {
            expect(found == wanted, || {
                format!("{name} is {found:#x}, not {wanted:#x}")
            })
        })
    };
    vec![
        (
            "magic",
            expect(image.get(56..60) == Some(b"ARM\x64"), || {
                "no arm64 image: the magic is missing".to_owned()
            }),
        ),
        ("text_offset", is("text_offset", 8, 0)),
        ("flags", is("flags", 24, FLAGS)),
        (
            "image_size",
            field(image, 16).and_then(|size| check_size(elf, size)),
        ),
        ("packed", check_packed(raw, image)),
        ("w^x", check_permissions(elf)),
        ("relocations", check_relocations(elf, file)),
        ("budget", check_budget(image.len())),
        (
            "erratum 843419",
            check_erratum(elf, file, Erratum::PageEndAdrp843419),
        ),
        (
            "erratum 835769",
            check_erratum(elf, file, Erratum::MultiplyAccumulate835769),
        ),
    ]
}

/// What is packed must become what the linker made, and zeros up to the end.
fn check_packed(raw: &[u8], image: &[u8]) -> Result<(), String> {
    let mut unpacked = unpack(image)?;
    let tail = unpacked.split_off(raw.len().min(unpacked.len()));
    expect(
        unpacked == raw && tail.iter().all(|byte| *byte == 0),
        || "it unpacks to something else".to_owned(),
    )
}

/// Whether the image keeps to its budget.
pub fn check_budget(image_bytes: usize) -> Result<(), String> {
    expect(image_bytes <= BUDGET_BYTES, || {
        format!("{image_bytes} bytes, {} allowed", BUDGET_BYTES)
    })
}

fn expect(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// The header must own up to all memory the image takes, or else a loader puts the devicetree there.
fn check_size(elf: &Elf, image_size: u64) -> Result<(), String> {
    let base = base(elf)?;
    let end = elf
        .segments
        .iter()
        .map(|segment| segment.address - base + segment.memory_bytes)
        .max()
        .unwrap_or_default();
    expect(image_size >= end, || {
        format!("image_size is {image_size:#x}, but memory is used up to {end:#x}")
    })
}

fn check_permissions(elf: &Elf) -> Result<(), String> {
    const WRITE_AND_EXECUTE: u32 = 3;
    match elf
        .segments
        .iter()
        .find(|segment| segment.flags & WRITE_AND_EXECUTE == WRITE_AND_EXECUTE)
    {
        Some(segment) => Err(format!(
            "the segment at {:#x} can be written and executed",
            segment.address
        )),
        None => Ok(()),
    }
}

/// The boot code knows packed relative relocations only, and code must not need any: it is never written.
fn check_relocations(elf: &Elf, file: &[u8]) -> Result<(), String> {
    const WORD: u64 = 8;
    let tables = elf
        .sections
        .iter()
        .filter(|section| section.name.starts_with(".rel") && section.bytes > 0);
    for table in tables {
        expect(table.name == ".relr.dyn", || {
            format!("the boot code knows nothing of {}", table.name)
        })?;
        let (entries, rest) = bytes(table.offset, table.bytes, file)?.as_chunks();
        expect(rest.is_empty(), || ".relr.dyn is cut short".to_owned())?;
        let mut next = None;
        for entry in entries.iter().map(|entry| u64::from_le_bytes(*entry)) {
            let mut places = Vec::new();
            if entry & 1 == 0 {
                places.push(entry);
                next = Some(entry + WORD);
            } else {
                let first = next.ok_or(".relr.dyn begins with a bit map")?;
                let named = (0..63).filter(|bit| entry >> (bit + 1) & 1 == 1);
                places.extend(named.map(|bit| first + bit * WORD));
                next = Some(first + 63 * WORD);
            }
            for place in places {
                let in_code = elf.sections.iter().find(|section| {
                    section.executable
                        && (section.address..section.address + section.bytes).contains(&place)
                });
                expect(in_code.is_none(), || {
                    format!("code at {place:#x} would be changed")
                })?;
            }
        }
    }
    Ok(())
}

fn check_erratum(elf: &Elf, file: &[u8], erratum: Erratum) -> Result<(), String> {
    let mut places = Vec::new();
    let mut words_seen = 0;
    for section in elf
        .sections
        .iter()
        .filter(|section| section.executable && section.in_file)
    {
        let words: Vec<u32> = bytes(section.offset, section.bytes, file)?
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        words_seen += words.len();
        let found = errata::scan(section.address, &words)
            .into_iter()
            .filter(|finding| finding.erratum == erratum);
        places.extend(found.map(|finding| format!("{:#x}", finding.address)));
    }
    expect(words_seen > 0, || "there is no code to check".to_owned())?;
    expect(places.is_empty(), || {
        let more = if places.len() > 8 {
            format!(" and {} more", places.len() - 8)
        } else {
            String::new()
        };
        format!(
            "code trips it at {}{more}",
            places[..places.len().min(8)].join(", ")
        )
    })
}

fn base(elf: &Elf) -> Result<u64, String> {
    let first: Option<&Segment> = elf.segments.first();
    first
        .map(|segment| segment.address)
        .ok_or_else(|| "nothing to load".to_owned())
}

fn bytes(offset: u64, len: u64, file: &[u8]) -> Result<&[u8], String> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
    file.get(start..end)
        .ok_or_else(|| "the ELF file is cut short".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::build;

    /// An image of two segments, with a header that suits them.
    fn sound() -> (Vec<u8>, Vec<u8>) {
        let mut head = vec![0u8; 96];
        head[16..24].copy_from_slice(&0x20_0000u64.to_le_bytes());
        head[24..32].copy_from_slice(&FLAGS.to_le_bytes());
        head[56..60].copy_from_slice(b"ARM\x64");
        head[80..88].copy_from_slice(&96u64.to_le_bytes());
        (head, b"data".to_vec())
    }

    /// Says where unpacking ends: the ends of the segments below, in whole vectors.
    fn ends_at(head: &mut [u8], end: u64) {
        head[88..96].copy_from_slice(&end.next_multiple_of(16).to_le_bytes());
    }

    fn checked(head: &[u8], data: &[u8], data_address: u64, data_memory: u64) -> Vec<Check> {
        let mut head = head.to_vec();
        ends_at(&mut head, data_address + data.len() as u64);
        let file = build(&[
            (&head, 0, head.len() as u64, 5),
            (data, data_address, data_memory, 6),
        ]);
        let elf = Elf::parse(&file).unwrap();
        let raw = from_elf(&elf, &file).unwrap();
        check(&elf, &file, &raw, &pack(&raw).unwrap())
    }

    fn complaint(checks: &[Check], name: &str) -> String {
        let (_, result) = checks.iter().find(|(checked, _)| *checked == name).unwrap();
        result.clone().err().unwrap_or_default()
    }

    #[test]
    fn segments_lie_as_in_memory_and_the_tail_of_zeros_is_left_out() {
        let (head, data) = sound();
        let file = build(&[(&head, 0x1000, 96, 5), (&data, 0x3000, 0x8000, 6)]);
        let image = from_elf(&Elf::parse(&file).unwrap(), &file).unwrap();
        assert_eq!(image.len(), 0x2004);
        assert_eq!(image[..96], head);
        assert!(image[96..0x2000].iter().all(|byte| *byte == 0));
        assert_eq!(image[0x2000..], *b"data");
    }

    #[test]
    fn a_sound_image_passes_every_check() {
        let (head, data) = sound();
        let checks = checked(&head, &data, 0x1000, 0x8000);
        assert_eq!(checks.len(), 10);
        assert!(
            checks.iter().all(|(_, result)| result.is_ok()),
            "{checks:?}"
        );
    }

    #[test]
    fn header_mistakes_are_found() {
        let (head, data) = sound();
        let with = |at: usize, byte: u8| {
            let mut head = head.clone();
            head[at] = byte;
            checked(&head, &data, 0x1000, 0x8000)
        };
        assert_eq!(
            complaint(&with(56, b'X'), "magic"),
            "no arm64 image: the magic is missing"
        );
        assert_eq!(
            complaint(&with(10, 8), "text_offset"),
            "text_offset is 0x80000, not 0x0"
        );
        assert_eq!(complaint(&with(24, 2), "flags"), "flags is 0x2, not 0xa");
        assert_eq!(
            complaint(&with(18, 0), "image_size"),
            "image_size is 0x0, but memory is used up to 0x9000"
        );
    }

    #[test]
    fn memory_beyond_image_size_and_a_fat_image_are_found() {
        let (head, data) = sound();
        let checks = checked(&head, &data, 0x1000, 0x20_0000);
        assert_eq!(
            complaint(&checks, "image_size"),
            "image_size is 0x200000, but memory is used up to 0x201000"
        );
        // What does not repeat cannot be packed.
        let mut state = 1u32;
        let noise: Vec<u8> = (0..BUDGET_BYTES)
            .map(|_| {
                state = state.wrapping_mul(0x915_f77f5).wrapping_add(1);
                (state >> 24) as u8
            })
            .collect();
        let checks = checked(&head, &noise, 0x9_0000, 0x9_0000);
        let budget = complaint(&checks, "budget");
        assert!(budget.ends_with(" bytes, 524288 allowed"), "{budget}");
    }

    #[test]
    fn an_image_is_packed_and_damage_to_it_is_found() {
        let (mut head, _) = sound();
        ends_at(&mut head, 5000);
        let mut raw = head.clone();
        raw.extend((0..4900).map(|index: u32| (index / 7) as u8));
        let image = pack(&raw).unwrap();
        assert!(image.len() < 3000 && (image.len() - 96).is_multiple_of(32));
        assert_eq!(image[..64], raw[..64]);
        assert_eq!(check_packed(&raw, &image), Ok(()));

        assert!(check_packed(&raw, &image[..image.len() - 32]).is_err());
        for at in 64..image.len() {
            let mut damaged = image.clone();
            damaged[at] ^= 1;
            assert!(check_packed(&raw, &damaged).is_err(), "{at}");
        }
        raw[2000] ^= 1;
        assert_eq!(
            check_packed(&raw, &image),
            Err("it unpacks to something else".to_owned())
        );

        // Without a header; header packed; more than is to be unpacked.
        for (raw, start, end) in [
            (&raw[..90], 96u64, 5008u64),
            (&raw, 64, 5008),
            (&raw, 96, 4992),
        ] {
            let mut raw = raw.to_vec();
            if let Some(fields) = raw.get_mut(80..96) {
                fields[..8].copy_from_slice(&start.to_le_bytes());
                fields[8..].copy_from_slice(&end.to_le_bytes());
            }
            assert!(pack(&raw).is_err(), "{start} {end}");
        }
    }

    #[test]
    fn relocations_that_the_boot_code_cannot_apply_are_found() {
        let section = |name: &str, address, bytes, executable| crate::elf::Section {
            name: name.to_owned(),
            address,
            offset: 0,
            bytes,
            in_file: true,
            executable,
        };
        let check = |table: &str, entries: &[u64], bytes: usize| {
            let file: Vec<u8> = entries.iter().flat_map(|word| word.to_le_bytes()).collect();
            let elf = Elf {
                segments: Vec::new(),
                sections: vec![
                    section(".text", 0x1000, 0x1000, true),
                    section(table, 0x3000, bytes as u64, false),
                ],
            };
            check_relocations(&elf, &file)
        };
        // One at 0x2000, and the next word but one; one far below the code, and a word 62 behind the next.
        assert_eq!(check(".relr.dyn", &[0x2000, 0b101], 16), Ok(()));
        assert_eq!(check(".relr.dyn", &[0x0800, 1 << 63 | 1], 16), Ok(()));
        assert_eq!(check(".rela.dyn", &[], 0), Ok(()));
        for (table, entries, bytes) in [
            (".relr.dyn", &[0x1ff8][..], 8),
            (".relr.dyn", &[0x0ff0, 0b101], 16),
            (".relr.dyn", &[0x0e10, 1 << 63 | 1], 16),
            (".relr.dyn", &[0b11], 8),
            (".relr.dyn", &[0x2000, 0b101], 15),
            (".rela.dyn", &[0x2000, 1027, 0], 24),
        ] {
            assert!(
                check(table, entries, bytes).is_err(),
                "{table} {entries:x?}"
            );
        }
    }

    #[test]
    fn writable_code_overlaps_and_errata_are_found() {
        let (mut head, _) = sound();
        let file = build(&[(&head, 0, 96, 7)]);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(
            complaint(&check(&elf, &file, &head, &head), "w^x"),
            "the segment at 0x0 can be written and executed"
        );

        let file = build(&[(&head, 0, 96, 5), (b"data", 32, 4, 6)]);
        let overlap = from_elf(&Elf::parse(&file).unwrap(), &file);
        assert_eq!(
            overlap,
            Err("the segment at 0x20 overlaps the one before".to_owned())
        );

        head.extend(0xf940_0021u32.to_le_bytes()); // ldr x1, [x1]
        head.extend(0x9b02_0c20u32.to_le_bytes()); // madd x0, x1, x2, x3
        let checks = checked(&head, b"data", 0x1000, 4);
        assert_eq!(
            complaint(&checks, "erratum 835769"),
            "code trips it at 0x60"
        );
        assert_eq!(complaint(&checks, "erratum 843419"), "");
    }
}
