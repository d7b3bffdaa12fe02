//! A server for irtt, the isochronous round-trip tester: port 2112, protocol version 1.
//!
//! ```text
//!  0      3       4        12       16
//!  | magic | flags | token  | seqno  | received: count 4, window 8 | stamps, 8 each: receive, midpoint, send | payload
//! ```
//!
//! All numbers are little-endian. Which statistics and stamps there are was agreed when the session was opened; the
//! client leaves room for them in its request, so that the answer is the request with that room filled in.
//!
//! There is no wall clock here: stamps of either clock count nanoseconds since start.
//!
//! Spec: the behaviour of irtt 0.9 (github.com/heistp/irtt), client and server.

use super::datagram::Source;
use crate::random::Random;

/// The port.
pub const PORT: u16 = 2112;
/// Sessions at once.
pub const SESSIONS: usize = 64;
/// A session that was silent for so long is over. Spec: irtt's server timeout.
const TIMEOUT_NS: u64 = 60_000_000_000;
/// Without a first request a session may go so much earlier, for somebody who means it.
const UNUSED_NS: u64 = 5_000_000_000;
/// A client that asks less often would time out.
const MAX_INTERVAL_NS: i64 = (TIMEOUT_NS / 4) as i64;
/// Nobody may ask more often; irtt's own server defaults to 10 ms, too slow for `-i 1ms`.
const MIN_INTERVAL_NS: i64 = 100_000;
/// So many requests may come at once after a pause.
const BURST_NS: i64 = 256 * MIN_INTERVAL_NS;

const MAGIC: [u8; 3] = [0x14, 0xa7, 0x5b];
const OPEN: u8 = 1;
const REPLY: u8 = 2;
const CLOSE: u8 = 4;
const HMAC: u8 = 8;
/// Magic, flags, token.
const HEADER: usize = 12;
/// With a sequence number.
const ECHO_HEADER: usize = 16;
/// Magic, flags, HMAC, token: the least a client with a key reads.
const HMAC_HEADER: usize = 28;

/// Parameters by number; strings begin at the last one.
const VERSION: u64 = 1;
const DURATION: u64 = 2;
const INTERVAL: u64 = 3;
const LENGTH: u64 = 4;
const STATISTICS: u64 = 5;
const STAMPS: u64 = 6;
const CLOCKS: u64 = 7;
const FILL: u64 = 9;

const COUNT: i64 = 1;
const WINDOW: i64 = 2;
const AT_SEND: i64 = 1;
const AT_RECEIVE: i64 = 2;
const AT_MIDPOINT: i64 = 4;
const WALL: i64 = 1;
const MONOTONIC: i64 = 2;

/// What was asked for, and granted. By number, the first unused; all else (DSCP, fill) is not done here.
type Params = [i64; 8];

/// What happened since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions opened.
    pub opened: u64,
    /// Sessions refused: no place, or HMAC.
    pub refused: u64,
    /// Requests answered.
    pub echoes: u64,
    /// Datagrams dropped: malformed, of no session, or too many.
    pub dropped: u64,
}

#[derive(Clone, Copy)]
struct Session {
    token: u64,
    source: Source,
    params: Params,
    used_ns: u64,
    /// Requests that were answered.
    count: u32,
    /// The highest sequence number, and which of the 64 up to it have come.
    last: u32,
    window: u64,
    /// What may be asked for at once.
    credit_ns: i64,
}

impl Session {
    fn is_over(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.used_ns) > TIMEOUT_NS
    }
}

/// The server and its sessions.
pub struct Server {
    sessions: [Option<Session>; SESSIONS],
    /// Counted events.
    pub counters: Counters,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            sessions: [None; SESSIONS],
            counters: Counters::default(),
        }
    }
}

impl Server {
    /// Makes the answer to the first `len` bytes of `buffer`, in place, of at most the whole of it. Returns its length, or
    /// nothing if there is none. `now_ns` tells the time, never 0.
    pub fn answer(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        source: Source,
        random: &mut Random,
        mut now_ns: impl FnMut() -> u64,
    ) -> Option<usize> {
        let received_ns = now_ns();
        let answer = self.judge(buffer, len, source, random, received_ns, now_ns);
        if answer.is_none() {
            self.counters.dropped += 1;
        }
        answer.filter(|len| *len > 0)
    }

