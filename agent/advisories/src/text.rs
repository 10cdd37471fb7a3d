//! What all readers share: their error, and texts that are cut, dated or freed of passwords.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// The longest quotation in an error or a stored text.
pub(crate) const LONGEST: usize = 200;

/// A file or record that can't be read as what it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct Refused {
    /// The record, file or line.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Refused {
    pub(crate) fn new(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { what: what.into(), problem: problem.into() }
    }
}

/// At most [`LONGEST`] bytes of a text, on one line.
pub(crate) fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // `end` is a boundary of characters: 0 is one.
    let mut short: String =
        text[..end].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if end < text.len() {
        short.push('…');
    }
    short
}

/// The first second of the year 1, which some databases write where they have no time.
const ZERO: i64 = -62_135_596_800;

/// Like [`second`], but nothing for the first second of the year 1.
///
/// # Errors
///
/// As there.
pub(crate) fn second_or_zero(text: &str) -> Result<Option<i64>, String> {
    match text.parse::<Timestamp>() {
        Ok(at) if at.as_second() == ZERO => Ok(None),
        _ => second(text).map(Some),
    }
}

/// The second since 1970 of an RFC 3339 time, in which a space may stand for the `T`.
///
/// # Errors
///
/// What is no such time, or is before 1970.
pub(crate) fn second(text: &str) -> Result<i64, String> {
    let at: Timestamp = text.parse().map_err(|_| format!("`{}` is no time", cut(text)))?;
    match at.as_second() {
        ..0 => Err(format!("`{}` is before 1970", cut(text))),
        second => Ok(second),
    }
}

/// The second at which a day such as `2024-02-29` begins in UTC.
///
/// # Errors
///
/// What is no such day, or is before 1970.
pub(crate) fn day(text: &str) -> Result<i64, String> {
    let date: Date = text.parse().map_err(|_| format!("`{}` is no day", cut(text)))?;
    let at = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0));
    match at.map_err(|_| format!("`{}` is no day", cut(text)))?.as_second() {
        ..0 => Err(format!("`{}` is before 1970", cut(text))),
        second => Ok(second),
    }
}

/// A URL, or a text with one, in which what stands for a user and password is left out, and the query, where
/// tokens are.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after.find(|c: char| c.is_whitespace()).unwrap_or(after.len());
        let (url, next) = after.split_at(end);
        let path = url.find(['?', '#']).unwrap_or(url.len());
        let (place, query) = url.split_at(path);
        // An `@` behind the first `/` is that of a revision, `git+https://host/repo@rev`, unless what is before the `/`
        // is no host with a port: then it is a user with a `/` in the password.
        let host = &place[..place.find('/').unwrap_or(place.len())];
        let port = host.rsplit_once('@').map_or(host, |(_, host)| host).rsplit_once(':');
        let is_host = port.is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let user = if is_host { host } else { place };
        let start = user.rfind('@').map_or(0, |at| at + 1);
        clean.push_str(&place[start..]);
        if let Some(at) = query.find('#') {
            clean.push_str(&query[at..]);
        }
        rest = next;
    }
    clean.push_str(rest);
    cut(&clean)
}

#[cfg(test)]
mod tests {
    use super::{cut, day, second, second_or_zero, without_secrets};

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Ok(1)),
            ("2023-07-25 16:31:58.309647+00:00", Ok(1_690_302_718)),
            ("2023-07-25T18:31:58+02:00", Ok(1_690_302_718)),
            ("2024-05-01T00:00:00+0000", Ok(1_714_521_600)),
            ("1969-12-31T23:59:59Z", Err("`1969-12-31T23:59:59Z` is before 1970".to_owned())),
            ("2023-02-30T00:00:00Z", Err("`2023-02-30T00:00:00Z` is no time".to_owned())),
            ("yesterday", Err("`yesterday` is no time".to_owned())),
            ("", Err("`` is no time".to_owned())),
        ] {
            assert_eq!(second(text), expected, "{text}");
        }
        assert_eq!(second_or_zero("0001-01-01 00:00:00+00:00"), Ok(None));
        assert_eq!(second_or_zero("1970-01-01T00:00:01Z"), Ok(Some(1)));
        assert!(second_or_zero("0001-01-01T00:00:01Z").is_err());
        assert_eq!(day("2024-02-29"), Ok(1_709_164_800));
        assert!(day("2023-02-29").is_err());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("a\nb"), "a b");
        assert_eq!(cut(&"é".repeat(150)).chars().count(), 101);
    }

    #[test]
    fn secrets_are_left_out() {
        for (text, expected) in [
            ("https://user:pass@host/simple", "https://host/simple"),
            ("git+https://token@host/a.git@v1#egg=a", "git+https://host/a.git@v1#egg=a"),
            ("https://host/a.whl?token=s3cret", "https://host/a.whl"),
            ("https://a:b@c@host/", "https://host/"),
            ("https://user:pa/ss@host/x", "https://host/x"),
            ("git+https://host:8443/a@v1", "git+https://host:8443/a@v1"),
            ("https://u:p@host:8443/a", "https://host:8443/a"),
            ("./local/path", "./local/path"),
            ("a @ https://u:p@h/x b https://q:r@i", "a @ https://h/x b https://i"),
        ] {
            assert_eq!(without_secrets(text), expected, "{text}");
        }
    }
}
