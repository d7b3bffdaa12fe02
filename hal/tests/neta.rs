//! The MAC driver against the model's MAC: strict, and under every reading of every doubt.

#[path = "board/mod.rs"]
mod board;
mod mac;

use board::readings;
use espressobin_model::neta::DOUBTS;
use mac::{OWN, PEER, Shared, echo, echoed, frame};

#[test]
fn frames_are_echoed_under_every_reading() {
    for (name, doubts) in readings(DOUBTS.iter().copied()) {
        let wire = Shared::new(doubts);
        let (mut port, mut pool) = wire.running::<16, 16>();
        for (number, len) in [18, 60, 61, 64, 98, 590, 1514, 1526]
            .into_iter()
            .enumerate()
        {
            let sent = frame(OWN, number as u32, len.max(60));
            wire.arrive(&sent);
            assert!(wire.interrupted(), "{name}");
            assert_eq!(echo(&mut port, &mut pool), 1, "{name}, {len} bytes");
            assert_eq!(wire.departed(), Some(echoed(&sent)), "{name}, {len} bytes");
            assert!(!wire.interrupted(), "{name}");
        }
        wire.expect_no_guest_errors();
        let _ = PEER;
    }
}
