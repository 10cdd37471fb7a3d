//! Targets of fuzzing: one function for each parser of what comes from outside, which any bytes may be given.
//!
//! A target fails by a panic. That no input makes the parser panic is the least of it: each also holds what it reads to
//! what a user would notice, such as that it is read again as it was written, or that pieces of any length come to the
//! same as the whole. The table in docs/architecture.md says what.
//!
//! `tests/fuzz` has a program of libFuzzer for each, and its corpus; the scenario `fuzz` runs all of them over that in
//! every run of the tests.

mod client;
mod config;
mod dates;
mod dependencies;
mod logs;
mod metrics;
mod numbers;
mod outside;
mod requests;
mod rpc;
mod state;

use std::borrow::Cow;

use genesis_agent::config::Places;

pub use requests::REQUESTS;

/// What reads any bytes, and panics where something is wrong.
pub type Target = fn(&[u8]);

/// Re-exports the targets, and lists them.
macro_rules! targets {
    ($($module:ident::$name:ident,)*) => {
        $(pub use $module::$name;)*

        /// Each target by its name.
        pub const TARGETS: &[(&str, Target)] = &[$((stringify!($name), $name),)*];
    };
}

targets! {
    client::client_arguments,
    client::experiment_arguments,
    client::pushed_lines,
    config::configuration,
    dates::date_ranges,
    dates::durations,
    dates::schedules,
    dependencies::advisory_file,
    dependencies::cargo_lock,
    dependencies::cvss_vectors,
    dependencies::exploited_catalogue,
    dependencies::likelihoods,
    dependencies::osv_record,
    dependencies::requirements,
    dependencies::versions,
    logs::log_manifest,
    logs::log_member,
    logs::log_segment,
    logs::log_timestamps,
    logs::logrotate_conf,
    metrics::headers,
    metrics::otlp_json,
    metrics::otlp_protobuf,
    metrics::prometheus_text,
    numbers::columns,
    numbers::correlations,
    numbers::fleet_entries,
    numbers::sketches,
    numbers::stored_values,
    outside::backup_tools,
    outside::certificates,
    outside::control_answers,
    rpc::http_queries,
    rpc::rpc_requests,
    state::oplog_export,
    state::state_records,
}

/// 2026-11-23T00:00:00Z, in seconds since 1970: what a target takes for now.
const NOW: i64 = 1_795_392_000;

/// Where an agent would keep its state.
fn places() -> Places {
    Places { state: "/srv/state".into(), socket: "/srv/state/agent.sock".into() }
}

/// A text as its parser gets it, which takes no other bytes: what is none is replaced.
fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// The first line, and what is behind it.
fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// The entry that a line names, or else one that falls to it: so an input of the corpus stays what it is when entries
/// come, and a mutation of its name leads to another.
fn chosen<'t, T>(table: &'t [(&'static str, T)], line: &[u8]) -> &'t (&'static str, T) {
    let named = table.iter().find(|(name, _)| name.as_bytes() == line);
    let sum = line
        .iter()
        .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    named.unwrap_or_else(|| &table[sum % table.len()])
}
