//! How a manifest is written: stable, and readable in a diff.

use std::borrow::Cow;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::ser::Formatter;

use super::Manifest;

/// The one field that every format has.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) format_version: u32,
}

pub(super) fn to_bytes(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2048 + 512 * manifest.members.len());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Layout::default());
    let written = manifest.serialize(&mut serializer);
    // Writing to memory cannot fail, and no map in here has a key that is not a string.
    debug_assert!(written.is_ok());
    bytes.push(b'\n');
    bytes
}

/// Breaks lines between the fields of the manifest and between its members, and nowhere else.
#[derive(Default)]
struct Layout {
    depth: usize,
}

impl Layout {
    fn open<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(bracket)
    }

    fn close<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        match self.depth {
            0 => writer.write_all(b"\n")?,
            1 => writer.write_all(b"\n  ")?,
            _ => {}
        }
        writer.write_all(bracket)
    }

    fn next<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        match self.depth {
            1 => writer.write_all(b"\n  "),
            2 => writer.write_all(b"\n    "),
            _ if !first => writer.write_all(b" "),
            _ => Ok(()),
        }
    }
}

impl Formatter for Layout {
    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// An instant as RFC 3339 with nine decimals.
pub(super) mod instant {
    use super::{Cow, Deserialize, Deserializer, Serializer, Timestamp, de};

    pub(in super::super) fn serialize<S: Serializer>(
        nanos: &i64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let at =
            Timestamp::from_nanosecond(i128::from(*nanos)).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&format_args!("{at:.9}"))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<i64, D::Error> {
        parse(&<Cow<'de, str>>::deserialize(deserializer)?)
    }

    pub(super) fn parse<E: de::Error>(text: &str) -> Result<i64, E> {
        // Instants are written in one way only; it also bounds what reaches the parser.
        if text.len() != "1970-01-01T00:00:00.000000000Z".len() {
            return Err(E::custom("an instant is RFC 3339 in UTC with nine decimals"));
        }
        let at: Timestamp = text.parse().map_err(E::custom)?;
        i64::try_from(at.as_nanosecond())
            .map_err(|_| E::custom("an instant lies between the years 1677 and 2262"))
    }
}

/// As [`instant`], or null.
pub(super) mod optional_instant {
    use super::{Cow, Deserialize, Deserializer, Serializer, instant};

    pub(in super::super) fn serialize<S: Serializer>(
        nanos: &Option<i64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match nanos {
            Some(nanos) => instant::serialize(nanos, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<i64>, D::Error> {
        let text = <Option<Cow<'de, str>>>::deserialize(deserializer)?;
        text.map(|text| instant::parse(&text)).transpose()
    }
}