    /// The same; 0 for what needs no answer.
    fn judge(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        source: Source,
        random: &mut Random,
        received_ns: u64,
        now_ns: impl FnMut() -> u64,
    ) -> Option<usize> {
        let (magic, flags) = (buffer.first_chunk::<3>()?, *buffer.get(3)?);
        if len < 4 || *magic != MAGIC || flags & !(OPEN | CLOSE | HMAC) != 0 {
            return None;
        }
        if flags & OPEN != 0 {
            return self.open(buffer, len, source, random, received_ns);
        }
        if flags & HMAC != 0 || len < HEADER {
            return None;
        }
        let token = u64::from_le_bytes(*buffer[4..].first_chunk()?);
        let place = self.sessions.get_mut(token as usize % SESSIONS)?;
        let session = place
            .as_mut()
            .filter(|session| session.token == token && session.source == source)
            .filter(|session| !session.is_over(received_ns))?;
        if flags & CLOSE != 0 {
            *place = None;
            return Some(0);
        }
        if len < ECHO_HEADER {
            return None;
        }
        let answered = session.echo(buffer, len, received_ns, now_ns)?;
        self.counters.echoes += 1;
        Some(answered)
    }

    fn open(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        source: Source,
        random: &mut Random,
        now_ns: u64,
    ) -> Option<usize> {
        let flags = buffer[3];
        if flags & HMAC != 0 {
            // We have no key. A client that has one takes an answer without for an error, and says so at once.
            self.counters.refused += 1;
            buffer[3] = OPEN | REPLY | CLOSE;
            buffer.get_mut(4..HMAC_HEADER)?.fill(0);
            return Some(HMAC_HEADER);
        }
        let mut params = read(&buffer[4..len])?;
        restrict(&mut params, buffer.len());
        let place = match flags & CLOSE {
            0 => self.place(now_ns),
            // A client that only asks what it would be granted.
            _ => None,
        };
        let mut token = 0;
        let mut answer = OPEN | REPLY | CLOSE;
        if let Some(place) = place {
            // The place is part of the token; a token is never 0.
            token = (random.draw() | 1 << 63) / SESSIONS as u64 * SESSIONS as u64 + place as u64;
            answer = OPEN | REPLY;
            self.counters.opened += 1;
            self.sessions[place] = Some(Session {
                token,
                source,
                params,
                used_ns: now_ns,
                count: 0,
                last: u32::MAX,
                window: 0,
                credit_ns: BURST_NS,
            });
        } else if flags & CLOSE == 0 {
            self.counters.refused += 1;
        }
        buffer[3] = answer;
        buffer
            .get_mut(4..HEADER)?
            .copy_from_slice(&token.to_le_bytes());
        Some(HEADER + write(&params, buffer.get_mut(HEADER..)?))
    }

    /// A free place; failing that, that of a session which is over, or was never used.
    fn place(&self, now_ns: u64) -> Option<usize> {
        let free = self.sessions.iter().position(Option::is_none);
        free.or_else(|| {
            self.sessions.iter().flatten().position(|session| {
                let silent_ns = now_ns.saturating_sub(session.used_ns);
                session.is_over(now_ns) || session.count == 0 && silent_ns > UNUSED_NS
            })
        })
    }

    /// Sessions that are open.
    pub fn open_sessions(&self, now_ns: u64) -> usize {
        let sessions = self.sessions.iter().flatten();
        sessions.filter(|session| !session.is_over(now_ns)).count()
    }
}

