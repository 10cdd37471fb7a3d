//! Counts in buckets with bounds: their differences, and the sketches of them.

use genesis_stats::{Parts, Sketch};

use crate::operations::baselines::exposition::ClassicHistogram;

/// What a source counts time in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Thousandths.
    Milliseconds,
    /// Millionths.
    Microseconds,
    /// Billionths.
    Nanoseconds,
}

impl Unit {
    /// The unit of this name, short as in OpenTelemetry or long as in Prometheus.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "s" | "seconds" => Self::Seconds,
            "ms" | "milliseconds" => Self::Milliseconds,
            "us" | "µs" | "microseconds" => Self::Microseconds,
            "ns" | "nanoseconds" => Self::Nanoseconds,
            _ => return None,
        })
    }

    /// What the name of a metric of Prometheus ends with; seconds, its base unit, where that is no unit.
    pub fn of_metric(name: &str) -> Self {
        let last = name.rsplit('_').next().unwrap_or_default();
        Self::named(last).unwrap_or(Self::Seconds)
    }

    /// A value in seconds.
    pub fn seconds(self, value: f64) -> f64 {
        // Divided, as a thousandth is no float.
        value
            / match self {
                Self::Seconds => 1.0,
                Self::Milliseconds => 1e3,
                Self::Microseconds => 1e6,
                Self::Nanoseconds => 1e9,
            }
    }
}

/// How many values there were up to each of some bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// In ascending order, without the infinite one.
    bounds: Vec<f64>,
    /// How many values are not above each bound; then, how many there are.
    up_to: Vec<u64>,
    sum: Option<f64>,
}

/// What became of counts.
#[derive(Debug, Clone, PartialEq)]
pub enum Since<T> {
    /// They can't be compared with those before.
    Anew,
    /// They fell, so that they began at zero in between: all of them are new.
    Reset,
    /// So much came in between.
    Grown(T),
}

impl<T> Since<T> {
    /// The same of something else.
    pub fn map<U>(self, of: impl FnOnce(T) -> U) -> Since<U> {
        match self {
            Self::Anew => Since::Anew,
            Self::Reset => Since::Reset,
            Self::Grown(more) => Since::Grown(of(more)),
        }
    }
}

impl Counts {
    /// Those of a histogram of Prometheus.
    pub fn of(histogram: &ClassicHistogram) -> Self {
        let finite = histogram.buckets.len().saturating_sub(1);
        Self {
            bounds: histogram.buckets[..finite].iter().map(|(bound, _)| *bound).collect(),
            up_to: histogram.buckets.iter().map(|(_, count)| *count).collect(),
            sum: histogram.sum,
        }
    }

    /// Those of buckets that each hold what is above the bound before; there is one more than bounds. `None` where they
    /// are not so, or the bounds not in ascending order, or the counts too large.
    pub fn of_buckets(bounds: &[f64], counts: &[u64], sum: Option<f64>) -> Option<Self> {
        let in_order = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let finite = bounds.iter().all(|bound| bound.is_finite());
        if counts.len() != bounds.len() + 1 || !in_order || !finite {
            return None;
        }
        let mut total: u64 = 0;
        let mut up_to = Vec::with_capacity(counts.len());
        for count in counts {
            total = total.checked_add(*count)?;
            up_to.push(total);
        }
        Some(Self { bounds: bounds.to_vec(), up_to, sum })
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.up_to.last().copied().unwrap_or(0)
    }

    /// How many buckets there are, the infinite one included.
    pub fn buckets(&self) -> usize {
        self.up_to.len()
    }

    /// What became of former ones.
    pub fn since(&self, former: &Self) -> Since<Self> {
        if self.bounds != former.bounds || self.up_to.len() != former.up_to.len() {
            return Since::Anew;
        }
        let mut before = 0;
        let mut up_to = Vec::with_capacity(self.up_to.len());
        for (now, then) in self.up_to.iter().zip(&former.up_to) {
            let Some(more) = now.checked_sub(*then) else { return Since::Reset };
            // A service that counts while it is read may show less here than in the bucket before.
            before = more.max(before);
            up_to.push(before);
        }
        let sum = self.sum.zip(former.sum).map(|(now, then)| now - then);
        Since::Grown(Self { bounds: self.bounds.clone(), up_to, sum })
    }

    /// The values, as exactly as they are known: `extremes` are the smallest and the largest of them, in the source's
    /// unit.
    pub fn sketch(&self, unit: Unit, extremes: Option<(f64, f64)>) -> Sketch {
        let (mut sketch, mut before) = (Sketch::new(), 0);
        let (mut least, mut most) = (0.0, 0.0);
        // A duration is not negative, so what is below the first bound is above zero.
        let mut low = match self.bounds.first() {
            Some(first) if *first <= 0.0 => f64::NEG_INFINITY,
            _ => 0.0,
        };
        let ends = self.bounds.iter().copied().chain([f64::INFINITY]);
        for (high, up_to) in ends.zip(&self.up_to) {
            let count = up_to - before;
            if count > 0 {
                let (low, high) = narrowed((low, high), extremes);
                let (low, high) = (unit.seconds(low), unit.seconds(high));
                least += count as f64 * low.max(0.0);
                most += count as f64 * high.max(0.0);
                sketch.add_range(low, high, count);
            }
            (low, before) = (high, *up_to);
        }
        let sum = self.sum.map(|sum| unit.seconds(sum));
        let extremes = extremes.map(|(min, max)| (unit.seconds(min), unit.seconds(max)));
        settled(sketch, sum.filter(|sum| agrees(*sum, least, most)), extremes)
    }
}

/// A bucket without what lies beyond the smallest and the largest value.
pub(in crate::operations::baselines) fn narrowed(
    (low, high): (f64, f64),
    extremes: Option<(f64, f64)>,
) -> (f64, f64) {
    let sound = extremes.filter(|(min, max)| min <= max && max.is_finite());
    let Some((min, max)) = sound else { return (low, high) };
    // The lower end is not in the bucket, but the smallest value is.
    let (from, to) = (low.max(min.next_down()), high.min(max));
    if from < to { (from, to) } else { (low, high) }
}

/// Whether a sum is one of values within these bounds. A difference of large sums is not exact.
fn agrees(sum: f64, least: f64, most: f64) -> bool {
    const SLACK: f64 = 1e-6;
    sum >= least * (1.0 - SLACK) && sum <= most * (1.0 + SLACK)
}

/// The sketch with the sum and the extremes in seconds that are known of its values, as far as they can be right.
pub(in crate::operations::baselines) fn settled(
    sketch: Sketch,
    sum: Option<f64>,
    extremes: Option<(f64, f64)>,
) -> Sketch {
    if sketch.is_empty() {
        return sketch;
    }
    let mut parts = sketch.to_parts();
    // Of values that are not in it, it may be too large.
    if let Some(sum) = sum.filter(|sum| sketch.rejected() == 0 && *sum >= 0.0 && sum.is_finite()) {
        parts.sum_nanos = (sum * 1e9).round() as u128;
    }
    let narrow = extremes.map(|(min, max)| Parts {
        // A negative zero is none of a sketch's values.
        min: Some(min.abs()).filter(|_| min >= 0.0),
        max: Some(max),
        ..parts.clone()
    });
    let narrow = narrow.and_then(|parts| Sketch::from_parts(parts).ok());
    narrow.or_else(|| Sketch::from_parts(parts).ok()).unwrap_or(sketch)
}
