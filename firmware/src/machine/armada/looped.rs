//! Frames of the board's self-test, which come back instead of going out: through the MAC alone, or by way of the switch
//! and a PHY. What comes back is kept apart from what is for the interfaces, in the queue of the port on our side, which
//! is nobody's.

use boards::armada3720 as board;
use hal::net::mv88e6xxx::PortIndex;
use hal::net::tag::Drop;
use hal::net::{Frame, Nic, Pool};

use super::socket::{Conduit, bit};
use crate::selftest::Way;

/// Bytes of both addresses.
const ADDRESSES: usize = 12;

/// A test at work.
#[derive(Clone, Copy)]
pub(super) struct Looped {
    way: Way,
    /// Whose the frames of the port are otherwise.
    owner: PortIndex,
}

impl Conduit {
    /// From here on frames come back, and are kept.
    pub(super) fn begin_loop(&mut self, way: Way) {
        let mut owner = self.cpu;
        match way {
            Way::Mac => self.mac.set_loopback(true),
            Way::Port(port) => {
                let cpu = self.cpu;
                owner = core::mem::replace(&mut self.owners[usize::from(port.get())], cpu);
            }
        }
        self.looped = Some(Looped { way, owner });
    }

    /// All as it was.
    pub(super) fn end_loop(&mut self, pool: &mut Pool) {
        match self.looped.take() {
            None => {}
            Some(Looped { way: Way::Mac, .. }) => self.mac.set_loopback(false),
            Some(Looped {
                way: Way::Port(port),
                owner,
            }) => self.owners[usize::from(port.get())] = owner,
        }
        while let Some(frame) = self.take_looped() {
            pool.put(frame);
        }
    }

    /// Sends a frame with so many bytes behind the addresses, which are our own and one that is nobody's.
    pub(super) fn send_looped(
        &mut self,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]),
        pool: &mut Pool,
    ) -> bool {
        let (Some(looped), Some(mut frame)) = (self.looped, pool.take()) else {
            return false;
        };
        if self.mac.transmit_space(pool) == 0 || !frame.set_len(ADDRESSES + bytes) {
            pool.put(frame);
            return false;
        }
        // Whatever the switch makes of it, it does not leave the board.
        let (port, to) = match looped.way {
            Way::Mac => (self.cpu, self.mac.filter().mac()),
            Way::Port(port) => (port, self.macs[usize::from(port.get())]),
        };
        let (addresses, rest) = frame.bytes_mut().split_at_mut(ADDRESSES);
        addresses[..6].copy_from_slice(&to);
        addresses[6..].copy_from_slice(&[0x02, 0, 0, 0, 0, 1]);
        fill(rest);
        if let Some(tagger) = self.tagger
            && !tagger.put_on(&mut frame, port)
        {
            pool.put(frame);
            return false;
        }
        let sent = board::send(&mut self.mac, frame, pool);
        board::flush(&mut self.mac);
        sent
    }

    /// What came back, if anything did.
    pub(super) fn take_looped(&mut self) -> Option<Frame> {
        let (frame, _) = self.queues[usize::from(self.cpu.get())].pop_front()?;
        Some(frame)
    }

    /// Keeps a frame that has no owner, if it is one that came back.
    #[cold]
    pub(super) fn keep_looped(&mut self, mut frame: Frame, reason: Option<Drop>) -> Option<Frame> {
        let Some(Looped { way: Way::Mac, .. }) = self.looped else {
            return Some(frame);
        };
        match (reason, self.tagger) {
            (Some(Drop::FromCpu), Some(tagger)) => frame.cut_front::<ADDRESSES>(tagger.bytes()),
            (None, None) => {}
            _ => return Some(frame),
        }
        let queue = &mut self.queues[usize::from(self.cpu.get())];
        queue
            .push_back((frame, self.cpu))
            .err()
            .map(|(frame, _)| frame)
    }

    /// The bit of the interface whose turn it is to look for a port, in the sets of those that wait; none for the test's.
    pub(super) fn waits(&self, owner: PortIndex) -> u32 {
        match self.looped {
            Some(_) if owner == self.cpu => 0,
            _ => bit(owner),
        }
    }
}
