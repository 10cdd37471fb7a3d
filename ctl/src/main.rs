//! The binary: hands the process over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    genesisctl::run(std::env::args_os(), &mut genesisctl::Console::process()).into()
}
