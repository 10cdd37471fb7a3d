//! Reads files of advisories, of exploited vulnerabilities and of likelihoods, as whole as they are or not at all.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use genesis_advisories::Ecosystem;
use genesis_advisories::epss::{self, Epss};
use genesis_advisories::kev::{self, Kev};
use genesis_advisories::osv::{self, Advisory};

use super::plan::{EPSS, KEV, Source};
use crate::error::{Error, Result};

/// A file has so many bytes at most.
pub(super) const FILE: u64 = 512 << 20;
/// A record so many, unpacked; the catalogue of what is exploited is one.
const RECORD: u64 = 32 << 20;
/// And all of them together.
const WHOLE: u64 = 2 << 30;
/// A folder or an archive has so many files at most.
const FILES: usize = 1_000_000;
/// An ecosystem with a smaller share of the records than 1 in so many is named beside another only.
const STRAY: u64 = 100;
/// Folders in folders, at most.
const DEPTH: usize = 8;

/// What some files hold.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// By ecosystem and package.
    pub(super) ecosystems: BTreeMap<String, BTreeMap<String, Vec<Advisory>>>,
    /// By the ecosystem's name, KEV or EPSS.
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) kev: Option<Kev>,
    pub(super) epss: Option<Epss>,
    bytes: u64,
    files: usize,
}

/// A file that is read: its name, date and what names its content.
#[derive(Debug, Clone)]
struct Origin {
    file: String,
    at: i64,
    digest: String,
}

fn wrong(place: &str, why: impl std::fmt::Display) -> Error {
    Error::invalid("ADVISORIES_INVALID", format!("{place}: {why}; nothing was imported of it"))
}

fn too_large(place: &str, limit: u64) -> Error {
    let message = format!("{place} has more than {limit} bytes; nothing was imported of it");
    Error::refused("ADVISORIES_TOO_LARGE", message, Vec::new())
}

impl Feed {
    /// Reads a file or a folder. Blocking.
    ///
    /// # Errors
    /// `ADVISORIES_INVALID`, `ADVISORIES_TOO_LARGE`.
    pub(super) fn read(&mut self, path: &Path, called: &str, file_at: Option<i64>) -> Result<()> {
        let records = |feed: &Self| feed.sources.values().map(|it| it.records).sum::<u64>();
        let before = records(self);
        self.read_some(path, called, file_at)?;
        // A mirror that is not mounted is an empty folder.
        match records(self) == before {
            true => Err(wrong(called, "there is no record in it")),
            false => Ok(()),
        }
    }

    fn read_some(&mut self, path: &Path, called: &str, file_at: Option<i64>) -> Result<()> {
        let facts = std::fs::metadata(path).map_err(|error| wrong(called, error))?;
        if facts.is_dir() {
            return self.folder(path, called);
        }
        if facts.len() > FILE {
            return Err(too_large(called, FILE));
        }
        let bytes = load(path).map_err(|error| wrong(called, error))?;
        let digest = blake3::hash(&bytes).to_hex()[..16].to_owned();
        let at = file_at.unwrap_or_else(|| modified(&facts));
        self.take(called, &bytes, &Origin { file: called.to_owned(), at, digest }, 2)
    }

    /// All files of a folder: they are one source, as old as the newest of them.
    fn folder(&mut self, folder: &Path, called: &str) -> Result<()> {
        let mut paths = Vec::new();
        list(folder, DEPTH, &mut paths).map_err(|error| wrong(called, error))?;
        paths.sort();
        let own = std::fs::metadata(folder).map_err(|error| wrong(called, error))?;
        let (mut whole, mut at) = (blake3::Hasher::new(), modified(&own));
        let mut read = Vec::new();
        for path in paths {
            let shown = path.display().to_string();
            let facts = std::fs::metadata(&path).map_err(|error| wrong(&shown, error))?;
            let bytes = load(&path).map_err(|error| wrong(&shown, error))?;
            self.count(&shown, bytes.len() as u64)?;
            whole.update(&bytes);
            at = at.max(modified(&facts));
            read.push((shown, bytes));
        }
        let digest = whole.finalize().to_hex()[..16].to_owned();
        let origin = Origin { file: called.to_owned(), at, digest };
        read.into_iter().try_for_each(|(shown, bytes)| self.take(&shown, &bytes, &origin, 2))
    }

