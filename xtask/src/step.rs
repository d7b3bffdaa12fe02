//! Runs other programs, and shows each as a line that can be repeated by hand.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, failure};

/// One command line: a program, its arguments, and what it gets in its environment.
#[derive(Clone, Debug)]
pub struct Step {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    env_removed: Vec<&'static str>,
    dir: Option<PathBuf>,
}

/// How a watched step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With exit status 0.
    Success,
    /// With another status, or by a signal.
    Failed,
    /// It was killed at its time limit.
    TimedOut,
}

impl Step {
    /// A program by name or path.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_removed: Vec::new(),
            dir: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds arguments written as one line without quotes.
    pub fn words(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(mut self, name: &'static str) -> Self {
        self.env_removed.push(name);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// The step as a line for a shell.
    pub fn line(&self) -> String {
        let env = self
            .env
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(&self.program)
            .chain(&self.args)
            .map(|word| quoted(word));
        env.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Prints the line, as every step does that a person may want to repeat.
    pub fn announce(&self) {
        println!("+ {}", self.line());
    }

    /// The step as the standard library runs it, for whoever needs its pipes.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for name in &self.env_removed {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn start_error(&self, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::NotFound => Error::Failure(format!("`{}` is not installed", self.program)),
            _ => Error::Failure(format!("`{}` cannot be started: {error}", self.program)),
        }
    }

    /// Shows the step, runs it in the foreground, and fails if it does.
    ///
    /// # Errors
    ///
    /// If it cannot be started or its exit status is not 0.
    pub fn run(&self) -> Result<()> {
        self.announce();
        let status = self
            .command()
            .status()
            .map_err(|error| self.start_error(&error))?;
        if status.success() {
            Ok(())
        } else {
            failure(format!("`{}` failed ({})", self.program, ended(status)))
        }
    }

    /// Runs the step silently and returns what it printed.
    ///
    /// # Errors
    ///
    /// If it cannot be started or its exit status is not 0; the error carries the last line it complained with.
    pub fn output(&self) -> Result<String> {
        let output = self
            .command()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.start_error(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = complaints
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no message")
            .trim();
        failure(format!(
            "`{}` failed ({}): {last}",
            self.line(),
            ended(output.status)
        ))
    }

    /// Shows the step and becomes it: same process, so there is nothing left to orphan. Returns only on failure.
    pub fn exec(&self) -> Error {
        self.announce();
        self.start_error(&self.command().exec())
    }

    /// The step ended by SIGTERM after this time, in the foreground. It keeps its exit status, and dies with `timeout`.
    pub fn limited(self, time: Duration) -> Self {
        let step = Self::new("timeout")
            .words("--foreground --preserve-status")
            .arg(format!("{}", time.as_secs_f32()));
        let step = step
            .words("setpriv --pdeathsig KILL")
            .arg(self.program)
            .args(self.args);
        Self {
            env: self.env,
            env_removed: self.env_removed,
            dir: self.dir,
            ..step
        }
    }

    /// Shows the step and runs it in a process group of its own, at most for the time given. Each line of its
    /// standard output is passed to `on_line`; standard error stays on the terminal.
    ///
    /// Whatever is left of the group is killed at the end, and also when this process dies: `setpriv` has the
    /// kernel tell `timeout`, and `timeout` tells the group.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn watch(&self, limit: Duration, mut on_line: impl FnMut(&str)) -> Result<Outcome> {
        /// How long a terminated program may take to clean up before it is killed.
        const GRACE: Duration = Duration::from_secs(10);

        self.announce();
        let mut wrapped = Self::new("setpriv").words("--pdeathsig TERM timeout");
        wrapped = wrapped
            .arg(format!("--kill-after={}", GRACE.as_secs()))
            .arg(format!("{}", limit.as_secs_f32()));
        wrapped = wrapped.arg(&self.program).args(self.args.iter().cloned());
        wrapped = Self {
            env: self.env.clone(),
            env_removed: self.env_removed.clone(),
            dir: self.dir.clone(),
            ..wrapped
        };

        let started = Instant::now();
        let mut child = wrapped
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| wrapped.start_error(&error))?;
        let group = child.id();
        let lines = lines_of(&mut child);
        // `timeout` ends the child; this deadline is for a pipe that a survivor keeps open.
        let deadline = started + limit + GRACE + Duration::from_secs(2);
        let mut ended_at = None;
        let status = loop {
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => on_line(&line),
                Err(RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(5)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let status = child
                .try_wait()
                .map_err(|error| wrapped.start_error(&error))?;
            if let Some(status) = status {
                let ended_at = *ended_at.get_or_insert_with(Instant::now);
                if finished(&lines, &mut on_line) || ended_at.elapsed() > Duration::from_secs(2) {
                    break Some(status);
                }
            }
            if Instant::now() > deadline {
                break status;
            }
        };
        kill_group(group);
        // 124 is how `timeout` says that it was the one; killed in the end it dies by the signal itself.
        let timed_out =
            started.elapsed() >= limit && !status.is_some_and(|status| status.success());
        Ok(match status {
            Some(status) if status.success() => Outcome::Success,
            _ if timed_out => Outcome::TimedOut,
            _ => Outcome::Failed,
        })
    }
}

/// Reads the child's output on a thread, so that waiting for a line can be bounded.
fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(stdout)
                .split(b'\n')
                .map_while(std::result::Result::ok)
            {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
    }
    receiver
}

