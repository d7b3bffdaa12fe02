//! Makes sure, before anything is measured, that the counter counts.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::error::{Result, at, failure};
use crate::workspace;

use super::BOOT_LIMIT;
use super::guest::{Emulator, Guest, System, Wire};

/// Makes sure that the counter counts: a program of which the number of instructions is known, run twice with another
/// number of rounds, must differ by exactly the instructions of these rounds.
///
/// # Errors
///
/// If it does not.
pub fn calibrate(emulator: &Emulator) -> Result<()> {
    const ROUNDS: [u16; 2] = [10, 25];
    const WORDS_PER_ROUND: u64 = 2;

    let program = |rounds: u16| {
        [
            0xd2a0_0000 | u32::from(rounds) << 5, // movz x0, #rounds, lsl #16
            0xd100_0400,                          // sub x0, x0, #1
            0xb5ff_ffe0,                          // cbnz x0, the line above
            0xd503_207f,                          // wfi
            0x17ff_ffff,                          // b the line above
        ]
        .map(u32::to_le_bytes)
        .concat()
    };
    let file = workspace::cache_dir()?.join(format!("calibration-{}", std::process::id()));
    let count = |rounds| {
        fs::write(&file, program(rounds)).map_err(at(&file))?;
        let system = System {
            name: String::new(),
            kernel: file.clone(),
            initrd: None,
            append: None,
        };
        let least = (u64::from(rounds) << 16) * WORDS_PER_ROUND;
        let mut guest = Guest::start(
            emulator,
            &system,
            emulator.machine.memory(),
            &Wire::UserNetwork,
        )?;
        guest.wait_until("end of the calibration", BOOT_LIMIT, |counter| {
            thread::sleep(Duration::from_millis(50));
            counter.instructions().is_ok_and(|count| count >= least)
        })?;
        // It sleeps for ever from here on, but it may not have got there yet.
        thread::sleep(Duration::from_millis(50));
        guest.counter.instructions()
    };
    let counts = ROUNDS.map(count);
    // What failed before is the better error.
    let removed = fs::remove_file(&file).map_err(at(&file));
    let [fewer, more] = counts;
    let found = more? - fewer?;
    removed?;
    let expected = (u64::from(ROUNDS[1] - ROUNDS[0]) << 16) * WORDS_PER_ROUND;
    if found != expected {
        return failure(format!(
            "the plugin counts {found} instructions where there are {expected}"
        ));
    }
    println!("calibration: {found} instructions counted of {expected}");
    Ok(())
}
