//! Reads what a build needs from a little-endian 64-bit ELF file: segments, sections, and no more.
//!
//! Offsets and sizes are bounded against the file: a linker that went wrong is an error, not a panic.

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes start in the file.
    pub offset: u64,
    /// Where it is linked.
    pub address: u64,
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Bytes in memory; what the file does not have is zero.
    pub memory_bytes: u64,
    /// `PF_X` 1, `PF_W` 2, `PF_R` 4.
    pub flags: u32,
}

/// A section that takes memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where it is linked.
    pub address: u64,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// Its size in memory.
    pub bytes: u64,
    /// Whether the file has its bytes (`.bss` has none).
    pub in_file: bool,
    /// Whether it holds instructions.
    pub executable: bool,
}

/// What of an ELF file matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// The loadable segments, by address.
    pub segments: Vec<Segment>,
    /// The sections that take memory, by address.
    pub sections: Vec<Section>,
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with the file.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        const PT_LOAD: u32 = 1;
        const SHT_NOBITS: u32 = 8;
        const SHF_ALLOC: u64 = 2;
        const SHF_EXECINSTR: u64 = 4;
        const EM_AARCH64: u16 = 183;

        let reader = Reader(file);
        if file.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err("not a little-endian 64-bit ELF file".to_owned());
        }
        if reader.u16(18)? != EM_AARCH64 {
            return Err("not linked for AArch64".to_owned());
        }
        let (program_headers, section_headers) = (reader.u64(32)?, reader.u64(40)?);
        let (program_header_bytes, program_header_count) = (reader.u16(54)?, reader.u16(56)?);
        let (section_header_bytes, section_header_count) = (reader.u16(58)?, reader.u16(60)?);
        let name_section = reader.u16(62)?;

        let mut segments = Vec::new();
        for at in table(program_headers, program_header_bytes, program_header_count) {
            let segment = Segment {
                offset: reader.u64(at + 8)?,
                address: reader.u64(at + 16)?,
                file_bytes: reader.u64(at + 32)?,
                memory_bytes: reader.u64(at + 40)?,
                flags: reader.u32(at + 4)?,
            };
            if reader.u32(at)? == PT_LOAD && segment.memory_bytes > 0 {
                reader.bytes(segment.offset, segment.file_bytes)?;
                segments.push(segment);
            }
        }
        segments.sort_by_key(|segment| segment.address);

        let names = section_headers + u64::from(section_header_bytes) * u64::from(name_section);
        let mut sections = Vec::new();
        for at in table(section_headers, section_header_bytes, section_header_count) {
            let flags = reader.u64(at + 8)?;
            let section = Section {
                name: reader.text(reader.u64(names + 24)? + u64::from(reader.u32(at)?))?,
                address: reader.u64(at + 16)?,
                offset: reader.u64(at + 24)?,
                bytes: reader.u64(at + 32)?,
                in_file: reader.u32(at + 4)? != SHT_NOBITS,
                executable: flags & SHF_EXECINSTR != 0,
            };
            if flags & SHF_ALLOC != 0 && section.bytes > 0 {
                if section.in_file {
                    reader.bytes(section.offset, section.bytes)?;
                }
                sections.push(section);
            }
        }
        sections.sort_by_key(|section| section.address);
        Ok(Self { segments, sections })
    }
}

