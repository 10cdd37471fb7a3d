//! What health's checks look at. A probe measures and judges nothing; what it can't measure it says in words,
//! and nobody takes that for good.

pub mod disk;
pub mod memory;
pub mod processes;

/// What a probe measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// In the probe's own unit, which its documentation names.
    pub value: f64,
    /// In words, with the numbers behind the value.
    pub detail: String,
}

/// A measurement, or why there is none.
pub type Outcome = Result<Measured, String>;

/// A size in words, of which three digits count.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit < UNITS.len() - 1 {
        (value, unit) = (value / 1_000.0, unit + 1);
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `part` of `whole` in percent; nothing of nothing is no measurement.
fn percent(part: u64, whole: u64, what: &str) -> Result<f64, String> {
    if whole == 0 { Err(format!("{what} is 0")) } else { Ok(part as f64 * 100.0 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_900, "99.9 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_part_of_nothing_is_unknown() {
        assert_eq!(percent(1, 4, "x"), Ok(25.0));
        assert_eq!(percent(0, 0, "the limit"), Err("the limit is 0".to_owned()));
    }
}
