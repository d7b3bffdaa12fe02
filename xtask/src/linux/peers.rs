//! The other ends of the cables: raw frames in and out of every socket of the board.
//!
//! A frame carries a mark in its payload, so that one can be told from another wherever it comes out, and from what
//! Linux sends on its own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{Error, Result};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A MAC address.
pub type Mac = [u8; 6];

const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const MARK: &[u8; 8] = b"espresso";

/// A frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Destination.
    pub to: Mac,
    /// Source.
    pub from: Mac,
    /// VLAN of an 802.1Q tag.
    pub vlan: Option<u16>,
}

/// How long the board and this machine, both perhaps busy, may take for the frames of one question.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Frames since the board started, as its model counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Into its sockets.
    pub taken: u64,
    /// Out of its sockets.
    pub given: u64,
    /// Between its MAC and its switch, both ways.
    pub inside: u64,
}

/// One peer for each socket of the board.
pub struct Peers {
    ends: Vec<End>,
    next_mark: u32,
}

struct End {
    name: &'static str,
    socket: UnixDatagram,
    board: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Since the last question.
    frames: Vec<Vec<u8>>,
    /// Since the start.
    count: u64,
}

impl Peers {
    /// Listens at `NAME.peer` for the board, which is to be at `NAME.board`.
    ///
    /// # Errors
    ///
    /// If the sockets cannot be made.
    pub fn listen(dir: &Path, names: &[&'static str]) -> Result<Self> {
        let end = |name: &&'static str| {
            let path = dir.join(format!("{name}.peer"));
            let _ = std::fs::remove_file(&path);
            let socket = UnixDatagram::bind(&path)?;
            let seen = Arc::new(Mutex::new(Seen::default()));
            let (reader, sink) = (socket.try_clone()?, Arc::clone(&seen));
            thread::spawn(move || {
                let mut buffer = [0; 0x1_0000];
                while let Ok(len) = reader.recv(&mut buffer) {
                    if let Ok(mut seen) = sink.lock() {
                        seen.frames.push(buffer[..len].to_vec());
                        seen.count += 1;
                    }
                }
            });
            Ok(End {
                name,
                socket,
                board: dir.join(format!("{name}.board")),
                seen,
            })
        };
        Ok(Self {
            ends: names.iter().map(end).collect::<Result<_>>()?,
            next_mark: 0,
        })
    }

    /// Sends a frame `count` times into one socket and says where it came out, with the VLAN of its tag:
    /// `lan1=3 wan.100=3`, or `none`.
    ///
    /// What did not come out was not forwarded: the board has taken every frame, then nothing moved in it for `quiet`
    /// (in which Linux could still have forwarded one), and all it gave has arrived here.
    ///
    /// # Errors
    ///
    /// If the board's side of the socket is not there, or it is not done within [`PATIENCE`].
    pub fn cross(
        &mut self,
        at: &str,
        frame: Frame,
        count: u32,
        quiet: Duration,
        mut passed: impl FnMut() -> Result<Passed>,
    ) -> Result<String> {
        self.next_mark += 1;
        let mark = self.next_mark;
        let Some(end) = self.ends.iter().find(|end| end.name == at) else {
            return Err(Error::other(format!("no socket is called {at}")));
        };
        for end in &self.ends {
            if let Ok(mut seen) = end.seen.lock() {
                seen.frames.clear();
            }
        }
        let started = Instant::now();
        let mut last = passed()?;
        let mut still_since = started;
        let all_taken = last.taken + u64::from(count);
        let bytes = frame.bytes(mark);
        for _ in 0..count {
            end.socket.send_to(&bytes, &end.board)?;
        }
        loop {
            thread::sleep(PAUSE);
            let now = passed()?;
            if now != last {
                (last, still_since) = (now, Instant::now());
            }
            let arrived = self.arrived();
            if now.taken >= all_taken && now.given <= arrived && still_since.elapsed() >= quiet {
                break;
            }
            if started.elapsed() > PATIENCE {
                let missing = all_taken.saturating_sub(now.taken);
                let what =
                    format!("{missing} of {count} frames not taken, {arrived} arrived: {now:?}");
                return Err(Error::other(what));
            }
        }
        let mut places: BTreeMap<(&str, Option<u16>), u32> = BTreeMap::new();
        for end in &self.ends {
            let Ok(seen) = end.seen.lock() else { continue };
            for vlan in seen.frames.iter().filter_map(|bytes| marked(bytes, mark)) {
                *places.entry((end.name, vlan)).or_default() += 1;
            }
        }
        let mut answer = String::new();
        for ((name, vlan), count) in places {
            let _ = match vlan {
                Some(vlan) => write!(answer, "{name}.{vlan}={count} "),
                None => write!(answer, "{name}={count} "),
            };
        }
        Ok(match answer.trim_end() {
            "" => "none".to_owned(),
            places => places.to_owned(),
        })
    }

