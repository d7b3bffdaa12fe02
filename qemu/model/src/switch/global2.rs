//! Global 2 registers: device 0x1c.
//!
//! Owns the interrupt sources, the access to the PHYs, the cross-chip VLAN table (PVT), trunks and the device map, and
//! stores what a driver writes for rate limits, priorities, scratch, watchdog, AVB and PTP.
//!
//! Spec: Linux mv88e6xxx/global2.h, global2.c, global2_avb.c and global2_scratch.c, unless marked otherwise.
//! Simplified: rate limits, priority overrides and queue weights have no effect; no frame gets a time stamp.

use super::context::{Busy, Context, Unit};
use super::indexed::Indexed;
use super::port::ALL_PORTS;
use super::{Switch, atu::CountMode, serdes};
use crate::bus::{Env, Nanos};
use std::collections::BTreeMap;

/// Entries of the PVT: 9-bit pointer.
const PVT_ENTRIES: usize = 512;
/// Source device under which the PVT holds trunks. Spec: Linux chip.h, `MV88E6XXX_G2_PVT_ADDR_DEV_TRUNK`.
const PVT_TRUNK_DEVICE: u8 = 0x1f;
/// Watchdog interrupt source.
const SOURCE_WATCHDOG: u16 = 1 << 15;
/// Misc register bit 14: the PVT pointer has 5 port bits instead of 4.
const FIVE_BIT_PORTS: u16 = 1 << 14;

// Pointers of the watchdog register 0x1b.
const WATCHDOG_ENABLE: usize = 0x11;
const WATCHDOG_EVENT: usize = 0x12;
const WATCHDOG_HISTORY: usize = 0x13;

/// The registers.
#[derive(Debug)]
pub(crate) struct Global2 {
    mask: u16,
    /// Registers without any effect, by offset: 0x02 to 0x05.
    storage: [u16; 8],
    device_map: Indexed<32, 8, 0x1f>,
    trunk_mask: Indexed<8, 12, 0x087f>,
    trunk_map: Indexed<16, 11, 0x07ff>,
    irl_command: u16,
    irl_data: u16,
    irl: BTreeMap<u16, u16>,
    pvt_address: u16,
    pvt_data: u16,
    pvt: Box<[u16; PVT_ENTRIES]>,
    switch_mac: Indexed<32, 8, 0xff>,
    atu_stats: u16,
    priority_override: Indexed<16, 8, 0xff>,
    eeprom_command: u16,
    eeprom_address: u16,
    avb: Avb,
    phy_command: u16,
    phy_data: u16,
    phy_c45_address: [u16; 32],
    scratch: Indexed<128, 8, 0xff>,
    watchdog: Indexed<128, 8, 0xff>,
    qos: Indexed<128, 8, 0xff>,
    misc: u16,
    table_busy: Busy,
    phy_busy: Busy,
}

impl Global2 {
    /// Inherited: the PVT permits everything and every trunk mask every port, as the init operations leave them.
    pub(crate) fn new() -> Self {
        let mut scratch = Indexed::filled_with(0);
        // CONFIG_DATA1: a CPU is attached, no-CPU mode off. CONFIG_DATA2: port 0 is RGMII.
        scratch.set(0x71, 0);
        scratch.set(0x72, 0x07);
        Self {
            mask: 0,
            storage: [0; 8],
            device_map: Indexed::filled_with(0x1f),
            trunk_mask: Indexed::filled_with(ALL_PORTS),
            trunk_map: Indexed::filled_with(0),
            irl_command: 0,
            irl_data: 0,
            irl: BTreeMap::new(),
            pvt_address: 0,
            pvt_data: 0,
            pvt: Box::new([0x7f; PVT_ENTRIES]),
            switch_mac: Indexed::filled_with(0),
            atu_stats: 0,
            priority_override: Indexed::filled_with(0),
            eeprom_command: 0,
            eeprom_address: 0,
            avb: Avb::default(),
            phy_command: 0,
            phy_data: 0,
            phy_c45_address: [0; 32],
            scratch,
            watchdog: Indexed::filled_with(0),
            qos: Indexed::filled_with(0),
            misc: 0,
            table_busy: Busy::default(),
            phy_busy: Busy::default(),
        }
    }

    pub(crate) fn interrupt_mask(&self) -> u16 {
        self.mask
    }

    /// Ports a frame from a port (or trunk) of another device may leave by.
    pub(crate) fn pvt(&self, device: u8, port: u8, trunk: bool) -> u16 {
        let device = if trunk { PVT_TRUNK_DEVICE } else { device };
        let pointer = if self.misc & FIVE_BIT_PORTS != 0 {
            u16::from(device & 0x0f) << 5 | u16::from(port & 0x1f)
        } else {
            u16::from(device & 0x1f) << 4 | u16::from(port & 0x0f)
        };
        self.pvt[usize::from(pointer)]
    }

