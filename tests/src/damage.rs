//! Damaged frames.
use crate::Test;

/// The tests of this file.
pub const TESTS: &[Test] = &[];
