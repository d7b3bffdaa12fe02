//! The four counters at 0x8300, one of which the select register at 0xd064 makes the watchdog.
//!
//! A counter runs down from what was written; the value is computed from virtual time when somebody looks. Its end can
//! start the next counter (trigger source 5), which is how drivers ping. Spec: Linux armada_37xx_wdt.c.

use crate::bus::{Env, Nanos};

/// Nanoseconds of one crystal clock.
const CRYSTAL_NS: u64 = 40;
const ENABLE: u32 = 1;
const ACTIVE: u32 = 2;
const FROM_PREVIOUS: u32 = 5;

#[derive(Debug, Clone, Default)]
struct Counter {
    control: u32,
    load: u64,
    /// Start of the run under way.
    started: Option<Nanos>,
    latched_high: u32,
}

impl Counter {
    fn tick_ns(&self) -> u64 {
        u64::from((self.control >> 8 & 0xff).max(2)) * CRYSTAL_NS
    }

    fn value(&self, now: Nanos) -> u64 {
        self.started.map_or(self.load, |start| {
            self.load
                .saturating_sub((now - start.min(now)) / self.tick_ns())
        })
    }

    fn end(&self) -> Option<Nanos> {
        Some(
            self.started?
                .saturating_add(self.load.saturating_mul(self.tick_ns())),
        )
    }
}

/// The block.
#[derive(Debug, Clone, Default)]
pub struct Watchdog {
    counters: [Counter; 4],
    /// Register 0xd064: bit n makes counter n the watchdog.
    pub select: u32,
    expired: bool,
}

impl Watchdog {
    /// Reads a register.
    pub fn read(&mut self, env: &mut Env, offset: u32) -> u32 {
        self.advance(env.now);
        let Some(counter) = self.counters.get_mut((offset >> 4) as usize) else {
            env.guest_error(
                "watchdog",
                format!("read of unknown register {offset:#04x}"),
            );
            return 0;
        };
        match offset & 0xf {
            0 => counter.control & !ACTIVE | if counter.started.is_some() { ACTIVE } else { 0 },
            4 => {
                let value = counter.value(env.now);
                counter.latched_high = (value >> 32) as u32;
                value as u32
            }
            8 => counter.latched_high,
            _ => 0,
        }
    }

    /// Writes a register.
    pub fn write(&mut self, env: &mut Env, offset: u32, value: u32) {
        self.advance(env.now);
        let index = (offset >> 4) as usize;
        let Some(counter) = self.counters.get_mut(index) else {
            env.guest_error(
                "watchdog",
                format!("write of {value:#010x} to unknown register {offset:#04x}"),
            );
            return;
        };
        match offset & 0xf {
            0 => {
                let was_enabled = counter.control & ENABLE != 0;
                counter.control = value & !ACTIVE;
                if value & ENABLE == 0 {
                    counter.started = None;
                } else if !was_enabled && value >> 4 & 0xf != FROM_PREVIOUS {
                    counter.started = Some(env.now);
                }
            }
            4 => counter.load = counter.load & !0xffff_ffff | u64::from(value),
            8 => counter.load = counter.load & 0xffff_ffff | u64::from(value) << 32,
            _ => env.guest_error(
                "watchdog",
                format!("write of {value:#010x} to unknown register {offset:#04x}"),
            ),
        }
        self.advance(env.now);
    }

    /// Lets counters end and start their successors.
    pub fn advance(&mut self, now: Nanos) {
        for n in 0..self.counters.len() {
            let Some(end) = self.counters[n].end().filter(|end| *end <= now) else {
                continue;
            };
            self.counters[n].started = None;
            if self.select & 1 << n != 0 {
                self.expired = true;
            }
            if let Some(next) = self.counters.get_mut(n + 1)
                && next.control & ENABLE != 0
                && next.control >> 4 & 0xf == FROM_PREVIOUS
            {
                next.started = Some(end);
            }
        }
    }

    /// When the next counter ends.
    #[must_use]
    pub fn next_event(&self) -> Option<Nanos> {
        self.counters.iter().filter_map(Counter::end).min()
    }

    /// True once after the watchdog has bitten.
    pub fn take_expired(&mut self) -> bool {
        std::mem::take(&mut self.expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(env: &mut Env, seconds: u32) -> Watchdog {
        let mut watchdog = Watchdog {
            select: 2,
            ..Watchdog::default()
        };
        watchdog.write(env, 0x00, 2 << 8);
        watchdog.write(env, 0x10, 3 << 2 | FROM_PREVIOUS << 4 | 2 << 8);
        watchdog.write(env, 0x14, seconds * 12_500_000);
        watchdog.write(env, 0x10, ENABLE | 3 << 2 | FROM_PREVIOUS << 4 | 2 << 8);
        watchdog.write(env, 0x00, ENABLE | 2 << 8);
        watchdog
    }

    #[test]
    fn bites_after_its_time_and_a_ping_starts_over() {
        let mut env = Env::default();
        let mut watchdog = armed(&mut env, 2);
        assert_eq!(watchdog.read(&mut env, 0x10) & ACTIVE, ACTIVE);
        env.now = 1_500_000_000;
        assert_eq!(watchdog.read(&mut env, 0x14), 6_250_000);
        watchdog.write(&mut env, 0x00, 2 << 8);
        watchdog.write(&mut env, 0x00, ENABLE | 2 << 8);
        env.now = 3_400_000_000;
        watchdog.advance(env.now);
        assert!(!watchdog.take_expired());
        env.now = 3_600_000_000;
        watchdog.advance(env.now);
        assert!(watchdog.take_expired());
        assert!(!watchdog.take_expired());
    }

    #[test]
    fn not_selected_means_no_reset() {
        let mut env = Env::default();
        let mut watchdog = armed(&mut env, 1);
        watchdog.select = 0;
        env.now = 5_000_000_000;
        watchdog.advance(env.now);
        assert!(!watchdog.take_expired());
    }
}
