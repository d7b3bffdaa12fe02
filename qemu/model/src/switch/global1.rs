//! Global 1 registers: device 0x1b.
//!
//! Owns status, reset, priorities, the monitor and management table and control 2. Its middle belongs to the VTU, the
//! ATU and the statistics, each in its own file.
//!
//! Spec: Linux mv88e6xxx/global1.h and global1.c, unless marked otherwise.

use super::atu::MacAddr;
use super::context::Context;
use super::doubts::{G1ProblemBits, ResetKeeps};
use super::indexed::Indexed;
use super::stats::Histogram;
use super::{Switch, atu, stats, vtu};
use crate::bus::{Env, Nanos};

// Status, register 0x00. The enable bits of control 1 have the same positions.
const PPU_POLLING: u16 = 1 << 15;
const INIT_READY: u16 = 1 << 11;
const DEVICE: u16 = 1 << 7;
const STATS_DONE: u16 = 1 << 6;
const VTU_PROBLEM: u16 = 1 << 5;
const VTU_DONE: u16 = 1 << 4;
const ATU_PROBLEM: u16 = 1 << 3;
const ATU_DONE: u16 = 1 << 2;
const EEPROM_DONE: u16 = 1 << 0;
/// Every interrupt.
const INTERRUPTS: u16 = 0x01ff;

// Control 1, register 0x04.
const SOFTWARE_RESET: u16 = 1 << 15;
const PPU_ENABLE: u16 = 1 << 14;

/// The registers that are this block's own.
#[derive(Debug)]
pub(crate) struct Global1 {
    /// Done bits seen but not read.
    latched: u16,
    control1: u16,
    control2: u16,
    ip_priority: [u16; 8],
    ieee_priority: u16,
    core_tag: u16,
    pub(crate) monitor: Monitor,
    pub(crate) reset_until: Nanos,
}

impl Global1 {
    /// Inherited: Linux never sets the PPU enable bit and waits for the PPU, so it must come up set. The EEPROM is
    /// reported done once after reset.
    pub(crate) fn new() -> Self {
        Self {
            latched: EEPROM_DONE,
            control1: PPU_ENABLE,
            control2: 0,
            ip_priority: [
                0x0000, 0x0000, 0x5555, 0x5555, 0xaaaa, 0xaaaa, 0xffff, 0xffff,
            ],
            ieee_priority: 0xfa41,
            core_tag: 0,
            monitor: Monitor::new(),
            reset_until: 0,
        }
    }

    /// This chip's number in DSA tags.
    pub(crate) fn device_number(&self) -> u8 {
        (self.control2 & 0x1f) as u8
    }

    pub(crate) fn histogram(&self) -> Histogram {
        Histogram {
            rx: self.control2 & 1 << 6 != 0,
            tx: self.control2 & 1 << 7 != 0,
        }
    }

    /// The PPU copies what the PHYs negotiated into the ports.
    pub(crate) fn ppu_polls(&self, now: Nanos) -> bool {
        self.control1 & PPU_ENABLE != 0 && now >= self.reset_until
    }

    /// Queue, two bits, of a frame priority.
    pub(crate) fn queue_of_priority(&self, priority: u8) -> u8 {
        (self.ieee_priority >> (u16::from(priority & 7) * 2) & 3) as u8
    }

    /// Queue, two bits, of an IP traffic class (DSCP, six bits).
    pub(crate) fn queue_of_dscp(&self, dscp: u8) -> u8 {
        (self.ip_priority[usize::from(dscp >> 3 & 7)] >> (u16::from(dscp & 7) * 2) & 3) as u8
    }
}

/// Register 0x1a: which reserved addresses are management, and where special frames go.
#[derive(Debug)]
pub(crate) struct Monitor(Indexed<64, 8, 0xff>);

impl Monitor {
    const INGRESS: usize = 0x20;
    const EGRESS: usize = 0x21;
    const CPU: usize = 0x30;

    /// Inherited: no reserved address is trapped and every destination is port 0 until software says so.
    fn new() -> Self {
        Self(Indexed::filled_with(0))
    }

    /// 01:80:c2:00:00:0x and :2x, one bit each.
    pub(crate) fn traps(&self, mac: MacAddr) -> bool {
        let [0x01, 0x80, 0xc2, 0x00, 0x00, last] = mac else {
            return false;
        };
        let pointer = match last {
            0x00..=0x07 => 0,
            0x08..=0x0f => 1,
            0x20..=0x27 => 2,
            0x28..=0x2f => 3,
            _ => return false,
        };
        self.0.get(pointer) & 1 << (last & 7) != 0
    }

    pub(crate) fn ingress_port(&self) -> u8 {
        (self.0.get(Self::INGRESS) & 0x1f) as u8
    }

