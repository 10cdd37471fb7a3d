//! CISA's catalogue of vulnerabilities that are known to be exploited.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Refused;
use crate::text::{cut, day, second};

/// The catalogue, as much of it as matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kev {
    /// Its version, such as `2024.05.01`.
    pub version: String,
    /// When it was released, in seconds since 1970: the date of the data.
    pub released: i64,
    /// What is exploited, by the id of CVE.
    pub exploited: BTreeMap<String, Exploited>,
}

/// What is known of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exploited {
    /// The day on which it was added, in seconds since 1970.
    pub added: i64,
    /// The day until which US agencies have to mend it.
    pub due: Option<i64>,
    /// Whether it is known to be used for ransom; the catalogue says `Known` or `Unknown`.
    pub ransomware: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    catalog_version: String,
    date_released: String,
    count: Option<u64>,
    vulnerabilities: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    #[serde(rename = "cveID")]
    cve: String,
    date_added: String,
    due_date: Option<String>,
    known_ransomware_campaign_use: Option<String>,
}

impl Kev {
    /// What is known of a problem by the id of CVE. Nothing means that it is not in the catalogue.
    pub fn get(&self, cve: &str) -> Option<&Exploited> {
        self.exploited.get(cve)
    }
}

/// Reads `known_exploited_vulnerabilities.json`.
///
/// # Errors
///
/// What is no JSON of that form, an empty catalogue, one whose `count` is another than that of its entries, an id that
/// is none of CVE, and days that are none.
pub fn read(json: &[u8]) -> Result<Kev, Refused> {
    let refused =
        |problem: String| Refused::new("the catalogue of exploited vulnerabilities", problem);
    let raw: Raw =
        serde_json::from_slice(json).map_err(|error| refused(cut(&error.to_string())))?;
    if raw.vulnerabilities.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    let entries = raw.vulnerabilities.len();
    if let Some(count) = raw.count.filter(|count| usize::try_from(*count) != Ok(entries)) {
        return Err(refused(format!("it has {entries} entries and says that there are {count}")));
    }
    let released = second(&raw.date_released).or_else(|_| day(&raw.date_released));
    let released = released.map_err(|problem| refused(format!("dateReleased: {problem}")))?;
    let mut exploited = BTreeMap::new();
    for entry in raw.vulnerabilities {
        let bad = |problem: String| refused(format!("{}: {problem}", cut(&entry.cve)));
        if !is_cve(&entry.cve) {
            return Err(bad("it is no id of CVE".to_owned()));
        }
        let added = day(&entry.date_added).map_err(bad)?;
        let due = entry.due_date.as_deref().filter(|due| !due.is_empty());
        let due = due.map(day).transpose().map_err(bad)?;
        let used = entry.known_ransomware_campaign_use.as_deref();
        let ransomware = used.is_some_and(|used| used.eq_ignore_ascii_case("known"));
        exploited.insert(entry.cve, Exploited { added, due, ransomware });
    }
    Ok(Kev { version: cut(&raw.catalog_version), released, exploited })
}

/// Whether a text is an id of CVE, such as `CVE-2021-44228`.
pub(crate) fn is_cve(text: &str) -> bool {
    let digits = |text: &str, least, most| {
        (least..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.strip_prefix("CVE-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(year, number)| digits(year, 4, 4) && digits(number, 4, 10))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Exploited, is_cve, read};

    fn catalogue(count: u32, entries: &str) -> String {
        format!(
            r#"{{"title": "x", "catalogVersion": "2024.05.01", "dateReleased": "2024-05-01T18:00:30.1234Z",
                "count": {count}, "vulnerabilities": [{entries}]}}"#
        )
    }

    #[test]
    fn reads_the_catalogue() {
        let json = catalogue(
            2,
            r#"{"cveID": "CVE-2021-44228", "vendorProject": "Apache", "dateAdded": "2021-12-10",
                "dueDate": "2021-12-24", "knownRansomwareCampaignUse": "Known", "cwes": []},
               {"cveID": "CVE-2022-0001", "dateAdded": "2022-01-01", "dueDate": "",
                "knownRansomwareCampaignUse": "Unknown"}"#,
        );
        let kev = read(json.as_bytes()).unwrap();
        assert_eq!((kev.version.as_str(), kev.released), ("2024.05.01", 1_714_586_430));
        let log4j = Exploited { added: 1_639_094_400, due: Some(1_640_304_000), ransomware: true };
        assert_eq!(kev.get("CVE-2021-44228"), Some(&log4j));
        let other = kev.get("CVE-2022-0001").unwrap();
        assert_eq!((other.due, other.ransomware), (None, false));
        assert_eq!(kev.get("CVE-2022-0002"), None);
    }

    #[test]
    fn what_is_refused() {
        for (json, expected) in [
            (catalogue(0, ""), "it is empty"),
            (
                catalogue(2, r#"{"cveID": "CVE-2021-44228", "dateAdded": "2021-12-10"}"#),
                "it has 1 entries and says that there are 2",
            ),
            (
                catalogue(1, r#"{"cveID": "CVE-21-1", "dateAdded": "2021-12-10"}"#),
                "CVE-21-1: it is no id of CVE",
            ),
            (
                catalogue(1, r#"{"cveID": "CVE-2021-44228", "dateAdded": "2021-13-10"}"#),
                "CVE-2021-44228: `2021-13-10` is no day",
            ),
            (
                "[]".to_owned(),
                "invalid length 0, expected struct Raw with 4 elements at line 1 column 2",
            ),
        ] {
            let error = read(json.as_bytes()).unwrap_err();
            assert_eq!(error.problem, expected);
        }
    }

    #[test]
    fn ids() {
        for (text, expected) in [
            ("CVE-2021-44228", true),
            ("CVE-1999-0001", true),
            ("CVE-2021-1", false),
            ("cve-2021-44228", false),
            ("GHSA-aaaa-bbbb-cccc", false),
        ] {
            assert_eq!(is_cve(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,60}") {
            let _ = read(text.as_bytes());
            let entry = serde_json::json!({"cveID": text, "dateAdded": text}).to_string();
            let _ = read(catalogue(1, &entry).as_bytes());
        }
    }
}