    /// Port towards another device.
    pub(crate) fn port_towards(&self, device: u8) -> Option<u8> {
        let port = self.device_map.get(usize::from(device)) as u8;
        // 0xf is what drivers for chips with four port bits write for "none".
        (port != 0x1f && port != 0x0f).then_some(port)
    }

    /// Ports of a trunk.
    pub(crate) fn trunk_ports(&self, id: u8) -> u16 {
        self.trunk_map.get(usize::from(id)) & ALL_PORTS
    }

    /// Ports frames of this hash may leave by: one member of each trunk.
    pub(crate) fn trunk_mask(&self, hash: usize) -> u16 {
        self.trunk_mask.get(hash) & ALL_PORTS
    }
}

impl Switch {
    pub(super) fn read_global2(&mut self, context: &mut Context, register: u8) -> u16 {
        let busy =
            |busy: &Busy, unit, context: &Context| u16::from(busy.is_set(unit, context)) << 15;
        let table_busy = busy(&self.g2.table_busy, Unit::Tables, context);
        let g2 = &mut self.g2;
        match register {
            0x00 => self.g2_source(),
            0x01 => g2.mask,
            0x02..=0x05 => g2.storage[usize::from(register)],
            0x06 => g2.device_map.read(),
            0x07 => g2.trunk_mask.read(),
            0x08 => g2.trunk_map.read(),
            0x09 => g2.irl_command | table_busy,
            0x0a => g2.irl_data,
            0x0b => g2.pvt_address | table_busy,
            0x0c => g2.pvt_data,
            0x0d => g2.switch_mac.read(),
            0x0e => self.atu_statistic(),
            0x0f => g2.priority_override.read(),
            0x14 => g2.eeprom_command | table_busy,
            0x15 => g2.eeprom_address,
            0x16 => g2.avb.command | table_busy,
            0x17 => g2.avb.take_data(context.now),
            0x18 => g2.phy_command | busy(&g2.phy_busy, Unit::Phy, context),
            0x19 => {
                if g2.phy_busy.is_set(Unit::Phy, context) {
                    context.guest_error(
                        "global2",
                        format_args!("PHY data read while an access runs"),
                    );
                }
                self.g2.phy_data
            }
            0x1a => g2.scratch.read(),
            0x1b => self.take_watchdog(),
            0x1c => g2.qos.read(),
            0x1d => g2.misc,
            _ => {
                context.guest_error(
                    "global2",
                    format_args!("read of reserved register {register:#04x}"),
                );
                0
            }
        }
    }

    pub(super) fn write_global2(&mut self, context: &mut Context, register: u8, value: u16) {
        let busy = match register {
            0x09..=0x0c | 0x14..=0x17 => self.g2.table_busy.is_set(Unit::Tables, context),
            0x18 | 0x19 => self.g2.phy_busy.is_set(Unit::Phy, context),
            _ => false,
        };
        if busy {
            context.guest_error(
                "global2",
                format_args!("register {register:#04x} written while an operation runs"),
            );
            return;
        }
        let starts = value & 0x8000 != 0;
        let g2 = &mut self.g2;
        match register {
            0x00 => {
                context.guest_error("global2", format_args!("the interrupt source is read-only"))
            }
            0x01 => g2.mask = value,
            0x02..=0x05 => g2.storage[usize::from(register)] = value,
            0x06 => g2.device_map.write(value),
            0x07 => g2.trunk_mask.write(value),
            0x08 => g2.trunk_map.write(value),
            0x09 => g2.rate_limit_command(value, context),
            0x0a => g2.irl_data = value,
            0x0b => g2.pvt_command(value, context),
            0x0c => g2.pvt_data = value & 0x7f,
            0x0d => g2.switch_mac.write(value),
            0x0e => g2.atu_stats = value & 0xf000,
            0x0f => g2.priority_override.write(value),
            0x14 => g2.eeprom_command(value, context),
            0x15 => g2.eeprom_address = value,
            0x16 => {
                g2.avb.command(value, context);
                if starts {
                    g2.table_busy.start(context, context.timing.table);
                }
            }
            0x17 => g2.avb.data = value,
            0x18 => {
                self.g2.phy_command = value & 0x7fff;
                if starts {
                    self.access_phy(context, value);
                    self.g2.phy_busy.start(context, context.timing.phy_access);
                }
            }
            0x19 => g2.phy_data = value,
            0x1a => g2.scratch.write(value),
            0x1b => self.write_watchdog(value),
            0x1c => g2.qos.write(value),
            0x1d => g2.misc = value,
            _ => context.guest_error(
                "global2",
                format_args!("write of reserved register {register:#04x}"),
            ),
        }
    }

