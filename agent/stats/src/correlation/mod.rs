//! Correlation matrices: from the values of many series to a matrix that may be used, or to what speaks against it.
//!
//! The values of a day become a [`Block`] of sums. The blocks of a window, of all days and hosts, become a [`Window`],
//! whose sums give an [`Estimate`]. With names and a least number of points that is a [`Candidate`]; [`validate`] says
//! what it is worth, criterion by criterion, and [`Candidate::accept`] makes a [`Correlation`] of it, which is served and
//! kept. [`repair`] finds the nearest matrix that is definite, and [`in_canary`] says who gets a new one first.
//!
//! The loops are our own, in plain Rust that is compiled twice (see `wide`), and not a library's: what a pair gets then
//! does not depend on which series stand beside it, and there is nothing more to build.
//!
//! All results are the same to the bit on each machine, in whatever order blocks and series come.

mod block;
mod bytes;
mod canary;
mod candidate;
mod codec;
mod dd;
mod definite;
mod drift;
mod eigen;
mod estimate;
mod mask;
mod matrix;
mod merge;
mod nearest;
mod rebase;
mod repair;
mod sums;
mod triangle;
mod validate;
mod wide;
mod window;

pub use block::{Block, BlockError};
pub use canary::in_canary;
pub use candidate::{Candidate, Unsettled, Why};
pub use definite::Definiteness;
pub use drift::{Drift, DriftMode, Moved, drift};
pub use estimate::Estimate;
pub use matrix::{Correlation, MatrixError};
pub use repair::{RepairError, RepairRules, Repaired, repair};
pub use validate::{Acceptance, Check, Criterion, Detail, Limits, Validation, Verdict, validate};
pub use window::{Part, Window, WindowError};
