//! Timestamps in JSON: finding the key, and numbers that count from the epoch.

use memchr::memmem::Finder;
use memchr::{memchr, memchr2};

use super::rfc3339::{NANOS, Rfc3339};

/// Longer strings are no timestamps.
const MAX_STRING: usize = 128;

const SECONDS_BELOW: i128 = 10_i128.pow(11);
const MILLIS_BELOW: i128 = 10_i128.pow(14);
const MICROS_BELOW: i128 = 10_i128.pow(17);

/// Finds the value of one key at the top level of a line's JSON object.
#[derive(Debug, Clone)]
pub(super) struct JsonKey {
    /// The key as JSON writes it, with its quotes.
    needle: Finder<'static>,
}

impl JsonKey {
    pub(super) fn new(key: &str) -> Self {
        let quoted = serde_json::Value::from(key).to_string();
        Self { needle: Finder::new(quoted.as_bytes()).into_owned() }
    }

    /// The text that starts with the key's value. An equal key in a nested object or an equal text
    /// inside a string is passed over.
    fn value<'line>(&self, line: &'line [u8]) -> Option<&'line [u8]> {
        let open = memchr(b'{', line)?;
        let body = &line[open + 1..];
        let mut nesting = Nesting::default();
        let mut from = 0;
        loop {
            let at = from + self.needle.find(&body[from..])?;
            let behind = at + self.needle.needle().len();
            if nesting.is_top_level(body, at)
                && let Some((b':', value)) = skip_blanks(&body[behind..]).split_first()
            {
                return Some(skip_blanks(value));
            }
            // The closing quote may open the next string.
            from = behind - 1;
        }
    }

    /// The key's value in nanoseconds since the epoch.
    pub(super) fn read(&self, line: &[u8], dates: &mut Rfc3339) -> Option<i64> {
        let value = self.value(line)?;
        let [b'"', string @ ..] = value else { return number_at_start(value) };
        let end = memchr(b'"', &string[..string.len().min(MAX_STRING)])?;
        let string = &string[..end];
        if memchr(b'\\', string).is_none() {
            return whole(string, dates);
        }
        // Some writers escape the plus of a zone. An escaped quote ends the string too early, and
        // is refused here.
        let unescaped: String = serde_json::from_slice(&value[..end + 2]).ok()?;
        whole(unescaped.as_bytes(), dates)
    }
}

/// A text that is nothing but an RFC 3339 timestamp, with a zone's name in brackets allowed behind.
fn whole(text: &[u8], dates: &mut Rfc3339) -> Option<i64> {
    let reading = dates.read(text)?;
    matches!(&text[reading.length..], [] | [b'[', .., b']']).then_some(reading.nanos)
}

/// A captured text: RFC 3339 or a number since the epoch, and nothing else.
pub(super) fn captured(text: &[u8], dates: &mut Rfc3339) -> Option<i64> {
    whole(text, dates).or_else(|| match number(text)? {
        (nanos, length) if length == text.len() => Some(nanos),
        _ => None,
    })
}

fn number_at_start(text: &[u8]) -> Option<i64> {
    let (nanos, length) = number(text)?;
    match text.get(length) {
        None | Some(b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n') => Some(nanos),
        Some(_) => None,
    }
}

/// A decimal number at the start of `text` as nanoseconds since the epoch, and its length. The
/// magnitude tells seconds (below 10^11), milliseconds (below 10^14), microseconds (below 10^17)
/// and nanoseconds apart. Exact in decimal; what is below a nanosecond is dropped.
fn number(text: &[u8]) -> Option<(i64, usize)> {
    let mut rest = text;
    let negative = take(&mut rest, b"-").is_some();
    // Digits that count, and the power of ten they are to be multiplied by.
    let mut mantissa: i128 = 0;
    let mut power: i32 = 0;
    let mut digits = 0;
    let mut pointed = false;
    loop {
        match rest {
            [byte @ b'0'..=b'9', tail @ ..] => {
                digits += 1;
                if mantissa < 10_i128.pow(26) {
                    mantissa = mantissa * 10 + i128::from(byte - b'0');
                    power -= i32::from(pointed);
                } else {
                    power += i32::from(!pointed);
                }
                rest = tail;
            }
            [b'.', b'0'..=b'9', ..] if !pointed && digits > 0 => {
                pointed = true;
                rest = &rest[1..];
            }
            _ => break,
        }
    }
    if digits == 0 || digits > 64 {
        return None;
    }
    if take(&mut rest, b"eE").is_some() {
        let down = take(&mut rest, b"+-") == Some(b'-');
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Four digits of exponent are far beyond any instant.
        let exponent: i32 = match length {
            1..=3 => std::str::from_utf8(&rest[..length]).ok()?.parse().ok()?,
            _ => return None,
        };
        power += if down { -exponent } else { exponent };
        rest = &rest[length..];
    }
    let billionths = scaled(mantissa, power + 9)?;
    let units = billionths / i128::from(NANOS);
    let nanos = billionths
        / match units {
            0..SECONDS_BELOW => 1,
            SECONDS_BELOW..MILLIS_BELOW => 1_000,
            MILLIS_BELOW..MICROS_BELOW => 1_000_000,
            _ => 1_000_000_000,
        };
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some((nanos, text.len() - rest.len()))
}

fn scaled(mantissa: i128, power: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    match (power < 0, factor) {
        (true, Some(factor)) => Some(mantissa / factor),
        (true, None) => Some(0),
        (false, Some(factor)) => mantissa.checked_mul(factor),
        (false, None) => (mantissa == 0).then_some(0),
    }
}

fn take(text: &mut &[u8], any: &[u8]) -> Option<u8> {
    let (first, rest) = text.split_first()?;
    any.contains(first).then(|| {
        *text = rest;
        *first
    })
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[blanks..]
}

/// Follows the depth of brackets up to ever later places of an object's body.
#[derive(Default)]
struct Nesting {
    seen: usize,
    depth: i64,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Whether `at`, not before the place asked for last, is outside of any string and bracket.
    fn is_top_level(&mut self, body: &[u8], at: usize) -> bool {
        // Most lines hold no bracket before their timestamp, and a needle outside of brackets that
        // is followed by a colon can't be inside a string: its quotes would be escaped.
        if self.seen == 0 && memchr2(b'{', b'[', &body[..at]).is_none() {
            return true;
        }
        for byte in &body[self.seen..at] {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth -= 1,
                _ => {}
            }
        }
        self.seen = at;
        self.depth == 0 && !self.in_string
    }
}
