//! The board model behind a C ABI; `espressobin-model.h` is the other half of this file.
//!
//! Every function takes the board that [`espressobin_new`] made and is called with QEMU's big lock held, so never twice
//! at once. Time is virtual nanoseconds. Nothing here decides anything: it turns pointers into references and back.
#![expect(
    unsafe_code,
    reason = "a C ABI: pointers come from QEMU's glue, which keeps to espressobin-model.h"
)]

use espressobin_model::board::{Board, Config, LINES, Variant};
use espressobin_model::bus::{Dma, Env, GuestError};
use espressobin_model::script::Script;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::fs::{self, File};
use std::io::Write;

/// Access to the board's memory, implemented by the glue.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EspressobinDma {
    opaque: *mut c_void,
    read: unsafe extern "C" fn(*mut c_void, u64, *mut u8, usize) -> bool,
    write: unsafe extern "C" fn(*mut c_void, u64, *const u8, usize) -> bool,
}

impl Dma for EspressobinDma {
    fn read(&mut self, address: u64, data: &mut [u8]) -> bool {
        // SAFETY: the glue promises a function that fills `len` bytes; the slice is ours and lives through the call.
        unsafe { (self.read)(self.opaque, address, data.as_mut_ptr(), data.len()) }
    }

    fn write(&mut self, address: u64, data: &[u8]) -> bool {
        // SAFETY: the glue promises a function that reads `len` bytes; the slice lives through the call.
        unsafe { (self.write)(self.opaque, address, data.as_ptr(), data.len()) }
    }
}

/// How the board is built.
#[repr(C)]
pub struct EspressobinConfig {
    /// 0 v5, 1 v7, 2 Ultra.
    variant: u32,
    /// As U-Boot leaves it.
    from_uboot: bool,
    sd_card: bool,
    strict: bool,
    /// The MAC sends at wire speed in virtual time.
    wire_pace: bool,
    /// Frames held back while the receive ring is full; 0 loses them as silicon does.
    rx_backlog: u32,
    ram_bytes: u64,
}

/// A board and its way to memory.
pub struct Handle {
    board: Board,
    dma: EspressobinDma,
    errors: VecDeque<GuestError>,
    console: VecDeque<u8>,
    trace: Option<File>,
}

impl Handle {
    fn write_trace(&mut self) {
        let text = self.board.trace.take();
        if let Some(file) = &mut self.trace
            && !text.is_empty()
            && let Err(error) = file.write_all(text.as_bytes())
        {
            eprintln!("espressobin: the trace ends here: {error}");
            self.trace = None;
        }
    }
}

/// Text from C.
///
/// # Safety
///
/// `text` is null or a string that ends in NUL.
unsafe fn text<'a>(text: *const c_char) -> &'a str {
    if text.is_null() {
        return "";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("?")
}

/// Copies a message with its NUL into C's buffer, cut to fit.
///
/// # Safety
///
/// `buffer` has room for `capacity` bytes.
unsafe fn put_text(message: &str, buffer: *mut c_char, capacity: usize) {
    if capacity == 0 {
        return;
    }
    let len = message.len().min(capacity - 1);
    // SAFETY: `len` + 1 bytes fit by the caller's promise; source and target do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(message.as_ptr().cast(), buffer, len);
        buffer.add(len).write(0);
    }
}

/// Makes a board. Returns null, with the reason in `error`, if `doubts` or `faults` are not understood.
///
/// # Safety
///
/// `config` and `dma` are valid, the strings end in NUL or are null, `error` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_new(
    config: &EspressobinConfig,
    dma: &EspressobinDma,
    doubts: *const c_char,
    faults: *const c_char,
    error: *mut c_char,
    capacity: usize,
) -> *mut Handle {
    let mut env = Env::default();
    env.strict = config.strict;
    // SAFETY: the caller's promise about the strings.
    let (doubts, faults) = unsafe { (text(doubts), text(faults)) };
    let outcome = env
        .doubts
        .set_list(doubts)
        .map_err(|e| e.to_string())
        .and_then(|()| env.faults.set_list(faults).map_err(|e| e.to_string()));
    if let Err(message) = outcome {
        // SAFETY: the caller's promise about the buffer.
        unsafe { put_text(&message, error, capacity) };
        return std::ptr::null_mut();
    }
    let mut board = Board::new(
        Config {
            variant: match config.variant {
                0 => Variant::V5,
                1 => Variant::V7,
                _ => Variant::Ultra,
            },
            from_uboot: config.from_uboot,
            ram_bytes: config.ram_bytes,
            sd_card: config.sd_card,
            ..Config::default()
        },
        env,
    );
    board.neta0.wire_pace = config.wire_pace;
    board.neta0.rx_backlog_limit = config.rx_backlog as usize;
    Box::into_raw(Box::new(Handle {
        board,
        dma: *dma,
        errors: VecDeque::new(),
        console: VecDeque::new(),
        trace: None,
    }))
}

