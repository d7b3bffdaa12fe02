//! Addresses: DHCP, router advertisements, link-local addresses, names, bootargs, and cables that come and go.
use crate::Test;

/// The tests of this file.
pub const TESTS: &[Test] = &[];
