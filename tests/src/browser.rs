//! A browser: Debian's Chromium without a window, driven over a pipe by its DevTools protocol.
//!
//! Messages are JSON, each ended by a zero byte. Answers carry the number of what they answer; everything else is an
//! event. <https://chromedevtools.github.io/devtools-protocol/>

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::{During, Failure, Result, ensure, fail};
use crate::{Context, tap};

/// A browser with one page. Killed when dropped.
pub struct Browser {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    profile: PathBuf,
    number: u64,
    session: String,
    /// What it said without being asked.
    pub events: Vec<Value>,
}

impl Browser {
    /// Starts it, with nothing remembered from earlier runs.
    ///
    /// # Errors
    ///
    /// [`Failure::Skipped`] if there is none.
    pub fn start(cx: &Context) -> Result<Self> {
        let _ = tap::loopback();
        let found = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
        let Some(program) = found.iter().find(|path| Path::new(path).exists()) else {
            return Err(Failure::Skipped("chromium is not installed".into()));
        };
        let profile = cx.out.join(format!("{}-browser", cx.name));
        let _ = fs::remove_dir_all(&profile);
        let profile_option = format!("--user-data-dir={}", profile.display());
        // The protocol's pipe is descriptors 3 and 4; what it has to say besides goes to the log.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "sh", "-c"])
            .arg("exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2")
            .args([
                program,
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--no-proxy-server",
                "--hide-scrollbars",
                profile_option.as_str(),
                "about:blank",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .during("chromium")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            fail!("chromium has no pipe");
        };
        let mut browser = Browser {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            profile,
            number: 0,
            session: String::new(),
            events: Vec::new(),
        };
        let targets = browser.call("Target.getTargets", json!({}))?;
        let target = targets["targetInfos"]
            .as_array()
            .and_then(|all| all.iter().find(|target| target["type"] == "page"))
            .map(|target| target["targetId"].clone());
        browser.attach(&json!(target))?;
        Ok(browser)
    }

    /// Opens one more window; from now on it is the one that everything is about.
    pub fn another(&mut self, url: &str) -> Result {
        let session = std::mem::take(&mut self.session);
        let made = self.call(
            "Target.createTarget",
            json!({ "url": url, "newWindow": true }),
        );
        self.session = session;
        self.attach(&made?["targetId"])
    }

    fn attach(&mut self, target: &Value) -> Result {
        self.session.clear();
        let attached = json!({ "targetId": target, "flatten": true });
        let attached = self.call("Target.attachToTarget", attached)?;
        self.session = attached["sessionId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(())
    }

    /// Where the files came from that were offered so far.
    pub fn downloads(&self) -> Vec<String> {
        let url = |event: &Value| {
            (event["method"] == "Browser.downloadWillBegin")
                .then(|| event["params"]["url"].as_str().map(str::to_owned))?
        };
        self.events.iter().filter_map(url).collect()
    }

    /// Asks for something and waits for the answer.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.stdin.write_all(&bytes).during(method)?;
        loop {
            let mut message = self.message().during(method)?;
            if message["id"] != self.number {
                self.events.push(message);
                continue;
            }
            if let Some(error) = message.get("error") {
                fail!("{method}: {error}");
            }
            return Ok(message["result"].take());
        }
    }

    fn message(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        self.stdout.read_until(0, &mut bytes)?;
        ensure!(bytes.pop() == Some(0), "chromium ended");
        serde_json::from_slice(&bytes).map_err(|error| error.to_string().into())
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) -> Result {
        let gone = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(
            gone.get("errorText").is_none(),
            "{url}: {}",
            gone["errorText"]
        );
        self.wait(
            20,
            &format!(
                "document.readyState === 'complete' && location.href === {}",
                json!(url)
            ),
        )
    }

    /// The value of an expression in the page; of a promise, what it comes to.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", params)?;
        if let Some(wrong) = answer.get("exceptionDetails") {
            fail!("`{expression}`: {wrong}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// A text in the page.
    pub fn text(&mut self, expression: &str) -> Result<String> {
        match self.value(expression)? {
            Value::String(text) => Ok(text),
            other => fail!("`{expression}` is {other}"),
        }
    }

    /// Waits until an expression holds in the page.
    pub fn wait(&mut self, seconds: u64, expression: &str) -> Result {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while self.value(expression)? != json!(true) {
            if Instant::now() > deadline {
                let page = self.text("document.body.innerText.slice(0, 400)")?;
                let page = page.replace('\n', " | ");
                fail!("`{expression}` does not hold after {seconds} s: {page}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How large the page is shown, and in which colours.
    ///
    /// Nothing moves, unless it is told to: see [`Browser::motion`].
    pub fn view(&mut self, width: u32, height: u32, scheme: &str) -> Result {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        self.media(scheme, "reduce")
    }

    /// Whether things may move.
    pub fn motion(&mut self, may_move: bool) -> Result {
        self.media("light", if may_move { "no-preference" } else { "reduce" })
    }

    fn media(&mut self, scheme: &str, motion: &str) -> Result {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": motion },
        ]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )?;
        Ok(())
    }

    /// Presses a key and lets it go, where the focus is.
    pub fn key(&mut self, key: &str) -> Result {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            " " => (32, " "),
            "Escape" => (27, ""),
            other => fail!("no key {other} here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", params)?;
        }
        Ok(())
    }

    /// Writes a picture of the whole page.
    pub fn picture(&mut self, file: &Path) -> Result {
        let layout = self.call("Page.getLayoutMetrics", json!({}))?;
        let size = &layout["cssContentSize"];
        let clip =
            json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.call("Page.captureScreenshot", params)?;
        let bytes = base64(picture["data"].as_str().unwrap_or_default());
        ensure!(bytes.starts_with(b"\x89PNG"), "no picture of the page");
        Ok(fs::write(file, bytes)?)
    }

    /// Where files go that the page offers.
    pub fn downloads_to(&mut self, directory: &Path) -> Result {
        let params = json!({ "behavior": "allow", "downloadPath": directory.display().to_string(), "eventsEnabled": true });
        self.call("Browser.setDownloadBehavior", params).map(|_| ())
    }

    /// What the page's scripts broke, and what its policy kept them from.
    pub fn complaints(&self) -> Vec<String> {
        let bad = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => {
                let entry = &event["params"]["entry"];
                entry["source"] == "security" || entry["source"] == "javascript"
            }
            _ => false,
        };
        self.events
            .iter()
            .filter(bad)
            .map(Value::to_string)
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// RFC 4648, section 4; what is none of its characters is passed over.
fn base64(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
