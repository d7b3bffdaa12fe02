//! The ESPRESSObin hardware, register by register.
