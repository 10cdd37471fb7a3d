//! FIRST's Exploit Prediction Scoring System: how likely a problem is to be exploited within 30 days.

use serde::{Deserialize, Serialize};

use crate::Refused;
use crate::kev::is_cve;
use crate::text::{cut, day, second};

/// The scores of one day. There are some hundred thousand, so that an id is kept as a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epss {
    /// The version of the model, such as `v2023.03.01`.
    pub model: String,
    /// The day of the scores, in seconds since 1970: the date of the data.
    pub date: i64,
    /// Year and number of an id of CVE with its score, in order.
    scores: Vec<(u16, u64, Likelihood)>,
}

/// How likely a problem is to be exploited.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// The probability that it is exploited within 30 days, from 0 to 1.
    pub probability: f32,
    /// The share of all problems that are not more likely to be exploited.
    pub percentile: f32,
}

impl Epss {
    /// The score of a problem by the id of CVE.
    pub fn get(&self, cve: &str) -> Option<Likelihood> {
        let (year, number) = key(cve)?;
        let at =
            self.scores.binary_search_by_key(&(year, number), |(year, number, _)| (*year, *number));
        at.ok().and_then(|at| self.scores.get(at)).map(|(.., score)| *score)
    }

    /// How many problems have a score.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there are none; what was read has some.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// All scores in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (String, Likelihood)> {
        self.scores
            .iter()
            .map(|(year, number, score)| (format!("CVE-{year:04}-{number:04}"), *score))
    }
}

/// Reads the CSV, decompressed: a first line `#model_version:v2023.03.01,score_date:2024-05-01T00:00:00+0000`, the
/// header `cve,epss,percentile`, and a line for each problem.
///
/// # Errors
///
/// Another first line or header, a date that is none, no scores, and a line that is not an id of CVE with two numbers
/// from 0 to 1. The error has the number of the line.
pub fn read(text: &str) -> Result<Epss, Refused> {
    let refused =
        |line: usize, problem: String| Refused::new(format!("line {line} of EPSS"), problem);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let (model, date) = head(first).map_err(|problem| refused(1, problem))?;
    let header = lines.next().unwrap_or_default().trim();
    if header != "cve,epss,percentile" {
        return Err(refused(2, format!("`{}` is not the header cve,epss,percentile", cut(header))));
    }
    let mut scores = Vec::new();
    for (index, line) in lines.enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let bad = || refused(index + 3, format!("`{}` is no id of CVE with two shares", cut(line)));
        scores.push(row(line.trim()).ok_or_else(bad)?);
    }
    if scores.is_empty() {
        return Err(Refused::new("EPSS", "it has no scores"));
    }
    scores.sort_by_key(|(year, number, _)| (*year, *number));
    scores.dedup_by_key(|(year, number, _)| (*year, *number));
    Ok(Epss { model, date, scores })
}

fn head(line: &str) -> Result<(String, i64), String> {
    let bad = || format!("`{}` has no model_version and score_date", cut(line));
    let fields = line.trim().strip_prefix('#').ok_or_else(bad)?;
    let field = |name: &str| {
        fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix(':'))
    };
    let date = field("score_date").ok_or_else(bad)?;
    let date =
        second(date).or_else(|_| day(date)).map_err(|problem| format!("score_date: {problem}"))?;
    Ok((cut(field("model_version").ok_or_else(bad)?), date))
}

fn row(line: &str) -> Option<(u16, u64, Likelihood)> {
    let mut fields = line.split(',');
    let (year, number) = key(fields.next()?)?;
    let share = |text: &str| text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    let probability = share(fields.next()?)?;
    let percentile = share(fields.next()?)?;
    fields.next().is_none().then_some((year, number, Likelihood { probability, percentile }))
}

fn key(cve: &str) -> Option<(u16, u64)> {
    if !is_cve(cve) {
        return None;
    }
    let (year, number) = cve.get(4..)?.split_once('-')?;
    Some((year.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Likelihood, read};

    const HEAD: &str =
        "#model_version:v2023.03.01,score_date:2024-05-01T00:00:00+0000\ncve,epss,percentile\n";

    #[test]
    fn reads_scores() {
        let text =
            format!("{HEAD}CVE-2021-44228,0.97565,0.99999\r\nCVE-1999-0001,0.00383,0.73\n\n");
        let epss = read(&text).unwrap();
        assert_eq!((epss.model.as_str(), epss.date, epss.len()), ("v2023.03.01", 1_714_521_600, 2));
        let log4j = Likelihood { probability: 0.97565, percentile: 0.99999 };
        assert_eq!(epss.get("CVE-2021-44228"), Some(log4j));
        assert_eq!(epss.get("CVE-2021-44229"), None);
        assert_eq!(epss.get("GHSA-x"), None);
        let ids: Vec<String> = epss.iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["CVE-1999-0001", "CVE-2021-44228"]);
    }

    #[test]
    fn what_is_refused() {
        for (text, expected) in [
            (String::new(), "line 1 of EPSS: `` has no model_version and score_date"),
            (
                "#model_version:v1,score_date:x\n".to_owned(),
                "line 1 of EPSS: score_date: `x` is no day",
            ),
            (
                HEAD.replace("epss,", ""),
                "line 2 of EPSS: `cve,percentile` is not the header cve,epss,percentile",
            ),
            (HEAD.to_owned(), "EPSS: it has no scores"),
            (
                format!("{HEAD}CVE-1999-0001,0.1,0.2\nCVE-2021-44228,1.5,0.9"),
                "line 4 of EPSS: `CVE-2021-44228,1.5,0.9` is no id of CVE with two shares",
            ),
            (
                format!("{HEAD}CVE-1999-0001,NaN,0.2"),
                "line 3 of EPSS: `CVE-1999-0001,NaN,0.2` is no id of CVE with two shares",
            ),
            (
                format!("{HEAD}CVE-1999-0001,0.1"),
                "line 3 of EPSS: `CVE-1999-0001,0.1` is no id of CVE with two shares",
            ),
        ] {
            assert_eq!(read(&text).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,60}", line in "CVE-[0-9]{4}-[0-9]{4,10},[0-9.]{0,6},[0-9.]{0,6}") {
            let _ = read(&text);
            let _ = read(&format!("{HEAD}{line}\n{text}"));
        }
    }
}