    /// Frames that came here since the start, with and without a mark.
    fn arrived(&self) -> u64 {
        let counts = self.ends.iter().filter_map(|end| end.seen.lock().ok());
        counts.map(|seen| seen.count).sum()
    }
}

impl Frame {
    /// An IPv4 datagram to nobody's address, of the shortest length even without its tag.
    fn bytes(&self, mark: u32) -> Vec<u8> {
        let mut bytes = [self.to, self.from].concat();
        if let Some(vlan) = self.vlan {
            bytes.extend(ETHERTYPE_VLAN);
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(ETHERTYPE_IPV4);
        // 46 bytes, experimental protocol 253, 192.0.2.2 to 192.0.2.1.
        let mut header = [
            0x45, 0, 0, 46, 0, 0, 0, 0, 64, 253, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1,
        ];
        let words = header.chunks_exact(2);
        let sum: u32 = words
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        header[10..12].copy_from_slice(&(!folded as u16).to_be_bytes());
        bytes.extend(header);
        bytes.extend(MARK);
        bytes.extend(mark.to_be_bytes());
        bytes.extend([0; 14]);
        bytes
    }
}

/// The tag's VLAN if this is the frame with that mark.
fn marked(bytes: &[u8], mark: u32) -> Option<Option<u16>> {
    let tagged = bytes.get(12..14)? == ETHERTYPE_VLAN;
    let payload = if tagged { 38 } else { 34 };
    let found = bytes.get(payload..payload + 8)? == MARK
        && bytes.get(payload + 8..payload + 12)? == mark.to_be_bytes();
    found.then(|| tagged.then(|| u16::from_be_bytes([bytes[14], bytes[15]]) & 0xfff))
}

/// `02:00:00:00:00:01`.
pub fn mac(text: &str) -> Option<Mac> {
    let mut mac = Mac::default();
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_by_its_mark_and_tag() {
        let mut frame = Frame {
            to: mac("ff:ff:ff:ff:ff:ff").unwrap(),
            from: mac("02:00:00:00:00:01").unwrap(),
            vlan: None,
        };
        let bytes = frame.bytes(7);
        assert_eq!(bytes.len(), 60);
        assert_eq!(marked(&bytes, 7), Some(None));
        assert_eq!(marked(&bytes, 8), None);
        frame.vlan = Some(100);
        assert_eq!(marked(&frame.bytes(7), 7), Some(Some(100)));
        assert_eq!(marked(&bytes[..20], 7), None);
    }

    #[test]
    fn only_whole_addresses_are_read() {
        assert_eq!(mac("02:0:ff:1:2:3"), Some([2, 0, 255, 1, 2, 3]));
        for wrong in ["", "02:00", "02:00:00:00:00:00:00", "02:00:00:00:00:gg"] {
            assert_eq!(mac(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_goes_in_is_found_where_it_comes_out() {
        let dir = std::env::temp_dir().join(format!("peers-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut peers = Peers::listen(&dir, &["a", "b"]).unwrap();
        // A board that takes its time and sends everything from a out of b.
        let board = UnixDatagram::bind(dir.join("a.board")).unwrap();
        let out = dir.join("b.peer");
        let counted = Arc::new(Mutex::new(Passed::default()));
        let count = Arc::clone(&counted);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(len) = board.recv(&mut buffer) {
                thread::sleep(Duration::from_millis(30));
                count.lock().unwrap().taken += 1;
                board.send_to(&buffer[..len], &out).unwrap();
                count.lock().unwrap().given += 1;
            }
        });
        let frame = Frame {
            to: [2; 6],
            from: [4; 6],
            vlan: Some(5),
        };
        let quiet = Duration::from_millis(100);
        let passed = || Ok(*counted.lock().unwrap());
        let places = peers.cross("a", frame, 5, quiet, passed).unwrap();
        assert_eq!(places, "b.5=5");
        assert!(peers.cross("b", frame, 1, quiet, passed).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
