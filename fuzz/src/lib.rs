//! Hostile input for every parser: one module and one [`Target`] each.
//!
//! To add a parser: a module with `pub const TARGET`, its `mod` line, its place in [`TARGETS`].
//! A target is a plain function over bytes, so that other fuzzers can use it as it is; for libFuzzer:
//! `fuzz_target!(|data: &[u8]| fuzz::devicetree::target(data));`
//!
//! `cargo run -p fuzz` is the short run. For a long one, with the same checks but optimized:
//! `cargo run --profile fuzz -p fuzz -- devicetree --seed 2 --iterations 1000000`.

pub mod api;
pub mod bench;
pub mod bootargs;
pub mod devicetree;
pub mod frames;
pub mod http;
pub mod iperf3;
pub mod irtt;
pub mod mdns;
pub mod model;
pub mod mutate;
pub mod shell;

use mutate::Rng;

/// Every target, in the order in which they run.
pub const TARGETS: &[Target] = &[
    devicetree::TARGET,
    bootargs::TARGET,
    http::TARGET,
    api::TARGET,
    shell::TARGET,
    iperf3::TARGET,
    irtt::TARGET,
    mdns::TARGET,
    frames::TARGET,
    model::TARGET,
];

/// A parser under attack.
pub struct Target {
    /// What the command line calls it.
    pub name: &'static str,
    /// Feeds it one input. Panics if the parser does, or if what it says contradicts itself.
    pub run: fn(&[u8]),
    /// Inputs unless the command line says otherwise: a few seconds of a debug build.
    pub iterations: u64,
    /// Sound inputs to start from.
    pub corpus: &'static [&'static [u8]],
    /// Bytes that mean something to the parser.
    pub words: &'static [&'static [u8]],
    /// Damages an input where a blind change would seldom hit.
    pub mutate: fn(&mut Vec<u8>, &mut Rng),
}

impl Target {
    /// Input number `iteration`: the same one for the same seed, whatever came before.
    pub fn input(&self, seed: u64, iteration: u64) -> Vec<u8> {
        let mut rng = Rng::new(seed ^ iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut input = rng
            .pick(self.corpus)
            .map_or_else(Vec::new, |start| start.to_vec());
        // The first inputs are the sound ones.
        if let Some(sound) = usize::try_from(iteration)
            .ok()
            .and_then(|index| self.corpus.get(index))
        {
            return sound.to_vec();
        }
        for _ in 0..1 + rng.below(4) {
            if rng.below(2) == 0 {
                (self.mutate)(&mut input, &mut rng);
            } else {
                mutate::blindly(&mut input, self, &mut rng);
            }
        }
        input
    }
}