    fn count(&mut self, place: &str, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.files += 1;
        if self.bytes > WHOLE {
            return Err(too_large(place, WHOLE));
        }
        match self.files > FILES {
            true => Err(wrong(place, format!("there are more than {FILES} files"))),
            false => Ok(()),
        }
    }

    /// Takes a file by what it holds.
    fn take(&mut self, place: &str, bytes: &[u8], origin: &Origin, depth: usize) -> Result<()> {
        match bytes {
            [b'P', b'K', 3 | 5, ..] if depth > 0 => self.archive(place, bytes, origin, depth),
            [b'P', b'K', 3 | 5, ..] => Err(wrong(place, "it is an archive in an archive in one")),
            [0x1f, 0x8b, ..] => {
                let mut text = Vec::new();
                let unpacked = flate2::read::MultiGzDecoder::new(bytes).take(RECORD + 1);
                { unpacked }.read_to_end(&mut text).map_err(|error| wrong(place, error))?;
                if text.len() as u64 > RECORD {
                    return Err(too_large(place, RECORD));
                }
                self.likelihoods(place, &text, origin)
            }
            _ if bytes.trim_ascii_start().starts_with(b"{") => self.json(place, bytes, origin),
            _ if bytes.starts_with(b"#") || bytes.starts_with(b"cve,") => {
                self.likelihoods(place, bytes, origin)
            }
            _ => Err(wrong(place, "it is neither a ZIP, nor JSON of OSV or KEV, nor CSV of EPSS")),
        }
    }

