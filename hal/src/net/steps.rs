//! Register sequences that never wait: written as straight `async` code, run one management frame at a time.
//!
//! A management frame takes some 50 microseconds, one PHY register behind the switch ten frames, a bring-up a thousand.
//! Whoever polls such a sequence starts or ends one frame and has the processor back; no executor, no waker, no
//! allocation. The `due_us` given to [`Stepper::new`] says when polling again can help.
//!
//! ```text
//!   phy, mv88e6xxx   sequences, over `Registers`
//!   Phys             PHY registers behind the switch's global 2  ─┐
//!   Smi              switch registers behind SMI address 1       ─┤ each a `Registers` over the one below
//!   Stepper          registers on the wire, one frame per poll   ─┘
//!   Line             the controller: start a frame, ask for its end
//! ```

use super::mdio::{self, FLOATING, FRAME_LIMIT_US, OrionMdio, PhyAddr, RegAddr};
use crate::regs::Bus;
use crate::time::Clock;
use core::cell::Cell;
use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use tock_registers::fields::{Field, FieldValue};
use tock_registers::{LocalRegisterCopy, RegisterLongName};

/// One frame on the bus, start to end. Inherited: Linux's driver notes 41 to 95 microseconds.
const FRAME_US: u64 = 50;
/// Time between two looks at a frame that has not ended.
const FRAME_POLL_US: u64 = 10;
/// Longest a busy bit of the switch may stay. Inherited: Linux mv88e6xxx polls for 50 ms.
pub const BUSY_LIMIT_US: u64 = 50_000;

/// A management bus controller that works by itself between the start and the end of a frame.
pub trait Line {
    /// Starts a read.
    ///
    /// # Errors
    ///
    /// [`mdio::Error::Timeout`] if the last frame has not ended.
    fn start_read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<(), mdio::Error>;
    /// Starts a write.
    ///
    /// # Errors
    ///
    /// [`mdio::Error::Timeout`] if the last frame has not ended.
    fn start_write(&mut self, device: PhyAddr, reg: RegAddr, value: u16)
    -> Result<(), mdio::Error>;
    /// `None` while the frame is under way; then the value read, or the one written.
    fn finish(&mut self) -> Option<Result<u16, mdio::Error>>;
}

impl<B: Bus, C: Clock> Line for OrionMdio<B, C> {
    fn start_read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<(), mdio::Error> {
        self.start_read(device, reg)
    }

    fn start_write(
        &mut self,
        device: PhyAddr,
        reg: RegAddr,
        value: u16,
    ) -> Result<(), mdio::Error> {
        self.start_write(device, reg, value)
    }

    fn finish(&mut self) -> Option<Result<u16, mdio::Error>> {
        self.finish()
    }
}

/// Why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The controller of the management bus refused, or heard nobody.
    Mdio(mdio::Error),
    /// A frame on the bus had not ended after [`FRAME_LIMIT_US`].
    Frame {
        /// The device asked.
        device: PhyAddr,
        /// Its register.
        reg: RegAddr,
    },
    /// A busy bit stayed set for [`BUSY_LIMIT_US`]; 0xffff means that nobody drives the bus.
    Busy {
        /// The device, in the register space of whoever waited.
        device: PhyAddr,
        /// Its register.
        reg: RegAddr,
        /// What it last read.
        value: u16,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, reg) = match self {
            Error::Mdio(error) => return error.fmt(f),
            Error::Frame { device, reg } | Error::Busy { device, reg, .. } => (device.0, reg.0),
        };
        let at = format_args!("device {device:#04x} register {reg:#04x}");
        match self {
            Error::Busy { value, .. } => write!(f, "{at} stays busy, it reads {value:#06x}"),
            _ => write!(f, "the management frame to {at} does not end"),
        }
    }
}

/// Sixteen-bit registers of numbered devices, reached in steps.
pub trait Registers {
    /// Reads a register.
    fn read(&mut self, device: PhyAddr, reg: RegAddr) -> impl Future<Output = Result<u16, Error>>;
    /// Writes a register.
    fn write(
        &mut self,
        device: PhyAddr,
        reg: RegAddr,
        value: u16,
    ) -> impl Future<Output = Result<(), Error>>;
    /// Lets time pass.
    fn sleep_us(&mut self, us: u64) -> impl Future<Output = ()>;
    /// Microseconds now.
    fn now_us(&mut self) -> u64;
}

/// Registers on the wire itself, one frame per poll.
#[derive(Debug)]
pub struct Stepper<'a, L, C> {
    line: L,
    clock: C,
    due_us: &'a Cell<u64>,
}

impl<'a, L: Line, C: Clock> Stepper<'a, L, C> {
    /// Registers behind `line`. Before every pause, `due_us` is set to the time after which polling can help.
    pub fn new(line: L, clock: C, due_us: &'a Cell<u64>) -> Self {
        Stepper {
            line,
            clock,
            due_us,
        }
    }

    /// Waits for the end of the frame that was started.
    async fn finish(&mut self, device: PhyAddr, reg: RegAddr) -> Result<u16, Error> {
        let start = self.clock.now_us();
        self.due_us.set(start + FRAME_US);
        loop {
            pause().await;
            // The clock first: a late look at a frame that has ended is no timeout.
            let now = self.clock.now_us();
            if let Some(result) = self.line.finish() {
                return result.map_err(Error::Mdio);
            }
            if now.saturating_sub(start) >= FRAME_LIMIT_US {
                return Err(Error::Frame { device, reg });
            }
            self.due_us.set(now + FRAME_POLL_US);
        }
    }
}

