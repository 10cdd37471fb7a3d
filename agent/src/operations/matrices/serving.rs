//! What consumers get: a pointer to the matrices in use. It is swapped as a whole, and whoever reads it never waits.

use std::sync::Arc;

use genesis_stats::correlation::{Correlation, in_canary};

/// A version whose values are in memory.
#[derive(Debug, PartialEq)]
pub struct Served {
    /// Which one.
    pub version: u64,
    /// Its values.
    pub matrix: Correlation,
    /// Names its series and values.
    pub digest: String,
}

/// The matrices in use.
#[derive(Debug, Default)]
pub struct Serving {
    active: Option<Arc<Served>>,
    canary: Option<(Arc<Served>, u32)>,
}

impl Serving {
    /// These: what is active, and what is tried, with the share of the consumers that do, in percent.
    pub fn new(active: Option<Arc<Served>>, canary: Option<(Arc<Served>, u32)>) -> Self {
        Self { active, canary }
    }

    /// The same without a version that is tried.
    pub fn without(&self, version: u64) -> Self {
        let canary = self.canary.clone().filter(|(served, _)| served.version != version);
        Self { active: self.active.clone(), canary }
    }

    /// The active one.
    pub fn active(&self) -> Option<&Arc<Served>> {
        self.active.as_ref()
    }

    /// The one that is tried, and by which share of the consumers, in percent.
    pub fn canary(&self) -> Option<(&Arc<Served>, u32)> {
        self.canary.as_ref().map(|(served, percent)| (served, *percent))
    }

    /// The one for a consumer, and whether it is being tried. Nobody's is the active one.
    pub fn of(&self, consumer: &str) -> (Option<&Arc<Served>>, bool) {
        match &self.canary {
            Some((canary, percent))
                if !consumer.is_empty() && in_canary(&seed(canary.version), consumer, *percent) =>
            {
                (Some(canary), true)
            }
            _ => (self.active.as_ref(), false),
        }
    }

    /// The one of a version, if it is in use.
    pub fn version(&self, version: u64) -> Option<&Arc<Served>> {
        let canary = self.canary.as_ref().map(|(served, _)| served);
        self.active.iter().chain(canary).find(|served| served.version == version)
    }
}

/// By what consumers of a version are chosen: others for each, so that nobody is always first.
pub fn seed(version: u64) -> String {
    format!("matrix-{version}")
}

/// Names the series and values of a matrix: the same wherever it was calculated.
pub fn digest(matrix: &Correlation) -> String {
    blake3::hash(&matrix.to_bytes()).to_hex()[..32].to_owned()
}
