//! The decision matrix.

use super::super::{Guard, Rules};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The variant's share becomes 0, at once.
    Rollback,
    /// Nothing is concluded while the arms don't get their shares: what assigns or reports trades is broken.
    Hold,
    /// The variant's value becomes current.
    Promote,
    /// The test ends: no difference was found.
    NoDifference,
    /// Significant, but not enough to promote, after the longest time: the test ends and the variant's share
    /// becomes 0.
    BelowThreshold,
    /// Significant, but not enough to promote: the test goes on up to the cap.
    Extend,
    /// The test goes on.
    Continue,
}

/// What a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// The trades of the arm that has fewer.
    SmallerArm,
    /// The lift, as a share; may be undefined.
    Lift,
    /// Welch's p.
    WelchP,
    /// p_seq of the direction that is ahead.
    PSeq,
    /// p_seq for the variant being better.
    PSeqUp,
    /// Cohen's d.
    D,
    /// z*.
    ZStar,
    /// The evidence of a split mismatch.
    Mismatch,
    /// Whether the means differ though neither arm has any variance: 1 or 0.
    Degenerate,
}

/// How it is compared with the limit. Lifts have a tolerance of 1e-12 for the two that include equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// >=
    AtLeast,
    /// <=
    AtMost,
    /// >
    Above,
    /// <
    Below,
    /// There is no value.
    Undefined,
    /// It is 1.
    Yes,
    /// It is 0.
    No,
}

/// What it is compared with: a number of [`Rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nothing.
    None,
    /// `least`
    Least,
    /// `horizon`
    Horizon,
    /// `cap`
    Cap,
    /// `alpha`
    Alpha,
    /// `promote_lift`
    PromoteLift,
    /// `rollback_lift`
    RollbackLift,
    /// `least_d`
    LeastD,
    /// `guard_z`
    GuardZ,
    /// `guard_least`
    GuardLeast,
    /// `mismatch`
    Mismatch,
}

/// One thing that must be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub quantity: Quantity,
    /// How it is compared.
    pub relation: Relation,
    /// With what.
    pub limit: Limit,
}

/// Conditions that must hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternative {
    /// Only with this guard of rollbacks.
    pub guard: Option<Guard>,
    /// All of these.
    pub conditions: &'static [Condition],
}

/// A row matches where one of its alternatives does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The rule it belongs to, from 1 on; the fifth has two rows.
    pub number: u8,
    /// A short name.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// What is done.
    pub verdict: Verdict,
    /// When.
    pub alternatives: &'static [Alternative],
}

impl Row {
    /// Those that count with the guard in force.
    pub(super) fn alternatives_for(
        &'static self,
        rules: &Rules,
    ) -> impl Iterator<Item = &'static Alternative> {
        let guard = rules.guard;
        self.alternatives.iter().filter(move |one| one.guard.is_none_or(|wanted| wanted == guard))
    }
}

impl Quantity {
    /// For people to read.
    pub fn name(self) -> &'static str {
        match self {
            Self::SmallerArm => "trades in the smaller arm",
            Self::Lift => "lift",
            Self::WelchP => "p",
            Self::PSeq => "p_seq",
            Self::PSeqUp => "p_seq for the variant",
            Self::D => "d",
            Self::ZStar => "z*",
            Self::Mismatch => "evidence of a split mismatch",
            Self::Degenerate => "no variance at all",
        }
    }
}

impl Relation {
    /// For people to read.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::Above => "above",
            Self::Below => "below",
            Self::Undefined => "undefined",
            Self::Yes => "yes",
            Self::No => "no",
        }
    }
}

const fn is(quantity: Quantity, relation: Relation, limit: Limit) -> Condition {
    Condition { quantity, relation, limit }
}

const fn all(conditions: &'static [Condition]) -> Alternative {
    Alternative { guard: None, conditions }
}

const fn with(guard: Guard, conditions: &'static [Condition]) -> Alternative {
    Alternative { guard: Some(guard), conditions }
}

