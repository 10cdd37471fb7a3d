//! What the measurements share. Each of them uses its part.
#![allow(dead_code)]

pub(crate) mod agent;
pub(crate) mod alertmanager;
pub(crate) mod cpu;
pub(crate) mod hosts;
pub(crate) mod monit;
pub(crate) mod python;
pub(crate) mod trading_log;
pub(crate) mod traffic;
pub(crate) mod watched;

use std::path::{Path, PathBuf};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A program that was built in the same profile.
pub(crate) fn program(name: &str) -> Outcome<PathBuf> {
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
