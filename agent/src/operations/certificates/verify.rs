//! Whether a certificate is as it should be: on the disk, in its copies, and where it is served.

use std::sync::Arc;

use genesis_storage::GenerationRecord;
use jiff::Timestamp;

use super::config::Certificate;
use super::looks::Look;
use super::{Certificates, lock};
use crate::error::Result;

/// What was last seen to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// When.
    pub at: Timestamp,
    /// The certificate's SHA-256, or why it could not be seen; `None`: nobody looks.
    pub shown: Option<Result<String, String>>,
}

impl Served {
    /// Whether that is this generation.
    pub fn is_current(&self, generation: Option<&GenerationRecord>) -> bool {
        match (&self.shown, generation) {
            (Some(Ok(seen)), Some(generation)) => *seen == generation.fingerprint,
            _ => false,
        }
    }

    /// Whether it is, or `None` where that is not known.
    pub fn truth(&self, generation: Option<&GenerationRecord>) -> Option<bool> {
        match &self.shown {
            Some(Ok(_)) => Some(self.is_current(generation)),
            _ => None,
        }
    }

    /// In words.
    pub fn evidence(&self, generation: Option<&GenerationRecord>) -> String {
        match (&self.shown, generation) {
            (None, _) => "nothing is configured by which to see what is served".to_owned(),
            (Some(Err(why)), _) => why.clone(),
            (Some(Ok(seen)), Some(it)) if *seen == it.fingerprint => {
                format!("generation {} is served, sha256 {}", it.number, &seen[..16])
            }
            (Some(Ok(seen)), _) => {
                format!("another one is served, sha256 {}", seen.get(..16).unwrap_or(seen))
            }
        }
    }
}

/// What is said of a certificate that has no generation in force.
pub(super) const NONE: &str = "there is none";

/// How an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// As it should be.
    Pass,
    /// Not known.
    Unknown,
    /// Not as it should be.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What.
    pub item: &'static str,
    /// How it is.
    pub truth: Truth,
    /// In words.
    pub evidence: String,
}

impl Item {
    /// One that is as it should be, or not.
    pub(super) fn of(item: &'static str, outcome: Result<String, String>) -> Self {
        match outcome {
            Ok(evidence) => Self { item, truth: Truth::Pass, evidence },
            Err(evidence) => Self { item, truth: Truth::Fail, evidence },
        }
    }

    /// One of which nothing is known.
    pub(super) fn unknown(item: &'static str, evidence: String) -> Self {
        Self { item, truth: Truth::Unknown, evidence }
    }
}

/// All that was looked at of one certificate.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// What was looked at.
    pub items: Vec<Item>,
}

impl Verified {
    /// The worst of the items.
    pub fn truth(&self) -> Truth {
        self.items.iter().map(|it| it.truth).max().unwrap_or(Truth::Unknown)
    }
}

impl Certificates {
    /// Looks at the certificates that a name or a domain stands for; empty: all.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`.
    pub async fn verify(&self, domain: &str) -> Result<Vec<Verified>> {
        use futures_util::{StreamExt, TryStreamExt, stream};

        let looks =
            self.those(domain)?.into_iter().map(|it| async move { self.verify_one(&it).await });
        stream::iter(looks).buffered(16).try_collect().await
    }

    async fn verify_one(&self, certificate: &Certificate) -> Result<Verified> {
        let name = certificate.name.clone();
        let standing = self.standing(&name)?;
        let folder = self.folder(&name);
        let Some(current) = standing.current().cloned() else {
            let evidence = Err(NONE.to_owned());
            return Ok(Verified { name, items: vec![Item::of("current", evidence)] });
        };
        let look = Look {
            certificate: certificate.clone(),
            config: self.config.load_full(),
            roots: Arc::clone(&self.looks.roots),
            folder,
            current: current.clone(),
            backup: standing.backup.clone(),
            now: self.now(),
            monotonic: self.outside.clock.monotonic(),
        };
        let mut items = self.looks.on_disk(look).await;
        if self.probe(certificate).is_some() {
            let served = self.look_at(certificate).await;
            let evidence = served.evidence(Some(&current));
            let truth = match served.truth(Some(&current)) {
                Some(true) => Truth::Pass,
                Some(false) => Truth::Fail,
                None => Truth::Unknown,
            };
            lock(&self.served).insert(name.clone(), served);
            items.push(Item { item: "served", truth, evidence });
            if truth == Truth::Fail {
                self.bell.ring();
            }
        }
        if let Some(deploying) = &standing.record.deploying {
            let evidence =
                format!("generation {} is on its way into service", deploying.generation);
            items.push(Item::unknown("pending", evidence));
        }
        Ok(Verified { name, items })
    }
}
