//! RFC 3339 at the speed of a log: the minute of the previous line is remembered, so that most
//! lines cost a comparison and a few digits.

pub(super) const NANOS: i64 = 1_000_000_000;
pub(super) const DAY_SECONDS: i64 = 86_400;

/// The years whose every instant, in any zone, fits nanoseconds in an `i64`.
pub(super) const YEARS: std::ops::RangeInclusive<u32> = 1678..=2261;

/// A parser that remembers the last date and minute it has read.
#[derive(Debug, Clone)]
pub(super) struct Rfc3339 {
    /// `YYYY-MM-DDThh:mm` as it was written.
    written: [u8; 16],
    /// The seconds since the epoch at which that minute starts, as if in UTC.
    minute: i64,
}

/// What stood at the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Nanoseconds since the epoch.
    pub(super) nanos: i64,
    /// How many bytes it took.
    pub(super) length: usize,
    /// Whether it named its zone; if not, it was taken for UTC.
    pub(super) zoned: bool,
}

impl Rfc3339 {
    pub(super) fn new() -> Self {
        Self { written: *b"1970-01-01T00:00", minute: 0 }
    }

    /// Reads a timestamp at the start of `text`. `None` for what is none, for an impossible date or
    /// time, and for years outside [`YEARS`].
    ///
    /// Digits beyond nanoseconds are dropped. A leap second, `:60`, is the last nanosecond of
    /// `:59`, so that it stays in its minute and day and the order of lines holds.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8]) -> Option<Reading> {
        let (head, rest) = text.split_first_chunk::<19>()?;
        let (written, seconds) = head.split_first_chunk::<16>()?;
        if *written != self.written {
            self.minute = minute_start(written)?;
            self.written = *written;
        }
        let [b':', tens, ones] = *seconds else { return None };
        let second = two_digits(tens, ones)?;
        let (fraction, taken) = fraction(rest);
        let (second, fraction) = match second {
            0..=59 => (second, fraction),
            60 => (59, NANOS - 1),
            _ => return None,
        };
        let (offset, zone) = zone(&rest[taken..])?;
        let at = self.minute + i64::from(second) - i64::from(offset);
        Some(Reading {
            nanos: at * NANOS + fraction,
            length: head.len() + taken + zone,
            zoned: zone > 0,
        })
    }
}

/// The seconds since the epoch at the start of a day, `YYYY-MM-DD`, in UTC.
pub(super) fn day_start(date: &[u8; 10]) -> Option<i64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *date else { return None };
    let year = two_digits(y0, y1)? * 100 + two_digits(y2, y3)?;
    let (month, day) = (two_digits(m0, m1)?, two_digits(d0, d1)?);
    if !YEARS.contains(&year) || day == 0 || day > days_in(year, month)? {
        return None;
    }
    Some(days_since_epoch(i64::from(year), i64::from(month), i64::from(day)) * DAY_SECONDS)
}

#[cold]
fn minute_start(written: &[u8; 16]) -> Option<i64> {
    let (date, time) = written.split_first_chunk::<10>()?;
    let [b'T' | b't' | b' ', h0, h1, b':', m0, m1] = *time else { return None };
    let (hour, minute) = (two_digits(h0, h1)?, two_digits(m0, m1)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    Some(day_start(date)? + i64::from(hour * 3600 + minute * 60))
}

/// The fraction in nanoseconds, and the bytes it took. A mark without a digit is no fraction.
#[inline]
fn fraction(text: &[u8]) -> (i64, usize) {
    let [b'.' | b',', digits @ ..] = text else { return (0, 0) };
    let mut value = 0;
    let mut scale = NANOS;
    let mut count = 0;
    while let Some(digit) = digits.get(count).and_then(|byte| digit(*byte)) {
        // Behind nine digits the scale is 1, and what follows adds nothing.
        if scale > 1 {
            scale /= 10;
            value += i64::from(digit) * scale;
        }
        count += 1;
    }
    if count == 0 { (0, 0) } else { (value, count + 1) }
}

/// The offset from UTC in seconds, and the bytes it took; none when no zone is named. `None` for a
/// zone that cannot be.
#[inline]
fn zone(text: &[u8]) -> Option<(i32, usize)> {
    match text {
        [b'Z' | b'z', ..] => Some((0, 1)),
        [sign @ (b'+' | b'-'), rest @ ..] => numeric_zone(*sign, rest),
        _ => Some((0, 0)),
    }
}

fn numeric_zone(sign: u8, text: &[u8]) -> Option<(i32, usize)> {
    let pair = |at: usize| two_digits(*text.get(at)?, *text.get(at + 1)?);
    // A sign without two digits is what stands behind the timestamp, such as a dash.
    let Some(hours) = pair(0) else { return Some((0, 0)) };
    let (minutes, length) = if text.get(2) == Some(&b':') {
        pair(3).map_or((0, 3), |minutes| (minutes, 6))
    } else {
        pair(2).map_or((0, 3), |minutes| (minutes, 5))
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    Some((if sign == b'-' { -seconds } else { seconds }, length))
}

#[inline]
fn digit(byte: u8) -> Option<u32> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(u32::from(value))
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<u32> {
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn days_in(year: u32, month: u32) -> Option<u32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar, counted in years that start
/// in March so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
