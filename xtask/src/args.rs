//! The command line: commands and their options as tables, parsed without surprises.

use std::time::Duration;

use crate::error::{Result, usage};

/// One command of `./x`: a row of the table in `main.rs`.
pub struct Command {
    /// What one types.
    pub name: &'static str,
    /// One line for `./x help`.
    pub summary: &'static str,
    /// What may stand behind the options, for the usage line.
    pub operands: &'static str,
    /// How many operands there may be.
    pub max_operands: usize,
    /// Whether `--` may follow, and anything behind it.
    pub takes_rest: bool,
    /// The options it takes (`--help` is always there).
    pub options: &'static [Opt],
    /// Paragraphs for `./x help NAME`.
    pub details: &'static str,
    /// Does the work.
    pub run: fn(&Parsed) -> Result<()>,
}

/// One option.
pub struct Opt {
    /// With its dashes.
    pub name: &'static str,
    /// What its value is called; `None` for a switch.
    pub value: Option<&'static str>,
    /// One line.
    pub help: &'static str,
}

impl Opt {
    /// An option without value.
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            value: None,
            help,
        }
    }

    /// An option with a value: `--name VALUE` or `--name=VALUE`.
    pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            value: Some(value),
            help,
        }
    }
}

/// What stood on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    options: Vec<(&'static str, String)>,
    /// Everything that is no option, in order.
    pub operands: Vec<String>,
    /// Everything behind `--`.
    pub rest: Vec<String>,
}

impl Parsed {
    /// Whether the option was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| *given == name)
    }

    /// The option's value; the last one if it was given more than once.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .rev()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// The option's value as a number.
    pub fn number(&self, name: &str) -> Result<Option<usize>> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => usage(format!("{name} wants a number, not `{text}`")),
        }
    }

    /// The option's value as a time: `10s`, `1500ms`, `2m`, or plain seconds.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        match parse_duration(text) {
            Some(duration) => Ok(Some(duration)),
            None => usage(format!(
                "{name} wants a time such as 10s, 1500ms or 2m, not `{text}`"
            )),
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let number: u64 = digits.parse().ok()?;
    let factor_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(factor_ms)?);
    (!duration.is_zero()).then_some(duration)
}

/// Parses the arguments behind a command's name.
///
/// # Errors
///
/// A usage error that names the argument: an unknown option, a missing or surplus value, an operand too many.
pub fn parse(command: &Command, args: &[String]) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            if !command.takes_rest {
                return usage(format!("`./x {}` takes nothing behind `--`", command.name));
            }
            parsed.rest = args.cloned().collect();
            break;
        }
        if !arg.starts_with('-') || arg == "-" {
            if parsed.operands.len() == command.max_operands {
                return usage(format!(
                    "`./x {}` does not take the argument `{arg}`",
                    command.name
                ));
            }
            parsed.operands.push(arg.clone());
            continue;
        }
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let Some(option) = command.options.iter().find(|option| option.name == name) else {
            let hint = suggestion(
                name,
                command
                    .options
                    .iter()
                    .map(|option| option.name)
                    .chain(["--help"]),
            );
            return usage(format!(
                "`./x {}` has no option `{name}`{hint}",
                command.name
            ));
        };
        let value = match (option.value, inline) {
            (None, None) => String::new(),
            (None, Some(_)) => return usage(format!("{name} takes no value")),
            (Some(_), Some(value)) => value,
            (Some(what), None) => match args.next() {
                Some(value) => value.clone(),
                None => return usage(format!("{name} wants a value: {name} {what}")),
            },
        };
        parsed.options.push((option.name, value));
    }
    Ok(parsed)
}

/// Finds a row by its name.
///
/// # Errors
///
/// A usage error that names what was asked for and the closest row there is.
pub fn find<'a, T>(
    what: &str,
    name: &str,
    rows: &'a [T],
    name_of: fn(&T) -> &'static str,
) -> Result<&'a T> {
    match rows.iter().find(|row| name_of(row) == name) {
        Some(row) => Ok(row),
        None => usage(format!(
            "there is no {what} `{name}`{}",
            suggestion(name, rows.iter().map(name_of))
        )),
    }
}

/// `; did you mean ...?` if one of the names is close enough, nothing otherwise.
fn suggestion(given: &str, names: impl Iterator<Item = &'static str>) -> String {
    let closest = names.map(|name| (distance(given, name), name)).min();
    match closest {
        Some((edits, name)) if edits <= 1 + given.len() / 4 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// The number of letters to insert, delete, replace or swap with a neighbour to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
                let mut edits = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                    edits = edits.min(rows[i - 2][j - 2] + 1);
                }
                edits
            };
        }
    }
    rows[from.len()][to.len()]
}

