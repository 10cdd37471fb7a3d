//! What is said of dependencies, in the colours of what it means.

use genesis_client::v1::{
    ClockState, DataState, ScanVerdict, UpdateState, VersionChange, VulnerabilitySeverity,
};

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

    pub(crate) fn version_change(change: VersionChange) -> Self {
        use VersionChange as C;
        let tone = match change {
            C::Major | C::Downgrade => Tone::Warning,
            C::Unspecified => Tone::Unsure,
            C::Patch | C::Minor | C::Added | C::Removed => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(change.as_str_name(), "VERSION_CHANGE_")) }
    }

    /// How an update ended, or how far it is. `over`: it does not go on.
    pub(crate) fn update_state(state: UpdateState, over: bool) -> Self {
        use UpdateState as S;
        let name = format::short_name(state.as_str_name(), "UPDATE_STATE_");
        let (tone, text) = match state {
            S::Succeeded => (Tone::Good, name.to_owned()),
            S::RolledBack => (Tone::Bad, name.to_owned()),
            S::Unchanged => (Tone::Plain, name.to_owned()),
            S::Unspecified => (Tone::Unsure, name.to_owned()),
            _ if over => (Tone::Unsure, format!("ended in {name}")),
            _ => (Tone::Plain, format!("in {name}")),
        };
        Self { tone, ..Self::from(text) }
    }

    pub(crate) fn clock_state(state: ClockState) -> Self {
        let tone = match state {
            ClockState::Closed => Tone::Good,
            ClockState::Open | ClockState::Mended => Tone::Warning,
            ClockState::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "CLOCK_STATE_")) }
    }
}
