//! The ways to judge a test that is looked at again and again; one is picked when it is created.

use super::always_valid::AlwaysValid;
use super::lan_demets::LanDemets;
use super::{Comparison, Looks, Rules, Spread};

/// How a test is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Design {
    /// At every look, by the running maxima of z t^(1/4): see [`Looks`].
    #[default]
    Sequential,
    /// Once, at the planned number of trades, by Welch's t to the letter.
    Fixed,
    /// At most fifty times, by the alpha-spending function of Lan and DeMets: see [`LanDemets`].
    LanDemets,
    /// At every look and without any horizon, by a mixture likelihood ratio: see [`AlwaysValid`].
    AlwaysValid,
}

impl Design {
    /// All of them, the usual one first.
    pub const ALL: [Self; 4] = [Self::Sequential, Self::Fixed, Self::LanDemets, Self::AlwaysValid];

    /// Its name, as it is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Fixed => "fixed",
            Self::LanDemets => "lan-demets",
            Self::AlwaysValid => "always-valid",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|design| design.name() == name)
    }
}

/// Which arm is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The variant.
    Up,
    /// The control.
    Down,
    /// Neither is, or no look has counted.
    Level,
}

/// How far the looks have got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No look has counted yet: p is 1 for want of one.
    Waiting,
    /// Looks have counted, and more may.
    Looking,
    /// The last look has been taken: p stays.
    Done,
}

/// What the looks have shown. A p of these may be acted on at any look: that it is ever below alpha has no more than
/// the probability alpha where there is no difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// p_seq, two-sided.
    pub p: f64,
    /// p_seq for the variant being better: two-sided too, but of what spoke for it alone. Promotions need this one.
    pub up: f64,
    /// p_seq for the variant being worse.
    pub down: f64,
    /// What `p` speaks for.
    pub direction: Direction,
    /// Whether there will be more.
    pub stage: Stage,
}

impl Evidence {
    pub(super) fn new(up: f64, down: f64, stage: Stage) -> Self {
        let direction = if up < down {
            Direction::Up
        } else if down < up {
            Direction::Down
        } else {
            Direction::Level
        };
        Self { p: up.min(down), up, down, direction, stage }
    }
}

/// The only look of [`Design::Fixed`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedLook {
    /// Welch's t, and its two-sided p, at that look.
    pub taken: Option<(f64, f64)>,
}

/// What a design has to remember from look to look; to be stored with the tallies.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Of [`Design::Sequential`].
    Sequential(Looks),
    /// Of [`Design::Fixed`].
    Fixed(FixedLook),
    /// Of [`Design::LanDemets`].
    LanDemets(LanDemets),
    /// Of [`Design::AlwaysValid`].
    AlwaysValid(AlwaysValid),
}

impl State {
    /// Before any look.
    pub fn new(design: Design) -> Self {
        match design {
            Design::Sequential => Self::Sequential(Looks::default()),
            Design::Fixed => Self::Fixed(FixedLook { taken: None }),
            Design::LanDemets => Self::LanDemets(LanDemets::default()),
            Design::AlwaysValid => Self::AlwaysValid(AlwaysValid::default()),
        }
    }

    /// Of which design it is.
    pub fn design(&self) -> Design {
        match self {
            Self::Sequential(_) => Design::Sequential,
            Self::Fixed(_) => Design::Fixed,
            Self::LanDemets(_) => Design::LanDemets,
            Self::AlwaysValid(_) => Design::AlwaysValid,
        }
    }

    /// Takes a look, with so many trades in the smaller arm and a share `information` of what there is to be at the
    /// horizon. Whether it counts is the design's business. Nothing counts with fewer than the least trades, nor
    /// where there is no test to be had.
    pub fn take(&mut self, compared: &Comparison, smaller: u64, information: f64, rules: &Rules) {
        if smaller < rules.least || compared.spread == Spread::Degenerate {
            return;
        }
        let last = smaller >= rules.horizon;
        match self {
            Self::Sequential(looks) => looks.take(compared.z_look, information),
            Self::Fixed(look) if last && look.taken.is_none() => {
                look.taken = Some((compared.t, compared.p));
            }
            Self::Fixed(_) => {}
            Self::LanDemets(looks) => looks.take(compared.z_look, information, last),
            Self::AlwaysValid(looks) => looks.take(compared.z_look, information),
        }
    }

    /// What is known by now.
    pub fn evidence(&self) -> Evidence {
        match self {
            Self::Sequential(looks) => looks.evidence(),
            Self::Fixed(FixedLook { taken: None }) => Evidence::new(1.0, 1.0, Stage::Waiting),
            Self::Fixed(FixedLook { taken: Some((t, p)) }) => Evidence::new(
                if *t > 0.0 { *p } else { 1.0 },
                if *t < 0.0 { *p } else { 1.0 },
                Stage::Done,
            ),
            Self::LanDemets(looks) => looks.evidence(),
            Self::AlwaysValid(looks) => looks.evidence(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(t: f64, p: f64) -> Comparison {
        let control = [0.0, 1.0].into_iter().collect();
        let compared = super::super::compare(&control, &control).unwrap();
        Comparison { t, p, z_star: t, z_look: t, ..compared }
    }

    #[test]
    fn names_go_both_ways() {
        for design in Design::ALL {
            assert_eq!(Design::named(design.name()), Some(design));
            assert_eq!(State::new(design).design(), design);
            let evidence = State::new(design).evidence();
            assert_eq!(evidence, Evidence::new(1.0, 1.0, Stage::Waiting));
            assert_eq!(evidence.direction, Direction::Level);
        }
        assert_eq!(Design::named("letter"), None);
        assert_eq!(Design::default().name(), "sequential");
    }

    #[test]
    fn the_fixed_one_looks_once_and_to_the_letter() {
        let rules = Rules::default();
        let mut state = State::new(Design::Fixed);
        state.take(&compared(9.0, 1e-9), 499, 0.998, &rules);
        assert_eq!(state.evidence(), Evidence::new(1.0, 1.0, Stage::Waiting));
        state.take(&compared(-2.0, 0.0456), 500, 1.0, &rules);
        assert_eq!(state.evidence(), Evidence::new(1.0, 0.0456, Stage::Done));
        state.take(&compared(9.0, 1e-9), 501, 1.0, &rules);
        assert_eq!(state.evidence(), Evidence::new(1.0, 0.0456, Stage::Done));
    }

    #[test]
    fn no_design_looks_at_too_little_or_at_what_is_degenerate() {
        let rules = Rules { horizon: 100, ..Rules::default() };
        for design in Design::ALL {
            let mut state = State::new(design);
            state.take(&compared(9.0, 1e-9), 99, 1.0, &rules);
            let degenerate =
                Comparison { spread: Spread::Degenerate, ..compared(f64::INFINITY, 0.0) };
            state.take(&degenerate, 100, 1.0, &rules);
            assert_eq!(state, State::new(design));
            state.take(&compared(9.0, 1e-9), 100, 1.0, &rules);
            assert!(state.evidence().up < 1e-6, "{state:?}");
            assert_eq!(state.evidence().down, 1.0);
        }
    }
}
