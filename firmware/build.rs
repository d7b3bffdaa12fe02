//! Tells the linker where the linker script is, wherever the build was started.

use std::env;

fn main() -> Result<(), env::VarError> {
    // As cargo runs this, not as it was compiled: a checkout may move.
    let script = format!("{}/../linker/image.ld", env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed={script}");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
    Ok(())
}
