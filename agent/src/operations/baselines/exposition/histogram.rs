//! Samples put together: histograms and summaries.

use std::collections::HashMap;

use super::{Family, Sample};

/// So many buckets a histogram may have.
const MOST_BUCKETS: usize = 1_024;
/// Above it, not every whole number is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A histogram of buckets that each hold what is in the ones before.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassicHistogram {
    /// Names and values, in the order of the names, without `le`.
    pub labels: Vec<(String, String)>,
    /// Upper bounds, in ascending order, and how many values are not above each. The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of the values, if it is told.
    pub sum: Option<f64>,
    /// How many values there are: what the last bucket has.
    pub count: u64,
    /// Milliseconds since 1970, where the text has a time.
    pub timestamp: Option<i64>,
}

/// A summary: quantiles that a service calculated itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantiles {
    /// Names and values, in the order of the names, without `quantile`.
    pub labels: Vec<(String, String)>,
    /// Quantiles, and the values there.
    pub quantiles: Vec<(f64, f64)>,
    /// The sum of the values, if it is told.
    pub sum: Option<f64>,
    /// How many values there are, if it is told.
    pub count: Option<u64>,
    /// Milliseconds since 1970, where the text has a time.
    pub timestamp: Option<i64>,
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Family<'_> {
    /// The histograms, one for each set of labels, and how many there are that are unsound: without buckets, with more
    /// than 1,024 or two of one bound, or with counts that fall or are none.
    pub fn histograms(&self) -> (Vec<ClassicHistogram>, usize) {
        let mut unsound = 0;
        let series = self.series("le").into_iter();
        let sound = series.filter_map(|(labels, samples)| {
            let histogram = histogram(&labels, &samples);
            unsound += usize::from(histogram.is_none());
            histogram
        });
        (sound.collect(), unsound)
    }

    /// The summaries, one for each set of labels. What is no number of values is left out.
    pub fn summaries(&self) -> Vec<Quantiles> {
        let series = self.series("quantile").into_iter();
        series.map(|(labels, samples)| summary(&labels, &samples)).collect()
    }

    /// The samples by their labels but one, in the order of their first ones.
    fn series(&self, but: &str) -> Vec<(Labels<'_>, Vec<Member<'_>>)> {
        let mut places: HashMap<Labels<'_>, usize> = HashMap::new();
        let mut series: Vec<(Labels<'_>, Vec<Member<'_>>)> = Vec::new();
        for sample in &self.samples {
            let mut labels: Labels<'_> =
                sample.labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
            labels.sort_unstable();
            let own = labels.iter().position(|(name, _)| *name == but);
            let own = own.map(|own| labels.remove(own).1);
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                series.push((labels.clone(), Vec::new()));
                series.len() - 1
            });
            series[place].1.push((own, sample));
        }
        series
    }
}

/// A sample, and what its own label says.
type Member<'a> = (Option<&'a str>, &'a Sample<'a>);

fn histogram(labels: &Labels<'_>, samples: &[Member<'_>]) -> Option<ClassicHistogram> {
    let mut buckets = Vec::new();
    let (mut sum, mut count, mut timestamp) = (None, None, None);
    for (bound, sample) in samples {
        timestamp = timestamp.or(sample.timestamp);
        match sample.suffix {
            "_bucket" => {
                let bound: f64 = bound.as_ref()?.parse().ok()?;
                buckets.push((bound, whole(sample.value)?));
            }
            "_sum" | "_gsum" => sum = Some(sample.value),
            "_count" | "_gcount" => count = Some(whole(sample.value)?),
            _ => {}
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    match buckets.last() {
        Some((bound, _)) if *bound == f64::INFINITY => {}
        Some(_) => buckets.push((f64::INFINITY, count?)),
        None => return None,
    }
    // So that what is no number is out too.
    let in_order = |pair: &[(f64, u64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
    if buckets.len() > MOST_BUCKETS || !buckets.windows(2).all(in_order) {
        return None;
    }
    // Some clients read the two at different moments; what the buckets say is one moment's.
    let count = buckets.last()?.1;
    Some(ClassicHistogram { labels: owned(labels), buckets, sum, count, timestamp })
}

fn summary(labels: &Labels<'_>, samples: &[Member<'_>]) -> Quantiles {
    let mut found = Quantiles {
        labels: owned(labels),
        quantiles: Vec::new(),
        sum: None,
        count: None,
        timestamp: None,
    };
    for (quantile, sample) in samples {
        found.timestamp = found.timestamp.or(sample.timestamp);
        match (sample.suffix, quantile.and_then(|it| it.parse().ok())) {
            ("", Some(quantile)) => found.quantiles.push((quantile, sample.value)),
            ("_sum", _) => found.sum = Some(sample.value),
            ("_count", _) => found.count = whole(sample.value),
            _ => {}
        }
    }
    found.quantiles.sort_by(|one, other| one.0.total_cmp(&other.0));
    found
}

fn owned(labels: &Labels<'_>) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A number of values.
fn whole(value: f64) -> Option<u64> {
    ((0.0..=EXACT).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}
