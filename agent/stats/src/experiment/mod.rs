//! A/B tests of strategies: is the variant better than the control, and what is to be done about it?
//!
//! [`Trial`] is a test: trades go in, a [`Look`] comes out, and its [`Decision`] is a row of [`TABLE`]. It is made of
//! pure parts that can be used by themselves: [`Moments`] tally the trades, [`compare`] holds one arm against the
//! other, a [`Design`] says what looking again and again is worth, [`Split`] assigns units to arms.

mod always_valid;
mod assignment;
mod boundary;
mod compare;
mod critical;
mod decision;
mod design;
mod false_rollback;
mod gamma;
mod lan_demets;
mod lift;
mod mismatch;
mod moments;
mod power;
mod quadrature;
mod rules;
mod sequential;
mod trial;

pub use always_valid::AlwaysValid;
pub use assignment::{Split, bucket_ranges, place};
pub use compare::{Comparison, Spread, compare};
pub use decision::{
    Alternative, Condition, Decision, Limit, Quantity, Reason, Reasons, Relation, Row, Situation,
    TABLE, Verdict, decide, explain,
};
pub use design::{Design, Direction, Evidence, FixedLook, Stage, State};
pub use false_rollback::false_rollback;
pub use lan_demets::{LanDemets, TakenLook, lan_demets_boundaries};
pub use lift::{Lift, NoLift};
pub use mismatch::split_evidence;
pub use moments::{MomentParts, Moments};
pub use power::{equivalence, needed, power};
pub use rules::{Guard, Rules};
pub use sequential::{FIRST_INFORMATION, Looks, boundary_critical, boundary_probability};
pub use trial::{Arm, ArmSummary, Look, Trial, TrialError};