/// Passes on the lines that are there; says whether these were the last.
fn finished(lines: &mpsc::Receiver<String>, on_line: &mut impl FnMut(&str)) -> bool {
    loop {
        match lines.try_recv() {
            Ok(line) => on_line(&line),
            Err(mpsc::TryRecvError::Empty) => return false,
            Err(mpsc::TryRecvError::Disconnected) => return true,
        }
    }
}

/// Kills what is left of a process group; the shell's own `kill` is the one that is always there.
fn kill_group(group: u32) {
    let script = format!("kill -s KILL -- -{group}");
    // An error means that nobody is left: the usual case.
    let _ = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

/// The word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The program's path, if it is on `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, name)
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Step {
        Step::new("sh").arg("-c").arg(script)
    }

    #[test]
    fn lines_can_be_repeated_in_a_shell() {
        let step = Step::new("cargo")
            .words("build --release")
            .arg("it's two words")
            .env("RUSTFLAGS", "-D warnings");
        assert_eq!(
            step.line(),
            r"RUSTFLAGS='-D warnings' cargo build --release 'it'\''s two words'"
        );
        assert_eq!(Step::new("a").arg("").line(), "a ''");
    }

    #[test]
    fn output_and_errors_come_back() {
        assert_eq!(
            shell("echo one; echo two").output(),
            Ok("one\ntwo\n".to_owned())
        );
        let error = shell("echo the reason >&2; exit 3")
            .output()
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("failed (exit status 3): the reason"),
            "{error}"
        );
        let error = Step::new("no-such-program")
            .output()
            .unwrap_err()
            .to_string();
        assert_eq!(error, "`no-such-program` is not installed");
    }

    #[test]
    fn watched_steps_report_lines_and_status() {
        let mut lines = Vec::new();
        let outcome = shell("echo a; echo b")
            .watch(Duration::from_secs(20), |line| lines.push(line.to_owned()));
        assert_eq!(outcome, Ok(Outcome::Success));
        assert_eq!(lines, ["a", "b"]);
        assert_eq!(
            shell("exit 7").watch(Duration::from_secs(20), |_| {}),
            Ok(Outcome::Failed)
        );
    }

    #[test]
    fn a_hung_step_is_killed_with_its_children() {
        let mut child = String::new();
        let started = Instant::now();
        let outcome = shell("sleep 60 & echo $!; wait")
            .watch(Duration::from_secs(1), |line| child = line.to_owned());
        assert_eq!(outcome, Ok(Outcome::TimedOut));
        assert!(started.elapsed() < Duration::from_secs(15));
        let pid: u32 = child.trim().parse().unwrap();
        // A killed process that nobody has waited for yet is a zombie: it runs no more.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn a_survivor_with_the_pipe_does_not_hold_us_up() {
        let started = Instant::now();
        let outcome = shell("sleep 60 & echo done").watch(Duration::from_secs(30), |_| {});
        assert_eq!(outcome, Ok(Outcome::Success));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