    fn archive(&mut self, place: &str, bytes: &[u8], origin: &Origin, depth: usize) -> Result<()> {
        let mut archive =
            zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| wrong(place, error))?;
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).map_err(|error| wrong(place, error))?;
            let name = entry.name().map_err(|error| wrong(place, error))?;
            let name: String = name.chars().take(200).collect();
            let inner = Path::new(&name).extension().and_then(|it| it.to_str()).unwrap_or_default();
            let limit = match inner {
                "json" => RECORD,
                "zip" => FILE,
                _ => continue,
            };
            let shown = format!("{place}: {name}");
            let mut unpacked = Vec::new();
            // The checksum is compared at the end.
            (&mut entry)
                .take(limit + 1)
                .read_to_end(&mut unpacked)
                .map_err(|error| wrong(&shown, error))?;
            if unpacked.len() as u64 > limit {
                return Err(too_large(&shown, limit));
            }
            self.count(&shown, unpacked.len() as u64)?;
            self.take(&shown, &unpacked, origin, depth - 1)?;
        }
        Ok(())
    }

    fn json(&mut self, place: &str, bytes: &[u8], origin: &Origin) -> Result<()> {
        // A record of OSV has an id, and the catalogue has a version.
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Which {
            id: Option<serde::de::IgnoredAny>,
            catalog_version: Option<serde::de::IgnoredAny>,
        }
        let which: Which = serde_json::from_slice(bytes).map_err(|error| wrong(place, error))?;
        if which.id.is_none() && which.catalog_version.is_some() {
            let kev = kev::read(bytes).map_err(|refused| wrong(place, refused.problem))?;
            self.note(KEV, kev.exploited.len() as u64, Some(kev.released), origin);
            self.kev = Some(kev);
            return Ok(());
        }
        let record = osv::read(place, bytes).map_err(|refused| wrong(place, refused.problem))?;
        let newest = record.advisories.iter().filter_map(|it| it.modified.or(it.published)).max();
        // Versions of others can't be compared.
        let advisories = || {
            let known = |it: &&Advisory| !matches!(it.ecosystem, Ecosystem::Other(_));
            record.advisories.iter().filter(known)
        };
        let mut names: Vec<String> = advisories().map(|it| it.ecosystem.to_string()).collect();
        names.sort();
        names.dedup();
        for name in names {
            self.note(&name, 1, newest, origin);
        }
        for advisory in advisories().cloned() {
            let packages = self.ecosystems.entry(advisory.ecosystem.to_string()).or_default();
            let known = packages.entry(advisory.name.clone()).or_default();
            // Of one that comes twice the newer one counts.
            match known.iter_mut().find(|it| it.id == advisory.id) {
                Some(other) if other.modified < advisory.modified => *other = advisory,
                Some(_) => {}
                None => known.push(advisory),
            }
        }
        Ok(())
    }

    /// Leaves out sources, with all that they have.
    pub(super) fn leave_out(&mut self, unwanted: impl Fn(&str, &Source) -> bool) {
        self.sources.retain(|name, source| !unwanted(name, source));
        let sources = &self.sources;
        self.ecosystems.retain(|name, _| sources.contains_key(name));
        self.kev = self.kev.take().filter(|_| sources.contains_key(KEV));
        self.epss = self.epss.take().filter(|_| sources.contains_key(EPSS));
    }

    /// Leaves out ecosystems that only some records name beside another, and dates that are still to come.
    pub(super) fn tidy(&mut self, now: i64) {
        let most = self.ecosystems.keys().filter_map(|name| self.sources.get(name));
        let most = most.map(|it| it.records).max().unwrap_or(0);
        let ecosystems: Vec<String> = self.ecosystems.keys().cloned().collect();
        self.leave_out(|name, it| {
            ecosystems.iter().any(|known| known == name) && it.records.saturating_mul(STRAY) < most
        });
        for source in self.sources.values_mut() {
            source.file_at = source.file_at.min(now);
            source.newest_at = source.newest_at.map(|at| at.min(now));
        }
    }

    fn likelihoods(&mut self, place: &str, bytes: &[u8], origin: &Origin) -> Result<()> {
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(place, error))?;
        let read = epss::read(text).map_err(|refused| wrong(place, refused))?;
        self.note(EPSS, read.len() as u64, Some(read.date), origin);
        self.epss = Some(read);
        Ok(())
    }

    fn note(&mut self, name: &str, records: u64, newest: Option<i64>, origin: &Origin) {
        let source = self.sources.entry(name.to_owned()).or_insert_with(|| Source {
            records: 0,
            file: origin.file.clone(),
            file_at: origin.at,
            newest_at: None,
            imported_at: 0,
            digest: origin.digest.clone(),
        });
        source.records += records;
        source.newest_at = source.newest_at.max(newest);
        if source.file != origin.file {
            // It comes from several files: it is as old as the oldest.
            source.file_at = source.file_at.min(origin.at);
            let both = format!("{}{}", source.digest, origin.digest);
            source.digest = blake3::hash(both.as_bytes()).to_hex()[..16].to_owned();
            source.file = origin.file.clone();
        }
    }
}

/// How many records some bytes have, which are taken by what they hold, as an upload is: for tests that send any.
///
/// # Errors
/// `ADVISORIES_INVALID`, `ADVISORIES_TOO_LARGE`.
#[doc(hidden)]
pub fn records_in(bytes: &[u8]) -> Result<u64> {
    let mut feed = Feed::default();
    let origin = Origin { file: "any".to_owned(), at: 0, digest: String::new() };
    feed.take("any", bytes, &origin, 2)?;
    Ok(feed.sources.values().map(|source| source.records).sum())
}

fn load(path: &Path) -> io::Result<Vec<u8>> {
    crate::outside::files::read_small(path, FILE as usize).map(|(bytes, _)| bytes)
}

fn modified(facts: &std::fs::Metadata) -> i64 {
    let at = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    at.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The files of a folder that may hold something, without hidden ones.
fn list(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            match depth {
                0 => return Err(io::Error::other(format!("{} is too deep", path.display()))),
                _ => list(&path, depth - 1, into)?,
            }
        } else if path.extension().is_some_and(|it| it == "json" || it == "zip") {
            if into.len() >= FILES {
                return Err(io::Error::other(format!("there are more than {FILES} files")));
            }
            into.push(path);
        }
    }
    Ok(())
}
