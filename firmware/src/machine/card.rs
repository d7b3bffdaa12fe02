//! The network card behind an interface, whichever it is.

use hal::net::capture::Tap;
use hal::net::tag::Protocol;
use hal::net::virtio::VirtioNic;
use hal::net::vlan::Lane;
use hal::net::{Coalescing, Count, Counters, Frame, Link, MacAddr, Nic, Pool};
use virtio_drivers::transport::mmio::MmioTransport;

use super::armada::Socket;
use super::virtio::Platform;

/// One of the cards there are drivers for. With a tag of its own: which it is, is asked a dozen times for every frame.
#[repr(u8)]
pub(super) enum Card {
    /// A virtual machine's.
    Virtio(VirtioNic<Platform, MmioTransport<'static>>),
    /// A socket of the Armada 3720.
    Armada(Socket),
    /// A VLAN on a card, or what is left of the card beside its VLANs.
    Vlan(Lane<Card>),
}

/// The same call for whichever card it is.
macro_rules! each {
    ($card:expr, $nic:ident => $call:expr) => {
        match $card {
            Card::Virtio($nic) => $call,
            Card::Armada($nic) => $call,
            Card::Vlan($nic) => $call,
        }
    };
}

impl Nic for Card {
    fn driver(&self) -> &'static str {
        each!(self, nic => nic.driver())
    }

    #[inline]
    fn mac(&self) -> MacAddr {
        each!(self, nic => nic.mac())
    }

    fn link(&self) -> Link {
        each!(self, nic => nic.link())
    }

    #[inline]
    fn acknowledge(&mut self) {
        each!(self, nic => nic.acknowledge());
    }

    #[inline]
    fn waiting(&self) -> bool {
        each!(self, nic => nic.waiting())
    }

    #[inline]
    fn has_set_aside(&self) -> bool {
        each!(self, nic => nic.has_set_aside())
    }

    #[inline(always)] // one caller
    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        each!(self, nic => nic.receive(pool))
    }

    #[inline]
    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        each!(self, nic => nic.transmit_space(pool))
    }

    #[inline]
    fn transmit(&mut self, frame: Frame, pool: &mut Pool) {
        each!(self, nic => nic.transmit(frame, pool));
    }

    fn sent(&mut self, pool: &mut Pool) -> Option<(u64, u64)> {
        each!(self, nic => nic.sent(pool))
    }

    #[inline]
    fn flush(&mut self) {
        each!(self, nic => nic.flush());
    }

    fn interrupt_on_space(&mut self, wanted: bool) {
        each!(self, nic => nic.interrupt_on_space(wanted));
    }

    fn set_coalescing(&mut self, coalescing: Coalescing) -> bool {
        each!(self, nic => nic.set_coalescing(coalescing))
    }

    fn counters(&self) -> &Counters {
        each!(self, nic => nic.counters())
    }

    fn counters_mut(&mut self) -> &mut Counters {
        each!(self, nic => nic.counters_mut())
    }

    fn port_counter(&self, index: usize) -> Option<Count> {
        each!(self, nic => nic.port_counter(index))
    }

    fn port_counters_at_us(&self) -> Option<u64> {
        each!(self, nic => nic.port_counters_at_us())
    }

    fn device(&self, number: usize) -> Option<&'static str> {
        each!(self, nic => nic.device(number))
    }

    fn device_counter(&self, number: usize, index: usize) -> Option<Count> {
        each!(self, nic => nic.device_counter(number, index))
    }

    fn refresh_counters(&self) {
        each!(self, nic => nic.refresh_counters());
    }

    fn tap_conduit(&mut self, tap: Option<Tap>) -> Option<Protocol> {
        each!(self, nic => nic.tap_conduit(tap))
    }
}
