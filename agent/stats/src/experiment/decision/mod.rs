//! What is done about a test.

mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;

use super::Rules;
pub use table::{Alternative, Condition, Limit, Quantity, Relation, Row, TABLE, Verdict};

/// Means that are apart by exactly a tenth are not so as doubles: 0.9 - 1.0 is more than -0.1.
const TOLERANCE: f64 = 1e-12;
/// No row has more conditions.
const MOST: usize = 6;

/// What is known of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Situation<'a> {
    /// The control's trades.
    pub control: u64,
    /// The variant's trades.
    pub variant: u64,
    /// The lift, where it is defined.
    pub lift: Option<f64>,
    /// Welch's p; 1 where there is none yet.
    pub p: f64,
    /// p_seq, whichever direction it speaks for.
    pub p_seq: f64,
    /// p_seq for the variant being better.
    pub p_seq_up: f64,
    /// Cohen's d.
    pub d: f64,
    /// z*.
    pub z_star: f64,
    /// The means differ, but no trade does from its arm's others.
    pub degenerate: bool,
    /// The evidence of a split mismatch, e.
    pub mismatch: f64,
    /// The numbers.
    pub rules: &'a Rules,
}

/// One condition of a row, held against a situation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reason {
    /// What is asked for.
    pub condition: Condition,
    /// What there is; `None` where it is undefined.
    pub value: Option<f64>,
    /// What it is compared with; `None` where the relation needs nothing.
    pub limit: Option<f64>,
    /// Whether it is so.
    pub holds: bool,
}

/// A few of them, without allocating.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reasons {
    items: [Option<Reason>; MOST],
}

impl Reasons {
    fn of(alternative: &Alternative, situation: &Situation) -> Self {
        let mut reasons = Self::default();
        for (item, condition) in reasons.items.iter_mut().zip(alternative.conditions) {
            *item = Some(weigh(condition, situation));
        }
        reasons
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Reason> {
        self.items.iter().flatten()
    }

    fn hold(&self) -> bool {
        self.iter().all(|reason| reason.holds)
    }
}

/// What is to be done, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The row that matched.
    pub row: &'static Row,
    /// Its conditions, all of which hold. The last row has none: [`explain`] says what the others lack.
    pub why: Reasons,
}

impl Deref for Decision {
    type Target = Row;

    fn deref(&self) -> &Row {
        self.row
    }
}

/// Decides by the first row of [`TABLE`] that matches; about 50 ns.
pub fn decide(situation: &Situation) -> Decision {
    for row in TABLE {
        for alternative in row.alternatives_for(situation.rules) {
            let why = Reasons::of(alternative, situation);
            if why.hold() {
                return Decision { row, why };
            }
        }
    }
    // The last row has an alternative without a condition, as a test makes sure of.
    Decision { row: &TABLE[TABLE.len() - 1], why: Reasons::default() }
}

/// All rows with what each alternative asks for, and whether it is so: for people who wonder why nothing happens.
pub fn explain(situation: &Situation) -> Vec<(&'static Row, Vec<Reasons>)> {
    let alternatives = |row: &'static Row| {
        let found = row.alternatives_for(situation.rules);
        found.map(|alternative| Reasons::of(alternative, situation)).collect()
    };
    TABLE.iter().map(|row| (row, alternatives(row))).collect()
}

fn weigh(condition: &Condition, situation: &Situation) -> Reason {
    let rules = situation.rules;
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    let value = match condition.quantity {
        Quantity::SmallerArm => Some(situation.control.min(situation.variant) as f64),
        Quantity::Lift => situation.lift,
        Quantity::WelchP => Some(situation.p),
        Quantity::PSeq => Some(situation.p_seq),
        Quantity::PSeqUp => Some(situation.p_seq_up),
        Quantity::D => Some(situation.d),
        Quantity::ZStar => Some(situation.z_star),
        Quantity::Mismatch => Some(situation.mismatch),
        Quantity::Degenerate => Some(flag(situation.degenerate)),
    };
    let limit = match condition.limit {
        Limit::None => None,
        Limit::Least => Some(rules.least as f64),
        Limit::Horizon => Some(rules.horizon as f64),
        Limit::Cap => Some(rules.cap as f64),
        Limit::Alpha => Some(rules.alpha),
        Limit::PromoteLift => Some(rules.promote_lift),
        Limit::RollbackLift => Some(rules.rollback_lift),
        Limit::LeastD => Some(rules.least_d),
        Limit::GuardZ => Some(rules.guard_z),
        Limit::GuardLeast => Some(rules.guard_least as f64),
        Limit::Mismatch => Some(rules.mismatch),
    };
    let slack = if condition.quantity == Quantity::Lift { TOLERANCE } else { 0.0 };
    let both = value.zip(limit);
    // What is undefined, or NaN, compares false.
    let holds = match condition.relation {
        Relation::AtLeast => both.is_some_and(|(value, limit)| value >= limit - slack),
        Relation::AtMost => both.is_some_and(|(value, limit)| value <= limit + slack),
        Relation::Above => both.is_some_and(|(value, limit)| value > limit),
        Relation::Below => both.is_some_and(|(value, limit)| value < limit),
        Relation::Undefined => value.is_none(),
        Relation::Yes => value == Some(1.0),
        Relation::No => value == Some(0.0),
    };
    Reason { condition: *condition, value, limit, holds }
}

impl fmt::Display for Reason {
    /// Such as `lift -12.00 % (at most -10.00 %)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Condition { quantity, relation, .. } = self.condition;
        let show = |f: &mut fmt::Formatter<'_>, value: f64| match quantity {
            Quantity::SmallerArm => write!(f, "{value}"),
            Quantity::Lift => write!(f, "{:+.2} %", value * 100.0),
            Quantity::D | Quantity::ZStar => write!(f, "{value:.3}"),
            Quantity::Degenerate => f.write_str(if value == 1.0 { "yes" } else { "no" }),
            // Small p-values and large evidence alike.
            _ if value != 0.0 && !(1e-3..1e6).contains(&value) => write!(f, "{value:.2e}"),
            _ => write!(f, "{value:.4}"),
        };
        write!(f, "{} ", quantity.name())?;
        match self.value {
            Some(value) => show(f, value)?,
            None => f.write_str("undefined")?,
        }
        write!(f, " ({}", relation.name())?;
        if let Some(limit) = self.limit {
            f.write_str(" ")?;
            show(f, limit)?;
        }
        f.write_str(")")
    }
}
