//! `genesisctl`, the operator's client of GENESIS, as a library: [`run`] is the whole program, so that
//! tests can call it in process.
//!
//! Data goes to standard output through `render` only; everything else goes to standard error.

mod batches;
mod cli;
mod commands;
mod confirm;
mod connect;
mod console;
mod exit;
mod fanout;
mod format;
mod gate;
mod markdown;
mod membership;
mod outfile;
mod plan;
mod progress;
mod redact;
#[cfg(test)]
mod reference;
mod render;
#[cfg(test)]
mod runbooks;

use std::ffi::OsString;

use clap::Parser;

#[doc(hidden)]
pub use commands::fuzzing;
pub use console::Console;
pub use exit::Exit;

use crate::cli::Cli;
use crate::connect::Session;
use crate::exit::Halt;

/// Runs `genesisctl` with these arguments, the program's name first.
pub fn run<I>(argv: I, console: &mut Console) -> Exit
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => return explain(&error, console),
    };
    let result = carry_out(&cli, console);
    let halt = match result.and_then(|exit| render::flush(console).map(|()| exit)) {
        Ok(exit) => return exit,
        Err(halt) => halt,
    };
    if let Some(message) = halt.message() {
        // What was already said stays in order with the error that follows it.
        let _ = console.stdout.flush();
        match &halt {
            Halt::Error(error) => render::failure(console, None, error, cli.global.verbose),
            _ => render::error_line(console, &message),
        }
    }
    halt.exit()
}

fn carry_out(cli: &Cli, console: &mut Console) -> Result<Exit, Halt> {
    commands::check_flags(&cli.command, &cli.global)?;
    // What needs no agent must not fail for want of one.
    if let Some(result) = commands::offline(&cli.command, &cli.global, console) {
        return result;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Halt::Failed(format!("can't start the runtime: {error}")))?;
    let members = cli.global.all || commands::asks_every_member(&cli.command);
    let mut session = Session::open(&cli.global, members, console)?;
    let result = runtime.block_on(async {
        if members {
            session.take_members_in().await?;
        }
        commands::dispatch(&cli.command, &session).await
    });
    let result = match result {
        // What is not known of members that were not called is no success, nor all that was found.
        Ok(Exit::Ok | Exit::Findings) if session.members_unknown.get() => Ok(Exit::Unknown),
        result => result,
    };
    // A name look-up that hangs must not hold up the exit.
    runtime.shutdown_background();
    result
}

/// Help and version on standard output, wrong usage on standard error.
fn explain(error: &clap::Error, console: &mut Console) -> Exit {
    let text = error.render().to_string();
    if error.use_stderr() {
        render::stderr_block(console, &text);
        return Exit::Usage;
    }
    match render::help(console, &text) {
        Ok(()) => Exit::Ok,
        Err(halt) => halt.exit(),
    }
}
