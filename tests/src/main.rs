//! System tests: the real image, real clients.

fn main() {}
