//! Commands that HTTP connections ask for: whose turn it is, who has left, and who gets the answer.
//!
//! The main loop takes the command that is due, runs it with all of the machine in hand, and puts it back.

use alloc::boxed::Box;

use hal::net::Nic;
use smoltcp::socket::tcp::State;

use super::Network;
use crate::connections::Service;
use crate::http;
use crate::shell::errand::{Ending, Errand, Ticket};

/// Who waits longer for commands of others to be done is told to come again.
const ERRAND_LIMIT_US: u64 = 10_000_000;
/// Time for an answer to be sent and acknowledged, before it is seen whether it was.
const ANSWERED_US: u64 = 100_000;
/// Who does not take his answer for so long cannot keep the machine from starting anew.
const REBOOT_LIMIT_US: u64 = 2_000_000;

impl<N: Nic> Network<N> {
    /// When the command that somebody waits for is to be run, in microseconds; or the machine to start anew.
    #[inline]
    pub fn errand_due_us(&self) -> u64 {
        let due_us = self.errand.as_ref().map_or(u64::MAX, |it| it.due_us());
        due_us.min(self.reboot_us.0)
    }

    /// The machine is to start anew, but who asked for it is to have the answer first.
    #[cold]
    pub fn reboot_soon(&mut self, now_us: u64) {
        self.reboot_us = (now_us + ANSWERED_US, now_us + REBOOT_LIMIT_US);
    }

    /// Whether that time has come: all answers have arrived, or somebody does not take his.
    #[cold]
    pub fn is_time_to_reboot(&mut self, now_us: u64) -> bool {
        let (due_us, limit_us) = self.reboot_us;
        if now_us < due_us {
            return false;
        }
        let mut all = self.connections.each();
        let waits =
            all.any(|(_, service, socket, _)| service == Service::Http && socket.send_queue() > 0);
        let goes_on = waits && now_us < limit_us;
        self.reboot_us.0 = if goes_on {
            now_us + ANSWERED_US
        } else {
            u64::MAX
        };
        !goes_on
    }

    /// The command that is due, to be run and given to [`Network::put_errand`].
    #[cold]
    pub fn take_errand(&mut self) -> Option<Box<Errand>> {
        let mut errand = self.errand.take()?;
        if let Some(ticket) = errand.ticket() {
            let connection = self.connections.get(ticket.place);
            let holds = connection.errand_since_us == Some(ticket.since_us);
            // A client that said all it wanted to say gets its answer all the same, but nothing goes on for it.
            let leaves = connection.socket().state() != State::Established;
            if !holds || leaves && errand.is_under_way() {
                if holds {
                    connection.errand_since_us = None;
                    connection.socket().close();
                    self.connections.touch(ticket.place);
                }
                errand.free();
                self.connections.touch_longest_waiting();
            }
        }
        Some(errand)
    }

    /// Takes back a command that ran, and tells who waits for it if it is over.
    #[cold]
    pub fn put_errand(&mut self, errand: Box<Errand>) {
        if let (Some(ticket), Some(_)) = (errand.ticket(), errand.ending()) {
            self.connections.touch(ticket.place);
        }
        self.errand = Some(errand);
    }

    /// Has the command of a connection run, or answers it. Returns when patience ends, in microseconds, if it is not
    /// answered yet.
    #[cold]
    pub(super) fn attend(&mut self, index: usize, now_us: u64) -> Option<u64> {
        let connection = self.connections.get(index);
        let since_us = connection.errand_since_us?;
        let errand = self.errand.as_mut()?;
        let ticket = Ticket {
            place: index,
            since_us,
        };
        let (ending, result) = match errand.ticket() {
            None => {
                let via = connection.interface() as u8;
                if let Some((words, granted)) = connection.http.errand() {
                    errand.begin(ticket, words, granted, via, now_us);
                }
                return Some(u64::MAX);
            }
            Some(holder) if holder == ticket => match errand.ending() {
                Some(ending) => ending,
                None => return Some(u64::MAX),
            },
            Some(_) if now_us >= since_us + ERRAND_LIMIT_US => (Ending::Busy, &[][..]),
            Some(_) => return Some(since_us + ERRAND_LIMIT_US),
        };
        connection.errand_since_us = None;
        connection.active_us = now_us;
        let (socket, http) = connection.http_parts();
        let room = (socket.send_capacity() - socket.send_queue()).min(self.output.len());
        let is_token = self.access.has_token();
        let step = http.finish_errand(ending, result, is_token, &mut self.output[..room]);
        let _ = socket.send_slice(&self.output[..step.written]);
        if step.next == http::Next::Close {
            socket.close();
        }
        if let Some(code) = step.answered {
            self.answers.count(code);
        }
        if errand.ticket() == Some(ticket) {
            errand.free();
            self.connections.touch_longest_waiting();
        }
        None
    }
}
