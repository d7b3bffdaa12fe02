//! QEMU's control socket: as much as a proof needs of it.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the control socket of a running QEMU.
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects to a QEMU that listens already.
    ///
    /// # Errors
    ///
    /// If it does not, or does not speak QMP.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self(BufReader::new(stream));
        qmp.line()?; // the greeting
        qmp.execute("qmp_capabilities", "{}")?;
        Ok(qmp)
    }

    /// Plugs the cable of a network backend in, or pulls it.
    ///
    /// # Errors
    ///
    /// If QEMU refuses.
    pub fn set_link(&mut self, netdev: &str, up: bool) -> Result<()> {
        let arguments = format!(r#"{{"name":"{netdev}","up":{up}}}"#);
        self.execute("set_link", &arguments).map(|_| ())
    }

    /// A property of the machine, a string without characters that JSON escapes.
    ///
    /// # Errors
    ///
    /// If QEMU refuses.
    pub fn get(&mut self, property: &str) -> Result<String> {
        let arguments = format!(r#"{{"path":"/machine","property":"{property}"}}"#);
        let answer = self.execute("qom-get", &arguments)?;
        let value = answer.split('"').nth(3).unwrap_or_default();
        Ok(value.to_owned())
    }

    /// Sets a property of the machine to such a string.
    ///
    /// # Errors
    ///
    /// If QEMU refuses.
    pub fn set(&mut self, property: &str, value: &str) -> Result<()> {
        let arguments =
            format!(r#"{{"path":"/machine","property":"{property}","value":"{value}"}}"#);
        self.execute("qom-set", &arguments).map(|_| ())
    }

    fn execute(&mut self, command: &str, arguments: &str) -> Result<String> {
        let request = format!("{{\"execute\":\"{command}\",\"arguments\":{arguments}}}\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        loop {
            let line = self.line()?;
            if line.starts_with("{\"return\"") {
                return Ok(line);
            }
            if line.starts_with("{\"error\"") {
                return Err(Error::other(format!("QEMU refused {command}: {line}")));
            }
            // Anything else is an event.
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(Error::other("QEMU closed its control socket"));
        }
        Ok(line)
    }
}
