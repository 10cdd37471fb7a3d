//! A matrix that is not accepted yet: whatever it may be.

use std::fmt;

use super::definite::{Definiteness, definiteness};
use super::estimate::Estimate;
use super::matrix::{Correlation, MatrixError};
use super::triangle::Triangle;

/// A pair without a usable value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unsettled {
    /// The places of its series, the lower one first.
    pub pair: (usize, usize),
    /// In how many rows both have a value.
    pub points: u32,
    /// What it lacks.
    pub why: Why,
}

/// Why a pair has no usable value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Why {
    /// There are too few rows in common: fewer than asked for, or than two.
    Few,
    /// A series has one and the same value in all rows that the pair has in common: no variance.
    Constant {
        /// Its place.
        series: usize,
    },
    /// A series' variance in the rows that the pair has in common is lost in rounding: it is below 1e-10 of the squares
    /// about the shift, which so is a bad one.
    Lost {
        /// Its place.
        series: usize,
    },
    /// What comes out is beyond 1 by more than rounding can have done: 8 eps with shifts near the means, with others
    /// that times Q/v of the pair (see [`Estimate`]), 1e-9 at the most.
    Fault {
        /// What comes out.
        value: f64,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Few => write!(to, "too few rows in common"),
            Self::Constant { series } => {
                write!(to, "series {series} is constant in the rows in common")
            }
            Self::Lost { series } => {
                write!(to, "the variance of series {series} is lost in rounding")
            }
            Self::Fault { value } => write!(to, "a numeric fault: {value} is beyond 1"),
        }
    }
}

/// A square matrix that may become a [`Correlation`], and what is known of how it came about.
///
/// It need not be sound in any way: [`validate`](super::validate) says whether it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    series: Vec<String>,
    /// Row by row, NaN where there is none.
    pub(super) values: Vec<f64>,
    /// `None` where nobody knows.
    pub(super) points: Option<Triangle<u32>>,
    pub(super) unsettled: Vec<Unsettled>,
    pub(super) carried: Vec<(usize, usize)>,
}

impl Candidate {
    /// Of an estimate, whose series have these names: as many, each once.
    ///
    /// A pair that has fewer rows in common than `least` is unsettled; with `carry` it keeps the value it has there,
    /// where it has one, and is listed in [`Self::carried`].
    pub fn of(
        estimate: &Estimate,
        series: Vec<String>,
        least: u32,
        carry: Option<&Correlation>,
    ) -> Result<Self, MatrixError> {
        super::matrix::check_names(&series, estimate.series())?;
        let old = |name: &String| carry?.place(name);
        let places: Vec<Option<usize>> = series.iter().map(old).collect();
        let kept = |i: usize, j: usize| carry?.get(places[i]?, places[j]?);
        let size = series.len();
        let (mut unsettled, mut carried) = (Vec::new(), Vec::new());
        let mut undefined = estimate.undefined.iter().copied().peekable();
        let mut values = vec![1.0; size * size];
        for ((i, j), r) in estimate.values.iter() {
            let undefined = undefined.next_if(|it| it.pair == (i, j));
            let points = estimate.points.get(i, j);
            let few = points < least || undefined.is_some_and(|it| it.why == Why::Few);
            let mut value = r;
            if few {
                value = f64::NAN;
                match kept(i, j) {
                    Some(old) => {
                        value = old;
                        carried.push((i, j));
                    }
                    None => unsettled.push(Unsettled { pair: (i, j), points, why: Why::Few }),
                }
            } else {
                unsettled.extend(undefined);
            }
            values[i * size + j] = value;
            values[j * size + i] = value;
        }
        let points = Some(estimate.points.clone());
        Ok(Self { series, values, points, unsettled, carried })
    }

    /// Of a square matrix, row by row, as somebody else may have made it.
    pub fn square(series: Vec<String>, values: Vec<f64>) -> Result<Self, MatrixError> {
        super::matrix::check_names(&series, series.len())?;
        if values.len() != series.len() * series.len() {
            return Err(MatrixError::Shape);
        }
        let (unsettled, carried) = (Vec::new(), Vec::new());
        Ok(Self { series, values, points: None, unsettled, carried })
    }

    /// The names of the series.
    pub fn series(&self) -> &[String] {
        &self.series
    }

    /// The value in row i and column j, NaN where the pair is unsettled. `None` where there is no such place.
    pub fn get(&self, i: usize, j: usize) -> Option<f64> {
        let size = self.series.len();
        (i < size && j < size).then(|| self.values[i * size + j])
    }

    /// In how many rows two different series both have a value, where that is known.
    pub fn points(&self, i: usize, j: usize) -> Option<u32> {
        let size = self.series.len();
        let points = self.points.as_ref()?;
        (i != j && i < size && j < size).then(|| points.get(i, j))
    }

    /// The pairs without a value.
    pub fn unsettled(&self) -> &[Unsettled] {
        &self.unsettled
    }

    /// The pairs that kept an old value.
    pub fn carried(&self) -> &[(usize, usize)] {
        &self.carried
    }

    /// Whether it is positive semi-definite.
    pub fn definiteness(&self) -> Definiteness {
        definiteness(&self.values, self.series.len())
    }

    /// The matrix itself, where it is one: all within [-1, 1], symmetric, with 1 on the diagonal, to the bit. Whether it
    /// should be used is another question, for [`validate`](super::validate).
    pub fn accept(&self) -> Result<Correlation, MatrixError> {
        let size = self.series.len();
        for i in 0..size {
            for j in 0..size {
                let (value, mirrored) = (self.values[i * size + j], self.values[j * size + i]);
                let sound = value.abs() <= 1.0 && value == mirrored && (i != j || value == 1.0);
                if !sound {
                    return Err(MatrixError::Value { pair: (i.min(j), i.max(j)) });
                }
            }
        }
        let upper = Triangle::from_fn(size, |i, j| self.values[i * size + j]);
        Correlation::of(self.series.clone(), upper.items().to_vec())
    }

    /// The same with other values, where they are not the old ones.
    pub(super) fn with_values(&self, values: Vec<f64>) -> Self {
        Self { values, ..self.clone() }
    }
}