const ENOUGH: Condition = is(Quantity::SmallerArm, Relation::AtLeast, Limit::Least);
const AT_HORIZON: Condition = is(Quantity::SmallerArm, Relation::AtLeast, Limit::Horizon);
const AT_CAP: Condition = is(Quantity::SmallerArm, Relation::AtLeast, Limit::Cap);
const LOSS: Condition = is(Quantity::Lift, Relation::AtMost, Limit::RollbackLift);
const GUARD_ENOUGH: Condition = is(Quantity::SmallerArm, Relation::AtLeast, Limit::GuardLeast);
const GUARD_Z: Condition = is(Quantity::ZStar, Relation::Below, Limit::GuardZ);
const NO_LIFT: Condition = is(Quantity::Lift, Relation::Undefined, Limit::None);
const SIGNIFICANT: Condition = is(Quantity::PSeq, Relation::Below, Limit::Alpha);
const DEGENERATE: Condition = is(Quantity::Degenerate, Relation::Yes, Limit::None);
const REGULAR: Condition = is(Quantity::Degenerate, Relation::No, Limit::None);

/// The first row that matches decides.
///
/// It never promotes what the procedures would not: p_seq makes a promotion stricter than their letter, and without a
/// lift there is none. A loss is rolled back before a split mismatch can hold the test: whatever broke the split, money
/// is being lost. "500 trades" are those of the smaller arm. Where no trade differs from its arm's others there
/// is no test, hence neither a promotion nor "no difference".
pub static TABLE: &[Row] = &[
    Row {
        number: 1,
        name: "rollback",
        says: "the variant is down by 10 % or more with 100 trades in both arms; with the sequential guard: by 10 % or \
               more, or by an undefined share, with z* below -2.65 and 20 trades in both arms",
        verdict: Verdict::Rollback,
        alternatives: &[
            with(Guard::Literal, &[ENOUGH, LOSS]),
            with(Guard::Sequential, &[GUARD_ENOUGH, GUARD_Z, LOSS]),
            with(Guard::Sequential, &[GUARD_ENOUGH, GUARD_Z, NO_LIFT]),
        ],
    },
    Row {
        number: 2,
        name: "split mismatch",
        says: "the arms don't get the shares they should: held until that is cleared up",
        verdict: Verdict::Hold,
        alternatives: &[all(&[is(Quantity::Mismatch, Relation::Above, Limit::Mismatch)])],
    },
    Row {
        number: 3,
        name: "promote",
        says: "the variant is up by 10 % or more with 100 trades in both arms, significantly by Welch's t as well as \
               over all looks, and by more than 0.2 standard deviations",
        verdict: Verdict::Promote,
        alternatives: &[all(&[
            ENOUGH,
            is(Quantity::Lift, Relation::AtLeast, Limit::PromoteLift),
            is(Quantity::WelchP, Relation::Below, Limit::Alpha),
            is(Quantity::PSeqUp, Relation::Below, Limit::Alpha),
            is(Quantity::D, Relation::Above, Limit::LeastD),
            REGULAR,
        ])],
    },
    Row {
        number: 4,
        name: "no difference",
        says: "nothing significant after 500 trades in the smaller arm",
        verdict: Verdict::NoDifference,
        alternatives: &[all(&[
            AT_HORIZON,
            is(Quantity::PSeq, Relation::AtLeast, Limit::Alpha),
            REGULAR,
        ])],
    },
    Row {
        number: 5,
        name: "significant, below threshold",
        says: "mixed to the end: significant, but not enough to promote after 1,000 trades in the smaller arm",
        verdict: Verdict::BelowThreshold,
        alternatives: &[all(&[AT_CAP, SIGNIFICANT]), all(&[AT_CAP, DEGENERATE])],
    },
    Row {
        number: 5,
        name: "mixed",
        says: "significant after 500 trades in the smaller arm, but not enough to promote: extended to 1,000",
        verdict: Verdict::Extend,
        alternatives: &[all(&[AT_HORIZON, SIGNIFICANT]), all(&[AT_HORIZON, DEGENERATE])],
    },
    Row {
        number: 6,
        name: "continue",
        says: "none of the above",
        verdict: Verdict::Continue,
        alternatives: &[all(&[])],
    },
];