/// Prints what `./x help NAME` shows.
pub fn print_help(command: &Command) {
    let options = if command.options.is_empty() {
        ""
    } else {
        " [OPTIONS]"
    };
    let operands = if command.operands.is_empty() {
        String::new()
    } else {
        format!(" {}", command.operands)
    };
    println!(
        "{}\n\nUsage: ./x {}{options}{operands}\n",
        command.summary, command.name
    );
    if !command.options.is_empty() {
        println!("Options:");
        for option in command.options {
            let left = match option.value {
                Some(value) => format!("{} {value}", option.name),
                None => option.name.to_owned(),
            };
            println!("  {left:<22} {}", option.help);
        }
        println!();
    }
    if !command.details.is_empty() {
        println!("{}\n", command.details.trim_end());
    }
}

/// The command of that name.
///
/// # Errors
///
/// A usage error that names the unknown command.
pub fn select<'a>(commands: &'a [&'a Command], name: &str) -> Result<&'a Command> {
    find("command", name, commands, |command| command.name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn nothing(_: &Parsed) -> Result<()> {
        Ok(())
    }

    const RUN: Command = Command {
        name: "run",
        summary: "",
        operands: "[MACHINE] [-- ARGS]",
        max_operands: 1,
        takes_rest: true,
        options: &[
            Opt::value("--mem", "SIZE", ""),
            Opt::switch("--quiet", ""),
            Opt::value("--exit-after", "TIME", ""),
        ],
        details: "",
        run: nothing,
    };
    const BUILD: Command = Command {
        name: "build",
        operands: "",
        max_operands: 0,
        takes_rest: false,
        ..RUN
    };
    const TEST: Command = Command {
        name: "test",
        operands: "[STAGE...]",
        max_operands: 9,
        ..RUN
    };

    fn parse_words(command: &Command, line: &str) -> Result<Parsed> {
        parse(
            command,
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    fn complaint(command: &Command, line: &str) -> String {
        match parse_words(command, line) {
            Err(Error::Usage(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_operands_and_the_rest_are_told_apart() {
        let parsed = parse_words(&RUN, "virt --mem 64M --mem=1G --quiet -- -S --mem").unwrap();
        assert_eq!(parsed.operands, ["virt"]);
        assert_eq!(parsed.value("--mem"), Some("1G"));
        assert!(parsed.has("--quiet"));
        assert!(!parsed.has("--exit-after"));
        assert_eq!(parsed.rest, ["-S", "--mem"]);
        assert_eq!(
            parse_words(&TEST, "fmt unit").unwrap().operands,
            ["fmt", "unit"]
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            complaint(&RUN, "--memm 1"),
            "`./x run` has no option `--memm`; did you mean `--mem`?"
        );
        assert_eq!(
            complaint(&RUN, "--frobnicate"),
            "`./x run` has no option `--frobnicate`"
        );
        assert_eq!(complaint(&RUN, "--mem"), "--mem wants a value: --mem SIZE");
        assert_eq!(complaint(&RUN, "--quiet=1"), "--quiet takes no value");
        assert_eq!(
            complaint(&RUN, "virt other"),
            "`./x run` does not take the argument `other`"
        );
        assert_eq!(
            complaint(&BUILD, "virt"),
            "`./x build` does not take the argument `virt`"
        );
        assert_eq!(
            complaint(&BUILD, "-- -S"),
            "`./x build` takes nothing behind `--`"
        );
        assert_eq!(complaint(&TEST, "-x"), "`./x test` has no option `-x`");
    }

    #[test]
    fn an_unknown_name_suggests_the_closest() {
        let commands = [&RUN, &BUILD, &TEST];
        let ask = |name| {
            select(&commands, name)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert_eq!(
            ask("biuld"),
            "there is no command `biuld`; did you mean `build`?"
        );
        assert_eq!(
            ask("tests"),
            "there is no command `tests`; did you mean `test`?"
        );
        assert_eq!(ask("deploy"), "there is no command `deploy`");
        assert_eq!(select(&commands, "run").unwrap().name, "run");
    }

    #[test]
    fn distances_count_single_letter_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("run", "run"), 0);
        assert_eq!(distance("rnu", "run"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn times_have_units() {
        let time = |text: &str| {
            parse_words(&RUN, &format!("--exit-after {text}"))
                .unwrap()
                .duration("--exit-after")
        };
        assert_eq!(time("10s"), Ok(Some(Duration::from_secs(10))));
        assert_eq!(time("7"), Ok(Some(Duration::from_secs(7))));
        assert_eq!(time("1500ms"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(time("2m"), Ok(Some(Duration::from_secs(120))));
        for wrong in [
            "s",
            "10h",
            "0s",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
