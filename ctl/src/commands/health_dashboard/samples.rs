//! What was seen before, for trends: bounded in length and in number.

use std::collections::{BTreeMap, VecDeque};

/// So many samples of each are kept.
pub(super) const KEPT: usize = 120;
/// Of so many things at most.
const THINGS: usize = 2048;

/// The latest values of things, by their names. A gap is a time at which nothing could be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    of: BTreeMap<String, VecDeque<Option<f64>>>,
}

impl Samples {
    /// Adds what is known of `names` now, and a gap to whatever of the same `kind` nothing was told of.
    pub(super) fn add(
        &mut self,
        kind: &str,
        values: impl IntoIterator<Item = (String, Option<f64>)>,
    ) {
        let mut told: BTreeMap<String, Option<f64>> = values
            .into_iter()
            .map(|(name, value)| (format!("{kind} {name}"), value.filter(|it| it.is_finite())))
            .collect();
        let kind = format!("{kind} ");
        for (_, ring) in self.of.iter_mut().filter(|(name, _)| name.starts_with(&kind)) {
            ring.push_back(None);
            if ring.len() > KEPT {
                ring.pop_front();
            }
        }
        // What was not told of for as long as is remembered is forgotten.
        self.of.retain(|name, ring| told.contains_key(name) || ring.iter().any(Option::is_some));
        for (name, ring) in &mut self.of {
            if let (Some(value), Some(last)) = (told.remove(name), ring.back_mut()) {
                *last = value;
            }
        }
        let room = THINGS.saturating_sub(self.of.len());
        self.of.extend(told.into_iter().take(room).map(|(name, it)| (name, [it].into())));
    }

    /// Nobody could tell anything.
    pub(super) fn gap(&mut self) {
        for kind in ["node", "check"] {
            self.add(kind, []);
        }
    }

    /// Those of a kind and a name, "kind name", oldest first.
    pub(super) fn of(&self, key: &str) -> Option<&VecDeque<Option<f64>>> {
        self.of.get(key)
    }
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LETTERS: [char; 8] = ['_', '.', ',', '-', '=', '+', '*', '#'];

/// The latest values in a line of at most `width` characters, between the lowest and the highest of them; a gap is
/// a space.
pub(super) fn spark(values: &VecDeque<Option<f64>>, width: usize, unicode: bool) -> String {
    let shown: Vec<Option<f64>> =
        values.iter().copied().skip(values.len().saturating_sub(width)).collect();
    let Some((low, high)) = range(shown.iter().copied()) else {
        return " ".repeat(shown.len());
    };
    let marks = if unicode { BLOCKS } else { LETTERS };
    shown
        .into_iter()
        .map(|value| match value {
            None => ' ',
            Some(value) => marks[level(value, (low, high), marks.len() - 1)],
        })
        .collect()
}

/// A chart of `height` lines, the highest first.
pub(super) fn chart(
    values: &VecDeque<Option<f64>>,
    (width, height): (usize, usize),
    unicode: bool,
) -> Vec<String> {
    let shown: Vec<Option<f64>> =
        values.iter().copied().skip(values.len().saturating_sub(width)).collect();
    let Some(between) = range(shown.iter().copied()) else { return Vec::new() };
    let marks = if unicode { BLOCKS } else { LETTERS };
    let steps = height * marks.len();
    let line = |below: usize| {
        let mark = |value: &Option<f64>| match value {
            None => ' ',
            Some(value) => match (level(*value, between, steps - 1) + 1).checked_sub(below) {
                None | Some(0) => ' ',
                Some(filled) => marks[filled.min(marks.len()) - 1],
            },
        };
        shown.iter().map(mark).collect()
    };
    (0..height).rev().map(|row| line(row * marks.len())).collect()
}

/// The lowest and the highest of the values that are known.
pub(super) fn range(values: impl IntoIterator<Item = Option<f64>>) -> Option<(f64, f64)> {
    values.into_iter().flatten().fold(None, |known, value| match known {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// From 0 to `top`; what is always the same is in the lower middle.
fn level(value: f64, (low, high): (f64, f64), top: usize) -> usize {
    // Halves, since the whole may be more than there are numbers for.
    let (part, whole) = (value / 2.0 - low / 2.0, high / 2.0 - low / 2.0);
    if whole <= 0.0 {
        return top / 3;
    }
    ((part / whole * top as f64).round() as usize).min(top)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(values: &[f64]) -> VecDeque<Option<f64>> {
        values.iter().map(|value| Some(*value).filter(|it| it.is_finite())).collect()
    }

    #[test]
    fn lines_and_charts_show_the_range_and_gaps() {
        assert_eq!(spark(&ring(&[0.0, 7.0, f64::NAN, 3.0]), 10, true), "▁█ ▄");
        assert_eq!(spark(&ring(&[0.0, 7.0, f64::NAN, 3.0]), 10, false), "_# -");
        assert_eq!(spark(&ring(&[5.0, 5.0]), 10, true), "▃▃");
        assert_eq!(spark(&ring(&[1.0, 2.0, 3.0]), 2, true), "▁█");
        assert_eq!(spark(&ring(&[f64::NAN]), 2, true), " ");
        assert_eq!(chart(&ring(&[0.0, 15.0, f64::NAN, 7.0]), (9, 2), true), [" █  ", "▁█ █"]);
        assert!(chart(&ring(&[f64::NAN]), (9, 2), true).is_empty());
        assert!(spark(&ring(&[f64::MIN, f64::MAX]), 9, true).ends_with('█'));
    }

    #[test]
    fn what_is_not_told_of_is_a_gap_and_then_forgotten() {
        let mut samples = Samples::default();
        samples.add("check", [("a".to_owned(), Some(1.0)), ("b".to_owned(), Some(f64::NAN))]);
        samples.add("node", [("a".to_owned(), Some(9.0))]);
        samples.add("check", [("a".to_owned(), Some(2.0)), ("b".to_owned(), None)]);
        samples.gap();
        let of = |samples: &Samples, name: &str| samples.of(&format!("check {name}")).cloned();
        assert_eq!(of(&samples, "a").unwrap(), [Some(1.0), Some(2.0), None]);
        assert_eq!(of(&samples, "b"), None, "nothing was ever known of it");
        assert_eq!(samples.of("node a").unwrap(), &[Some(9.0), None]);
        for _ in 0..KEPT {
            samples.gap();
        }
        assert_eq!(of(&samples, "a"), None);
        assert!(samples.of.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_grows_beyond_its_bounds(
            values in proptest::collection::vec(proptest::option::of(any::<f64>()), 0..300),
            width in 0usize..200,
            height in 1usize..6,
        ) {
            let mut samples = Samples::default();
            for value in &values {
                samples.add("check", [("a".to_owned(), *value)]);
            }
            if let Some(ring) = samples.of("check a") {
                prop_assert!(ring.len() <= KEPT);
                for unicode in [true, false] {
                    prop_assert!(spark(ring, width, unicode).chars().count() <= width);
                    let lines = chart(ring, (width, height), unicode);
                    prop_assert!(lines.len() <= height);
                    prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
                }
            }
        }
    }
}
