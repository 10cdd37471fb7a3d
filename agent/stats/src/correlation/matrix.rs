//! A correlation matrix, to be served, stored and compared.

use std::collections::BTreeSet;
use std::fmt;

use super::block::MOST_SERIES;
use super::bytes::{self, Reader};
use super::triangle::Triangle;

const VERSION: u8 = 1;
/// Bytes of a name.
const LONGEST: usize = 1 << 10;

/// The correlations of named series: exactly 1 on the diagonal, exactly symmetric, and nothing beyond [-1, 1].
///
/// Only the pairs i < j are kept, 4 p^2 bytes. Whether it is positive semi-definite the type doesn't promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlation {
    series: Vec<String>,
    values: Triangle<f64>,
}

/// Why there is no matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MatrixError {
    /// There are not as many values as the series have pairs, or not as many names as series.
    Shape,
    /// A name is empty, has more than 1,024 bytes, or is there twice.
    Name {
        /// The name.
        name: String,
    },
    /// There are more than 8,192 series.
    TooMany,
    /// The value of a pair is no number or beyond [-1, 1], not the same both ways round, or, of one series with
    /// itself, not 1.
    Value {
        /// The places of the series.
        pair: (usize, usize),
    },
    /// A series is not there.
    Series {
        /// Its name.
        name: String,
    },
    /// The bytes are of another version.
    Version(u8),
    /// The bytes end too early, or are none that a matrix has.
    Malformed,
}

impl fmt::Display for MatrixError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => write!(to, "there are not as many values or names as there should be"),
            Self::Name { name } => {
                write!(to, "the name {name:?} is empty, too long or there twice")
            }
            Self::TooMany => write!(to, "there are more than 8192 series"),
            Self::Value { pair: (i, j) } => {
                write!(to, "what series {i} and {j} have is no correlation")
            }
            Self::Series { name } => write!(to, "there is no series {name:?}"),
            Self::Version(version) => write!(to, "version {version} is not known"),
            Self::Malformed => write!(to, "the bytes are none of a matrix"),
        }
    }
}

impl std::error::Error for MatrixError {}

/// Whether there are so many names, and each is one.
pub(super) fn check_names(names: &[String], count: usize) -> Result<(), MatrixError> {
    if names.len() != count {
        return Err(MatrixError::Shape);
    }
    if count > MOST_SERIES {
        return Err(MatrixError::TooMany);
    }
    let mut known = BTreeSet::new();
    for name in names {
        if name.is_empty() || name.len() > LONGEST || !known.insert(name) {
            return Err(MatrixError::Name { name: name.clone() });
        }
    }
    Ok(())
}

impl Correlation {
    /// Of names and the values of the pairs i < j, row by row.
    pub fn of(series: Vec<String>, values: Vec<f64>) -> Result<Self, MatrixError> {
        check_names(&series, series.len())?;
        let values = Triangle::of(series.len(), values).ok_or(MatrixError::Shape)?;
        let beyond = |value: f64| value.is_nan() || value.abs() > 1.0;
        if let Some((pair, _)) = values.iter().find(|(_, value)| beyond(*value)) {
            return Err(MatrixError::Value { pair });
        }
        Ok(Self { series, values })
    }

    /// The names of the series.
    pub fn series(&self) -> &[String] {
        &self.series
    }

    /// The place of a series.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.series.iter().position(|series| series == name)
    }

    /// The correlation of the series at two places. `None` where there is no such place.
    pub fn get(&self, i: usize, j: usize) -> Option<f64> {
        if i.max(j) >= self.series.len() {
            return None;
        }
        Some(if i == j { 1.0 } else { self.values.get(i, j) })
    }

    /// The values of the pairs i < j, row by row.
    pub fn values(&self) -> &[f64] {
        self.values.items()
    }

    pub(super) fn value(&self, i: usize, j: usize) -> f64 {
        if i == j { 1.0 } else { self.values.get(i, j) }
    }

    /// The values of i with i + 1, i + 2, ..
    pub(super) fn row(&self, i: usize) -> &[f64] {
        self.values.row(i)
    }

    /// All of it, row by row.
    pub fn to_square(&self) -> Vec<f64> {
        let size = self.series.len();
        let mut square = vec![1.0; size * size];
        for ((i, j), value) in self.values.iter() {
            square[i * size + j] = value;
            square[j * size + i] = value;
        }
        square
    }

    /// The same with these series, in this order.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self, MatrixError> {
        let place = |name: &S| {
            let name = name.as_ref();
            self.place(name).ok_or_else(|| MatrixError::Series { name: name.to_owned() })
        };
        let places = names.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let series: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        check_names(&series, series.len())?;
        let values = Triangle::from_fn(places.len(), |i, j| self.values.get(places[i], places[j]));
        Ok(Self { series, values })
    }

    /// To be stored or sent: a version byte, how many series there are (LEB128), each name as its length and UTF-8, then
    /// the values, 8 bytes each, the lowest first. [`Self::from_bytes`] gives the same again, to the bit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        bytes::put(self.series.len() as u64, &mut out);
        for name in &self.series {
            bytes::put(name.len() as u64, &mut out);
            out.extend_from_slice(name.as_bytes());
        }
        bytes::put_floats(self.values.items(), &mut out);
        out
    }

    /// What [`Self::to_bytes`] made; of any other bytes an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MatrixError> {
        let mut reader = Reader(bytes);
        match reader.byte() {
            Some(VERSION) => {}
            Some(version) => return Err(MatrixError::Version(version)),
            None => return Err(MatrixError::Malformed),
        }
        let (series, values) = read(&mut reader).ok_or(MatrixError::Malformed)?;
        Self::of(series, values)
    }
}

fn read(reader: &mut Reader<'_>) -> Option<(Vec<String>, Vec<f64>)> {
    let count = usize::try_from(reader.integer()?).ok().filter(|count| *count <= MOST_SERIES)?;
    let mut series = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(reader.integer()?).ok()?;
        series.push(String::from_utf8(reader.take(length)?.to_vec()).ok()?);
    }
    let values = reader.floats(super::triangle::pairs(count))?;
    reader.0.is_empty().then_some((series, values))
}
