//! The cells of matrices and their rollouts, and pictures: rows whose cells touch.

use std::fmt::Write as _;

use genesis_client::v1::{CriterionVerdict, FleetMatrixState, MatrixState, StageState};

use super::text::clean;
use super::{Cell, Tone};
use crate::format;

impl Cell {
    pub(crate) fn matrix_state(state: MatrixState) -> Self {
        use MatrixState as S;
        let tone = match state {
            S::Active => Tone::Good,
            S::Rejected | S::RolledBack => Tone::Bad,
            S::Canary => Tone::Warning,
            S::Unspecified => Tone::Unsure,
            S::Superseded => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "MATRIX_STATE_")) }
    }

    /// Of a host in its fleet; `alive`: its agent lives.
    pub(crate) fn fleet_matrix_state(state: FleetMatrixState, alive: bool) -> Self {
        use FleetMatrixState as S;
        let tone = match state {
            _ if !alive => Tone::Unsure,
            S::InForce => Tone::Good,
            S::Refused | S::RolledBack => Tone::Bad,
            S::RollingOut | S::Waiting => Tone::Warning,
            S::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "FLEET_MATRIX_STATE_")) }
    }

    pub(crate) fn stage_state(state: StageState) -> Self {
        use StageState as S;
        let tone = match state {
            S::Passed => Tone::Good,
            S::Held | S::Harmful => Tone::Bad,
            S::Forced => Tone::Warning,
            S::Unspecified => Tone::Unsure,
            S::Waiting => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "STAGE_STATE_")) }
    }

    pub(crate) fn criterion(verdict: CriterionVerdict) -> Self {
        use CriterionVerdict as V;
        let (tone, text) = match verdict {
            V::Pass => (Tone::Good, "PASS"),
            V::Fail => (Tone::Bad, "FAIL"),
            V::Unknown | V::Unspecified => (Tone::Unsure, "UNKNOWN"),
        };
        Self { tone, ..Self::from(text) }
    }

    /// A right-aligned one that stands out where it is bad.
    pub(crate) fn measured(text: impl Into<String>, bad: bool) -> Self {
        let tone = if bad { Tone::Bad } else { Tone::Plain };
        Self { tone, ..Self::number(text) }
    }

    /// Of a picture: what is written in one colour on another.
    pub(crate) fn shaded(text: impl Into<String>, fore: Option<u8>, back: Option<u8>) -> Self {
        Self { tone: Tone::Shade(fore, back), ..Self::from(text.into()) }
    }
}

/// A row of a picture. What ends in plain space ends before it.
pub(super) fn picture(cells: &[Cell], colour: bool) -> String {
    let mut text = String::new();
    for cell in cells {
        let written = clean(&cell.text);
        let codes = if colour { codes(cell.tone) } else { String::new() };
        let _ = match codes.as_str() {
            "" => write!(text, "{written}"),
            codes => write!(text, "\u{1b}[{codes}m{written}\u{1b}[0m"),
        };
    }
    text.truncate(text.trim_end().len());
    text
}

/// The numbers by which a terminal is told of a tone.
fn codes(tone: Tone) -> String {
    match tone {
        Tone::Plain | Tone::Shade(None, None) => String::new(),
        Tone::Good => "32".to_owned(),
        Tone::Warning => "33".to_owned(),
        Tone::Bad => "31".to_owned(),
        Tone::Unsure => "35".to_owned(),
        Tone::Shade(Some(fore), None) => format!("38;5;{fore}"),
        Tone::Shade(None, Some(back)) => format!("48;5;{back}"),
        Tone::Shade(Some(fore), Some(back)) => format!("38;5;{fore};48;5;{back}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_picture_touch_and_are_coloured_only_where_asked_for() {
        let cells = [
            Cell::from("a\u{1b}[2J "),
            Cell::shaded("b", Some(16), Some(231)),
            Cell::shaded("c", Some(1), None),
            Cell::shaded("d", None, Some(2)),
            Cell::alert("e", true),
            Cell::from("  "),
        ];
        assert_eq!(picture(&cells, false), "a\\x1b[2J bcde");
        assert_eq!(
            picture(&cells, true),
            "a\\x1b[2J \u{1b}[38;5;16;48;5;231mb\u{1b}[0m\u{1b}[38;5;1mc\u{1b}[0m\u{1b}[48;5;2md\u{1b}[0m\u{1b}[31me\u{1b}[0m"
        );
    }
}
