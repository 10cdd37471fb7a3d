//! Hooks: commands of the operator, run without a shell, bounded in time and in output.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::error::{Error, Result};

/// At most this much of a hook's output is kept, in bytes, of each stream.
const OUTPUT_LIMIT: u64 = 64 * 1024;

/// A configured command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take before it is killed.
    pub timeout: Duration,
}

/// What a hook that exited with 0 printed.
#[derive(Debug)]
pub struct HookOutput {
    /// At most 64 KiB.
    pub stdout: Vec<u8>,
}

/// Runs `hook` with `input` as JSON on its standard input and `variables` as `GENESIS_*` environment.
///
/// # Errors
/// `HOOK_FAILED` when it can't be started, takes too long, or exits with anything but 0.
pub async fn run(hook: &Hook, input: &Value, variables: &[(&str, String)]) -> Result<HookOutput> {
    let shown = hook.command.join(" ");
    let failed = |why: String| Error::unavailable("HOOK_FAILED", format!("hook `{shown}` {why}"));
    let Some((program, arguments)) = hook.command.split_first() else {
        return Err(failed("is empty".into()));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    for (name, value) in variables {
        command.env(format!("GENESIS_{name}"), value);
    }
    let mut child =
        command.spawn().map_err(|error| failed("can't be started".into()).caused_by(error))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let text = input.to_string();
    let work = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A hook that does not read its input is no failure.
                let _ = stdin.write_all(text.as_bytes()).await;
            }
        };
        let ((), stdout, stderr, status) =
            tokio::join!(feed, read_some(stdout), read_some(stderr), child.wait());
        (stdout, stderr, status)
    };
    let Ok((stdout, stderr, status)) = tokio::time::timeout(hook.timeout, work).await else {
        return Err(failed(format!("was killed after {} s", hook.timeout.as_secs_f64())));
    };
    let status = status.map_err(|error| failed("can't be waited for".into()).caused_by(error))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let last = said.lines().last().unwrap_or_default().chars().take(200).collect::<String>();
        return Err(failed(format!("ended with {status}: {last}")));
    }
    Ok(HookOutput { stdout })
}

async fn read_some(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        // What is over the limit is read and dropped, so that the hook does not block on a full pipe.
        let _ = (&mut pipe).take(OUTPUT_LIMIT).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    kept
}
