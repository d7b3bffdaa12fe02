//! What the sources leave open about the MAC.

use crate::doubts::Doubt;

macro_rules! doubts {
    ($( $id:ident = $name:literal [ $($reading:literal),+ ] $about:literal; )+) => {
        $(
            #[doc = $about]
            pub static $id: Doubt = Doubt { name: $name, readings: &[$($reading),+], about: $about };
        )+
        /// All doubts of this block.
        pub static DOUBTS: &[&Doubt] = &[$( &$id ),+];
    };
}

doubts! {
    THRESHOLD = "neta-threshold" ["at", "above"]
        "A queue's cause bit is set when the count is at its threshold (0 counts as 1), or only above it.";
    RX_TIME_ZERO = "neta-rx-time-zero" ["at-once", "never"]
        "RX time coalescing of 0 clocks: the cause follows the first packet, or the timer is off.";
    RX_TIMER_ENDS = "neta-rx-timer-ends" ["drain", "update", "acknowledge"]
        "A fired RX timer stays until the queue is empty, until any status update restarts it, or until 0 is written to the cause.";
    CPU_MAP_RESET = "neta-cpu-map-reset" ["all", "none"]
        "Queues mapped to the CPUs after reset (0x2540): no document says; every driver but U-Boot's writes it.";
    MAC_RESET_POWER_UP = "neta-mac-reset-power-up" ["set", "clear"]
        "MAC reset bit (0x2c08 bit 6) at power-up: drivers clear it and wait, which proves neither.";
    OVERSIZE = "neta-oversize" ["error", "truncate", "drop"]
        "A frame over the limit is delivered whole with error code 2, cut at the limit with it, or only counted.";
    BAD_FCS = "neta-bad-fcs" ["deliver", "drop"]
        "A frame with a bad FCS is delivered with error code 0, or only counted.";
    FRAME_LIMIT = "neta-frame-limit" ["frame", "with-header"]
        "The frame limit counts destination address to FCS (Linux subtracts 2), or the Marvell header too (FreeBSD does not).";
    LATER_DESCRIPTORS = "neta-later-descriptors" ["whole", "rest", "zero"]
        "Byte count in the second and later descriptors of a frame: the whole frame's, what is left, or 0.";
    LATER_STATUS = "neta-later-status" ["last", "first", "all"]
        "Which descriptor of a long frame carries the parser's and the error bits.";
    BUFFER_OFFSET = "neta-buffer-offset" ["outside", "inside"]
        "The buffer size counts from behind the packet offset, or includes it.";
    RX_DMA_FAILURE = "neta-rx-dma-failure" ["error", "lost"]
        "A frame whose buffer cannot be written: its descriptor comes back with error code 3, or it stays and the frame is only missing.";
    TX_IN_PROGRESS = "neta-tx-in-progress" ["bit0", "bit1"]
        "TX in progress in 0x2444: bit 0 (Linux, FreeBSD) or bit 1 (U-Boot, MUSDK).";
    FORCE_BOTH = "neta-force-both" ["up", "down"]
        "Both force-link bits of 0x2c0c set, as U-Boot leaves them: up (U-Boot works so) or down.";
    HISTOGRAM = "neta-histogram" ["both", "rx"]
        "The MIB size classes count both directions, or RX only (FreeBSD's name).";
    UPDATE_READ = "neta-update-read" ["zero", "last"]
        "Reading the write-only update registers 0x1500 and 0x3c60 gives 0 or the value last written.";
    FRAGMENT_MODE = "neta-fragment-mode" ["sum", "ignore"]
        "TX command 31:30 = 0: the L4 sum is completed from the descriptor's initial value, or the frame is left alone.";
    TOKEN_STALL = "neta-token-stall" ["stall", "ignore"]
        "A token size below the TX MTU stalls the queue (Linux's comment), or does nothing.";
    PADDING = "neta-padding" ["mac", "bit"]
        "Short frames are padded by the MAC unless 0x2c08 bit 5 is set, or only with the descriptor's zero-pad bit.";
    L3_CODE = "neta-l3-code" ["two-bits", "bit25"]
        "IPv4 with a good header: RX status 25:24 = 3 and 1 if bad (MUSDK, FreeBSD), or bit 25 alone for any IPv4 (Linux's name).";
    TAGGED_PARSE = "neta-tagged-parse" ["blind", "seen"]
        "Behind a switch tag the parser was not told of, no L3 and L4 bits; or it sees through.";
    LOOPBACK_WIRE = "neta-loopback-wire" ["silent", "sent"]
        "In MAC loopback (0x2c04 bit 5) frames only come back, or go out on the wire, too.";
    ENABLE_AFTER_RESET = "neta-enable-after-reset" ["keep", "clear"]
        "A DMA reset leaves the queue enables as they are, or clears them.";
    QUEUE_CHOICE = "neta-queue-choice" ["highest", "table"]
        "The RX queue is the highest of address table, VLAN priority and DSCP, or the address table's alone.";
}
