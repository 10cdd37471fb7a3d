//! The minutes whose windows are open, in memory: what was durable is added, and after a start read back from the raw
//! columns.

use std::collections::{BTreeMap, HashMap};

use genesis_stats::Sketch;

/// So many minutes are kept: those of a window that is open, of the one before, and some that wait for the disk.
pub const KEPT: i64 = 20;

/// Sketches by minute since 1970 and operation.
#[derive(Debug, Default)]
pub struct Windows {
    minutes: BTreeMap<i64, HashMap<u32, Sketch>>,
}

impl Windows {
    /// Adds what came of a minute.
    pub fn add(&mut self, operation: u32, minute: i64, sketch: &Sketch) {
        let of_minute = self.minutes.entry(minute).or_default();
        of_minute.entry(operation).or_default().merge(sketch);
    }

    /// What an operation had in a minute.
    pub fn minute(&self, operation: u32, minute: i64) -> Option<&Sketch> {
        self.minutes.get(&minute)?.get(&operation)
    }

    /// The operations that had something from one minute to before another.
    pub fn operations(&self, from: i64, until: i64) -> Vec<u32> {
        let each = self.minutes.range(from..until.max(from)).flat_map(|(_, it)| it.keys().copied());
        let mut found: Vec<u32> = each.collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// All that an operation had from one minute to before another.
    pub fn window(&self, operation: u32, from: i64, until: i64) -> Sketch {
        let mut window = Sketch::new();
        for (_, minute) in self.minutes.range(from..until.max(from)) {
            if let Some(sketch) = minute.get(&operation) {
                window.merge(sketch);
            }
        }
        window
    }

    /// Forgets the minutes before this one.
    pub fn expire(&mut self, before: i64) {
        self.minutes = self.minutes.split_off(&before);
    }

    /// Forgets an operation.
    pub fn forget(&mut self, operation: u32) {
        self.minutes.values_mut().for_each(|minute| drop(minute.remove(&operation)));
    }
}