impl<L: Line, C: Clock> Registers for Stepper<'_, L, C> {
    async fn read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<u16, Error> {
        self.line.start_read(device, reg).map_err(Error::Mdio)?;
        self.finish(device, reg).await
    }

    async fn write(&mut self, device: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        self.line
            .start_write(device, reg, value)
            .map_err(Error::Mdio)?;
        self.finish(device, reg).await?;
        Ok(())
    }

    async fn sleep_us(&mut self, us: u64) {
        let end = self.clock.now_us().saturating_add(us);
        while self.clock.now_us() < end {
            self.due_us.set(end);
            pause().await;
        }
    }

    fn now_us(&mut self) -> u64 {
        self.clock.now_us()
    }
}

impl<R: Registers> Registers for &mut R {
    async fn read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<u16, Error> {
        (**self).read(device, reg).await
    }

    async fn write(&mut self, device: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        (**self).write(device, reg, value).await
    }

    async fn sleep_us(&mut self, us: u64) {
        (**self).sleep_us(us).await;
    }

    fn now_us(&mut self) -> u64 {
        (**self).now_us()
    }
}

/// Reads a register until `bit` is clear, and returns its value then.
///
/// # Errors
///
/// [`Error::Busy`] after `limit_us`, but not before a second look.
pub async fn wait_clear<R: Registers>(
    regs: &mut R,
    device: PhyAddr,
    reg: RegAddr,
    bit: Field<u16, impl RegisterLongName>,
    limit_us: u64,
) -> Result<u16, Error> {
    let start = regs.now_us();
    let mut looks = 0;
    loop {
        let late = regs.now_us().saturating_sub(start) >= limit_us && looks > 0;
        let value = match regs.read(device, reg).await {
            // A chip in reset drives nothing; whether the controller says so or shows the pull-up differs.
            Err(Error::Mdio(mdio::Error::NoAnswer)) => FLOATING,
            result => result?,
        };
        if !bit.is_set(value) {
            return Ok(value);
        }
        if late {
            return Err(Error::Busy { device, reg, value });
        }
        looks += 1;
    }
}

/// Starts an operation by writing `value` with the `busy` bit, and waits until that bit is clear.
///
/// # Errors
///
/// As [`Registers::write`] and [`wait_clear`].
pub async fn operate<R: Registers, L: RegisterLongName>(
    regs: &mut R,
    device: PhyAddr,
    reg: Reg16<L>,
    busy: Field<u16, L>,
    value: FieldValue<u16, L>,
) -> Result<(), Error> {
    let busy_set = busy.mask << busy.shift;
    regs.write(device, reg.addr, value.value | busy_set).await?;
    wait_idle(regs, device, reg, busy).await
}

/// Waits until the `busy` bit of the last operation is clear.
///
/// # Errors
///
/// As [`wait_clear`], after [`BUSY_LIMIT_US`].
pub async fn wait_idle<R: Registers, L: RegisterLongName>(
    regs: &mut R,
    device: PhyAddr,
    reg: Reg16<L>,
    busy: Field<u16, L>,
) -> Result<(), Error> {
    wait_clear(regs, device, reg.addr, busy, BUSY_LIMIT_US).await?;
    Ok(())
}

/// A register with named fields.
#[derive(Clone, Copy, Debug)]
pub struct Reg16<R> {
    addr: RegAddr,
    fields: PhantomData<R>,
}

impl<R: RegisterLongName> Reg16<R> {
    /// The register of this number.
    pub const fn at(addr: u8) -> Self {
        Reg16 {
            addr: RegAddr(addr),
            fields: PhantomData,
        }
    }

    /// Its number.
    pub const fn addr(self) -> RegAddr {
        self.addr
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// As [`Registers::read`].
    pub async fn read(
        self,
        regs: &mut impl Registers,
        device: PhyAddr,
    ) -> Result<LocalRegisterCopy<u16, R>, Error> {
        Ok(LocalRegisterCopy::new(regs.read(device, self.addr).await?))
    }

    /// Writes it; fields not named become 0.
    ///
    /// # Errors
    ///
    /// As [`Registers::write`].
    pub async fn write(
        self,
        regs: &mut impl Registers,
        device: PhyAddr,
        value: FieldValue<u16, R>,
    ) -> Result<(), Error> {
        regs.write(device, self.addr, value.value).await
    }

    /// Changes the fields named and keeps the others.
    ///
    /// # Errors
    ///
    /// As [`Registers::read`] and [`Registers::write`].
    pub async fn modify(
        self,
        regs: &mut impl Registers,
        device: PhyAddr,
        value: FieldValue<u16, R>,
    ) -> Result<(), Error> {
        let old = regs.read(device, self.addr).await?;
        regs.write(device, self.addr, value.modify(old)).await
    }
}

/// Gives the processor back once.
pub async fn pause() {
    struct Pause(bool);
    impl Future for Pause {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if core::mem::replace(&mut self.0, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }
    }
    Pause(false).await;
}

/// One step of a sequence; its result once it has ended.
pub fn step<F: Future + ?Sized>(sequence: Pin<&mut F>) -> Poll<F::Output> {
    sequence.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a sequence to its end. For whoever has nothing else to do; every wait in a sequence has a limit.
pub fn run<F: Future>(sequence: F) -> F::Output {
    let mut sequence = pin!(sequence);
    loop {
        if let Poll::Ready(output) = step(sequence.as_mut()) {
            return output;
        }
    }
}