/// The offsets of a table's entries.
fn table(start: u64, entry_bytes: u16, count: u16) -> impl Iterator<Item = u64> {
    (0..u64::from(count)).map(move |index| start.saturating_add(index * u64::from(entry_bytes)))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&self, offset: u64, len: u64) -> Result<&'a [u8], String> {
        let range = usize::try_from(offset).ok().zip(
            offset
                .checked_add(len)
                .and_then(|end| usize::try_from(end).ok()),
        );
        range
            .and_then(|(start, end)| self.0.get(start..end))
            .ok_or_else(|| format!("the ELF file ends before offset {offset:#x} + {len:#x}"))
    }

    fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], String> {
        let bytes = self.bytes(offset, N as u64)?;
        bytes
            .try_into()
            .map_err(|_| format!("no {N} bytes at {offset:#x}"))
    }

    fn u16(&self, offset: u64) -> Result<u16, String> {
        self.array(offset).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: u64) -> Result<u32, String> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: u64) -> Result<u64, String> {
        self.array(offset).map(u64::from_le_bytes)
    }

    fn text(&self, offset: u64) -> Result<String, String> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..))
            .unwrap_or_default();
        let end = rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or("a section's name has no end")?;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Builds an ELF file with the given loadable segments (bytes, address, size in memory, flags), and for each
    /// a section of the same extent.
    pub fn build(segments: &[(&[u8], u64, u64, u32)]) -> Vec<u8> {
        let names = b"\0.sec\0";
        let headers = 64 + 56 * segments.len();
        let mut body = Vec::new();
        let mut program_headers = Vec::new();
        let mut section_headers = vec![0; 64];
        for (bytes, address, memory_bytes, flags) in segments {
            let offset = (headers + body.len()) as u64;
            body.extend_from_slice(bytes);
            program_headers.extend(1u32.to_le_bytes());
            program_headers.extend(flags.to_le_bytes());
            for field in [
                offset,
                *address,
                *address,
                bytes.len() as u64,
                *memory_bytes,
                4096,
            ] {
                program_headers.extend(field.to_le_bytes());
            }
            let kind: u32 = if bytes.is_empty() { 8 } else { 1 };
            section_headers.extend(1u32.to_le_bytes());
            section_headers.extend(kind.to_le_bytes());
            for field in [
                2 | u64::from(flags & 1) << 2,
                *address,
                offset,
                *memory_bytes.min(&(bytes.len().max(usize::from(bytes.is_empty()) * 64) as u64)),
                0,
                0,
                0,
            ] {
                section_headers.extend(field.to_le_bytes());
            }
        }
        let names_at = (headers + body.len()) as u64;
        section_headers.extend([0; 24]);
        section_headers.extend(names_at.to_le_bytes());
        section_headers.extend((names.len() as u64).to_le_bytes());
        section_headers.extend([0; 24]);
        let section_count = segments.len() as u16 + 2;

        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        for field in [3u16, 183] {
            file.extend(field.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        for field in [0, 64, names_at + names.len() as u64] {
            file.extend(field.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for field in [
            64,
            56,
            segments.len() as u16,
            64,
            section_count,
            section_count - 1,
        ] {
            file.extend(field.to_le_bytes());
        }
        file.extend(program_headers);
        file.extend(body);
        file.extend(names);
        file.extend(section_headers);
        file
    }

    #[test]
    fn segments_and_sections_come_in_order_of_address() {
        let elf = Elf::parse(&build(&[
            (b"data", 0x2000, 0x100, 6),
            (b"code", 0x1000, 4, 5),
        ]))
        .unwrap();
        assert_eq!(
            elf.segments
                .iter()
                .map(|segment| segment.address)
                .collect::<Vec<_>>(),
            [0x1000, 0x2000]
        );
        assert_eq!(elf.sections.len(), 2);
        assert!(elf.sections[0].executable && !elf.sections[1].executable);
        assert_eq!(elf.sections[0].name, ".sec");
        assert_eq!(elf.segments[1].memory_bytes, 0x100);
    }

    #[test]
    fn damaged_files_are_errors() {
        let whole = build(&[(b"code", 0x1000, 4, 5)]);
        assert!(Elf::parse(&whole).is_ok());
        for len in 0..whole.len() - 40 {
            assert!(Elf::parse(&whole[..len]).is_err(), "{len} bytes");
        }
        let mut other_machine = whole.clone();
        other_machine[18] = 62;
        assert_eq!(
            Elf::parse(&other_machine),
            Err("not linked for AArch64".to_owned())
        );
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = Elf::parse(&damaged);
        }
    }
}
