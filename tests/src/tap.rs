//! Interfaces of the machine the test runs on: it is a private one, see `runner`.

use std::net::Ipv4Addr;

use crate::check::Result;
use crate::clients::run;

/// This side's address on the first interface.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The guest's, where it is given one by bootargs.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// Gives the guest [`GUEST`].
pub const STATIC: &str = "ip=10.9.0.2::10.9.0.1:255.255.255.0::eth0:off";

/// A TAP interface, up, with [`HOST`]`/24` and an IPv6 link-local address.
pub struct Tap {
    /// Its name.
    pub name: &'static str,
}

impl Tap {
    /// Makes the interface.
    pub fn new(name: &'static str) -> Result<Self> {
        loopback()?;
        run("ip", &["tuntap", "add", "dev", name, "mode", "tap"])?;
        run("ip", &["link", "set", name, "up"])?;
        run("ip", &["addr", "add", &format!("{HOST}/24"), "dev", name])?;
        Ok(Self { name })
    }

    /// Gives this side another address.
    pub fn add_address(&self, cidr: &str) -> Result {
        let nodad: &[&str] = if cidr.contains(':') { &["nodad"] } else { &[] };
        run(
            "ip",
            &[&["addr", "add", cidr, "dev", self.name], nodad].concat(),
        )?;
        Ok(())
    }
}

/// A new network namespace has a loopback interface that is down.
pub fn loopback() -> Result {
    run("ip", &["link", "set", "lo", "up"]).map(|_| ())
}
