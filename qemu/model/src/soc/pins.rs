//! Pin control and GPIO of one bridge, with its interrupt block.
//!
//! A pin that is an output reads back what is driven; an input reads what the board wires to it.
//! Spec: Linux pinctrl-armada-37xx.c.

use crate::bus::Env;

/// One controller.
#[derive(Debug)]
pub struct Pins {
    name: &'static str,
    /// Crystal and boot straps at 0x08; north bridge only.
    straps: u32,
    output_enable: u64,
    output: u64,
    output_control: u64,
    selection: u32,
    /// Levels the board drives.
    wired: u64,
    irq_enable: u64,
    irq_polarity: u64,
    irq_status: u64,
    irq_wake: u64,
}

fn half(value: u64, offset: u32) -> u32 {
    (value >> (8 * (offset & 4))) as u32
}

fn set_half(target: &mut u64, offset: u32, value: u32) {
    let shift = 8 * (offset & 4);
    *target = *target & !(0xffff_ffff << shift) | u64::from(value) << shift;
}

impl Pins {
    /// A controller with the pull-ups of the board on every pin.
    #[must_use]
    pub fn new(name: &'static str, straps: u32, output_enable: u64) -> Self {
        Self {
            name,
            straps,
            output_enable,
            output: 0,
            output_control: 0,
            selection: 0,
            wired: u64::MAX,
            irq_enable: 0,
            irq_polarity: 0,
            irq_status: 0,
            irq_wake: 0,
        }
    }

    /// The board drives a pin.
    pub fn wire(&mut self, pin: u32, high: bool) {
        let before = self.levels();
        self.wired = self.wired & !(1 << pin) | u64::from(high) << pin;
        let changed = before ^ self.levels();
        // Polarity 0 reports rising edges, 1 falling ones.
        self.irq_status |= changed & (self.levels() ^ self.irq_polarity);
    }

    /// Pin functions: a set bit makes a group GPIO.
    #[must_use]
    pub fn selection(&self) -> u32 {
        self.selection
    }

    /// Levels on the wires.
    #[must_use]
    pub fn levels(&self) -> u64 {
        self.output & self.output_enable | self.wired & !self.output_enable
    }

    /// Pins whose interrupt is pending and enabled.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.irq_status & self.irq_enable
    }

    /// Reads a register of the pin block.
    pub fn read(&mut self, env: &mut Env, offset: u32) -> u32 {
        match offset {
            0x00 | 0x04 => half(self.output_enable, offset),
            0x08 | 0x0c => half(u64::from(self.straps), offset & 4),
            0x10 | 0x14 => half(self.levels(), offset),
            0x18 | 0x1c => half(self.output, offset),
            0x20 | 0x24 => half(self.output_control, offset),
            0x30 => self.selection,
            0x34 | 0x38 | 0x3c | 0x40 => 0,
            _ => {
                env.guest_error(self.name, format!("read of unknown register {offset:#04x}"));
                0
            }
        }
    }

    /// Writes a register of the pin block.
    pub fn write(&mut self, env: &mut Env, offset: u32, value: u32) {
        match offset {
            0x00 | 0x04 => set_half(&mut self.output_enable, offset, value),
            0x10 | 0x14 => env.guest_error(
                self.name,
                format!("write of {value:#010x} to the input levels"),
            ),
            0x18 | 0x1c => set_half(&mut self.output, offset, value),
            0x20 | 0x24 => set_half(&mut self.output_control, offset, value),
            0x30 => self.selection = value,
            _ => env.guest_error(
                self.name,
                format!("write of {value:#010x} to unknown register {offset:#04x}"),
            ),
        }
    }

    /// Reads a register of the interrupt block.
    pub fn read_irq(&mut self, env: &mut Env, offset: u32) -> u32 {
        match offset & !4 {
            0x00 => half(self.irq_enable, offset),
            0x08 => half(self.irq_polarity, offset),
            0x10 => half(self.irq_status, offset),
            0x18 => half(self.irq_wake, offset),
            _ => {
                env.guest_error(
                    self.name,
                    format!("read of unknown interrupt register {offset:#04x}"),
                );
                0
            }
        }
    }

    /// Writes a register of the interrupt block; the status clears where 1 is written.
    pub fn write_irq(&mut self, env: &mut Env, offset: u32, value: u32) {
        match offset & !4 {
            0x00 => set_half(&mut self.irq_enable, offset, value),
            0x08 => set_half(&mut self.irq_polarity, offset, value),
            0x10 => self.irq_status &= !(u64::from(value) << (8 * (offset & 4))),
            0x18 => set_half(&mut self.irq_wake, offset, value),
            _ => env.guest_error(
                self.name,
                format!("write of {value:#010x} to unknown interrupt register {offset:#04x}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_read_back_and_inputs_follow_the_board() {
        let (mut env, mut pins) = (Env::default(), Pins::new("pins", 0, 0));
        pins.wire(3, false);
        assert_eq!(pins.read(&mut env, 0x10) & 1 << 3, 0);
        pins.write(&mut env, 0x04, 1);
        assert_eq!(pins.read(&mut env, 0x14) & 1, 0);
        pins.write(&mut env, 0x1c, 1);
        assert_eq!(pins.read(&mut env, 0x14) & 1, 1);
    }

    #[test]
    fn an_edge_is_latched_by_polarity_and_cleared_by_one() {
        let (mut env, mut pins) = (Env::default(), Pins::new("pins", 0, 0));
        pins.write_irq(&mut env, 0x08, 1 << 3);
        pins.write_irq(&mut env, 0x00, 1 << 3);
        pins.wire(3, false);
        assert_eq!(pins.pending(), 1 << 3);
        pins.write_irq(&mut env, 0x10, 1 << 3);
        pins.wire(3, true);
        assert_eq!(pins.pending(), 0, "the rising edge was not asked for");
    }
}
