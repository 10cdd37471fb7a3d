//! When an operation's latency deviates from its baseline: a window is judged, and windows in a row make an episode.
//!
//! [`judge`] says how far a window is out. One window alone is a *candidate* at the most: it is recorded and counted,
//! and about two in a hundred healthy windows are. [`Watch`] and [`OperationWatch`] act on what is sustained, by the
//! same CUSUM as the breaker's, and only on what gets worse by enough to matter.

mod judge;
mod scatter;
mod watch;

pub use judge::{Calibrated, Judgement, Method, Reference, Rule, Verdict, WindowCount, judge};
pub use scatter::phi;
pub use watch::{Change, Episode, OperationEpisode, OperationWatch, Quantile, Watch};
