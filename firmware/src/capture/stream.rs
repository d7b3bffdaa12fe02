//! The capture's file on its way: taps on, bytes into the connection when nobody waits for anything better, taps off.

use hal::net::Nic;
use hal::net::capture::Tap;
use smoltcp::socket::tcp::State;
use smoltcp::time::Duration;

use super::{CONDUIT, CONDUIT_TAP};
use crate::network::{Network, Port};

/// How the connection tells where the file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its own end: HTTP/1.0.
    Close,
    /// By chunks. Spec: RFC 9112, 7.1.
    Chunks,
}

/// Bytes around a chunk: four digits and CR LF, CR LF.
const CHUNK: usize = 8;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// A client that does not acknowledge for so long is gone, and whoever comes next may capture.
const CLIENT_LIMIT: Duration = Duration::from_secs(15);
/// One that has nothing to acknowledge is asked so often.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// While received frames wait: when to look again.
const RETRY_US: u64 = 1_000;

impl<N: Nic> Network<N> {
    /// Begins the capture that was ordered, on a connection whose answer has begun.
    #[cold]
    pub(crate) fn begin_capture(&mut self, index: usize, framing: Framing) {
        let Some(capture) = self.capture else { return };
        let connection = self.connections.get(index);
        connection.capture = Some(framing);
        let own = connection.key();
        let socket = connection.socket();
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(CLIENT_LIMIT));
        self.capturing = Some(index);
        let wanted = capture.ordered();
        let ports = &mut self.ports;
        capture.begin(own, self.system.board, &mut |add| {
            if wanted == CONDUIT {
                let tap = Tap {
                    recorder: capture,
                    number: CONDUIT_TAP,
                };
                let tapped = ports
                    .iter_mut()
                    .find_map(|port| port.nic.tap_conduit(Some(tap)));
                if tapped.is_some() {
                    add(CONDUIT_TAP, CONDUIT, tapped);
                }
                return;
            }
            for (number, port) in (0..).zip(ports.iter_mut()) {
                if wanted.is_empty() || wanted == port.name {
                    add(number, &port.name, None);
                    let recorder = capture;
                    port.nic.tap(Some(Tap { recorder, number }));
                }
            }
        });
        self.connections.touch(index);
    }

    #[cold]
    fn end_capture(&mut self) {
        self.capturing = None;
        for port in &mut self.ports {
            port.nic.tap(None);
            port.nic.tap_conduit(None);
        }
        if let Some(capture) = self.capture {
            capture.end();
        }
    }

    /// Once a round, while there is a capture on connection `index`. Returns when it wants another one, in microseconds.
    #[cold]
    #[inline(never)]
    pub(crate) fn tend_capture(&mut self, index: usize, now_us: u64) -> u64 {
        let connection = self.connections.get(index);
        let (Some(capture), Some(_)) = (self.capture, connection.capture) else {
            // The connection has ended; its place may have been given to another.
            self.end_capture();
            return u64::MAX;
        };
        let due_us = capture.due_us();
        if due_us > now_us {
            return due_us;
        }
        // Without room, the next acknowledgement is what it waits for.
        if connection.socket().can_send() && !self.ports.iter().any(Port::is_behind) {
            self.connections.touch(index);
        }
        u64::MAX
    }

    /// Moves what waits into the connection. Returns when to come again, in microseconds.
    #[cold]
    #[inline(never)]
    pub(crate) fn serve_capture(&mut self, index: usize, now_us: u64) -> u64 {
        let behind = self.ports.iter().any(Port::is_behind);
        let connection = self.connections.get(index);
        let (Some(capture), Some(framing)) = (self.capture, connection.capture) else {
            return u64::MAX;
        };
        let socket = connection.socket();
        // Whatever the client still says is of no interest.
        while socket.recv(|data| (data.len(), !data.is_empty())) == Ok(true) {}
        if socket.state() == State::CloseWait {
            capture.finish();
        }
        if !socket.may_send() {
            return u64::MAX;
        }
        if behind {
            return now_us + RETRY_US;
        }
        let more = capture.send(&mut |piece| {
            let room = socket.send_capacity() - socket.send_queue();
            let len = piece.len().min(room.saturating_sub(2 * CHUNK));
            // There is room for all of it; the last chunk fits as well.
            let mut put = |bytes: &[u8]| {
                let _ = socket.send_slice(bytes);
            };
            if len > 0 && framing == Framing::Chunks {
                let digit = |shift: usize| b"0123456789abcdef"[len >> shift & 0xf];
                put(&[digit(12), digit(8), digit(4), digit(0), b'\r', b'\n']);
            }
            put(&piece[..len]);
            if len > 0 && framing == Framing::Chunks {
                put(b"\r\n");
            }
            len
        });
        if !more {
            if framing == Framing::Chunks {
                let _ = socket.send_slice(LAST_CHUNK);
            }
            socket.close();
            connection.capture = None;
            self.end_capture();
        }
        u64::MAX
    }
}
