//! What the agent has acknowledged, and what nobody knows of.

use std::sync::{Mutex, MutexGuard};

/// What was asked of the agent, so that it can be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// An entry of the operation log with this text.
    Note(String),
    /// So many observations.
    Observations(u64),
    /// So many trades of the experiment.
    Trades(u64),
    /// So many values of series.
    Values(u64),
    /// The parameter has this value, which no other version has.
    Parameter(String),
    /// What was written to the log until then was cut off.
    Rotation,
    /// A backup of the agent's state.
    Backup,
    /// A care of the database.
    Care,
    /// A certificate from the CA.
    Certificate,
    /// People are to hear of the patient.
    Alert,
    /// Trading is halted.
    Halt,
    /// The emergency is over.
    Release,
    /// The parameter has this value in the whole fleet.
    FleetParameter(String),
    /// The configuration has gone back to the text of this digest, for a reason that nothing else has.
    Rollback {
        /// The reason.
        reason: String,
        /// The digest.
        to: String,
    },
    /// A drill, for a reason that no other one has, has passed.
    Drill(String),
    /// An update of the application, for a reason that no other one has, has come into service.
    Update(String),
    /// An update that must not come into service was tried, for a reason that no other one has.
    Flawed(String),
    /// An earlier release of the application, for a reason that nothing else has, is in service again.
    WayBack(String),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// The agent said that it is done.
    Acknowledged,
    /// The agent can't tell whether it was done: it was cut off in it.
    Doubtful,
}

/// What was acknowledged of one kind, and what besides may have been done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// So much must be there.
    pub acknowledged: u64,
    /// So much more may be there.
    pub doubtful: u64,
}

/// The book of all that was asked. What was refused is not in it.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Vec<(Fact, Became)>>);

impl Ledger {
    /// Notes what became of something.
    pub fn note(&self, fact: Fact, became: Became) {
        self.lock().push((fact, became));
    }

    /// Counts what `of` gives a number to.
    pub fn count(&self, of: impl Fn(&Fact) -> Option<u64>) -> Count {
        let mut count = Count::default();
        for (fact, became) in self.lock().iter() {
            let number = of(fact).unwrap_or(0);
            match became {
                Became::Acknowledged => count.acknowledged += number,
                Became::Doubtful => count.doubtful += number,
            }
        }
        count
    }

    /// How often `fact` itself was acknowledged, and is doubtful.
    pub fn times(&self, fact: &Fact) -> Count {
        self.count(|known| (known == fact).then_some(1))
    }

    /// The newest `limit` facts that `of` knows, the newest first, each with what became of it.
    pub fn newest<T>(&self, limit: usize, of: impl Fn(&Fact) -> Option<T>) -> Vec<(T, Became)> {
        let known = self.lock();
        let found = known.iter().rev().filter_map(|(fact, became)| Some((of(fact)?, *became)));
        found.take(limit).collect()
    }

    /// How many were acknowledged in all.
    pub fn acknowledged(&self) -> u64 {
        self.count(|_| Some(1)).acknowledged
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Fact, Became)>> {
        self.0.lock().expect("never poisoned")
    }
}
