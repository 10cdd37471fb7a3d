//! Hooks: commands of the operator, run without a shell, bounded in time and in output. The programs that the agent runs
//! for itself go the same way.

use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::Sleep;

use crate::error::{Error, Result};

/// At most this much of a hook's output is kept, in bytes, of each stream.
pub const OUTPUT_LIMIT: usize = 64 << 10;

/// A configured command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    spawn(hook, input, variables)?.finish().await
}

/// [`run`], where an answer may be longer: at most `limit` bytes of it are kept.
///
/// # Errors
/// As [`run`].
pub async fn run_for_long_answers(
    hook: &Hook,
    input: &Value,
    variables: &[(&str, String)],
    limit: usize,
) -> Result<HookOutput> {
    let mut running = spawn(hook, input, variables)?;
    running.limit = limit;
    running.finish().await
}

/// Starts `hook` in a process group of its own; its time begins.
///
/// # Errors
/// `HOOK_FAILED` when it can't be started.
pub fn spawn(hook: &Hook, input: &Value, variables: &[(&str, String)]) -> Result<Running> {
    // Arguments may be secret, and errors go far.
    let shown = format!("hook `{}`", hook.command.first().map_or("", String::as_str));
    let Some((program, arguments)) = hook.command.split_first() else {
        return Err(failed(&shown, "is empty"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, value) in variables {
        command.env(format!("GENESIS_{name}"), value);
    }
    start(command, input.to_string(), hook.timeout, OUTPUT_LIMIT, shown)
}

fn start(
    mut command: Command,
    input: String,
    timeout: Duration,
    limit: usize,
    shown: String,
) -> Result<Running> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let child =
        command.spawn().map_err(|error| failed(&shown, "can't be started").caused_by(error))?;
    let timer = Box::pin(tokio::time::sleep(timeout));
    Ok(Running { child, input, timer, timeout, limit, shown })
}

/// A program that the agent runs for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments. Whoever can list processes sees them.
    pub command: Vec<String>,
    /// "NAME=value", each.
    pub environment: Vec<String>,
    /// Whether it gets nothing of the agent's own environment beside that.
    pub clean: bool,
    /// How long it may take before it is killed.
    pub timeout: Duration,
    /// At most so much of its output is kept, in bytes, of each stream.
    pub limit: usize,
    /// The user and group that it runs as; `None`: the agent's own.
    pub owner: Option<(u32, u32)>,
    /// What it gets when the agent dies.
    pub last_word: &'static str,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// It exited with 0.
    pub succeeded: bool,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained of.
    pub stderr: Vec<u8>,
    /// How it ended, and its last complaint.
    pub said: String,
}

/// Where a program is, by the agent's own PATH.
pub fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(name));
    found.into_iter().find(|it| it.is_absolute() && it.is_file())
}

/// Starts a program, which does not outlive the agent: the kernel tells it when the thread that started it is gone, and
/// the threads that poll live as long as the agent does.
///
/// # Errors
/// `HOOK_FAILED` when it can't be started.
pub fn spawn_program(program: &Program) -> Result<Running> {
    let shown = program.command.first().cloned().unwrap_or_default();
    // By its whole path: a PATH for the program itself is searched otherwise, by us too.
    let helper = find("setpriv").ok_or_else(|| failed(&shown, "needs setpriv of util-linux"))?;
    let mut command = Command::new(helper);
    if program.clean {
        command.env_clear();
    }
    command.args(["--pdeathsig", program.last_word]);
    if let Some((user, group)) = program.owner {
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.arg("--clear-groups");
    }
    command.arg("--").args(&program.command).current_dir("/");
    for variable in &program.environment {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(name, value);
    }
    start(command, String::new(), program.timeout, program.limit, shown)
}

/// Runs a program to its end, whatever that is.
///
/// # Errors
/// `HOOK_FAILED` when it can't be started, or takes too long.
pub async fn run_program(program: &Program) -> Result<Ran> {
    spawn_program(program)?.end().await
}

/// What of a program's complaints says most: the last line that calls itself an error, else the last one.
fn complaint(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = |line: &&str| {
        ["error:", "FATAL:", "PANIC:", "Fatal:", "ERROR:"].iter().any(|word| line.contains(word))
    };
    let found = lines().rfind(error).or_else(|| lines().next_back()).unwrap_or_default();
    found.chars().take(400).collect()
}

fn failed(shown: &str, why: impl std::fmt::Display) -> Error {
    Error::unavailable("HOOK_FAILED", format!("{shown} {why}"))
}

/// A hook that was started. Dropped before its end it is killed, with all that it started in its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    input: String,
    timer: Pin<Box<Sleep>>,
    timeout: Duration,
    limit: usize,
    shown: String,
}

impl Running {
    /// The id of its process, which is that of its process group too.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end. What it has left running in the background lives on if it lets go of the hook's output.
    ///
    /// # Errors
    /// `HOOK_FAILED` when it takes too long, or exits with anything but 0.
    pub async fn finish(mut self) -> Result<HookOutput> {
        let (status, stdout, stderr) = self.ended().await?;
        if !status.success() {
            let said = String::from_utf8_lossy(&stderr);
            let last = said.lines().last().unwrap_or_default();
            let last = last.chars().take(200).collect::<String>();
            return Err(failed(&self.shown, format!("ended with {status}: {last}")));
        }
        Ok(HookOutput { stdout })
    }

