//! The services other people's measuring tools talk to: irtt, iperf3, discard, chargen, and the reflector.
//!
//! | service | port | module |
//! | --- | --- | --- |
//! | discard (RFC 863) | TCP and UDP 9 | here |
//! | chargen (RFC 864) | TCP 19, and UDP 19 if `chargen=on` | [`chargen`] |
//! | irtt | UDP 2112 | [`irtt`] |
//! | iperf3 | TCP and UDP 5201 | [`iperf3`] |
//! | reflector, if `reflect=` names the interface | EtherType 0x88b5 | here |
//!
//! Echo and HTTP are older, and elsewhere. Nothing here runs unless somebody asks for it.

pub mod chargen;
pub mod datagram;
pub mod iperf3;
pub mod irtt;

use hal::net::smoltcp::MAX_FRAME;
use hal::net::{Frame, MacAddr};
use smoltcp::iface::Interface;
use smoltcp::socket::tcp::{Socket, State};

use crate::fast_path::may_answer_port;
use crate::random::Random;

const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;
/// Spec: IEEE 802, local experimental EtherType 1.
const REFLECT: [u8; 2] = [0x88, 0xb5];
/// First byte of the payload of a frame to be reflected, and of one that was: two reflectors do not keep one going.
const REQUEST: u8 = 0;
const ANSWER: u8 = 1;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not for a service here.
    Pass,
    /// It is now an answer, to be sent.
    Answer,
    /// It wants no answer.
    Done,
    /// Nobody may answer it.
    Guarded,
}

/// What all of them remember.
pub struct Services {
    /// Sessions of irtt.
    pub irtt: irtt::Server,
    /// The test of iperf3.
    pub iperf3: iperf3::Server,
    random: Random,
    clock_ns: Option<fn() -> u64>,
    /// Frames sent back by the reflector.
    pub reflected: u64,
    /// Whether UDP datagrams get characters.
    pub chargen: bool,
    chargen_at: u32,
}

impl Default for Services {
    /// Allocates.
    fn default() -> Self {
        Services {
            irtt: irtt::Server::default(),
            iperf3: iperf3::Server::default(),
            random: Random::new(None),
            clock_ns: None,
            reflected: 0,
            chargen: false,
            chargen_at: 0,
        }
    }
}

impl Services {
    /// Tells it a seed, for tokens that should not be guessed, and a clock finer than that of the poll loop, in nanoseconds.
    pub fn configure(&mut self, seed: u64, clock_ns: fn() -> u64) {
        self.random.stir(seed);
        self.clock_ns = Some(clock_ns);
    }

    /// The time since start in microseconds, `round_us` being that at which the round began.
    pub fn now_us(&self, round_us: u64) -> u64 {
        self.clock_ns.map_or(round_us, |clock| clock() / 1000)
    }

    /// Serves a datagram, if the frame has one for a service here.
    pub fn datagram(
        &mut self,
        frame: &mut Frame,
        interface: u8,
        mac: MacAddr,
        iface: &Interface,
        now_us: u64,
    ) -> Outcome {
        let port = datagram::port(frame.bytes());
        match port {
            Some(irtt::PORT | iperf3::PORT | DISCARD) => {}
            Some(CHARGEN) if self.chargen => {}
            _ => return Outcome::Pass,
        }
        let Some(datagram) = datagram::read(frame.bytes(), interface, |address| {
            iface.has_ip_addr(address)
        }) else {
            // Damaged, or for somebody else: the stack knows what to do.
            return Outcome::Pass;
        };
        let (at, source) = (datagram.at, datagram.source);
        if datagram.port == DISCARD {
            return Outcome::Done;
        }
        if !may_answer_port(source.port) {
            return Outcome::Guarded;
        }
        if datagram.port == iperf3::PORT {
            let payload = &frame.bytes()[at..at + datagram.len];
            let Some(number) = self.iperf3.datagram(source, payload, now_us) else {
                return Outcome::Done;
            };
            let payload = datagram::payload(frame, at);
            let mut request = [0; 4];
            request.copy_from_slice(&payload[..4]);
            payload[..4].copy_from_slice(&iperf3::Server::welcome(request));
            datagram::turn(frame, at, 4, mac);
            self.iperf3.set_way(number, datagram::Way::of(frame, at));
            return Outcome::Answer;
        }
        let payload = datagram::payload(frame, at);
        let answer = if datagram.port == CHARGEN {
            let text = &mut payload[..chargen::DATAGRAM];
            chargen::fill(text, &mut self.chargen_at);
            Some(text.len())
        } else {
            let clock_ns = self.clock_ns;
            let now_ns = || clock_ns.map_or(now_us * 1000, |clock| clock());
            self.irtt
                .answer(payload, datagram.len, source, &mut self.random, now_ns)
        };
        let Some(len) = answer else {
            return Outcome::Done;
        };
        datagram::turn(frame, at, len, mac);
        Outcome::Answer
    }
}

/// Sends a frame of the experimental EtherType back where it came from. Whether it was one.
#[inline]
pub fn reflect(frame: &mut [u8], mac: MacAddr) -> bool {
    let len = frame.len();
    let Some(head) = frame.first_chunk_mut::<15>() else {
        return false;
    };
    let wanted = head[12..] == [REFLECT[0], REFLECT[1], REQUEST] && head[..6] == mac;
    if !wanted || head[6] & 1 != 0 || len > MAX_FRAME {
        return false;
    }
    head.copy_within(6..12, 0);
    head[6..12].copy_from_slice(&mac);
    head[14] = ANSWER;
    true
}

/// Takes what comes, and forgets it. Whether anything came.
pub fn discard(socket: &mut Socket<'_>) -> bool {
    let mut moved = false;
    while socket.can_recv() {
        moved |= socket.recv(|data| (data.len(), ())).is_ok();
    }
    if socket.state() == State::CloseWait {
        socket.close();
    }
    moved
}

/// Sends characters from `position` on, as many as there is room for. Whether anything moved.
pub fn generate(socket: &mut Socket<'_>, position: &mut u32) -> bool {
    let mut moved = discard(socket);
    while socket.can_send() {
        let sent = socket.send(|room| {
            chargen::fill(room, position);
            (room.len(), ())
        });
        moved |= sent.is_ok();
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reflected_frame_is_not_reflected_again() {
        let (ours, peer) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut frame = [&ours[..], &peer, &REFLECT, &[REQUEST, 7, 8, 9]].concat();
        let (mut group, mut other, mut forged) = (frame.clone(), frame.clone(), frame.clone());
        assert!(reflect(&mut frame, ours));
        assert_eq!(
            frame,
            [&peer[..], &ours, &REFLECT, &[ANSWER, 7, 8, 9]].concat()
        );
        assert!(!reflect(&mut frame, peer));
        group[0] |= 1;
        other[13] = 0xb6;
        forged[6] |= 1;
        for mut frame in [group, other, forged, ours[..].to_vec()] {
            assert!(!reflect(&mut frame, ours));
        }
    }
}
