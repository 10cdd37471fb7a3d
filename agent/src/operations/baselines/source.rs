//! Histograms that others keep, taken in as what came between two looks at them. Pure: when to look, and at what, is for
//! the caller to say.
//!
//! A histogram only says between which two bounds a value lies, so such a sketch is as coarse as its source, and says so.
//! The sum is the source's own.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use genesis_stats::Sketch;

use super::exposition::Families;

mod counts;
mod naming;

pub use counts::{Counts, Since, Unit};
pub(super) use counts::{narrowed, settled};
pub use naming::Naming;

/// A series that so many looks did not show is forgotten.
const KEPT: u64 = 10;

/// What the last looks at one metric of one source showed.
///
/// After a pause, the next look would tell of all the pause at once: [`Cumulative::forget`] is for then.
#[derive(Debug)]
pub struct Cumulative {
    series: HashMap<Vec<(String, String)>, Held>,
    limit: usize,
    look: u64,
}

#[derive(Debug)]
struct Held {
    counts: Counts,
    look: u64,
}

/// What came between two looks.
#[derive(Debug, Default)]
pub struct Scraped {
    /// The values, by operation. Series of one name are one operation.
    pub operations: BTreeMap<String, Sketch>,
    /// Series that were seen for the first time, or with other bounds than before, and so tell nothing yet.
    pub first: usize,
    /// Series that began anew in between.
    pub resets: usize,
    /// Series without a label that the name is made of.
    pub unnamed: usize,
    /// Histograms that are unsound.
    pub unsound: usize,
    /// Series for which there is no room.
    pub crowded_out: usize,
}

impl Cumulative {
    /// Remembers nothing yet, and at most `limit` series.
    pub fn new(limit: usize) -> Self {
        Self { series: HashMap::new(), limit, look: 0 }
    }

    /// Forgets all, so that the next look is the first.
    pub fn forget(&mut self) {
        self.series.clear();
    }

    /// How many series are remembered.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Looks at the histograms of a metric.
    pub fn scrape(
        &mut self,
        families: &Families<'_>,
        metric: &str,
        naming: &Naming,
        unit: Unit,
    ) -> Scraped {
        let (histograms, unsound) = families.histograms(metric);
        let mut scraped = Scraped { unsound, ..Scraped::default() };
        self.look += 1;
        for histogram in histograms {
            let value = |name: &str| {
                let found = histogram.labels.iter().find(|(label, _)| label == name);
                found.map(|(_, value)| Cow::Borrowed(value.as_str()))
            };
            let Some(operation) = naming.name(value) else {
                scraped.unnamed += 1;
                continue;
            };
            let counts = Counts::of(&histogram);
            let look = self.look;
            let Some(held) = self.series.get_mut(&histogram.labels) else {
                if self.series.len() < self.limit {
                    self.series.insert(histogram.labels, Held { counts, look });
                    scraped.first += 1;
                } else {
                    scraped.crowded_out += 1;
                }
                continue;
            };
            let between = match counts.since(&held.counts) {
                Since::Anew => {
                    scraped.first += 1;
                    None
                }
                Since::Reset => {
                    scraped.resets += 1;
                    Some(counts.sketch(unit, None))
                }
                Since::Grown(between) => Some(between.sketch(unit, None)),
            };
            *held = Held { counts, look };
            if let Some(between) = between.filter(|it| !it.is_empty() || it.rejected() > 0) {
                scraped.operations.entry(operation).or_default().merge(&between);
            }
        }
        let look = self.look;
        self.series.retain(|_, held| held.look + KEPT > look);
        scraped
    }
}