    /// Interrupt sources, register 0x00: levels, one bit per PHY at its port's number.
    pub(super) fn g2_source(&self) -> u16 {
        let phys = (1..).zip(&self.phys).fold(0, |mask, (port, phy)| {
            mask | u16::from(phy.interrupt()) << port
        });
        let watchdog =
            self.g2.watchdog.get(WATCHDOG_EVENT) & self.g2.watchdog.get(WATCHDOG_ENABLE) != 0;
        phys | (u16::from(watchdog) * SOURCE_WATCHDOG)
    }

    /// Register 0x0e: bits 15:14 bin, 13:12 mode (0 all, 1 dynamic, 2 and 3 the same of the ATU's FID).
    fn atu_statistic(&self) -> u16 {
        let mode = self.g2.atu_stats >> 12 & 3;
        let which = if mode & 1 == 0 {
            CountMode::All
        } else {
            CountMode::Dynamic
        };
        let fid = (mode & 2 != 0).then(|| self.atu.current_fid());
        self.g2.atu_stats | self.atu.count((self.g2.atu_stats >> 14) as u8, which, fid)
    }

    // Registers 0x18 and 0x19: the PHYs.

    /// ```text
    /// busy 15 | function 14:13 | clause 22 12 | op 11:10 | device 9:5 | register 4:0
    /// ```
    fn access_phy(&mut self, context: &mut Context, command: u16) {
        const INTERNAL: u16 = 0;
        const SETUP: u16 = 2;
        let device = (command >> 5 & 0x1f) as u8;
        let register = (command & 0x1f) as u8;
        match command >> 13 & 3 {
            INTERNAL => {}
            SETUP => return,
            // External PHYs: none is wired to the switch's own bus.
            _ => {
                self.g2.phy_data = 0xffff;
                return;
            }
        }
        if command & 1 << 12 != 0 {
            self.access_clause_22(context, command >> 10 & 3, device, register);
        } else {
            self.access_clause_45(command >> 10 & 3, device, register);
        }
    }

    fn access_clause_22(
        &mut self,
        context: &mut Context,
        operation: u16,
        device: u8,
        register: u8,
    ) {
        const WRITE: u16 = 1;
        const READ: u16 = 2;
        // The copper PHYs of ports 1 to 4 are devices 0x11 to 0x14.
        let phy = usize::from(device)
            .checked_sub(0x11)
            .and_then(|index| self.phys.get_mut(index));
        match (operation, phy) {
            (WRITE, Some(phy)) => phy.write(register, self.g2.phy_data, context),
            (WRITE, None) => {}
            (READ, Some(phy)) => self.g2.phy_data = phy.read(register, context),
            (READ, None) => self.g2.phy_data = 0xffff,
            _ => context.guest_error(
                "global2",
                format_args!("PHY operation {operation} is no clause 22 one"),
            ),
        }
    }

    fn access_clause_45(&mut self, operation: u16, device: u8, mmd: u8) {
        const ADDRESS: u16 = 0;
        const WRITE: u16 = 1;
        const READ_AND_INCREMENT: u16 = 2;
        let phy = usize::from(device)
            .checked_sub(0x11)
            .and_then(|index| self.phys.get_mut(index));
        let g2 = &mut self.g2;
        let address = g2.phy_c45_address[usize::from(device & 0x1f)];
        match operation {
            ADDRESS => g2.phy_c45_address[usize::from(device & 0x1f)] = g2.phy_data,
            WRITE => match phy {
                Some(phy) => phy.write_mmd(mmd, address, g2.phy_data),
                None if device == serdes::LANE => self.serdes.write(mmd, address, g2.phy_data),
                None => {}
            },
            _ => {
                g2.phy_data = match phy {
                    Some(phy) => phy.read_mmd(mmd, address),
                    None if device == serdes::LANE => self.serdes.read(mmd, address),
                    None => 0xffff,
                };
                if operation == READ_AND_INCREMENT {
                    g2.phy_c45_address[usize::from(device & 0x1f)] = address.wrapping_add(1);
                }
            }
        }
    }

    // Register 0x1b: the watchdog.

    /// Reading the event clears it. Inherited: Linux only reads it and resets the switch.
    fn take_watchdog(&mut self) -> u16 {
        let value = self.g2.watchdog.read();
        if self.g2.watchdog.pointer() == WATCHDOG_EVENT {
            self.g2.watchdog.set(WATCHDOG_EVENT, 0);
        }
        value
    }

    fn write_watchdog(&mut self, value: u16) {
        let events = self.g2.watchdog.get(WATCHDOG_EVENT);
        self.g2.watchdog.write(value);
        if self.g2.watchdog.pointer() == WATCHDOG_EVENT {
            self.g2.watchdog.set(WATCHDOG_EVENT, events);
        }
    }