/// Obeys the script in the file `script` and records into the file `trace`, each if it is not null. False, with the
/// reason in `error`, if that cannot be done.
///
/// # Safety
///
/// The strings end in NUL or are null, `error` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_set_script(
    handle: &mut Handle,
    script: *const c_char,
    trace: *const c_char,
    error: *mut c_char,
    capacity: usize,
) -> bool {
    // SAFETY: the caller's promise about the strings.
    let (script, trace) = unsafe { (text(script), text(trace)) };
    let mut outcome = Ok(());
    if !trace.is_empty() {
        handle.board.trace.start();
        outcome = File::create(trace)
            .map(|file| handle.trace = Some(file))
            .map_err(|error| format!("trace {trace}: {error}"));
    }
    if !script.is_empty() {
        let parsed = fs::read_to_string(script)
            .map_err(|error| error.to_string())
            .and_then(|text| Script::parse(&text).map_err(|error| error.to_string()));
        match parsed {
            Ok(parsed) => handle.board.follow(parsed),
            Err(error) => outcome = Err(format!("script {script}: {error}")),
        }
    }
    if let Err(message) = &outcome {
        // SAFETY: the caller's promise about the buffer.
        unsafe { put_text(message, error, capacity) };
    }
    outcome.is_ok()
}

/// True once after the script's end.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_take_script_ended(handle: &mut Handle) -> bool {
    handle.board.take_script_ended()
}

/// Reads a register.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_read(handle: &mut Handle, now: u64, offset: u32, size: u32) -> u64 {
    handle.board.set_time(now);
    handle.board.read(&mut handle.dma, offset, size as u8)
}

/// Writes a register.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_write(
    handle: &mut Handle,
    now: u64,
    offset: u32,
    size: u32,
    value: u64,
) {
    handle.board.set_time(now);
    handle
        .board
        .write(&mut handle.dma, offset, size as u8, value);
}

/// Lets happen what is due.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_advance(handle: &mut Handle, now: u64) {
    handle.board.set_time(now);
    handle.board.advance(&mut handle.dma);
}

/// When to call [`espressobin_advance`] next; all ones if nothing is due.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_next_event(handle: &Handle) -> u64 {
    handle.board.next_event().unwrap_or(u64::MAX)
}

/// System reset.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_reset(handle: &mut Handle, now: u64) {
    handle.board.set_time(now);
    handle.board.reset();
}

/// True once after the software or the watchdog asked for a reset.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_take_reset_request(handle: &mut Handle) -> bool {
    handle.board.take_reset_request()
}

/// Number of interrupt lines.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_line_count() -> u32 {
    LINES.len() as u32
}

/// Shared peripheral interrupt number of line `n`.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_line_spi(n: u32) -> u32 {
    LINES.get(n as usize).copied().map_or(0, u32::from)
}

/// Levels of the lines, bit n for line n.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_lines(handle: &Handle) -> u32 {
    handle.board.lines()
}

/// Plugs or pulls the cable of a socket.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_set_cable(handle: &mut Handle, now: u64, socket: u32, plugged: bool) {
    handle.board.set_time(now);
    handle.board.set_plugged(socket as usize, plugged);
}

/// True while the board can take a frame.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_can_receive(handle: &Handle) -> bool {
    handle.board.can_receive()
}

/// A frame arrives at a socket.
///
/// # Safety
///
/// `data` points at `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_frame_in(
    handle: &mut Handle,
    now: u64,
    socket: u32,
    data: *const u8,
    len: usize,
) {
    // SAFETY: the caller's promise.
    let frame = unsafe { std::slice::from_raw_parts(data, len) };
    handle.board.set_time(now);
    handle
        .board
        .frame_in(&mut handle.dma, socket as usize, frame);
}

