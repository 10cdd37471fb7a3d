//! From arguments to exit code: every command of the agent's program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{Agent, Setup};
use crate::cli::{Cli, Command, PlaceArgs};
use crate::config::{self, Config, Places};
use crate::demo;
use crate::error::{Error, Kind, Result};
use crate::manual;
use crate::outside::{Outside, SystemClock, allocator, process};
use crate::paper;
use crate::pki::{self, args::PkiArgs};

/// So long the last work off the async threads may take, once everything else has ended.
const LEAVE: Duration = Duration::from_secs(1);

/// Does what the arguments say.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        None | Some(Command::Run) => serve(&cli.places),
        Some(Command::CheckConfig { file }) => {
            return check(file.as_deref().or(cli.places.config.as_deref()), &cli.places);
        }
        Some(Command::ExampleConfig) => example(&cli.places),
        Some(Command::ConvertLogrotate { paths }) => return convert_logrotate(&paths),
        Some(Command::Demo { keep, genesisctl }) => return demo::run(keep, genesisctl),
        Some(Command::PaperVenue(args)) => {
            paper::run(&args, std::sync::Arc::new(SystemClock::new()))
        }
        Some(Command::Pki(args)) => return pki(&args, &cli.places),
        Some(Command::Completions { shell }) => {
            print(&String::from_utf8_lossy(&manual::completions(shell)));
            Ok(())
        }
        Some(Command::Man { out }) => man(out.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The exit codes of genesisctl, as far as they apply.
fn exit_code(error: &Error) -> u8 {
    match error.kind {
        Kind::Invalid => 2,
        Kind::Refused => 4,
        Kind::NotAllowed => 6,
        Kind::Conflict => 9,
        _ => 1,
    }
}

/// Writes a line to stderr; nobody there to read it is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says what failed, and each condition that it names.
fn complain(error: &Error) {
    say(&format!("genesis-agent: {} ({})", error.chain(), error.code));
    for unmet in error.unmet.iter().filter(|unmet| unmet.message != error.message) {
        say(&format!("  {}: {}", unmet.subject, unmet.message));
    }
}

/// Prints what logrotate's configuration comes to in ours; what is left out goes to stderr as well.
fn convert_logrotate(paths: &[PathBuf]) -> ExitCode {
    let default = ["/etc/logrotate.conf".into(), "/etc/logrotate.d".into()];
    let paths = if paths.is_empty() { &default[..] } else { paths };
    let files = match crate::outside::files::texts(paths) {
        Ok(files) => files,
        Err((path, error)) => {
            say(&format!("genesis-agent: can't read {}: {error}", path.display()));
            return ExitCode::from(2);
        }
    };
    let conversion = crate::operations::logs::logrotate::convert(&files);
    print(&conversion.toml);
    for what in &conversion.left_out {
        say(&format!("left out: {what}"));
    }
    say(&format!(
        "{} source(s) from {} file(s), {} thing(s) left out; read it through, then `genesis-agent check-config`",
        conversion.sources,
        files.len(),
        conversion.left_out.len()
    ));
    ExitCode::from(if conversion.left_out.is_empty() { 0 } else { 3 })
}

fn man(out: Option<&Path>) -> Result<()> {
    let written = match out {
        Some(folder) => manual::pages(folder)
            .map(|pages| say(&format!("{pages} pages are in {}", folder.display()))),
        None => manual::page().map(|page| print(&String::from_utf8_lossy(&page))),
    };
    written.map_err(|error| {
        let place = out.map_or("standard output".into(), |folder| folder.display().to_string());
        Error::unavailable("MAN_NOT_WRITTEN", format!("can't write the man pages to {place}"))
            .caused_by(error)
    })
}

fn print(text: &str) {
    let _ = write!(std::io::stdout(), "{text}");
}

fn serve(args: &PlaceArgs) -> Result<()> {
    let places = Places::find(args.state_dir.as_deref())?;
    // A relative one names the same file also for who is told of it, and for a rollback.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let config_path = config::find_file(args.config.as_deref()).map(absolute);
    let config = Config::load(config_path.as_deref(), &places)?;
    // Logs may hold what only their owner should read; whatever the agent makes is its own alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Before there is another thread. A kernel that is too old for it has none to give either.
    if let Err(error) = process::keep_capabilities() {
        say(&format!("genesis-agent: what it starts may have its capabilities: {error}"));
    }
    raise_file_limit();
    allocator::share_arenas();
    // Two threads serve any load this agent has; more would only cost memory on a trading host.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .map_err(|error| {
            Error::unavailable("RUNTIME_FAILED", "can't start the runtime").caused_by(error)
        })?;
    let setup = Setup { places, config, config_path, outside: Outside::real() };
    let outcome = runtime.block_on(until_signal(setup));
    // Work that hangs on a dead disk does not keep the process.
    runtime.shutdown_timeout(LEAVE);
    outcome
}

