//! A matrix as consumers have it, and what makes one that can't be used.

use genesis_proto::v1;

use crate::{Error, Kind};

/// A correlation matrix: symmetric, of the given series, each value from -1 to 1, and 1 on the diagonal.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    version: u64,
    canary: bool,
    digest: String,
    /// Sorted, each once.
    series: Vec<String>,
    /// Above the diagonal, row by row.
    upper: Vec<f64>,
}

impl Matrix {
    /// The version, by which outcomes with it are reported.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether it is being tried: outcomes with it are what it is judged by.
    pub fn is_canary(&self) -> bool {
        self.canary
    }

    /// Names its series and values: the same on whatever host it was calculated.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its series, sorted; their places are the rows and columns.
    pub fn series(&self) -> &[String] {
        &self.series
    }

    /// The value in row `i` and column `j`, both from 0. `None`: it has no such row or column.
    pub fn get(&self, i: usize, j: usize) -> Option<f64> {
        let size = self.series.len();
        let (i, j) = (i.min(j), i.max(j));
        if j >= size {
            return None;
        }
        if i == j {
            return Some(1.0);
        }
        // Behind the rows above, which have one value less each.
        self.upper.get(i * (2 * size - i - 1) / 2 + (j - i - 1)).copied()
    }

    /// The value of two series by name. `None`: it has not both.
    pub fn between(&self, one: &str, other: &str) -> Option<f64> {
        self.get(self.place(one)?, self.place(other)?)
    }

    /// The row and column of a series. `None`: it has none of this name.
    pub fn place(&self, series: &str) -> Option<usize> {
        self.series.binary_search_by(|known| known.as_str().cmp(series)).ok()
    }

    /// One that an agent sent, unless it is none.
    pub(super) fn of(sent: v1::Matrix, canary: bool) -> Result<Self, Error> {
        let v1::Matrix { version, series, upper, digest } = sent;
        let refused = |why: String| {
            let message = format!("the agent sent a matrix {version} that can't be used: {why}");
            let next = "go back with `genesisctl matrix rollback`, and look at the agent's log";
            Error::new(Kind::Internal, "INTERNAL", "MATRIX_UNUSABLE", message, next)
        };
        if version == 0 {
            return Err(refused("it has no version".to_owned()));
        }
        // Names are looked up by their order.
        if let Some(pair) = series.windows(2).find(|pair| pair[0] >= pair[1]) {
            let why = format!("its series {} and {} are not in order", pair[0], pair[1]);
            return Err(refused(why));
        }
        let size = series.len();
        let pairs = size.checked_mul(size.saturating_sub(1)).map(|twice| twice / 2);
        if pairs != Some(upper.len()) {
            let why = format!("{size} series have other than {} pairs", upper.len());
            return Err(refused(why));
        }
        if let Some(value) = upper.iter().find(|value| !(-1.0..=1.0).contains(*value)) {
            return Err(refused(format!("the value {value} is not from -1 to 1")));
        }
        Ok(Self { version, canary, digest, series, upper })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(series: &[&str], upper: &[f64]) -> v1::Matrix {
        let series = series.iter().map(|name| (*name).to_owned()).collect();
        v1::Matrix { version: 3, series, upper: upper.to_vec(), digest: "d".into() }
    }

    #[test]
    fn what_can_not_be_used_says_why() {
        for (matrix, why) in [
            (sent(&["A", "B", "C"], &[0.1, 0.2]), "3 series have other than 2 pairs"),
            (sent(&["A", "B"], &[]), "2 series have other than 0 pairs"),
            (sent(&[], &[0.1]), "0 series have other than 1 pairs"),
            (sent(&["A", "B"], &[f64::NAN]), "the value NaN is not from -1 to 1"),
            (sent(&["A", "B"], &[-1.0000000000000002]), "not from -1 to 1"),
            (sent(&["A", "B"], &[f64::INFINITY]), "the value inf is not from -1 to 1"),
            (sent(&["B", "A"], &[0.1]), "its series B and A are not in order"),
            (sent(&["A", "A"], &[0.1]), "not in order"),
            (v1::Matrix { version: 0, ..sent(&["A"], &[]) }, "it has no version"),
        ] {
            let error = Matrix::of(matrix, false).unwrap_err();
            assert_eq!(error.reason, "MATRIX_UNUSABLE");
            assert!(error.message.contains(why), "{error}");
        }
        let bounds = Matrix::of(sent(&["A", "B", "C"], &[-1.0, 1.0, -0.0]), true).unwrap();
        assert!(bounds.is_canary() && bounds.digest() == "d");
        assert_eq!(bounds.between("C", "A"), Some(1.0));
        let alone = Matrix::of(sent(&["A"], &[]), false).unwrap();
        assert_eq!((alone.get(0, 0), alone.get(0, 1)), (Some(1.0), None));
    }

    proptest! {
        #[test]
        fn each_pair_is_found_from_both_sides(size in 0_usize..40) {
            let names: Vec<_> = (0..size).map(|number| format!("S{number:02}")).collect();
            let mut upper = Vec::new();
            let value = |i: usize, j: usize| (i * 100 + j) as f64 / 10_000.0;
            for i in 0..size {
                upper.extend((i + 1..size).map(|j| value(i, j)));
            }
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let matrix = Matrix::of(sent(&names, &upper), false).unwrap();
            for i in 0..size {
                prop_assert_eq!(matrix.get(i, i), Some(1.0));
                prop_assert_eq!(matrix.get(i, size), None);
                prop_assert_eq!(matrix.get(size, i), None);
                for j in i + 1..size {
                    prop_assert_eq!(matrix.get(i, j), Some(value(i, j)));
                    prop_assert_eq!(matrix.get(j, i), Some(value(i, j)));
                    prop_assert_eq!(matrix.between(names[j], names[i]), Some(value(i, j)));
                }
            }
            prop_assert_eq!(matrix.between("S00", "absent"), None);
        }
    }
}
