//! What was imported, as it lies in the file.

use std::collections::BTreeMap;

use genesis_storage::Advisories;

use super::feed::Feed;
use super::plan;
use crate::error::{Error, Result};

/// What was imported of each source. What can't be read is as good as never imported.
///
/// # Errors
/// `STORAGE_FAILED`.
pub(super) fn recorded(
    reading: &genesis_storage::AdvisoriesReading<'_>,
) -> Result<BTreeMap<String, plan::Source>> {
    let mut known = BTreeMap::new();
    for (name, bytes) in reading.sources()? {
        // What can't be read is as good as never imported: it is replaced.
        if let Ok(source) = serde_json::from_slice(&bytes) {
            known.insert(name, source);
        }
    }
    Ok(known)
}

/// Writes all of a feed in one transaction.
///
/// # Errors
/// `STORAGE_FAILED`.
pub(super) fn write(file: &Advisories, feed: &Feed) -> Result<()> {
    file.write(|writing| {
        for (ecosystem, packages) in &feed.ecosystems {
            let mut rows = Vec::with_capacity(packages.len());
            for (name, advisories) in packages {
                rows.push((name.as_str(), text(advisories)?));
            }
            let rows = rows.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
            writing.replace_packages(ecosystem, rows)?;
        }
        if let Some(kev) = &feed.kev {
            let mut rows = Vec::with_capacity(kev.exploited.len());
            for (cve, exploited) in &kev.exploited {
                rows.push((cve.as_str(), text(exploited)?));
            }
            writing.replace_exploited(rows.iter().map(|(cve, bytes)| (*cve, bytes.as_slice())))?;
        }
        if let Some(epss) = &feed.epss {
            let rows: Vec<(String, (f64, f64))> = epss
                .iter()
                .map(|(cve, it)| (cve, (f64::from(it.probability), f64::from(it.percentile))))
                .collect();
            writing.replace_likelihoods(rows.iter().map(|(cve, row)| (cve.as_str(), *row)))?;
        }
        for (name, source) in &feed.sources {
            writing.put_source(name, &text(source)?)?;
        }
        Ok(())
    })
}

fn text(what: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(|error| {
        Error::internal("STORAGE_FAILED", "an advisory has no text").caused_by(error)
    })
}