    pub(crate) fn egress_port(&self) -> u8 {
        (self.0.get(Self::EGRESS) & 0x1f) as u8
    }

    /// Bits 7:5 are the priority of management frames.
    pub(crate) fn cpu_port(&self) -> u8 {
        (self.0.get(Self::CPU) & 0x1f) as u8
    }

    pub(crate) fn cpu_priority(&self) -> u8 {
        (self.0.get(Self::CPU) >> 5) as u8
    }
}

impl Switch {
    pub(super) fn read_global1(&mut self, context: &mut Context, register: u8) -> u16 {
        match register {
            0x00 => self.take_global_status(context),
            0x02 | 0x03 | 0x05..=0x09 => self.vtu.read(register, context),
            0x04 => {
                self.g1.control1 | (u16::from(context.now < self.g1.reset_until) * SOFTWARE_RESET)
            }
            0x0a..=0x0f => self.atu.read(register, context),
            0x10..=0x17 => self.g1.ip_priority[usize::from(register & 7)],
            0x18 => self.g1.ieee_priority,
            0x19 => self.g1.core_tag,
            0x1a => self.g1.monitor.0.read(),
            0x1c => self.g1.control2,
            0x1d..=0x1f => self.stats.read(register, context),
            _ => {
                context.guest_error(
                    "global1",
                    format_args!("read of reserved register {register:#04x}"),
                );
                0
            }
        }
    }

    pub(super) fn write_global1(&mut self, context: &mut Context, register: u8, value: u16) {
        match register {
            0x00 => context.guest_error("global1", format_args!("the status is read-only")),
            0x02 | 0x03 | 0x05..=0x09 => self.vtu.write(register, value, context),
            0x04 => {
                self.g1.control1 = value & !SOFTWARE_RESET;
                if value & SOFTWARE_RESET != 0 {
                    self.software_reset(context);
                }
            }
            0x0a..=0x0f => self.atu.write(register, value, context),
            0x10..=0x17 => self.g1.ip_priority[usize::from(register & 7)] = value,
            0x18 => self.g1.ieee_priority = value,
            0x19 => self.g1.core_tag = value,
            0x1a => self.g1.monitor.0.write(value),
            0x1c => self.g1.control2 = value,
            0x1d..=0x1f => self.stats.write(register, value, context),
            // Register 1 is the ATU FID of other chips; this one splits the FID over 0x0a and 0x0b.
            _ => context.guest_error(
                "global1",
                format_args!("write of reserved register {register:#04x}"),
            ),
        }
    }

    /// The interrupt output INTn (true: asserted). Not wired on the ESPRESSObin.
    pub fn interrupt(&mut self, env: &mut Env) -> bool {
        self.advance(env);
        let context = self.context(env);
        self.global_status(&context) & self.g1.control1 & INTERRUPTS != 0
    }

    fn take_global_status(&mut self, context: &Context) -> u16 {
        let status = self.global_status(context);
        self.g1.latched = 0;
        if context.doubts.g1_problem_bits == G1ProblemBits::ReadClears {
            self.vtu.violation.read_clears();
            self.atu.violation.read_clears();
        }
        status
    }

    /// Done bits are latched until read; the device bit follows global 2, the problem bits the violations.
    fn global_status(&mut self, context: &Context) -> u16 {
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        self.g1.latched |= flag(self.stats.take_done(context), STATS_DONE)
            | flag(self.vtu.take_done(context), VTU_DONE)
            | flag(self.atu.take_done(context), ATU_DONE);
        self.g1.latched
            | flag(self.vtu.violation.problem(), VTU_PROBLEM)
            | flag(self.atu.violation.problem(), ATU_PROBLEM)
            | flag(self.g2_source() & self.g2.interrupt_mask() != 0, DEVICE)
            | flag(context.now >= self.g1.reset_until, INIT_READY)
            | flag(self.g1.ppu_polls(context.now), PPU_POLLING)
    }

    fn software_reset(&mut self, context: &mut Context) {
        let stuck = context.env.faults.take("switch-reset-stuck").is_some();
        self.atu = atu::Atu::new();
        self.vtu = vtu::Vtu::default();
        self.stats = stats::Stats::default();
        let keeps = context.doubts.reset_keeps;
        if keeps != ResetKeeps::PhysAndRegisters {
            self.reset_registers(context);
        }
        if keeps == ResetKeeps::Nothing {
            self.phys
                .iter_mut()
                .for_each(|phy| phy.hardware_reset(context));
        }
        self.association_changed();
        self.g1.reset_until = if stuck {
            Nanos::MAX
        } else {
            context.now.saturating_add(context.timing.reset)
        };
    }
}