/// Takes a frame that leaves by a socket: its length, or 0 if there is none. Longer ones than the buffer are cut. Once
/// there is none, what happened at the sockets goes to the trace.
///
/// # Safety
///
/// `buffer` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_take_frame(
    handle: &mut Handle,
    socket: &mut u32,
    buffer: *mut u8,
    capacity: usize,
) -> usize {
    let Some((port, frame)) = handle.board.take_frame() else {
        handle.write_trace();
        return 0;
    };
    *socket = port as u32;
    let len = frame.len().min(capacity);
    // SAFETY: `len` bytes fit by the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), buffer, len) };
    len
}

/// Takes console output: the number of bytes put into the buffer.
///
/// # Safety
///
/// `buffer` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_take_console(
    handle: &mut Handle,
    buffer: *mut u8,
    capacity: usize,
) -> usize {
    handle.console.extend(handle.board.uart0.sent.drain(..));
    let len = handle.console.len().min(capacity);
    for (n, byte) in handle.console.drain(..len).enumerate() {
        // SAFETY: n < capacity.
        unsafe { buffer.add(n).write(byte) };
    }
    len
}

/// Bytes the console can take.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_console_room(handle: &Handle) -> u32 {
    handle.board.uart0.room() as u32
}

/// Console input.
///
/// # Safety
///
/// `data` points at `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_console_in(
    handle: &mut Handle,
    now: u64,
    data: *const u8,
    len: usize,
) {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(data, len) };
    handle.board.set_time(now);
    bytes
        .iter()
        .for_each(|byte| handle.board.uart0.receive(*byte));
    handle.board.advance(&mut handle.dma);
}

/// Takes one guest error as text; false if there is none.
///
/// # Safety
///
/// `buffer` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_take_guest_error(
    handle: &mut Handle,
    buffer: *mut c_char,
    capacity: usize,
) -> bool {
    if handle.errors.is_empty() {
        handle.errors.extend(handle.board.env.take_guest_errors());
    }
    let Some(error) = handle.errors.pop_front() else {
        return false;
    };
    // SAFETY: the caller's promise.
    unsafe {
        put_text(
            &format!("{}: {}", error.block, error.what),
            buffer,
            capacity,
        )
    };
    true
}

/// Guest errors since the start.
#[unsafe(no_mangle)]
pub extern "C" fn espressobin_guest_error_count(handle: &Handle) -> u64 {
    handle.board.env.guest_error_count()
}

/// Why the machine must stop under `strict`; false if it need not.
///
/// # Safety
///
/// `buffer` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_stop_reason(
    handle: &Handle,
    buffer: *mut c_char,
    capacity: usize,
) -> bool {
    let Some(reason) = handle.board.env.stop_reason() else {
        return false;
    };
    // SAFETY: the caller's promise.
    unsafe { put_text(reason, buffer, capacity) };
    true
}

/// What happened between the blocks, as one line of text.
///
/// # Safety
///
/// `buffer` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_counters(
    handle: &Handle,
    buffer: *mut c_char,
    capacity: usize,
) {
    let (wire, out) = (handle.board.wire_counters, handle.board.out_lost);
    let message = format!(
        "from_mac={} to_mac={} from_sockets={} to_sockets={} no_link={} damaged={} faulted={} wire_full={} out_lost={out}",
        wire.from_mac,
        wire.to_mac,
        wire.from_sockets,
        wire.to_sockets,
        wire.no_link,
        wire.damaged,
        wire.faulted,
        wire.wire_full
    );
    // SAFETY: the caller's promise.
    unsafe { put_text(&message, buffer, capacity) };
}

/// Replaces the faults in force; false, with the reason in `error`, if the list is not understood.
///
/// # Safety
///
/// `faults` ends in NUL or is null, `error` has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn espressobin_set_faults(
    handle: &mut Handle,
    faults: *const c_char,
    error: *mut c_char,
    capacity: usize,
) -> bool {
    // SAFETY: the caller's promise about the string.
    let outcome = handle.board.set_faults(unsafe { text(faults) });
    if let Err(problem) = &outcome {
        // SAFETY: the caller's promise about the buffer.
        unsafe { put_text(&problem.to_string(), error, capacity) };
    }
    outcome.is_ok()
}
