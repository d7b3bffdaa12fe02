//! The character generator (RFC 864): 95 printable characters, in lines of 72 that each begin one further.

const LINE: u32 = 74;
/// After so many bytes it all begins again.
const PERIOD: u32 = 95 * LINE;
/// Bytes of an answer over UDP: less than the 512 that are allowed, and no fragments.
pub const DATAGRAM: usize = 512;

/// Fills `out` with what comes at `position`, and moves it on.
pub fn fill(out: &mut [u8], position: &mut u32) {
    let (mut line, mut column) = (*position / LINE, *position % LINE);
    for byte in out.iter_mut() {
        *byte = match column {
            72 => b'\r',
            73 => b'\n',
            _ => b' ' + ((line + column) % 95) as u8,
        };
        column += 1;
        if column == LINE {
            (line, column) = ((line + 1) % 95, 0);
        }
    }
    *position = (line * LINE + column) % PERIOD;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_rfc_however_they_are_cut() {
        let mut whole = vec![0; 3 * PERIOD as usize];
        fill(&mut whole, &mut 0);
        let lines: Vec<&[u8]> = whole.chunks(74).collect();
        assert!(lines[0].starts_with(b" !\"#$%&'()*+,-./0123456789:;<=>?@"));
        assert!(lines[1].starts_with(b"!\"#$%&'()*+,-./0123456789:;<=>?@A"));
        assert_eq!(lines[95], lines[0]);
        assert!(lines.iter().all(|line| line.ends_with(b"\r\n")
            && line[..72].iter().all(|byte| (b' '..=b'~').contains(byte))));
        let (mut cut, mut position) = (Vec::new(), 0);
        for len in [1, 71, 2, 73, 500, 1460, 7030, 3].iter().cycle() {
            let mut part = vec![0; *len];
            fill(&mut part, &mut position);
            cut.extend(part);
            if cut.len() > whole.len() {
                break;
            }
        }
        assert!(cut.starts_with(&whole));
    }
}
