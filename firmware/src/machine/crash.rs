//! Where the crash record is on this machine, and what is said of it at start.

use core::fmt::Write;

use hal::arch::cache;
use hal::arch::mmu::{Error, Image, Kind, Mapper};
use heapless::String;
use log::{info, warn};

use crate::crash::{self, Area, Ending, Kept};

/// Why there is no record.
pub(super) enum Absence {
    /// No bank of memory has a place that is sure to be nobody else's.
    Small,
    /// The place is somebody else's.
    Taken(Error),
}

/// Finds its place and what was left there. From here on everything that is logged outlives a reset. Whether something
/// there was damaged.
///
/// # Errors
///
/// [`Absence`], if the place is reserved, the image or the devicetree lies there, or there is too little memory.
pub(super) fn start(mapper: &mut Mapper, place: u64) -> Result<bool, Absence> {
    if place == u64::MAX {
        return Err(Absence::Small);
    }
    let image = Image::here();
    let len = size_of::<Area>() as u64;
    // Its guard pages are no conflict to the mapper.
    if place < image.end && image.start < place.saturating_add(len) {
        return Err(Absence::Taken(Error::Conflict { page: image.start }));
    }
    mapper
        .map(place, len, Kind::Uncached)
        .map_err(Absence::Taken)?;
    // What a boot loader's core fetched ahead must not come between.
    cache::clean_invalidate(place as usize, size_of::<Area>());
    // SAFETY: just mapped as what nobody else uses, for good; aligned, and made of atomics, which may have any value.
    let area: &'static Area = unsafe { &*(place as *const Area) };
    Ok(crash::adopt(area, image.start, env!("CARGO_PKG_VERSION")))
}

/// Says how the last start ended, if it did badly: how many starts ago that was, and the begin of what it said.
pub(super) fn report(found: Result<bool, Absence>) -> Option<(u64, String<96>)> {
    match found {
        Err(Absence::Small) => info!("crash record: none: less than 64 MiB of memory"),
        Err(Absence::Taken(why)) => info!("crash record: none: {why}"),
        Ok(true) => warn!("crash record: damaged, ignored"),
        Ok(false) => {}
    }
    let Kept { record, .. } = crash::kept()?;
    let ago = crash::live().start() - record.start();
    let message = record.message();
    warn!("crash record: {ago} start(s) ago: {message} (`crash` shows more)");
    let mut begin = String::new();
    // What does not fit is in the record.
    let _ = write!(begin, "{message}");
    Some((ago, begin))
}

/// Writes how this start ends, before anybody is told.
pub(super) fn record(
    ending: Ending,
    registers: &[u64],
    backtrace: &[u64],
    message: core::fmt::Arguments,
) {
    let image = Image::here();
    let len = (image.rodata - image.start) as usize;
    // SAFETY: the image's code, mapped read-only for good.
    let code = unsafe { core::slice::from_raw_parts(image.start as *const u8, len) };
    let now_us = hal::arch::timer::now_us();
    crash::ends_badly(ending, now_us, registers, backtrace, message, code);
}
