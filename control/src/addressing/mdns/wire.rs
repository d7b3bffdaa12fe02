//! DNS messages as bytes (RFC 1035, section 4): names, questions, records.
//!
//! Reading trusts nothing: every offset is checked, pointers lead backwards only, and counts that lie
//! end at the last byte.

use heapless::Vec;

/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 12;

/// The most bytes of a name on the wire (RFC 1035, 2.3.4).
const MAX_NAME_LEN: usize = 255;
/// A domain name as on the wire, uncompressed, in lower case.
pub(super) type Name = Vec<u8, MAX_NAME_LEN>;

/// Builds a name from its labels.
pub(super) fn wire_name(labels: &[&[u8]]) -> Name {
    let mut name = Name::new();
    for label in labels {
        // Labels are at most 63 bytes and ours at most five, so they fit.
        let _ = name.push(label.len() as u8);
        for byte in *label {
            let _ = name.push(byte.to_ascii_lowercase());
        }
    }
    let _ = name.push(0);
    name
}

/// Reads a name, following compression. Returns it with the offset of what comes after.
///
/// Every pointer must lead further back than all before it, so that there is an end to them.
pub(super) fn read_name(message: &[u8], mut at: usize) -> Option<(Name, usize)> {
    let mut name = Name::new();
    let mut after = None;
    let mut earliest = at;
    loop {
        let len = *message.get(at)?;
        match len & 0xc0 {
            0x00 => {
                let label = message.get(at..=at + usize::from(len))?;
                for byte in label {
                    // A length is below every letter.
                    name.push(byte.to_ascii_lowercase()).ok()?;
                }
                at += label.len();
                if len == 0 {
                    return Some((name, after.unwrap_or(at)));
                }
            }
            0xc0 => {
                let target = usize::from(u16::from_be_bytes([len & 0x3f, *message.get(at + 1)?]));
                if target >= earliest {
                    return None;
                }
                after.get_or_insert(at + 2);
                earliest = target;
                at = target;
            }
            _ => return None,
        }
    }
}

/// The first twelve bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additional: u16,
}

impl Header {
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = message.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            id: word(0),
            flags: word(2),
            questions: word(4),
            answers: word(6),
            authorities: word(8),
            additional: word(10),
        })
    }

    pub(super) fn bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let words = [
            self.id,
            self.flags,
            self.questions,
            self.answers,
            self.authorities,
            self.additional,
        ];
        for (pair, word) in bytes.chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    pub(super) fn records(&self) -> u32 {
        u32::from(self.answers) + u32::from(self.authorities) + u32::from(self.additional)
    }
}

/// A resource record.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl_s: u32,
    pub(super) data: &'a [u8],
    /// Where `data` starts in the message, for names in it.
    pub(super) data_at: usize,
}

/// Reads questions and records in order. Each takes at least five bytes, so that a count that lies
/// costs nothing.
pub(super) struct Reader<'a> {
    pub(super) message: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn question(&mut self) -> Option<(Name, u16, u16)> {
        let (name, at) = read_name(self.message, self.at)?;
        self.at = at;
        Some((name, self.word()?, self.word()?))
    }

    pub(super) fn record(&mut self) -> Option<Record<'a>> {
        let (name, kind, class) = self.question()?;
        let ttl_s = u32::from(self.word()?) << 16 | u32::from(self.word()?);
        let len = usize::from(self.word()?);
        let data_at = self.at;
        let data = self.message.get(data_at..data_at + len)?;
        self.at += len;
        Some(Record {
            name,
            kind,
            class,
            ttl_s,
            data,
            data_at,
        })
    }

    fn word(&mut self) -> Option<u16> {
        let word = *self.message.get(self.at..)?.first_chunk()?;
        self.at += 2;
        Some(u16::from_be_bytes(word))
    }
}

/// Writes questions and records, each as a whole or not at all. Both return how many were written.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut [u8],
    pub(super) at: usize,
}

impl Writer<'_> {
    pub(super) fn question(&mut self, name: &Name, qtype: u16, class: u16) -> u16 {
        self.put(&[name, &qtype.to_be_bytes(), &class.to_be_bytes()], &[])
    }

    pub(super) fn record(
        &mut self,
        name: &Name,
        kind: u16,
        class: u16,
        ttl_s: u32,
        data: &[&[u8]],
    ) -> u16 {
        let len: usize = data.iter().map(|part| part.len()).sum();
        let (kind, class) = (kind.to_be_bytes(), class.to_be_bytes());
        let (ttl_s, len) = (ttl_s.to_be_bytes(), (len as u16).to_be_bytes());
        self.put(&[name, &kind, &class, &ttl_s, &len], data)
    }

    fn put(&mut self, head: &[&[u8]], data: &[&[u8]]) -> u16 {
        let parts = || head.iter().chain(data);
        let len: usize = parts().map(|part| part.len()).sum();
        let Some(mut space) = self.out.get_mut(self.at..self.at + len) else {
            return 0;
        };
        for part in parts() {
            let (here, rest) = space.split_at_mut(part.len());
            here.copy_from_slice(part);
            space = rest;
        }
        self.at += len;
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_names_are_read_in_lower_case() {
        let message = b"\x05LocaL\0\x03Web\xc0\0rest";
        let (name, after) = read_name(message, 7).unwrap_or_default();
        assert_eq!((&name[..], after), (&b"\x03web\x05local\0"[..], 13));
    }

    #[test]
    fn pointers_that_lead_in_circles_end() {
        // 0 points to 2, 2 points to 0, and a name further on points to both.
        let message = b"\xc0\x02\xc0\0\xc0\0\xc0\x02\xc0\x08";
        for at in [0, 2, 4, 6, 8] {
            assert_eq!(read_name(message, at), None);
        }
    }

    #[test]
    fn names_longer_than_255_bytes_are_refused() {
        let label = [&[63][..], &[b'a'; 63]].concat();
        let name = |labels: usize, rest: &[u8]| [&label.repeat(labels), rest, &[0]].concat();
        assert!(read_name(&name(3, &[&[61][..], &[b'a'; 61]].concat()), 0).is_some());
        assert!(read_name(&name(3, &[&[62][..], &[b'a'; 62]].concat()), 0).is_none());
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_no_trace() {
        let mut out = [0; 30];
        let mut writer = Writer {
            out: &mut out,
            at: 0,
        };
        let name = wire_name(&[b"a"]);
        assert_eq!(writer.record(&name, 1, 1, 9, &[&[1; 4]]), 1);
        let at = writer.at;
        assert_eq!(writer.record(&name, 1, 1, 9, &[&[1; 4]]), 0);
        assert_eq!(writer.record(&name, 1, 1, 9, &[]), 1);
        assert_eq!((at, writer.at), (17, 30));
    }
}
