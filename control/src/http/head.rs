//! Where a request head ends, and whether its lines are lines.
//!
//! RFC 9112 lets a recipient be lenient about line endings; leniency is what request smuggling lives on, so there is
//! none here: a line ends with CR LF, and no other control character but the tab may occur in a head.
//!
//! ```text
//!  0        line                       seen              end of input
//!  |..lines..|Host: exa                 |
//!             ^ the line being read     ^ everything before is known to be clean
//! ```

use super::refusal::Refusal;

/// Longest request line, without its CR LF (RFC 9112 section 3 recommends 8000 octets at least; the receive window is
/// 8 KiB in all, and the longest path served has 14).
pub const MAX_REQUEST_LINE: usize = 4096;
/// Longest head: request line, fields and the empty line.
pub const MAX_HEAD: usize = 6144;

const _: () = assert!(MAX_REQUEST_LINE + 2 < MAX_HEAD && MAX_HEAD <= u16::MAX as usize);

/// Progress through one head. It survives between arrivals, so that no byte is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    seen: u16,
    line: u16,
    /// Start and end of the request line, once it is whole; the end is never 0.
    request_line: (u16, u16),
}

impl Scan {
    /// Whether nothing of a request arrived yet.
    pub fn is_idle(&self) -> bool {
        self.seen == 0
    }

    /// The request line, if it is whole.
    pub fn request_line<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let (start, end) = self.request_line;
        if end == 0 {
            None
        } else {
            input.get(start.into()..end.into())
        }
    }

    /// The field lines of a whole head, with the empty line.
    pub fn fields<'a>(&self, input: &'a [u8], end: usize) -> &'a [u8] {
        input
            .get(usize::from(self.request_line.1) + 2..end)
            .unwrap_or_default()
    }

    /// Looks for the request line; empty lines before it are skipped (RFC 9112 section 2.2).
    pub fn find_request_line<'a>(&mut self, input: &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
        while self.request_line.1 == 0 {
            let start = usize::from(self.line);
            let limit = (start + MAX_REQUEST_LINE + 2).min(MAX_HEAD);
            match self.next_line(input, limit)? {
                None if input.len() >= limit => return Err(Refusal::RequestLineTooLong),
                None => return Ok(None),
                Some(end) if end == start => {}
                Some(end) => self.request_line = (start as u16, end as u16),
            }
        }
        Ok(self.request_line(input))
    }

    /// Looks for the empty line after the request line: the length of the head.
    pub fn find_end(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        loop {
            let start = usize::from(self.line);
            match self.next_line(input, MAX_HEAD)? {
                None if input.len() >= MAX_HEAD => return Err(Refusal::HeadTooLong),
                None => return Ok(None),
                Some(end) if end == start => return Ok(Some(usize::from(self.line))),
                Some(_) => {}
            }
        }
    }

    /// Where the line being read ends; the next one begins two bytes on. Nothing at or after `limit` is looked at, so
    /// that the verdict does not depend on how the bytes arrived.
    fn next_line(&mut self, input: &[u8], limit: usize) -> Result<Option<usize>, Refusal> {
        let input = &input[..input.len().min(limit)];
        if matches!(input.get(usize::from(self.line)), Some(b' ' | b'\t')) {
            return Err(Refusal::LeadingSpace);
        }
        let mut at = usize::from(self.seen);
        loop {
            at += clean_len(input.get(at..).unwrap_or_default());
            match (input.get(at), input.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    self.seen = at as u16 + 2;
                    self.line = self.seen;
                    return Ok(Some(at));
                }
                (Some(b'\t'), _) => at += 1,
                (Some(b'\r'), Some(_)) => return Err(Refusal::BareCarriageReturn),
                (Some(b'\n'), _) => return Err(Refusal::BareLineFeed),
                (None, _) | (Some(b'\r'), None) => {
                    self.seen = at as u16;
                    return Ok(None);
                }
                (Some(_), _) => return Err(Refusal::ControlCharacter),
            }
        }
    }
}

/// How many bytes at the start are not control characters (DEL aside, which no field or target may hold either and
/// which is refused there), eight at a time.
fn clean_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The top bit of a byte is set if it is below 0x20. A borrow can only blur the bytes after the first hit.
        let hits = word.wrapping_sub(ONES * 0x20) & !word & (ONES * 0x80);
        if hits != 0 {
            return index * 8 + hits.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8
        + rest
            .iter()
            .position(|&byte| byte < 0x20)
            .unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_len_agrees_with_a_plain_search() {
        for control in 0..=255u8 {
            for at in 0..24 {
                let mut bytes = *b"GET /hello\x7f\x80\xffHost: exampl";
                bytes[at] = control;
                let plain = bytes
                    .iter()
                    .position(|&byte| byte < 0x20)
                    .unwrap_or(bytes.len());
                assert_eq!(clean_len(&bytes), plain, "{control:#x} at {at}");
            }
        }
    }

    #[test]
    fn a_head_arriving_byte_by_byte_is_looked_at_once() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut scan = Scan::default();
        for len in 0..head.len() {
            let before = scan.seen;
            if scan.find_request_line(&head[..len]).unwrap().is_some() {
                assert_eq!(scan.find_end(&head[..len]), Ok(None));
            }
            assert!(
                scan.seen >= before && usize::from(scan.seen) + 1 >= len,
                "at {len}: {scan:?}"
            );
        }
        assert_eq!(scan.find_end(head), Ok(Some(head.len())));
        assert_eq!(scan.fields(head, head.len()), b"Host: a\r\n\r\n");
    }
}
