//! QEMU's control socket: as much JSON as its own messages need.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::check::{Result, fail, wait};

/// A connection to the control socket of a running QEMU.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and says what has to be said first.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = wait(20, "QEMU's control socket", || {
            UnixStream::connect(path).ok()
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
        };
        qmp.line()?; // the greeting
        qmp.execute("qmp_capabilities", "{}")?;
        Ok(qmp)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            fail!("QEMU closed its control socket");
        }
        Ok(line)
    }

    /// Runs a command with arguments in JSON. Returns the answer's line in JSON.
    pub fn execute(&mut self, command: &str, arguments: &str) -> Result<String> {
        let request = format!("{{\"execute\":\"{command}\",\"arguments\":{arguments}}}\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        loop {
            let line = self.line()?;
            if line.starts_with("{\"return\"") {
                return Ok(line);
            }
            if line.starts_with("{\"error\"") {
                fail!("QEMU refused {command}: {}", line.trim());
            }
            // Anything else is an event.
        }
    }

    /// Runs a command of the human monitor and returns what it prints.
    pub fn human(&mut self, command: &str) -> Result<String> {
        let arguments = format!("{{\"command-line\":\"{command}\"}}");
        let answer = self.execute("human-monitor-command", &arguments)?;
        let text = answer
            .trim()
            .trim_start_matches("{\"return\": \"")
            .trim_end_matches("\"}");
        Ok(text
            .replace("\\r\\n", "\n")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\"))
    }

    /// Plugs or unplugs the cable of a network device.
    pub fn set_link(&mut self, netdev: &str, up: bool) -> Result {
        self.execute(
            "set_link",
            &format!("{{\"name\":\"{netdev}\",\"up\":{up}}}"),
        )?;
        Ok(())
    }

    /// A general register of the first core.
    pub fn register(&mut self, name: &str) -> Result<u64> {
        let text = self.human("info registers")?;
        let key = format!("{}=", name.to_uppercase());
        let value = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key.as_str()));
        match value.and_then(|value| u64::from_str_radix(value, 16).ok()) {
            Some(value) => Ok(value),
            None => fail!("no {name} among the registers: {text}"),
        }
    }

    /// A doubleword of physical memory.
    pub fn memory(&mut self, address: u64) -> Result<u64> {
        let text = self.human(&format!("xp /1gx {address:#x}"))?;
        let value = text
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|word| word.strip_prefix("0x"));
        match value.and_then(|value| u64::from_str_radix(value, 16).ok()) {
            Some(value) => Ok(value),
            None => fail!("no memory at {address:#x}: {text}"),
        }
    }
}