    /// Waits for its end, whatever that is.
    ///
    /// # Errors
    /// `HOOK_FAILED` when it takes too long.
    pub async fn end(mut self) -> Result<Ran> {
        let (status, stdout, stderr) = self.ended().await?;
        let said = format!("{} ended with {status}: {}", self.shown, complaint(&stderr));
        Ok(Ran { succeeded: status.success(), stdout, stderr, said })
    }

    async fn ended(&mut self) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let limit = self.limit;
        let running = &mut *self;
        let (stdin, child) = (running.child.stdin.take(), &mut running.child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let input = std::mem::take(&mut running.input);
        let work = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A hook that does not read its input is no failure.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            let ((), stdout, stderr) =
                tokio::join!(feed, read_some(stdout, limit), read_some(stderr, limit));
            // Not before its output has ended: until it is waited for, nobody else can get the id of its group.
            (stdout, stderr, child.wait().await)
        };
        let ended = tokio::select! {
            biased;
            ended = work => Some(ended),
            () = &mut running.timer => None,
        };
        let Some((stdout, stderr, status)) = ended else {
            let after = self.timeout.as_secs_f64();
            return Err(failed(&self.shown, format!("was killed after {after} s")));
        };
        let status =
            status.map_err(|error| failed(&self.shown, "can't be waited for").caused_by(error))?;
        Ok((status, stdout, stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // There is an id as long as it was not waited for.
        let group = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // A group that has ended meanwhile needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn read_some(pipe: Option<impl tokio::io::AsyncRead + Unpin>, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        // What is over the limit is read and dropped, so that the hook does not block on a full pipe.
        let _ = (&mut pipe).take(limit as u64).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str, timeout: Duration) -> Hook {
        Hook { command: ["sh", "-c", script].map(str::to_owned).to_vec(), timeout }
    }

    async fn print(script: &str) -> Result<String> {
        let hook = shell(script, Duration::from_secs(60));
        let input = serde_json::json!({"a": 1});
        let output = run(&hook, &input, &[("X", "y".to_owned())]).await?;
        Ok(String::from_utf8(output.stdout).unwrap())
    }

    #[tokio::test]
    async fn a_hook_gets_its_input_and_tells_its_output_or_its_last_complaint() {
        assert_eq!(print("cat; echo $GENESIS_X").await.unwrap(), "{\"a\":1}y\n");
        let error = print("echo one >&2; echo two >&2; exit 3").await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3: two"), "{error}");
        let hook = Hook { command: vec!["/nowhere".into()], timeout: Duration::from_secs(1) };
        let error = spawn(&hook, &Value::Null, &[]).unwrap_err();
        assert!(error.message.contains("can't be started"), "{error}");
        let hook = Hook { command: vec![], timeout: Duration::from_secs(1) };
        assert!(spawn(&hook, &Value::Null, &[]).unwrap_err().message.contains("is empty"));
    }

    #[tokio::test]
    async fn what_a_hook_leaves_in_the_background_lives_on_after_a_good_end() {
        let pid = print("sleep 300 >/dev/null 2>&1 </dev/null & echo $!").await.unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        assert_eq!(rustix::process::test_kill_process(pid), Ok(()));
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    /// A hook that has put itself and a child of its own to sleep, with the ids of both.
    async fn sleepers(folder: &Path, timeout: Duration) -> (Running, [u32; 2]) {
        let pidfile = folder.join("pid");
        let script = format!("sleep 300 & echo $! > '{}'; sleep 300", pidfile.display());
        let running = spawn(&shell(&script, timeout), &Value::Null, &[]).unwrap();
        let child = loop {
            let text = std::fs::read_to_string(&pidfile).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n') {
                break pid.parse().unwrap();
            }
            tokio::task::yield_now().await;
        };
        let pids = [running.pid().unwrap(), child];
        (running, pids)
    }

    /// Waits until they have ended, whether or not somebody has waited for them.
    async fn ended(pids: [u32; 2]) {
        for pid in pids {
            let stat = format!("/proc/{pid}/stat");
            while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_hook_that_takes_too_long_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let (running, pids) = sleepers(folder.path(), Duration::from_millis(1)).await;
        let error = running.finish().await.unwrap_err().to_string();
        assert!(error.contains("was killed after 0.001 s"), "{error}");
        ended(pids).await;
    }

    #[tokio::test]
    async fn a_hook_that_is_dropped_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let (running, pids) = sleepers(folder.path(), Duration::from_secs(300)).await;
        drop(running);
        ended(pids).await;
        let (running, pids) = sleepers(folder.path(), Duration::from_secs(300)).await;
        let finish = running.finish();
        assert!(futures_util::FutureExt::now_or_never(finish).is_none());
        ended(pids).await;
    }
}
