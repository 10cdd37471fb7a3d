//! The agent's program: arguments, configuration, run until a signal, drain.

use std::process::ExitCode;

use clap::Parser;
use genesis_agent::cli::Cli;
use genesis_agent::main_loop;

fn main() -> ExitCode {
    main_loop::run(Cli::parse())
}
