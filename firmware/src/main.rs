//! The entry point of the image.
#![cfg_attr(target_os = "none", no_std, no_main)]

/// Called by the boot code with the physical address of the devicetree.
#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "the boot code calls this name")]
#[unsafe(no_mangle)]
extern "C" fn ristretto_entry(devicetree: usize) -> ! {
    firmware::machine::start(devicetree)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("This is the host's build of a bare-metal image. Use `./x run` or `./x build`.");
    std::process::exit(2);
}
