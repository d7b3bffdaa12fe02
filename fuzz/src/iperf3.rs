//! The parameters of an iperf3 test.

use firmware::services::iperf3::{Params, json};

use crate::Target;
use crate::mutate::Rng;

/// See [`target`].
pub const TARGET: Target = Target {
    name: "iperf3",
    run: target,
    iterations: 50_000,
    corpus: &[
        b"{\"tcp\":true,\"omit\":0,\"time\":10,\"num\":0,\"blockcount\":0,\"parallel\":1,\"len\":131072,\"client_version\":\"3.12\"}",
        b"{\"udp\":true,\"time\":2,\"parallel\":4,\"bidirectional\":true,\"len\":1448,\"bandwidth\":1048576,\"udp_counters_64bit\":1}",
        b" { \"tcp\" : true , \"x\" : [ 1 , { \"y\" : null } , \"\\u00e9\" ] , \"len\" : 1.5e3 } ",
    ],
    words: &[
        b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\\", b"\\u12", b"true", b"false", b"null", b"-", b"e", b"E+", b".",
        b"0", b"99999999999999999999", b"\"tcp\":", b"\"udp\":", b"\"len\":", b"\"parallel\":", b"\"time\":", b"\0",
    ],
    mutate,
};

/// Puts the end before the start.
#[expect(clippy::ptr_arg, reason = "the type of all of them")]
fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    if !input.is_empty() {
        let at = rng.below(input.len());
        input.rotate_left(at);
    }
}

/// Reads the text as parameters.
///
/// # Panics
///
/// If what is no object is taken for parameters.
pub fn target(data: &[u8]) {
    let is_object = json::members(data, |_, _| {}).is_some();
    assert!(is_object || Params::read(data).is_err());
}
