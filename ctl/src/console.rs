//! The world around one invocation: its streams, whether they are terminals, and its environment.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The streams and the environment of one invocation. Tests fill it with buffers.
pub struct Console {
    /// Data, and nothing else.
    pub stdout: Box<dyn Write>,
    /// Notes, questions, errors.
    pub stderr: Box<dyn Write>,
    /// Answers to questions.
    pub stdin: Box<dyn BufRead>,
    /// Whether a person sits at standard input.
    pub stdin_terminal: bool,
    /// Whether a person reads standard output: then text is coloured and control characters are escaped
    /// even in log lines.
    pub stdout_terminal: bool,
    /// Whether a person reads standard error.
    pub stderr_terminal: bool,
    /// How many characters are in a line of standard output, where a terminal says so.
    pub columns: Option<usize>,
    /// Whether progress bars may be drawn on the process's standard error.
    pub progress: bool,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

impl Console {
    /// That of this process.
    pub fn process() -> Self {
        let stderr_terminal = io::stderr().is_terminal();
        Self {
            stdout: Box::new(BufWriter::with_capacity(64 << 10, io::stdout())),
            stderr: Box::new(io::stderr()),
            stdin: Box::new(BufReader::new(io::stdin())),
            stdin_terminal: io::stdin().is_terminal(),
            stdout_terminal: io::stdout().is_terminal(),
            stderr_terminal,
            columns: comfy_table::Table::new().width().map(usize::from),
            progress: stderr_terminal,
            env: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        }
    }

    /// One without any terminal, that reads nothing.
    pub fn detached(
        stdout: impl Write + 'static,
        stderr: impl Write + 'static,
        env: BTreeMap<String, String>,
    ) -> Self {
        Self {
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            stdin: Box::new(io::empty()),
            stdin_terminal: false,
            stdout_terminal: false,
            stderr_terminal: false,
            columns: None,
            progress: false,
            env,
        }
    }

    /// Whether text on standard output may be coloured (<https://no-color.org>).
    pub(crate) fn colour(&self) -> bool {
        let set = |name: &str| self.env.get(name).is_some_and(|value| !value.is_empty());
        let dumb = self.env.get("TERM").is_some_and(|term| term == "dumb");
        self.stdout_terminal && !set("NO_COLOR") && !dumb
    }

    /// How wide a picture may be: as the terminal says, else `$COLUMNS`, else 80.
    pub(crate) fn width(&self) -> usize {
        let named = || self.env.get("COLUMNS")?.parse().ok();
        self.columns.or_else(named).filter(|width| *width > 0).unwrap_or(80)
    }

    /// Whether the whole terminal can be drawn on, and its keys be heard.
    pub(crate) fn full_screen(&self) -> bool {
        let term = self.env.get("TERM").map_or("", String::as_str);
        self.stdin_terminal && self.stdout_terminal && !matches!(term, "" | "dumb")
    }

    /// Whether the terminal shows more than ASCII, as the locale has it.
    pub(crate) fn unicode(&self) -> bool {
        let set = |name: &&str| self.env.get(*name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
        locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        })
    }

    /// Whether a question can be asked and answered.
    pub(crate) fn interactive(&self) -> bool {
        self.stdin_terminal && self.stderr_terminal
    }
}

/// What the clock says at a moment, and how long the machine had been up by then, asleep too: ages are measured by
/// the latter, which is never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) wall: jiff::Timestamp,
    pub(crate) up: Duration,
}

/// This one.
pub(crate) fn moment() -> Moment {
    let up = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(up.tv_sec).unwrap_or(0);
    Moment { wall: now(), up: Duration::new(seconds, u32::try_from(up.tv_nsec).unwrap_or(0)) }
}

/// What time it is here, to compare with what others say.
pub(crate) fn now() -> jiff::Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    jiff::Timestamp::new(now.tv_sec, i32::try_from(now.tv_nsec).unwrap_or(0)).unwrap_or_default()
}
