//! A/B tests of strategies: is the variant better than the control, and what is to be done about it?

mod assignment;
mod moments;

pub use assignment::{Split, bucket_ranges, place};
pub use moments::{MomentParts, Moments};
