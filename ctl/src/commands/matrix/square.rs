//! Values of pairs with the names of what they are of, whoever calculated them.

use genesis_client::v1::Matrix;
use genesis_client::{Error, Kind};

/// What there is of each pair of named series: 1 of each with itself, and of some pairs nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Square {
    names: Vec<String>,
    /// Those above the diagonal, row by row; NaN where there is none.
    upper: Vec<f64>,
}

impl Square {
    /// `None` unless there are as many values as pairs.
    pub(super) fn of(names: Vec<String>, upper: Vec<f64>) -> Option<Self> {
        let pairs = names.len() * names.len().saturating_sub(1) / 2;
        (upper.len() == pairs).then_some(Self { names, upper })
    }

    /// Of what an agent answered.
    pub(super) fn of_message(matrix: Matrix) -> Result<Self, Error> {
        let (version, names, values) = (matrix.version, matrix.series.len(), matrix.upper.len());
        Self::of(matrix.series, matrix.upper).ok_or_else(|| {
            let message = format!(
                "matrix {version} can't be shown: it has {names} series, and {values} values are not those of their pairs"
            );
            let next = "compare the versions with `genesisctl version`";
            Error::new(Kind::Internal, "INTERNAL", "ANSWER_UNREADABLE", message, next)
        })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn size(&self) -> usize {
        self.names.len()
    }

    /// The values above the diagonal, row by row; NaN where there is none.
    pub(super) fn upper(&self) -> &[f64] {
        &self.upper
    }

    /// Of two series of this matrix.
    pub(super) fn get(&self, i: usize, j: usize) -> Option<f64> {
        if i == j {
            return Some(1.0);
        }
        let (i, j) = (i.min(j), i.max(j));
        let at = i * (2 * self.size() - i - 1) / 2 + (j - i - 1);
        self.upper.get(at).copied().filter(|value| !value.is_nan())
    }

    /// The pairs that have a value.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        let size = self.size();
        let places = (0..size).flat_map(move |i| (i + 1..size).map(move |j| (i, j)));
        places
            .zip(&self.upper)
            .filter(|(_, value)| !value.is_nan())
            .map(|((i, j), value)| (self.names[i].as_str(), self.names[j].as_str(), *value))
    }

    /// Pairs that have a value, those furthest from 0 first.
    pub(super) fn strongest(&self) -> Vec<(&str, &str, f64)> {
        let mut pairs: Vec<_> = self.pairs().collect();
        // Those that tie stay in the order of names.
        pairs.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_one_value_either_way_round() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
        let upper = vec![0.1, -0.9, 0.3, f64::NAN, 0.5, 0.6];
        let square = Square::of(names.clone(), upper).unwrap();
        assert_eq!((square.get(0, 2), square.get(2, 0)), (Some(-0.9), Some(-0.9)));
        assert_eq!((square.get(1, 2), square.get(3, 3)), (None, Some(1.0)));
        assert_eq!(square.get(2, 3), Some(0.6));
        assert_eq!(square.pairs().count(), 5);
        assert_eq!(square.strongest()[..2], [("a", "c", -0.9), ("c", "d", 0.6)]);
        assert!(Square::of(names, vec![0.1]).is_none());
        assert!(Square::of(vec![], vec![]).is_some());
        let odd = Matrix {
            version: 7,
            series: vec!["a".into()],
            upper: vec![1.0],
            digest: String::new(),
        };
        assert!(Square::of_message(odd).unwrap_err().message.contains("matrix 7 can't be shown"));
    }
}
