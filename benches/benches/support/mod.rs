//! What the measurements share. Each of them uses its part.
#![allow(dead_code)]

pub(crate) mod agent;
pub(crate) mod alertmanager;
pub(crate) mod cpu;
pub(crate) mod everything;
pub(crate) mod figures;
pub(crate) mod hosts;
pub(crate) mod monit;
pub(crate) mod python;
pub(crate) mod trading_log;
pub(crate) mod traffic;
pub(crate) mod watched;

use std::path::{Path, PathBuf};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A program: of the folder that GENESIS_PROGRAMS names, or built in the same profile. A relative folder is below the
/// workspace's, since cargo starts a bench in that of its package.
pub(crate) fn program(name: &str) -> Outcome<PathBuf> {
    if let Some(folder) = std::env::var_os("GENESIS_PROGRAMS") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let path = folder.join(name);
        return path
            .is_file()
            .then(|| path.clone())
            .ok_or(format!("{} is not there", path.display()).into());
    }
    // target/release/deps/<bench>-<hash> lies two below the programs.
    let own = std::env::current_exe()?;
    let path = own.parent().and_then(Path::parent).ok_or("no target folder")?.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("build it first: cargo build --release --bin {name}").into())
    }
}

/// The `p`-quantile of samples in any order.
pub(crate) fn quantile(samples: &mut [f64], p: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    genesis_stats::quantile(samples, p).unwrap_or(f64::NAN)
}
