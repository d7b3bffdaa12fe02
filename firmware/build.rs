//! Tells the linker where the linker script is, wherever the build was started.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../linker/image.ld");
    println!("cargo::rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
}
