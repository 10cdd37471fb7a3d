//! What a storm came to, by kind of fault.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::faults::Fault;
use super::verdict::{Violation, Wrong};

/// The file that a report is written to, if it is set.
const FILE: &str = "GENESIS_RELIABILITY";

/// Of one kind of fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kind {
    /// How often there was one.
    pub injected: u64,
    /// What was acknowledged and lost.
    pub losses: u64,
    /// What was done more often than once.
    pub duplicates: u64,
    /// What else did not hold in the end.
    pub broken: u64,
    /// The longest time from the end of one until all held again.
    pub longest: Duration,
    /// What it was about, each once.
    pub subjects: Vec<&'static str>,
}

/// Of a whole storm.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By what its schedule can be had again.
    pub seed: u64,
    /// How long it was.
    pub lasted: Duration,
    /// How many deeds of the load were over in the end.
    pub deeds: u64,
    /// How many were acknowledged.
    pub acknowledged: u64,
    kinds: BTreeMap<&'static str, Kind>,
    violations: Vec<String>,
}

impl Report {
    /// One of a storm of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// What came of a fault, and how long that took.
    pub fn add(&mut self, fault: Fault, violations: &[Violation], recovery: Duration) {
        let kind = self.kinds.entry(fault.kind()).or_default();
        kind.injected += 1;
        kind.longest = kind.longest.max(recovery);
        if !kind.subjects.contains(&fault.subject()) {
            kind.subjects.push(fault.subject());
        }
        for violation in violations {
            let count = match violation.wrong {
                Wrong::Lost => &mut kind.losses,
                Wrong::Doubled => &mut kind.duplicates,
                Wrong::Broken => &mut kind.broken,
            };
            *count += violation.count;
            self.violations.push(format!("after {fault:?}: {}", violation.what));
        }
    }

    /// What did not hold, in words.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// What there was of each kind.
    pub fn kinds(&self) -> &BTreeMap<&'static str, Kind> {
        &self.kinds
    }

    /// As it is kept.
    pub fn json(&self) -> Value {
        let kinds = self.kinds.iter().map(|(name, kind)| {
            json!({
                "fault": name,
                "of": kind.subjects,
                "injected": kind.injected,
                "losses": kind.losses,
                "duplicates": kind.duplicates,
                "broken": kind.broken,
                "longest_recovery_seconds": tenths(kind.longest),
            })
        });
        json!({
            "seed": self.seed,
            "seconds": tenths(self.lasted),
            "deeds": self.deeds,
            "acknowledged": self.acknowledged,
            "faults": kinds.collect::<Vec<_>>(),
            "violations": self.violations,
        })
    }

    /// As the table in docs/reliability.md.
    pub fn table(&self) -> String {
        let head = "| fault | of | injected | losses | duplicates | longest recovery |";
        let rows = self.kinds.iter().map(|(name, kind)| {
            let Kind { injected, losses, duplicates, longest, subjects, .. } = kind;
            let (of, longest) = (subjects.join(", "), tenths(*longest));
            format!("| {name} | {of} | {injected} | {losses} | {duplicates} | {longest} s |\n")
        });
        let rows: String = rows.collect();
        let (seed, lasted) = (self.seed, self.lasted.as_secs());
        let (deeds, acknowledged) = (self.deeds, self.acknowledged);
        format!(
            "{head}\n|---|---|---|---|---|---|\n{rows}\nSeed {seed}, {lasted} s, {deeds} deeds of the load, of which \
             {acknowledged} were acknowledged and counted.\n"
        )
    }

    /// Writes it to the file that the environment names, and its table beside that, with the ending `.md`.
    ///
    /// # Panics
    /// When they can't be written.
    pub fn keep(&self) {
        let Some(file) = std::env::var_os(FILE).map(PathBuf::from) else { return };
        let text = serde_json::to_string_pretty(&self.json()).expect("plain data");
        std::fs::write(&file, text + "\n").expect("the file of the report");
        std::fs::write(file.with_extension("md"), self.table()).expect("the table of the report");
    }
}

fn tenths(span: Duration) -> f64 {
    (span.as_secs_f64() * 10.0).round() / 10.0
}
