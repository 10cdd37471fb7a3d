//! One file per table: its records, key, reads and writes.

pub(crate) mod alerts;
pub(crate) mod backups;
pub(crate) mod baselines;
pub(crate) mod breakers;
pub(crate) mod care;
pub(crate) mod certificates;
pub(crate) mod configs;
pub(crate) mod dependencies;
pub(crate) mod drills;
pub(crate) mod emergency;
pub(crate) mod emergency_course;
pub(crate) mod experiments;
pub(crate) mod fleet;
pub(crate) mod floors;
pub(crate) mod gaps;
pub(crate) mod health;
pub(crate) mod holds;
pub(crate) mod identity;
pub(crate) mod incidents;
pub(crate) mod jobs;
pub(crate) mod matrices;
pub(crate) mod oplog;
pub(crate) mod parameters;
pub(crate) mod requests;
pub(crate) mod rollbacks;
pub(crate) mod runs;
pub(crate) mod segments;
pub(crate) mod series;
pub(crate) mod sources;
pub(crate) mod tallies;

/// Makes a writing type read as well.
macro_rules! reads_as {
    ($writing:ident => $reading:ident, $field:ident) => {
        impl<'t> std::ops::Deref for $writing<'t> {
            type Target = $reading<'t>;

            fn deref(&self) -> &$reading<'t> {
                &self.$field
            }
        }
    };
}
pub(crate) use reads_as;
