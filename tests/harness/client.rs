//! genesisctl in this process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use genesisctl::Console;
use serde_json::Value;

/// What a command said, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code.
    pub code: u8,
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    command: String,
}

impl Output {
    /// Asserts the exit code.
    ///
    /// # Panics
    /// With all that was said when it is another.
    #[track_caller]
    pub fn exits(self, code: u8) -> Self {
        assert_eq!(
            self.code,
            code,
            "`genesisctl {}` exits {} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.code,
            excerpt(&self.text()),
            excerpt(&self.stderr)
        );
        self
    }

    /// Asserts that it went well.
    ///
    /// # Panics
    /// With all that was said when it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts that each of `words` was said, on whichever stream.
    ///
    /// # Panics
    /// With all that was said when one was not.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let said = format!("{}\n{}", self.text(), self.stderr);
        for word in words {
            assert!(
                said.contains(word),
                "`genesisctl {}` does not say {word:?}:\n{}",
                self.command,
                excerpt(&said)
            );
        }
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON (`-o json`).
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "`genesisctl {}` prints no JSON: {error}\n{}\n{}",
                self.command,
                excerpt(&self.text()),
                excerpt(&self.stderr)
            )
        })
    }

    /// The first node's response (`-o json`).
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn response(&self) -> Value {
        self.json()[0]["response"].clone()
    }
}

/// The beginning and the end of a long text.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= 40 {
        return text.to_owned();
    }
    let (head, tail) = (lines[..10].join("\n"), lines[lines.len() - 10..].join("\n"));
    format!("{head}\n[... {} lines ...]\n{tail}", lines.len() - 20)
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("no test panics while it writes"))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics while it writes").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs genesisctl in this process with these arguments.
pub fn ctl(arguments: &[&str]) -> Output {
    ctl_env(arguments, &[])
}

/// [`ctl`] with these variables of the environment.
pub fn ctl_env(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let (stdout, stderr) = (Buffer::default(), Buffer::default());
    let env: BTreeMap<_, _> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut console = Console::detached(stdout.clone(), stderr.clone(), env);
    let argv = std::iter::once("genesisctl").chain(arguments.iter().copied());
    let exit = genesisctl::run(argv, &mut console);
    drop(console);
    Output {
        code: exit.code(),
        stdout: stdout.take(),
        stderr: String::from_utf8_lossy(&stderr.take()).into_owned(),
        command: arguments.join(" "),
    }
}
