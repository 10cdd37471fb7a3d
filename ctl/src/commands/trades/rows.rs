//! Trades in lines of CSV or JSON: what each says, or why it says nothing.

use std::borrow::Cow;

use genesis_client::trades::{TRADE_ID_LIMIT, UNIT_LIMIT};
use genesis_client::v1::Arm;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::send_file::text::{SHOWN, bare, fields, object, place, take, unix_nanos};
use crate::format::excerpt;

/// One trade.
#[derive(Debug, PartialEq)]
pub(super) struct Row<'a> {
    /// Empty: the line has none.
    pub(super) experiment: Cow<'a, str>,
    pub(super) id: Cow<'a, str>,
    /// Empty: it is the arm that counts.
    pub(super) unit: Cow<'a, str>,
    /// Unspecified: it is the assignment of the unit that counts.
    pub(super) arm: Arm,
    pub(super) pnl: f64,
    pub(super) unix_nanos: i64,
}

/// How lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    Csv(Columns),
    Json,
}

/// Where in a line of CSV what stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    experiment: Option<usize>,
    id: usize,
    unit: Option<usize>,
    arm: Option<usize>,
    pnl: usize,
    timestamp: usize,
}

impl Columns {
    /// Those of a header. `experiment_needed`: there is no other name for what has none.
    pub(super) fn of_header(line: &str, experiment_needed: bool) -> Result<Self, String> {
        let names = fields(line)?;
        let find = |name| place(&names, name);
        let experiment = find("experiment")?;
        if experiment.is_none() && experiment_needed {
            return Err("it has no column experiment: add --experiment ID".to_owned());
        }
        let (unit, arm) = (find("unit")?, find("arm")?);
        if unit.is_none() && arm.is_none() {
            return Err("it has neither a column unit nor a column arm".to_owned());
        }
        let needed = |name| find(name)?.ok_or_else(|| format!("it has no column {name}"));
        let (id, pnl, timestamp) = (needed("trade_id")?, needed("pnl")?, needed("timestamp")?);
        Ok(Self { experiment, id, unit, arm, pnl, timestamp })
    }

    fn parse(self, line: &str) -> Result<Row<'_>, String> {
        let mut found = fields(line)?;
        let mut maybe = |index: Option<usize>, name| match index {
            Some(index) => take(&mut found, index, name),
            None => Ok(Cow::Borrowed("")),
        };
        let (experiment, unit) = (maybe(self.experiment, "experiment")?, maybe(self.unit, "unit")?);
        let arm = maybe(self.arm, "arm")?;
        let id = maybe(Some(self.id), "trade_id")?;
        let (number, at) =
            (maybe(Some(self.pnl), "pnl")?, maybe(Some(self.timestamp), "timestamp")?);
        row(experiment, id, unit, &arm, &number, &at)
    }
}

impl Rows {
    /// What a line says.
    pub(super) fn parse(self, line: &str) -> Result<Row<'_>, String> {
        match self {
            Self::Csv(columns) => columns.parse(line),
            Self::Json => parse_json(line),
        }
    }
}

/// A line of JSON. Numbers are taken as they are written, ids and units too where they are numbers.
#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    experiment: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    trade_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    unit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arm: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pnl: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
}

fn parse_json(line: &str) -> Result<Row<'_>, String> {
    let found: Json<'_> = object(line)?;
    let id = found.trade_id.ok_or("it has no trade_id")?;
    let number = found.pnl.ok_or("it has no pnl")?;
    let at = found.timestamp.ok_or("it has no timestamp")?;
    row(
        found.experiment.unwrap_or_default(),
        name(id, "trade_id")?,
        found.unit.map_or(Ok(Cow::Borrowed("")), |unit| name(unit, "unit"))?,
        &found.arm.unwrap_or_default(),
        &bare(number),
        &bare(at),
    )
}

/// A text or a number; nothing else names anything.
fn name<'a>(value: &'a RawValue, what: &str) -> Result<Cow<'a, str>, String> {
    match value.get().bytes().next() {
        Some(b'"' | b'-' | b'0'..=b'9') => Ok(bare(value)),
        _ => Err(format!("its {what} is neither a text nor a number")),
    }
}