    /// The watchdog bites: bits 3 cut-through, 2 queue controller, 1 egress.
    pub fn watchdog_event(&mut self, env: &mut Env, events: u8) {
        self.advance(env);
        for pointer in [WATCHDOG_EVENT, WATCHDOG_HISTORY] {
            let known = self.g2.watchdog.get(pointer);
            self.g2
                .watchdog
                .set(pointer, known | u16::from(events & 0x0e));
        }
    }
}

impl Global2 {
    /// Register 0x09: 88E6352 layout, operation 14:12 (1 init all, 2 init one, 3 write, 4 read), port 11:8.
    fn rate_limit_command(&mut self, value: u16, context: &mut Context) {
        self.irl_command = value & 0x7fff;
        if value & 0x8000 == 0 {
            return;
        }
        let address = value & 0x0fff;
        match value >> 12 & 7 {
            0 => {}
            1 => self.irl.retain(|at, _| at & 0x0f00 != address & 0x0f00),
            2 => self.irl.retain(|at, _| at & 0x0fe0 != address & 0x0fe0),
            3 => {
                self.irl.insert(address, self.irl_data);
            }
            4 => self.irl_data = self.irl.get(&address).copied().unwrap_or(0),
            operation => {
                context.guest_error("global2", format_args!("rate limit operation {operation}"))
            }
        }
        self.table_busy.start(context, context.timing.table);
    }

    /// Register 0x0b: operation 14:12 (1 all ones, 3 write, 4 read), pointer 8:0.
    fn pvt_command(&mut self, value: u16, context: &mut Context) {
        self.pvt_address = value & 0x7fff;
        if value & 0x8000 == 0 {
            return;
        }
        let entry = &mut self.pvt[usize::from(value) % PVT_ENTRIES];
        match value >> 12 & 7 {
            0 => {}
            1 => self.pvt.fill(0x7f),
            3 => *entry = self.pvt_data,
            4 => self.pvt_data = *entry,
            operation => context.guest_error("global2", format_args!("PVT operation {operation}")),
        }
        self.table_busy.start(context, context.timing.table);
    }

    /// Register 0x14: there is no EEPROM on the ESPRESSObin; reads find an idle bus.
    fn eeprom_command(&mut self, value: u16, context: &mut Context) {
        const READ: u16 = 4;
        self.eeprom_command = value & 0x77ff;
        if value & 0x8000 != 0 {
            if value >> 12 & 7 == READ {
                self.eeprom_command |= 0x00ff;
            }
            self.table_busy.start(context, context.timing.table);
        }
    }
}

/// Registers 0x16 and 0x17: AVB, PTP and the time of day.
///
/// ```text
/// busy 15 | op 14:13 (0 read, 2 read and increment, 3 write) | port 12:8 | block 7:5 | address 4:0
/// ```
#[derive(Debug, Default)]
struct Avb {
    command: u16,
    data: u16,
    registers: BTreeMap<u16, u16>,
    /// High half of the global time, caught when the low half was read.
    time_high: u16,
}

impl Avb {
    /// Port number of the time application interface, block 0.
    const TAI: u16 = 0x1e << 8;
    const TAI_CLOCK_PERIOD: u16 = Self::TAI | 0x01;
    const TAI_TIME_LOW: u16 = Self::TAI | 0x0e;
    const TAI_TIME_HIGH: u16 = Self::TAI | 0x0f;
    /// 125 MHz, in picoseconds. Spec: Linux ptp.c accepts 4000, 8000 and 10000. Inherited: which of them this chip has.
    const CLOCK_PERIOD_PS: u64 = 8000;

    fn command(&mut self, value: u16, context: &Context) {
        self.command = value & 0x7fff;
        if value & 0x8000 == 0 {
            return;
        }
        match value >> 13 & 3 {
            3 => {
                self.registers.insert(value & 0x1fff, self.data);
            }
            _ => self.data = self.register(value & 0x1fff, context.now),
        }
    }

    fn register(&mut self, address: u16, now: Nanos) -> u16 {
        match address {
            Self::TAI_CLOCK_PERIOD => Self::CLOCK_PERIOD_PS as u16,
            Self::TAI_TIME_LOW => {
                let time = now / (Self::CLOCK_PERIOD_PS / 1000);
                self.time_high = (time >> 16) as u16;
                time as u16
            }
            Self::TAI_TIME_HIGH => self.time_high,
            _ => self.registers.get(&address).copied().unwrap_or(0),
        }
    }

    /// With the increment operation every read of the data moves on.
    fn take_data(&mut self, now: Nanos) -> u16 {
        let data = self.data;
        if self.command >> 13 & 3 == 2 {
            let next = self.command & !0x1f | self.command.wrapping_add(1) & 0x1f;
            self.command = next;
            self.data = self.register(next & 0x1fff, now);
        }
        data
    }
}
