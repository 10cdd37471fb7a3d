//! What is known of vulnerable packages, and what that means for a lock. No IO, no clock, no async: texts and times
//! are arguments, and no input panics.
//!
//! Advisories are read from OSV records ([`osv`]) into a form that is kept by ecosystem and name, and evaluated against
//! a version ([`affected`]); what concerns one package becomes its findings ([`finding`]), with what is known of their
//! severity ([`severity`]), exploitation ([`kev`]) and likelihood ([`epss`]). Locks are read and written by
//! [`requirements`] and [`cargo_lock`]; [`bounds`] says how far each strategy may go.

pub mod affected;
pub mod bounds;
pub mod cargo_lock;
mod ecosystem;
pub mod epss;
pub mod finding;
mod freshness;
pub mod kev;
pub mod osv;
pub mod requirements;
pub mod severity;
mod text;
pub mod version;

pub use ecosystem::Ecosystem;
pub use freshness::{Freshness, freshness};
pub use text::Refused;