fn row<'a>(
    experiment: Cow<'a, str>,
    id: Cow<'a, str>,
    unit: Cow<'a, str>,
    arm: &str,
    number: &str,
    at: &str,
) -> Result<Row<'a>, String> {
    if !(1..=TRADE_ID_LIMIT).contains(&id.len()) {
        return Err(format!("its trade_id is not 1 to {TRADE_ID_LIMIT} bytes"));
    }
    if unit.len() > UNIT_LIMIT {
        return Err(format!("its unit is longer than {UNIT_LIMIT} bytes"));
    }
    let arm = match arm {
        "" => Arm::Unspecified,
        _ if arm.eq_ignore_ascii_case("control") => Arm::Control,
        _ if arm.eq_ignore_ascii_case("variant") => Arm::Variant,
        _ => return Err(format!("the arm {:?} is not control or variant", excerpt(arm, SHOWN))),
    };
    if unit.is_empty() && arm == Arm::Unspecified {
        return Err("it has neither a unit nor an arm".to_owned());
    }
    let pnl = number.parse::<f64>().ok().filter(|number| number.is_finite());
    let pnl = pnl.ok_or_else(|| format!("the pnl {:?} is no number", excerpt(number, SHOWN)))?;
    Ok(Row { experiment, id, unit, arm, pnl, unix_nanos: unix_nanos(at)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "experiment,trade_id,unit,arm,pnl,timestamp";

    #[test]
    fn a_header_may_have_any_order_and_only_what_is_needed() {
        let of = |line| Columns::of_header(line, true);
        let columns = of("pnl, timestamp,host,\"trade_id\",arm,experiment").unwrap();
        let row = columns.parse("-1.5,7,x,\"t,1\",Variant,TEST_1").unwrap();
        assert_eq!((&*row.id, row.arm, row.pnl), ("t,1", Arm::Variant, -1.5));
        assert_eq!((row.unix_nanos, &*row.unit, &*row.experiment), (7_000_000_000, "", "TEST_1"));
        let columns = Columns::of_header("unit,trade_id,pnl,timestamp", false).unwrap();
        assert_eq!(columns.parse("u,t,1e3,7").unwrap().pnl, 1_000.0);
        for (line, why) in [
            ("trade_id,unit,pnl,timestamp", "no column experiment: add --experiment ID"),
            ("experiment,unit,pnl,timestamp", "no column trade_id"),
            ("experiment,trade_id,unit,timestamp", "no column pnl"),
            ("experiment,trade_id,arm,pnl", "no column timestamp"),
            ("experiment,trade_id,pnl,timestamp", "neither a column unit nor a column arm"),
            ("experiment,trade_id,unit,unit,pnl,timestamp", "unit twice"),
        ] {
            assert!(of(line).unwrap_err().contains(why), "{line}: {:?}", of(line));
        }
    }

    #[test]
    fn a_bad_line_says_why() {
        let csv = Rows::Csv(Columns::of_header(HEADER, true).unwrap());
        let long = format!("a,{},u,,1,1", "x".repeat(129));
        let wide = format!("a,t,{},,1,1", "x".repeat(257));
        for (rows, line, why) in [
            (csv, "a,t,u", "ends before the column arm"),
            (csv, "a,,u,,1,1", "trade_id is not 1 to 128 bytes"),
            (csv, &long, "trade_id is not 1 to 128 bytes"),
            (csv, &wide, "longer than 256 bytes"),
            (csv, "a,t,,,1,1", "neither a unit nor an arm"),
            (csv, "a,t,u,both,1,1", "the arm \"both\" is not control or variant"),
            (csv, "a,t,u,,much,1", "the pnl \"much\" is no number"),
            (csv, "a,t,u,,NaN,1", "the pnl \"NaN\" is no number"),
            (csv, "a,t,u,,inf,1", "no number"),
            (csv, "a,t,u,,1,then", "neither RFC 3339"),
            (Rows::Json, "[1]", "no JSON object"),
            (Rows::Json, "{\"pnl\":1,\"unit\":\"u\",\"timestamp\":1}", "no trade_id"),
            (Rows::Json, "{\"trade_id\":1,\"unit\":\"u\",\"timestamp\":1}", "no pnl"),
            (Rows::Json, "{\"trade_id\":1,\"unit\":\"u\",\"pnl\":1}", "no timestamp"),
            (
                Rows::Json,
                "{\"trade_id\":[],\"unit\":\"u\",\"pnl\":1,\"timestamp\":1}",
                "neither a text",
            ),
            (
                Rows::Json,
                "{\"trade_id\":1,\"unit\":true,\"pnl\":1,\"timestamp\":1}",
                "neither a text",
            ),
        ] {
            let error = rows.parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let line = r#"{"experiment":"é","trade_id":12345678901234567890123,"unit":"u","arm":null,"pnl":"-1.25","timestamp":1700000000.123456789,"x":[]}"#;
        let row = Rows::Json.parse(line).unwrap();
        assert_eq!((&*row.experiment, &*row.id), ("é", "12345678901234567890123"));
        assert_eq!((row.pnl, row.unix_nanos), (-1.25, 1_700_000_000_123_456_789));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,60}|[-0-9.,\"{}:a-z_]{0,60}") {
            let columns = Columns::of_header(HEADER, true).unwrap();
            let _ = (Rows::Csv(columns).parse(&line), Rows::Json.parse(&line));
            let _ = Columns::of_header(&line, false);
        }
    }
}
