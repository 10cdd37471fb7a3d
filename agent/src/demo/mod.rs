//! placeholder
use std::path::PathBuf;
use std::process::ExitCode;
/// placeholder
pub fn run(_keep: bool, _genesisctl: Option<PathBuf>) -> ExitCode {
    ExitCode::SUCCESS
}
