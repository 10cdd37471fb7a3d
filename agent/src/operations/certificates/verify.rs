//! Whether a certificate is as it should be: on the disk, in its copies, and where it is served.

use genesis_storage::{CertificateOrigin, GenerationRecord};
use jiff::Timestamp;

use super::config::Certificate;
use super::{Certificates, disk, lock, material, plan};
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

fn item(item: &'static str, outcome: Result<String, String>) -> Item {
    match outcome {
        Ok(evidence) => Item { item, truth: Truth::Pass, evidence },
        Err(evidence) => Item { item, truth: Truth::Fail, evidence },
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
        let (folder, number) = (self.folder(&name), standing.record.generation);
        let Some(current) = standing.current().cloned() else {
            let evidence = Err(NONE.to_owned());
            return Ok(Verified { name, items: vec![item("current", evidence)] });
        };
        let mut items = vec![item(
            "current",
            match folder.current() {
                Ok(Some(link)) if link == number => Ok(format!("generation {number}")),
                Ok(Some(link)) => {
                    Err(format!("the link leads to generation {link}, {number} is in force"))
                }
                Ok(None) => Err("the link is gone".to_owned()),
                Err(why) => Err(why),
            },
        )];
        match folder.read(number) {
            Err(why) => items.push(item("key", Err(why))),
            Ok((fullchain, key)) => {
                items.extend(self.verify_material(certificate, &current, (&fullchain, &key)));
                let wide = folder.open_to_others(number);
                items.push(item(
                    "permissions",
                    match wide.is_empty() {
                        true => Ok("nobody else reads the key".to_owned()),
                        false => Err(wide.join("; ")),
                    },
                ));
                let wrong: Vec<String> = certificate
                    .deployments
                    .iter()
                    .filter_map(|copy| disk::compare(copy, &fullchain, &key).err())
                    .collect();
                if !certificate.deployments.is_empty() {
                    items.push(item(
                        "deployed",
                        match wrong.is_empty() {
                            true => Ok(format!(
                                "{} copies are as they should be",
                                certificate.deployments.len()
                            )),
                            false => Err(wrong.join("; ")),
                        },
                    ));
                }
            }
        }
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
            items.push(Item { item: "pending", truth: Truth::Unknown, evidence });
        }
        Ok(Verified { name, items })
    }

    fn verify_material(
        &self,
        certificate: &Certificate,
        current: &GenerationRecord,
        (fullchain, key): (&[u8], &[u8]),
    ) -> Vec<Item> {
        let roots = match current.origin {
            CertificateOrigin::Acme => self.config.load().ca(&current.ca).map(|ca| self.roots(ca)),
            _ => None,
        };
        let mut items = Vec::new();
        let roots = match roots {
            Some(Ok(roots)) => Some(roots),
            Some(Err(why)) => {
                items.push(Item { item: "chain", truth: Truth::Unknown, evidence: why });
                None
            }
            None => None,
        };
        let found = material::preflight(
            (fullchain, key),
            &certificate.identifiers,
            roots.as_ref(),
            None,
            self.now(),
        );
        match found {
            Ok((leaf, checks)) => {
                if leaf.fingerprint != current.fingerprint {
                    let why = "the certificate on the disk is another one".to_owned();
                    items.push(item("key", Err(why)));
                }
                items.extend(checks.into_iter().map(|it| item(it.item, it.outcome)));
            }
            Err(why) => items.push(item("chain", Err(why))),
        }
        let origin = match current.origin {
            CertificateOrigin::SelfSigned => Err("it signs itself: no client trusts it".to_owned()),
            _ => match plan::usable(current, &certificate.identifiers, self.now()) {
                Ok(()) => return items,
                Err(why) => Err(why),
            },
        };
        items.push(item("trust", origin));
        items
    }
}
