//! The file with what is known of vulnerable packages. It comes from elsewhere and can be imported again, so that it is
//! apart from the agent's state, and no part of its backups.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use redb::{ReadTransaction, WriteTransaction};

use crate::engine::{Engine, Manner};
use crate::error::{OpenError, StorageError};
use crate::record::check_name;
use crate::schema::advisories::{EXPLOITED, LIKELIHOODS, PACKAGES, SCHEMA, SOURCES};
use crate::store::Compaction;
use crate::view::{Sink, Source};

/// The open file.
#[derive(Debug)]
pub struct Advisories {
    engine: Engine,
}

impl Advisories {
    /// Opens the file; creates it where there is none, see [`crate::Store::open`].
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        Engine::open(path, cache_bytes, &SCHEMA, Manner { reserved: false, seals: true })
            .map(|engine| Self { engine })
    }

    /// Reads one consistent state. Does not wait for writers.
    pub fn read<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&AdvisoriesReading<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.reading(|tx| f(&AdvisoriesReading::new(tx, failed)))
    }

    /// Runs a write transaction: durable on return, on `Err` nothing is written.
    pub fn write<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&AdvisoriesWriting<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.transact(|tx| f(&AdvisoriesWriting::new(tx, failed)))
    }

    /// Closes the file, so that the next opening need not prove it; waits for whoever reads or writes. Who comes later
    /// opens it again. For the end of a process, whose threads may hold this for longer than it lasts.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Rewrites the file without the space that it no longer needs, see [`crate::Store::compact`].
    pub fn compact(&self) -> Result<Compaction, StorageError> {
        self.engine.compact()
    }
}

/// Reads what is known. What it is made of is the caller's business.
#[derive(Clone, Copy)]
pub struct AdvisoriesReading<'t> {
    source: Source<'t>,
}

impl<'t> AdvisoriesReading<'t> {
    fn new(transaction: &'t ReadTransaction, failed: &'t AtomicBool) -> Self {
        Self { source: Source::new(transaction, failed) }
    }

    /// What was imported, by name.
    pub fn sources(&self) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
        let view = self.source.view(SOURCES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().to_owned(), value.value().to_vec()))
        });
        rows.collect()
    }

    /// The advisories of a package of an ecosystem.
    pub fn package(&self, ecosystem: &str, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(PACKAGES)?;
        Ok(view.get((ecosystem, name))?.map(|row| row.value().to_vec()))
    }

    /// What is known of the use that is made of a vulnerability.
    pub fn exploited(&self, cve: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(EXPLOITED)?;
        Ok(view.get(cve)?.map(|row| row.value().to_vec()))
    }

    /// The probability that use will be made of a vulnerability, and the share of those with a smaller one.
    pub fn likelihood(&self, cve: &str) -> Result<Option<(f64, f64)>, StorageError> {
        let view = self.source.view(LIKELIHOODS)?;
        Ok(view.get(cve)?.map(|row| row.value()))
    }
}

/// Writes what is known. It reads its own writes.
#[derive(Clone, Copy)]
pub struct AdvisoriesWriting<'t> {
    reading: AdvisoriesReading<'t>,
    sink: Sink<'t>,
}

impl<'t> std::ops::Deref for AdvisoriesWriting<'t> {
    type Target = AdvisoriesReading<'t>;

    fn deref(&self) -> &AdvisoriesReading<'t> {
        &self.reading
    }
}

impl<'t> AdvisoriesWriting<'t> {
    fn new(transaction: &'t WriteTransaction, failed: &'t AtomicBool) -> Self {
        let sink = Sink::new(transaction, failed);
        Self { reading: AdvisoriesReading { source: sink.source() }, sink }
    }

    /// Notes what was imported.
    pub fn put_source(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        check_name("advisory_sources", name)?;
        self.sink.edit(SOURCES)?.insert(name, bytes)
    }

