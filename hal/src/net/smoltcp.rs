//! Lends a [`Nic`] to smoltcp for one call.
//!
//! One frame at most goes in: the poll loop takes frames from the device itself and hands each to the right socket
//! set. What the stack sends leaves through the transmit ring at once; an [`Observer`] sees it pass.

use super::{Frame, Nic, Pool};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Largest frame the stack may send: header and 1500 bytes.
pub const MAX_FRAME: usize = 1514;

/// Sees every frame that the stack sends, before it goes.
pub trait Observer {
    /// A whole Ethernet frame.
    fn sent(&mut self, frame: &[u8]);
}

impl Observer for () {
    fn sent(&mut self, _frame: &[u8]) {}
}

/// A device for the length of one call into the stack.
pub struct Lent<'a, N: Nic, O: Observer> {
    /// The driver.
    pub nic: &'a mut N,
    /// Where buffers come from.
    pub pool: &'a mut Pool,
    /// Who watches what is sent.
    pub observer: &'a mut O,
    /// The frame for this call to receive, `None` when it only sends. Stays with the caller.
    pub frame: Option<&'a Frame>,
}

impl<N: Nic, O: Observer> Device for Lent<'_, N, O> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sender<'t, N, O>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sender<'_, N, O>)> {
        let frame = self.frame.take()?;
        let sender = Sender {
            nic: self.nic,
            pool: self.pool,
            observer: self.observer,
        };
        Some((Received(frame), sender))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_, N, O>> {
        if self.pool.available() == 0 || self.nic.transmit_space(self.pool) == 0 {
            return None;
        }
        Some(Sender {
            nic: self.nic,
            pool: self.pool,
            observer: self.observer,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities
    }
}

/// The frame being received.
pub struct Received<'t>(&'t Frame);

impl RxToken for Received<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.bytes())
    }
}

/// The right to send one frame.
pub struct Sender<'t, N: Nic, O: Observer> {
    nic: &'t mut N,
    pool: &'t mut Pool,
    observer: &'t mut O,
}

impl<N: Nic, O: Observer> TxToken for Sender<'_, N, O> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = self
            .pool
            .take()
            .and_then(|mut frame| frame.set_len(len).then_some(frame));
        let Some(mut frame) = frame else {
            // An answer to a received frame may come although there is no buffer: the stack must be able to write
            // it somewhere, and it is counted as lost.
            self.nic.counters_mut().tx_no_buffer += 1;
            let mut nowhere = [0; MAX_FRAME];
            let len = len.min(nowhere.len());
            return f(&mut nowhere[..len]);
        };
        let result = f(frame.bytes_mut());
        self.observer.sent(frame.bytes());
        self.nic.transmit(frame, self.pool);
        result
    }
}
