//! Values that TOML lacks: sizes and time spans.

use std::time::Duration;

/// Parses a size: a whole number and a unit (B, kB, MB, GB, TB = powers of 1000; KiB, MiB, GiB, TiB = of 1024).
///
/// # Errors
/// What would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => {
            return Err(format!(
                "{text:?} is no size; write a whole number and a unit, such as \"10MB\" or \"16MiB\""
            ));
        }
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("{text:?} is no size that fits; write for example \"10MB\""))
}

/// A duration for people to read: "8h", "1h 30m".
pub fn human(duration: Duration) -> String {
    let whole = Duration::from_secs(duration.as_secs());
    jiff::SignedDuration::try_from(whole).map_or_else(|_| "long".to_owned(), |it| format!("{it:#}"))
}

/// Parses a time span: a whole number and ms, s, m, h, d, or w.
///
/// # Errors
/// What would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => {
            return Err(format!(
                "{text:?} is no time span; write a whole number and ms, s, m, h, d, or w, such as \"30d\""
            ));
        }
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(milliseconds))
        // A thousand years: anything longer is a slip, and would overflow a date somewhere.
        .filter(|milliseconds| *milliseconds <= 1_000 * 366 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no time span that fits; write for example \"30d\""))
}