    /// Puts these packages in the place of all that an ecosystem had.
    pub fn replace_packages<'a>(
        &self,
        ecosystem: &str,
        packages: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), StorageError> {
        check_name("advisory_packages", ecosystem)?;
        let mut edit = self.sink.edit(PACKAGES)?;
        // No name goes beyond a next ecosystem's first.
        let next = format!("{ecosystem}\0");
        edit.remove_range((ecosystem, "")..(next.as_str(), ""))?;
        for (name, bytes) in packages {
            check_name("advisory_packages", name)?;
            edit.insert((ecosystem, name), bytes)?;
        }
        Ok(())
    }

    /// Puts these in the place of all vulnerabilities that use is made of.
    pub fn replace_exploited<'a>(
        &self,
        exploited: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), StorageError> {
        let mut edit = self.sink.edit(EXPLOITED)?;
        edit.remove_range::<&str>(..)?;
        for (cve, bytes) in exploited {
            check_name("exploited", cve)?;
            edit.insert(cve, bytes)?;
        }
        Ok(())
    }

    /// Puts these in the place of all likelihoods.
    pub fn replace_likelihoods<'a>(
        &self,
        likelihoods: impl IntoIterator<Item = (&'a str, (f64, f64))>,
    ) -> Result<(), StorageError> {
        let mut edit = self.sink.edit(LIKELIHOODS)?;
        edit.remove_range::<&str>(..)?;
        for (cve, likelihood) in likelihoods {
            check_name("likelihoods", cve)?;
            edit.insert(cve, likelihood)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_replaces_what_its_ecosystem_had_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("advisories.redb");
        let file = Advisories::open(&path, 1 << 20).unwrap();
        let put = |ecosystem: &str, names: &[&str]| {
            let packages = names.iter().map(|name| (*name, name.as_bytes()));
            file.write(|it| it.replace_packages(ecosystem, packages)).unwrap();
        };
        put("PyPI", &["django", "\u{10ffff}"]);
        put("PyPI:extra", &["django"]);
        put("crates.io", &["time"]);
        put("PyPI", &["flask"]);
        let of = |ecosystem: &str, name: &str| {
            file.read::<_, StorageError>(|it| it.package(ecosystem, name)).unwrap()
        };
        assert_eq!(of("PyPI", "django"), None);
        assert_eq!(of("PyPI", "\u{10ffff}"), None);
        assert_eq!(of("PyPI", "flask"), Some(b"flask".to_vec()));
        assert_eq!(of("PyPI:extra", "django"), Some(b"django".to_vec()));
        assert_eq!(of("crates.io", "time"), Some(b"time".to_vec()));
        let failed: Result<(), StorageError> = file.write(|it| {
            it.replace_packages("crates.io", [])?;
            it.put_source(&"x".repeat(4_000), b"")
        });
        assert!(failed.is_err());
        assert_eq!(of("crates.io", "time"), Some(b"time".to_vec()), "nothing of it is there");
    }

    #[test]
    fn what_is_known_of_vulnerabilities_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("advisories.redb");
        {
            let file = Advisories::open(&path, 1 << 20).unwrap();
            for cve in ["CVE-1", "CVE-2"] {
                file.write::<_, StorageError>(|it| {
                    it.replace_exploited([(cve, cve.as_bytes())])?;
                    it.replace_likelihoods([(cve, (0.25, 0.5))])?;
                    it.put_source("kev", cve.as_bytes())
                })
                .unwrap();
            }
        }
        let file = Advisories::open(&path, 1 << 20).unwrap();
        file.read::<_, StorageError>(|it| {
            assert_eq!(it.exploited("CVE-1")?, None);
            assert_eq!(it.exploited("CVE-2")?, Some(b"CVE-2".to_vec()));
            assert_eq!(
                (it.likelihood("CVE-1")?, it.likelihood("CVE-2")?),
                (None, Some((0.25, 0.5)))
            );
            assert_eq!(it.sources()?, [("kev".to_owned(), b"CVE-2".to_vec())]);
            Ok(())
        })
        .unwrap();
    }
}
