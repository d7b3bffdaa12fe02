//! Fuzz targets with a fixed-seed driver.

fn main() {}
