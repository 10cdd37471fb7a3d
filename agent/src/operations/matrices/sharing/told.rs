//! What people hear of the fleet's matrix: one that can't be taken, and one that can't be published.

use super::super::Matrices;
use super::super::told::condition;
use crate::events::{Condition, Severity};

/// What is not published for so long, in seconds, is told.
const UNPUBLISHED: i64 = 60;

impl Matrices {
    /// What is wrong with this host's part in the fleet's matrix.
    pub(in super::super) fn sharing_told(&self) -> Vec<Condition> {
        let (unpublished, refusal) = {
            let shared = self.shared();
            (shared.unpublished.clone(), shared.refusal.clone())
        };
        let seek = "genesisctl matrix fleet".to_owned();
        let mut told = Vec::new();
        if let Some(refusal) = refusal {
            let title = match refusal.number {
                0 => "the fleet's matrix can't be taken".to_owned(),
                number => format!("version {number} of the fleet's matrix can't be taken"),
            };
            let details = vec![
                refusal.why,
                "what was in force here stays so; it is tried again every minute".to_owned(),
                seek.clone(),
            ];
            told.push(condition("fleet/refused", Severity::High, title, details, refusal.since));
        }
        let long = |since| self.now().duration_since(since).as_secs() >= UNPUBLISHED;
        if let Some((since, why)) = unpublished.filter(|(since, _)| long(*since)) {
            let title = "what is in force here is not the fleet's matrix".to_owned();
            let details = vec![why, seek];
            told.push(condition("fleet/unpublished", Severity::Medium, title, details, since));
        }
        told
    }
}
