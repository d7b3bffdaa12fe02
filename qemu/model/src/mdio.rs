//! The SoC's MDIO controller: one register at 0x2004 of NETA0, clause 22 only.
//!
//! An operation takes the time of 64 management clocks, in virtual time, and is completed by whoever reads the register
//! after that: a guest that spins on the busy bit starves timers, but not this. What hangs on the wire answers through
//! [`Wire`].
//!
//! ```text
//! 31:29 0 | 28 busy | 27 read valid | 26 read op | 25:21 register | 20:16 device | 15:0 data
//! ```

use crate::bus::{Env, Nanos};
use crate::doubts::Doubt;

/// What a device address on the management wire says when nobody drives it.
pub const FLOATING: u16 = 0xffff;
/// One operation. Inherited: Linux's driver notes 41 to 95 microseconds.
pub const OPERATION_NS: Nanos = 45_000;

const READ_OP: u32 = 1 << 26;
const READ_VALID: u32 = 1 << 27;
const BUSY: u32 = 1 << 28;

/// Whether a read that no device answers still reports valid data.
pub static NO_DEVICE: Doubt = Doubt {
    name: "mdio-no-device",
    readings: &["valid", "invalid"],
    about: "A read of an absent device: all ones with the valid bit (the pull-up answers), or without it.",
};

/// All doubts of this block.
pub static DOUBTS: &[&Doubt] = &[&NO_DEVICE];

/// Devices on the management wire.
pub trait Wire {
    /// Reads a register; `None` if no device has this address.
    fn read(&mut self, env: &mut Env, device: u8, register: u8) -> Option<u16>;
    /// Writes a register; false if no device has this address.
    fn write(&mut self, env: &mut Env, device: u8, register: u8, value: u16) -> bool;
}

/// The controller.
#[derive(Debug, Clone, Default)]
pub struct Mdio {
    register: u32,
    /// End of the operation under way.
    busy_until: Option<Nanos>,
}

impl Mdio {
    /// Ends what is due; true once per ended operation.
    pub fn advance(&mut self, env: &Env) -> bool {
        let ended = self.busy_until.is_some_and(|end| end <= env.now);
        if ended {
            self.busy_until = None;
        }
        ended
    }

    /// Reads the register.
    pub fn read(&mut self, env: &mut Env) -> u32 {
        self.advance(env);
        let busy = self.busy_until.is_some();
        // Data and valid bit appear with the end of the operation.
        if busy {
            self.register & !(READ_VALID | 0xffff) | BUSY
        } else {
            self.register
        }
    }

    /// Writes the register, which starts an operation.
    pub fn write(&mut self, env: &mut Env, wire: &mut dyn Wire, value: u32) {
        self.advance(env);
        if self.busy_until.is_some() {
            env.guest_error("mdio", format!("write of {value:#010x} while busy is lost"));
            return;
        }
        if value & 0xe000_0000 != 0 {
            env.guest_error(
                "mdio",
                format!("write of {value:#010x}: bits 31:29 are reserved"),
            );
        }
        let (device, register) = ((value >> 16 & 31) as u8, (value >> 21 & 31) as u8);
        let silent = !env.faults.is_empty() && env.faults.take("mdio-no-answer").is_some();
        let addressed = value & (READ_OP | 0x03ff_0000);
        self.register = if value & READ_OP != 0 {
            let answer = if silent {
                None
            } else {
                wire.read(env, device, register)
            };
            let valid = answer.is_some() || env.doubts.is(&NO_DEVICE, "valid");
            addressed | u32::from(answer.unwrap_or(FLOATING)) | if valid { READ_VALID } else { 0 }
        } else {
            if !silent {
                wire.write(env, device, register, value as u16);
            }
            addressed | value & 0xffff
        };
        let stuck = !env.faults.is_empty() && env.faults.take("mdio-busy").is_some();
        self.busy_until = Some(if stuck {
            Nanos::MAX
        } else {
            env.now + OPERATION_NS
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One device at address 1 with 32 registers.
    struct One([u16; 32]);

    impl Wire for One {
        fn read(&mut self, _: &mut Env, device: u8, register: u8) -> Option<u16> {
            (device == 1).then(|| self.0[usize::from(register)])
        }

        fn write(&mut self, _: &mut Env, device: u8, register: u8, value: u16) -> bool {
            if device == 1 {
                self.0[usize::from(register)] = value;
            }
            device == 1
        }
    }

    fn read(device: u32, register: u32) -> u32 {
        READ_OP | device << 16 | register << 21
    }

    #[test]
    fn busy_for_one_frame_then_data() {
        let (mut mdio, mut env, mut wire) = (Mdio::default(), Env::default(), One([0; 32]));
        mdio.write(&mut env, &mut wire, 1 << 16 | 7 << 21 | 0xbeef);
        assert_eq!(mdio.read(&mut env) & BUSY, BUSY);
        env.now += OPERATION_NS;
        assert_eq!(mdio.read(&mut env) & BUSY, 0);
        mdio.write(&mut env, &mut wire, read(1, 7));
        assert_eq!(mdio.read(&mut env) & 0xffff, 0, "no data while busy");
        env.now += OPERATION_NS;
        assert_eq!(mdio.read(&mut env), READ_VALID | read(1, 7) | 0xbeef);
        assert_eq!(env.guest_error_count(), 0);
    }

    #[test]
    fn write_while_busy_is_lost_and_noted() {
        let (mut mdio, mut env, mut wire) = (Mdio::default(), Env::default(), One([0; 32]));
        mdio.write(&mut env, &mut wire, 1 << 16 | 1);
        mdio.write(&mut env, &mut wire, 1 << 16 | 2);
        assert_eq!(wire.0[0], 1);
        assert_eq!(env.guest_error_count(), 1);
    }

    #[test]
    fn nobody_there_reads_all_ones_and_faults_bite() {
        let (mut mdio, mut env, mut wire) = (Mdio::default(), Env::default(), One([0; 32]));
        mdio.write(&mut env, &mut wire, read(2, 0));
        env.now += OPERATION_NS;
        assert_eq!(mdio.read(&mut env), READ_VALID | read(2, 0) | 0xffff);
        env.doubts.set("mdio-no-device", "invalid").unwrap();
        mdio.write(&mut env, &mut wire, read(2, 0));
        env.now += OPERATION_NS;
        assert_eq!(mdio.read(&mut env) & READ_VALID, 0);
        env.faults.set_list("mdio-busy").unwrap();
        mdio.write(&mut env, &mut wire, read(1, 0));
        env.now += 1_000_000_000;
        assert_eq!(mdio.read(&mut env) & BUSY, BUSY);
    }
}
