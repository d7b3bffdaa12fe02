//! The board's hardware as the commands for bringing it up see it.

use core::task::Poll;
use hal::arch::timer;
use hal::net::mv88e6xxx::errand::{Answer, Request};
use hal::net::mv88e6xxx::{PortIndex, PortSet};
use hal::net::neta::RingDump;
use hal::net::{Coalescing, Count};

use super::watch::Watch;
use crate::shell::hardware::{Hardware, Reply};

impl Hardware for Watch {
    fn port_name(&self, port: PortIndex) -> Option<&str> {
        let supervisor = self.supervisor.as_ref()?;
        if port == self.conduit.borrow().cpu {
            return Some("cpu");
        }
        let name = supervisor.names[usize::from(port.get())].as_str();
        (!name.is_empty()).then_some(name)
    }

    fn has_switch(&self) -> bool {
        self.supervisor.is_some()
    }

    fn ask(&mut self, request: Request) -> Option<u32> {
        let now_us = timer::now_us();
        let ticket = self.bus.mailbox.ask(request, now_us)?;
        self.bus.due_us.set(now_us);
        Some(ticket)
    }

    fn answer(&mut self, ticket: u32, show: &mut dyn FnMut(&Answer)) -> Reply {
        match self.bus.mailbox.answer(ticket) {
            Poll::Pending => Reply::Pending,
            Poll::Ready(None) => Reply::Lost,
            Poll::Ready(Some(answer)) => {
                show(&answer);
                Reply::Given
            }
        }
    }

    fn held(&self) -> PortSet {
        self.bus.mailbox.held()
    }

    fn port_total(&self, port: PortIndex, index: usize) -> Option<(&'static str, u64)> {
        self.bus.mailbox.total(port, index)
    }

    fn port_totals_at_us(&self, port: PortIndex) -> Option<u64> {
        self.bus.mailbox.totals_read_us(port)
    }

    fn want_port_totals(&self, port: PortIndex) {
        self.bus.mailbox.want_totals(port);
    }

    fn mac_registers(&mut self, show: &mut dyn FnMut(&'static str, u32, u32)) {
        self.conduit.borrow_mut().mac.registers(show);
    }

    fn mac_rings(&mut self) -> [RingDump; 2] {
        self.conduit.borrow_mut().mac.dump()
    }

    fn mac_count(&mut self, index: usize) -> Option<Count> {
        let mut conduit = self.conduit.borrow_mut();
        if index == 0 {
            conduit.mac.collect_counters();
        }
        conduit.mac.count(index)
    }

    fn coalescing(&self) -> Coalescing {
        self.conduit.borrow().mac.coalescing()
    }

    fn set_coalescing(&mut self, coalescing: Coalescing) {
        self.conduit.borrow_mut().mac.set_coalescing(coalescing);
    }

    fn mac_loopback(&self) -> bool {
        self.conduit.borrow().mac.loopback()
    }

    fn set_mac_loopback(&mut self, on: bool) {
        self.conduit.borrow_mut().mac.set_loopback(on);
    }
}
