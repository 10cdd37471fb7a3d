//! How bad a problem is, by its CVSS vectors.
//!
//! Of several vectors, those of the newest scheme decide, CVSS 4 before 3 before 2, and of these the highest score:
//! scores of different schemes can't be compared, and the newer ones are made so that they rate what the older ones
//! rate badly. The score is that of the base, as advisories print it; in CVSS 4, which has one score, that of all
//! metrics that the vector has. What has no vector that can be read is [`Rating::Unknown`], never low.

use cvss::Cvss;
use serde::{Deserialize, Serialize};

use crate::text::{LONGEST, cut};

/// A version of CVSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// CVSS 2.0.
    #[serde(rename = "2")]
    V2,
    /// CVSS 3.0 and 3.1.
    #[serde(rename = "3")]
    V3,
    /// CVSS 4.0.
    #[serde(rename = "4")]
    V4,
}

impl Scheme {
    /// What a vector must say; the library reads one that lacks some of it as harmless.
    fn mandatory(self) -> &'static [&'static str] {
        match self {
            Self::V2 => &["AV", "AC", "Au", "C", "I", "A"],
            Self::V3 => &["AV", "AC", "PR", "UI", "S", "C", "I", "A"],
            Self::V4 => &["AV", "AC", "AT", "PR", "UI", "VC", "VI", "VA", "SC", "SI", "SA"],
        }
    }

    /// That of a vector, by how it begins; those of version 2 have no prefix.
    pub fn of(vector: &str) -> Option<Self> {
        match vector.get(..7) {
            Some("CVSS:4.") => Some(Self::V4),
            Some("CVSS:3.") => Some(Self::V3),
            Some(start) if start.starts_with("AV:") => Some(Self::V2),
            _ => None,
        }
    }
}

/// A vector as an advisory has it; whether it can be read shows when it is rated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vector(Scheme, String);

impl Vector {
    /// A vector of a scheme. One too long to be any is cut, and then can't be read.
    pub fn new(scheme: Scheme, text: &str) -> Self {
        Self(scheme, if text.len() > LONGEST { cut(text) } else { text.to_owned() })
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.0
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.1
    }
}

/// The word for a score, from the least to the worst. [`Rating::Unknown`] is the first only in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Rating {
    /// Nobody has said.
    Unknown,
    /// A score of 0.
    None,
    /// Below 4.
    Low,
    /// Below 7.
    Medium,
    /// Below 9, and all above 7 in CVSS 2.
    High,
    /// 9 and more.
    Critical,
}

/// How bad a problem is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Severity {
    /// The word for it.
    pub rating: Rating,
    /// The score, from 0 to 10, if there is a vector.
    pub score: Option<f64>,
    /// The vector that decided.
    pub vector: Option<Vector>,
}

impl Severity {
    /// That of a problem without a vector.
    pub const UNKNOWN: Self = Self { rating: Rating::Unknown, score: None, vector: None };
}

/// Rates a problem by its vectors. Those that can't be read are passed over.
pub fn rate<'a>(vectors: impl IntoIterator<Item = &'a Vector>) -> Severity {
    let read = vectors.into_iter().filter_map(|vector| Some((score(vector)?, vector)));
    let worst = read.max_by(|((one, _), first), ((other, _), second)| {
        first.0.cmp(&second.0).then(one.total_cmp(other)).then(second.1.cmp(&first.1))
    });
    worst.map_or(Severity::UNKNOWN, |((score, rating), vector)| Severity {
        rating,
        score: Some(score),
        vector: Some(vector.clone()),
    })
}

fn score(vector: &Vector) -> Option<(f64, Rating)> {
    let text = vector.1.trim();
    let mut mandatory = vector.0.mandatory().iter();
    let says = |metric: &str| text.split('/').any(|part| part.split(':').next() == Some(metric));
    if !mandatory.all(|metric| says(metric)) {
        return None;
    }
    let parsed: Cvss = text.parse().ok()?;
    let score = parsed.score();
    let rating = match parsed.severity() {
        cvss::Severity::None => Rating::None,
        cvss::Severity::Low => Rating::Low,
        cvss::Severity::Medium => Rating::Medium,
        cvss::Severity::High => Rating::High,
        cvss::Severity::Critical => Rating::Critical,
    };
    let scheme = match parsed {
        Cvss::CvssV20(_) => Scheme::V2,
        Cvss::CvssV30(_) | Cvss::CvssV31(_) => Scheme::V3,
        Cvss::CvssV40(_) => Scheme::V4,
        _ => return None,
    };
    (scheme == vector.0).then_some((score, rating))
}

#[cfg(test)]
mod tests {
    use super::{Rating, Scheme, Severity, Vector, rate};

    const V2: &str = "AV:N/AC:L/Au:N/C:C/I:C/A:C";
    const V3_HIGH: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H";
    const V3_CRITICAL: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
    const V4_MEDIUM: &str = "CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:L/VI:L/VA:L/SC:N/SI:N/SA:N";

    fn of(texts: &[&str]) -> Severity {
        let vectors = texts.iter().map(|text| Vector::new(Scheme::of(text).unwrap(), text));
        rate(&vectors.collect::<Vec<_>>())
    }

    #[test]
    fn the_newest_scheme_decides_and_then_the_highest_score() {
        for (texts, rating, score) in [
            (&[V2][..], Rating::High, Some(10.0)),
            (&[V3_HIGH], Rating::High, Some(7.5)),
            (&[V3_HIGH, V3_CRITICAL], Rating::Critical, Some(9.8)),
            (&[V3_CRITICAL, V2, V3_HIGH], Rating::Critical, Some(9.8)),
            (&[V2, V3_HIGH], Rating::High, Some(7.5)),
            (&[V3_CRITICAL, V4_MEDIUM], Rating::Medium, Some(4.8)),
            (&["CVSS:4.0/broken", V3_HIGH], Rating::High, Some(7.5)),
            (&["CVSS:3.1/AV:N"], Rating::Unknown, None),
            (&["CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N"], Rating::None, Some(0.0)),
            (&[], Rating::Unknown, None),
        ] {
            let severity = of(texts);
            assert_eq!((severity.rating, severity.score), (rating, score), "{texts:?}");
        }
    }

    #[test]
    fn a_vector_of_another_scheme_than_said_is_none() {
        assert_eq!(rate(&[Vector::new(Scheme::V4, V3_HIGH)]), Severity::UNKNOWN);
        assert_eq!(rate(&[Vector::new(Scheme::V3, &"A".repeat(500))]), Severity::UNKNOWN);
        assert_eq!(Scheme::of("high"), None);
    }
}