/// Lets the process hold as many connections as it is configured for: the usual limit of 1,024 open files is
/// for programs that use select(2).
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // Where it can't be raised, fewer connections are accepted at a time.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// How often what a burst of calls took, and nothing needs any more, is given back.
const LET_GO: std::time::Duration = std::time::Duration::from_secs(60);

async fn until_signal(setup: Setup) -> Result<()> {
    let signals = |kind| {
        signal(kind).map_err(|error| {
            Error::unavailable("RUNTIME_FAILED", "can't listen for signals").caused_by(error)
        })
    };
    let (mut term, mut interrupt) =
        (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let mut hup = signals(SignalKind::hangup())?;
    let source = setup.config.source.clone();
    let clock = std::sync::Arc::clone(&setup.outside.clock);
    let mut agent = Agent::start(setup).await?;
    say(&format!(
        "genesis-agent {} ready: socket {}, http {}, configuration {}{}",
        env!("CARGO_PKG_VERSION"),
        agent.socket.display(),
        agent.http,
        if source.is_empty() { "built-in defaults" } else { &source },
        agent
            .grpc
            .map(|address| format!(", grpc {address}"))
            .into_iter()
            .chain(agent.https.map(|address| format!(", https {address}")))
            .chain(agent.plaintext.map(|address| format!(", plaintext grpc {address}")))
            .collect::<String>(),
    ));
    say(&format!("try: genesisctl -n unix:{} status", agent.socket.display()));
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    allocator::let_go();
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hup.recv() => agent.reload().await,
            broken = agent.broken() => return broken,
            // It takes locks that those who allocate wait for.
            () = clock.sleep(LET_GO) => drop(tokio::task::spawn_blocking(allocator::let_go)),
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    say("genesis-agent: stopping");
    agent.drain().await;
    Ok(())
}

fn check(file: Option<&Path>, args: &PlaceArgs) -> ExitCode {
    let outcome = Places::find(args.state_dir.as_deref()).and_then(|places| {
        let path = config::find_file(file);
        let config = Config::load(path.as_deref(), &places)?;
        Ok((config.source.clone(), config.check_host()))
    });
    match outcome {
        Ok((source, problems)) => {
            let shown = if source.is_empty() { "built-in defaults" } else { &source };
            for problem in &problems {
                say(&format!("{shown}: {}: {}", problem.key, problem.message));
            }
            if problems.is_empty() {
                print(&format!("{shown}: ok\n"));
                ExitCode::SUCCESS
            } else {
                ExitCode::from(3)
            }
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(if error.code == "CONFIG_INVALID" { 3 } else { exit_code(&error) })
        }
    }
}

fn pki(args: &PkiArgs, places: &PlaceArgs) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut terminal = pki::command::Terminal { out: &mut out, err: &mut err };
    let now = Outside::real().clock.now();
    match pki::command::run(args, places.state_dir.as_deref(), now, &mut terminal) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn example(args: &PlaceArgs) -> Result<()> {
    let places = Places::find(args.state_dir.as_deref())?;
    print(&config::reference::example(&Config::keys(&places)));
    Ok(())
}
