//! The MAC's port, and what is done to it for every frame.
//!
//! Not generic, so that it is compiled with this crate, for speed: the crate that uses it is compiled for size.

use hal::dma::cache::Noncoherent;
use hal::net::neta::Neta;
use hal::net::{Frame, Nic, Pool};
use hal::regs::Mmio;

/// Places in each ring.
pub const RING: usize = 256;

/// The port.
pub type Port = Neta<Mmio, Noncoherent, RING, RING>;

/// [`Neta::look`].
pub fn look(port: &mut Port) -> bool {
    port.look()
}

/// [`Nic::receive`].
pub fn receive(port: &mut Port, pool: &mut Pool) -> Option<Frame> {
    Nic::receive(port, pool)
}

/// [`Neta::send`].
pub fn send(port: &mut Port, frame: Frame, pool: &mut Pool) -> bool {
    port.send(frame, pool)
}

/// [`Nic::flush`].
pub fn flush(port: &mut Port) {
    Nic::flush(port);
}
