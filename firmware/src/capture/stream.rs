//! The capture's file on its way: taps on, bytes into the connection when nobody waits for anything better, taps off.

use hal::net::Nic;
use hal::net::capture::Tap;
use smoltcp::socket::tcp::State;
use smoltcp::time::Duration;

use super::CONDUIT;
use crate::http::Next;
use crate::network::{Network, Port};

/// A client that does not acknowledge for so long is gone, and whoever comes next may capture.
const CLIENT_LIMIT: Duration = Duration::from_secs(15);
/// One that has nothing to acknowledge is asked so often.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// So long frames wait for others to be sent along, in microseconds.
const PERIOD_US: u64 = 10_000;
/// So many bytes are not kept waiting.
const WORTH_SENDING: usize = 4096;

impl<N: Nic> Network<N> {
    /// Begins the capture that was ordered, on a connection whose answer has begun.
    #[cold]
    pub(crate) fn begin_capture(&mut self, index: usize, now_us: u64) {
        let Some(capture) = self.capture else { return };
        let connection = self.connections.get(index);
        connection.captures = true;
        let own = connection.key();
        let socket = connection.socket();
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(CLIENT_LIMIT));
        self.capturing = Some(index);
        self.capture_due_us = now_us + PERIOD_US;
        let wanted = capture.ordered();
        let ports = &mut self.ports;
        let recorder = capture;
        capture.begin(own, self.system.board, &mut |add| {
            if wanted == CONDUIT {
                // There is one, or nobody could have ordered it; its tap's number is that of the file's only interface.
                let tap = Tap {
                    recorder,
                    number: 0,
                };
                let tapped = ports
                    .iter_mut()
                    .find_map(|port| port.nic.tap_conduit(Some(tap)));
                if tapped.is_some() {
                    add(CONDUIT, tapped);
                }
                return;
            }
            for port in ports.iter_mut() {
                if wanted.is_empty() || wanted == port.name {
                    let number = add(&port.name, None);
                    port.nic.tap(Some(Tap { recorder, number }));
                }
            }
        });
    }

    #[cold]
    fn end_capture(&mut self) {
        (self.capturing, self.capture_due_us) = (None, u64::MAX);
        for port in &mut self.ports {
            port.nic.tap(None);
            port.nic.tap_conduit(None);
        }
        if let Some(capture) = self.capture {
            capture.end();
        }
    }

    /// Every [`PERIOD_US`] while there is a capture: sends what waits, if no received frame does.
    #[cold]
    #[inline(never)]
    pub(crate) fn tend_capture(&mut self, index: usize, now_us: u64) {
        if !self.connections.get(index).captures {
            // The connection has ended; its place may have been given to another.
            return self.end_capture();
        }
        self.capture_due_us = now_us + PERIOD_US;
        if self.capture.is_some_and(|capture| capture.waiting() > 0) {
            self.connections.touch(index);
        }
    }

    /// Moves what waits into the connection; at the end, closes it.
    #[cold]
    #[inline(never)]
    pub(crate) fn serve_capture(&mut self, index: usize, now_us: u64) {
        let behind = self.ports.iter().any(Port::is_behind);
        let connection = self.connections.get(index);
        let Some(capture) = self.capture.filter(|_| connection.captures) else {
            return;
        };
        let (socket, http) = connection.http_parts();
        // Whatever the client still says is of no interest.
        while socket.recv(|data| (data.len(), !data.is_empty())) == Ok(true) {}
        if socket.state() == State::CloseWait {
            capture.finish();
        }
        if !socket.may_send() {
            return;
        }
        let due = self.capture_due_us == now_us + PERIOD_US;
        // Received frames come first, and an acknowledgement is no reason to send little.
        if behind || capture.waiting() < WORTH_SENDING && !due {
            return;
        }
        loop {
            let room = (socket.send_capacity() - socket.send_queue()).min(self.output.len());
            let step = http.stream(&mut self.output[..room], &mut |out| capture.fill(out));
            // There is room for what was written: `output` is as long as the free part of the send buffer.
            let _ = socket.send_slice(&self.output[..step.written]);
            if step.next != Next::Stream {
                break;
            }
            if step.written == 0 {
                return;
            }
        }
        socket.close();
        connection.captures = false;
        self.end_capture();
    }
}