impl Session {
    fn echo(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        received_ns: u64,
        mut now_ns: impl FnMut() -> u64,
    ) -> Option<usize> {
        let passed_ns = received_ns
            .saturating_sub(self.used_ns)
            .min(BURST_NS as u64) as i64;
        self.used_ns = received_ns;
        self.credit_ns = (self.credit_ns + passed_ns).min(BURST_NS);
        if self.credit_ns < MIN_INTERVAL_NS {
            return None;
        }
        self.credit_ns -= MIN_INTERVAL_NS;
        let seqno = u32::from_le_bytes(*buffer[HEADER..].first_chunk()?);
        let ahead = seqno.wrapping_sub(self.last) as i32;
        self.count = self.count.wrapping_add(1);
        let window = if ahead > 0 {
            self.window = self.window.checked_shl(ahead as u32).unwrap_or(0) | 1;
            self.last = seqno;
            self.window
        } else {
            let late = 1_u64.checked_shl(ahead.unsigned_abs()).unwrap_or(0);
            self.window |= late;
            // The window of the answer ends at its own request; only the newest is known whole.
            if ahead == 0 { self.window } else { 0 }
        };

        let mut at = ECHO_HEADER;
        let mut put = |bytes: &[u8]| {
            if let Some(to) = buffer.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        let [.., statistics, stamps, clocks] = self.params;
        if statistics & COUNT != 0 {
            put(&self.count.to_le_bytes());
        }
        if statistics & WINDOW != 0 {
            put(&window.to_le_bytes());
        }
        for stamp in [AT_RECEIVE, AT_MIDPOINT, AT_SEND] {
            if stamps & stamp == 0 {
                continue;
            }
            let ns = match stamp {
                AT_RECEIVE => received_ns,
                AT_SEND => now_ns(),
                _ => received_ns.midpoint(now_ns()),
            };
            for clock in [WALL, MONOTONIC] {
                if clocks & clock != 0 {
                    put(&ns.to_le_bytes());
                }
            }
        }
        let wanted = self.params[LENGTH as usize] as usize;
        let answer = wanted.max(at).min(buffer.len());
        // Behind the request lies what was in the buffer before.
        if let Some(rest) = buffer.get_mut(len.max(at)..answer) {
            rest.fill(0);
        }
        buffer[3] = REPLY;
        Some(answer)
    }
}

/// Parameters: a number, then a value, each in seven bits a byte; values with the sign in the lowest bit, but for the
/// text, which is a length and bytes. What is not known is passed over.
fn read(mut bytes: &[u8]) -> Option<Params> {
    let mut params = [0; 8];
    while !bytes.is_empty() {
        let number = take_number(&mut bytes)?;
        if number == FILL {
            let len = usize::try_from(take_number(&mut bytes)?).ok()?;
            bytes = bytes.get(len..)?;
            continue;
        }
        let value = take_number(&mut bytes)?;
        let value = (value >> 1) as i64 ^ -((value & 1) as i64);
        let limits = match number {
            VERSION | LENGTH => i64::MIN..=i64::MAX,
            DURATION | INTERVAL => 1..=i64::MAX,
            STATISTICS | CLOCKS => 0..=3,
            STAMPS => 0..=4,
            _ => continue,
        };
        if !limits.contains(&value) {
            return None;
        }
        params[number as usize] = value;
    }
    Some(params)
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if place == 9 && *byte > 1 {
            return None;
        }
        number |= bits << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Grants less than was asked for, where that is too much. A client refuses that, or takes it if it was told to be loose.
fn restrict(params: &mut Params, room: usize) {
    params[VERSION as usize] = 1;
    let interval = &mut params[INTERVAL as usize];
    *interval = (*interval).clamp(MIN_INTERVAL_NS, MAX_INTERVAL_NS);
    let length = &mut params[LENGTH as usize];
    *length = (*length).clamp(0, room as i64);
}

fn write(params: &Params, out: &mut [u8]) -> usize {
    let mut at = 0;
    for (number, value) in params.iter().enumerate().filter(|(_, value)| **value != 0) {
        let mut put = |mut rest: u64| {
            while let Some(byte) = out.get_mut(at) {
                at += 1;
                *byte = rest as u8 | 0x80;
                rest >>= 7;
                if rest == 0 {
                    *byte &= 0x7f;
                    break;
                }
            }
        };
        put(number as u64);
        put((value << 1 ^ value >> 63) as u64);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::IpAddress;

    const SECOND: u64 = 1_000_000_000;

    fn source(port: u16) -> Source {
        Source {
            interface: 0,
            address: IpAddress::v4(10, 0, 0, 1),
            port,
        }
    }

    struct Bench {
        server: Server,
        random: Random,
        now_ns: u64,
    }

    impl Bench {
        fn new() -> Self {
            Bench {
                server: Server::default(),
                random: Random::new(Some(b"seed")),
                now_ns: SECOND,
            }
        }

        fn ask(&mut self, request: &[u8], port: u16) -> Option<Vec<u8>> {
            let mut buffer = vec![0xee; 1472];
            buffer[..request.len()].copy_from_slice(request);
            let now_ns = &mut self.now_ns;
            let clock = || {
                *now_ns += 10;
                *now_ns
            };
            let len = self.server.answer(
                &mut buffer,
                request.len(),
                source(port),
                &mut self.random,
                clock,
            )?;
            buffer.truncate(len);
            Some(buffer)
        }

        fn open(&mut self, params: &Params, port: u16) -> (u64, Params) {
            let answer = self.ask(&opening(OPEN, params), port).unwrap();
            assert_eq!(answer[..4], [0x14, 0xa7, 0x5b, OPEN | REPLY]);
            let token = u64::from_le_bytes(*answer[4..].first_chunk().unwrap());
            (token, read(&answer[12..]).unwrap())
        }
    }

    fn opening(flags: u8, params: &Params) -> Vec<u8> {
        let mut request = vec![0x14, 0xa7, 0x5b, flags];
        let mut bytes = [0; 128];
        let len = write(params, &mut bytes);
        request.extend(&bytes[..len]);
        request
    }

    fn echo(flags: u8, token: u64, seqno: u32, len: usize) -> Vec<u8> {
        let mut request = vec![0x14, 0xa7, 0x5b, flags];
        request.extend(token.to_le_bytes());
        request.extend(seqno.to_le_bytes());
        request.resize(len, 0x5a);
        request
    }

    /// What the client sends by default: a minute, once a second, both statistics, both stamps, both clocks.
    const DEFAULT: Params = [0, 1, 60_000_000_000, 1_000_000_000, 0, 3, 3, 3];

    #[test]
    fn a_session_from_opening_to_closing() {
        let mut bench = Bench::new();
        let (token, granted) = bench.open(&DEFAULT, 5000);
        assert_eq!(granted, DEFAULT);
        let answer = bench.ask(&echo(0, token, 0, 60), 5000).unwrap();
        assert_eq!(answer.len(), 60);
        assert_eq!(answer[3], REPLY);
        assert_eq!(answer[4..16], echo(0, token, 0, 16)[4..]);
        assert_eq!(answer[16..20], [1, 0, 0, 0]);
        assert_eq!(answer[20..28], [1, 0, 0, 0, 0, 0, 0, 0]);
        let stamp = |at: usize| u64::from_le_bytes(*answer[at..].first_chunk().unwrap());
        let (received, sent) = (stamp(28), stamp(44));
        assert_eq!((stamp(36), stamp(52)), (received, sent));
        assert!(received > SECOND && sent == received + 10);
        assert_eq!(bench.ask(&echo(CLOSE, token, 0, 12), 5000), None);
        assert_eq!(bench.server.counters.dropped, 0);
        assert_eq!(bench.server.open_sessions(bench.now_ns), 0);
        assert_eq!(bench.ask(&echo(0, token, 1, 60), 5000), None);
        assert_eq!(bench.server.counters.dropped, 1);
    }

    #[test]
    fn an_answer_has_the_agreed_length_and_shows_nothing_else() {
        let mut bench = Bench::new();
        let mut params = DEFAULT;
        params[LENGTH as usize] = 1400;
        let (token, _) = bench.open(&params, 5000);
        let answer = bench.ask(&echo(0, token, 0, 70), 5000).unwrap();
        assert_eq!(answer.len(), 1400);
        assert_eq!(answer[60..70], [0x5a; 10]);
        assert_eq!(answer[70..], [0; 1330]);
        params[LENGTH as usize] = 100_000;
        let (_, granted) = bench.open(&params, 5001);
        assert_eq!(granted[LENGTH as usize], 1472);
        params[LENGTH as usize] = i64::MIN;
        let (_, granted) = bench.open(&params, 5002);
        assert_eq!(granted[LENGTH as usize], 0);
    }

    #[test]
    fn the_window_tells_what_arrived() {
        let mut bench = Bench::new();
        let (token, _) = bench.open(&DEFAULT, 5000);
        let mut window = |seqno| {
            let answer = bench.ask(&echo(0, token, seqno, 60), 5000).unwrap();
            u64::from_le_bytes(*answer[20..].first_chunk().unwrap())
        };
        assert_eq!(window(0), 0b1);
        assert_eq!(window(1), 0b11);
        assert_eq!(window(3), 0b1101);
        assert_eq!(window(2), 0, "late: what came after it is not its business");
        assert_eq!(window(4), 0b11111);
        assert_eq!(window(4), 0b11111, "twice");
        assert_eq!(window(4 + 64), 1);
        assert_eq!(window(u32::MAX / 2), 1);
    }

    #[test]
    fn only_its_own_client_uses_a_session() {
        let mut bench = Bench::new();
        let (token, _) = bench.open(&DEFAULT, 5000);
        assert_eq!(bench.ask(&echo(0, token, 0, 60), 5001), None);
        assert_eq!(bench.ask(&echo(CLOSE, token, 0, 60), 5001), None);
        assert_eq!(bench.ask(&echo(0, token ^ 64, 0, 60), 5000), None);
        assert_eq!(bench.server.counters.dropped, 3);
        assert!(bench.ask(&echo(0, token, 0, 60), 5000).is_some());
    }

    #[test]
    fn intervals_are_limited_and_bursts_are_not_endless() {
        let mut bench = Bench::new();
        let mut params = DEFAULT;
        params[INTERVAL as usize] = 1;
        let (token, granted) = bench.open(&params, 5000);
        assert_eq!(granted[INTERVAL as usize], MIN_INTERVAL_NS);
        let answered = |bench: &mut Bench, count: u32| {
            (0..count)
                .filter(|seqno| bench.ask(&echo(0, token, *seqno, 60), 5000).is_some())
                .count()
        };
        assert_eq!(answered(&mut bench, 1000), 256);
        bench.now_ns += 10 * MIN_INTERVAL_NS as u64;
        assert_eq!(answered(&mut bench, 100), 10);
        params[INTERVAL as usize] = i64::MAX;
        let (_, granted) = bench.open(&params, 5001);
        assert_eq!(granted[INTERVAL as usize], 15_000_000_000);
    }

    #[test]
    fn sessions_expire_and_the_table_is_bounded() {
        let mut bench = Bench::new();
        let (used, _) = bench.open(&DEFAULT, 4999);
        bench.ask(&echo(0, used, 0, 60), 4999).unwrap();
        for port in 1..SESSIONS as u16 {
            bench.open(&DEFAULT, port);
        }
        let refused = bench.ask(&opening(OPEN, &DEFAULT), 6000).unwrap();
        assert_eq!(refused[3], OPEN | REPLY | CLOSE);
        assert_eq!(refused[4..12], [0; 8]);
        assert_eq!(bench.server.counters.refused, 1);
        bench.now_ns += UNUSED_NS + 1;
        let (token, _) = bench.open(&DEFAULT, 6000);
        assert!(bench.ask(&echo(0, used, 1, 60), 4999).is_some());
        bench.now_ns += TIMEOUT_NS + 1000;
        assert_eq!(bench.ask(&echo(0, token, 0, 60), 6000), None);
        assert_eq!(bench.server.open_sessions(bench.now_ns), 0);
    }

    #[test]
    fn an_hmac_is_refused_at_once_and_clearly() {
        let mut bench = Bench::new();
        let mut request = opening(OPEN | HMAC, &DEFAULT);
        request.splice(4..4, [7; 16]);
        let answer = bench.ask(&request, 5000).unwrap();
        assert!(answer.len() >= HMAC_HEADER && answer[3] & HMAC == 0);
        assert_eq!(bench.server.counters.refused, 1);
        assert_eq!(bench.server.counters.opened, 0);
    }

    #[test]
    fn what_is_malformed_is_dropped_and_counted() {
        let mut bench = Bench::new();
        let good = opening(OPEN, &DEFAULT);
        let with = |tail: &[u8]| [&good[..4], tail].concat();
        let requests: Vec<Vec<u8>> = vec![
            vec![],
            good[..3].to_vec(),
            good[..good.len() - 1].to_vec(),
            [b"\x14\xa7\x5c", &good[3..]].concat(),
            echo(REPLY, 1 << 63, 0, 60),
            echo(0x10, 1 << 63, 0, 60),
            echo(0, 0, 0, 11),
            echo(HMAC, 1 << 63, 0, 60),
            with(&[DURATION as u8, 0]),
            with(&[DURATION as u8, 1]),
            with(&[STAMPS as u8, 10]),
            with(&[CLOCKS as u8, 8]),
            with(&[LENGTH as u8]),
            with(&[0xff; 11]),
            with(&[
                LENGTH as u8,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                2,
            ]),
            with(&[FILL as u8, 5, b'r']),
            with(&[
                FILL as u8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ]),
        ];
        for (number, request) in requests.iter().enumerate() {
            assert_eq!(bench.ask(request, 5000), None, "{request:x?}");
            assert_eq!(bench.server.counters.dropped, number as u64 + 1);
        }
        assert_eq!(bench.server.open_sessions(bench.now_ns), 0);
        // What is not known, and what is not done, is passed over.
        let answer = bench.ask(
            &with(&[8, 92, 99, 7, FILL as u8, 4, b'r', b'a', b'n', b'd']),
            5000,
        );
        assert_eq!(read(&answer.unwrap()[12..]).unwrap()[VERSION as usize], 1);
    }
}
