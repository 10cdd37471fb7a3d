//! The pure kernel of GENESIS: numbers in, numbers out. No IO, no clock, no async.

pub mod column;
pub mod correlation;
mod cusum;
mod deviation;
pub mod experiment;
mod normal;
mod quantile;
mod ramp;
mod sketch;
mod student;

pub use cusum::{Cusum, LEAST_EXPECTED, Usual, alert_threshold, exceedance_z, threshold};
pub use deviation::{
    Calibrated, Change, Episode, Judgement, Method, OperationEpisode, OperationWatch, Quantile,
    Reference, Rule, Verdict, Watch, WindowCount, judge, phi,
};
pub use normal::{normal_cdf, normal_quantile};
pub use quantile::quantile;
pub use ramp::{Progress, Ramp, open_for};
pub use sketch::{Parts, Sketch, SketchError};
pub use student::{t_upper_quantile, t_upper_tail};
