//! What is said of dependencies, in the colours of what it means.

use genesis_client::v1::{DataState, ScanVerdict, VulnerabilitySeverity};

use super::{Cell, Tone};
use crate::format;

impl Cell {
    pub(crate) fn data_state(state: DataState) -> Self {
        let tone = match state {
            DataState::Checked => Tone::Good,
            DataState::Stale => Tone::Warning,
            DataState::NotChecked | DataState::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "DATA_STATE_")) }
    }

    pub(crate) fn scan_verdict(verdict: ScanVerdict) -> Self {
        let tone = match verdict {
            ScanVerdict::Pass => Tone::Good,
            ScanVerdict::Findings => Tone::Bad,
            ScanVerdict::Unknown | ScanVerdict::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(format::short_name(verdict.as_str_name(), "SCAN_VERDICT_")) }
    }

    /// `text` says it, beside other things.
    pub(crate) fn vulnerability(severity: VulnerabilitySeverity, text: String) -> Self {
        use VulnerabilitySeverity as S;
        let tone = match severity {
            S::Critical | S::High => Tone::Bad,
            S::Medium => Tone::Warning,
            S::Unknown | S::Unspecified => Tone::Unsure,
            S::Low | S::None => Tone::Plain,
        };
        Self { tone, ..Self::from(text) }
    }

    /// Whether somebody makes use of it, where that is known.
    pub(crate) fn exploited(exploited: Option<bool>) -> Self {
        let (tone, text) = match exploited {
            Some(true) => (Tone::Bad, "yes"),
            Some(false) => (Tone::Plain, "no"),
            None => (Tone::Unsure, "unknown"),
        };
        Self { tone, ..Self::from(text) }
    }
}
