//! What is looked at on disks, out of the way of everything else: others have a hand in copies, in roots and in what is
//! imported, and a mount that hangs may hold a look for hours.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{CertificateOrigin, GenerationRecord};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::config::{Certificate, Config};
use super::copies;
use super::disk::Folder;
use super::readback::{Roots, Vouching};
use super::verify::{Item, Truth};
use super::{foreign, material, plan};
use crate::outside::aside::Aside;

/// A look is waited for so long. It goes on; who looks again waits for the same one.
const PATIENCE: Duration = Duration::from_secs(10);

/// A chain and its key.
type Material = (Vec<u8>, Vec<u8>);

/// What was found of a generation, and its files, where they could be read.
type Looked = (Vec<Item>, Option<Arc<Material>>);

/// The looks that are under way, one of each sort at a time for each generation.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// What certificates lead to.
    pub(super) roots: Arc<Roots>,
    generations: Aside<(String, u32), Looked>,
    copies: Aside<(String, u32), Result<(), String>>,
    vouching: Aside<(), Arc<Vouching>>,
    /// One in all: which folder is read is for callers to say, and each could be on a mount that hangs.
    lineages: Aside<(), (PathBuf, Result<Material, String>)>,
}

impl Looks {
    /// What is to be said of a generation in force, and of its copies. What can't be read in time is not known.
    pub(super) async fn on_disk(&self, look: Look) -> Vec<Item> {
        let look = Arc::new(look);
        let key = (look.certificate.name.clone(), look.current.number);
        let own = Arc::clone(&look);
        let seen = in_time(self.generations.run(&key, move || own.generation())).await;
        let (mut items, material) = match seen {
            Ok(seen) => seen,
            Err(why) => return vec![Item::unknown("disk", why)],
        };
        let count = look.certificate.deployments.len();
        let Some(material) = material.filter(|_| count > 0) else { return items };
        let seen = self.copies.run(&key, move || look.copies(&material));
        items.push(match in_time(seen).await {
            Ok(Ok(())) => Item::of("deployed", Ok(format!("{count} copies are as they should be"))),
            Ok(Err(wrong)) => Item::of("deployed", Err(wrong)),
            Err(why) => Item::unknown("deployed", why),
        });
        items
    }

    /// Who may vouch for what people give.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn vouching(
        &self,
        config: Arc<Config>,
        now: Duration,
    ) -> Result<Arc<Vouching>, String> {
        let roots = Arc::clone(&self.roots);
        in_time(self.vouching.run(&(), move || Arc::new(roots.of_all(&config, now)))).await
    }

    /// What another client has in a folder.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn lineage(&self, folder: PathBuf) -> Result<Material, String> {
        in_time(async {
            loop {
                let wanted = folder.clone();
                let read = move || {
                    let found = foreign::lineage(&wanted);
                    (wanted, found)
                };
                let (of, found) = self.lineages.run(&(), read).await?;
                if of == folder {
                    return found;
                }
            }
        })
        .await
    }
}

async fn in_time<T>(look: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let hangs = || format!("the disk has not answered for {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| Err(hangs()))
}

/// What a look takes with it.
pub(super) struct Look {
    pub(super) certificate: Certificate,
    pub(super) config: Arc<Config>,
    pub(super) roots: Arc<Roots>,
    pub(super) folder: Folder,
    /// The generation in force.
    pub(super) current: GenerationRecord,
    /// The one for need.
    pub(super) backup: Option<GenerationRecord>,
    pub(super) now: Timestamp,
    /// The same, on the clock of [`Roots`].
    pub(super) monotonic: Duration,
}

impl Look {
    fn generation(&self) -> (Vec<Item>, Option<Arc<Material>>) {
        let number = self.current.number;
        let link = match self.folder.current() {
            Ok(Some(link)) if link == number => Ok(format!("generation {number}")),
            Ok(Some(link)) => {
                Err(format!("the link leads to generation {link}, {number} is in force"))
            }
            Ok(None) => Err("the link is gone".to_owned()),
            Err(why) => Err(why),
        };
        let mut items = vec![Item::of("current", link)];
        let material = match self.folder.read(number) {
            Ok(material) => material,
            Err(why) => {
                items.push(Item::of("key", Err(why)));
                items.extend(self.backup());
                return (items, None);
            }
        };
        items.extend(self.material((&material.0, &material.1)));
        let wide = self.folder.open_to_others(number);
        let permissions = match wide.is_empty() {
            true => Ok("nobody else reads the key".to_owned()),
            false => Err(wide.join("; ")),
        };
        items.push(Item::of("permissions", permissions));
        items.extend(self.backup());
        (items, Some(Arc::new(material)))
    }

    /// The chain of what its CA issued must lead to that CA's roots, that of what people gave to any that is trusted here.
    fn chain(&self, chain: &[CertificateDer<'static>], of: &GenerationRecord) -> Option<Item> {
        let issued = || format!("issued by {}", of.issuer);
        match (of.origin, self.config.ca(&of.ca)) {
            (CertificateOrigin::SelfSigned, _) | (CertificateOrigin::Acme, None) => None,
            (CertificateOrigin::Acme, Some(ca)) => Some(match self.roots.of(ca, self.monotonic) {
                Ok(roots) => {
                    let verifies = material::verifies(chain, &roots, self.now);
                    Item::of("chain", verifies.map(|()| issued()))
                }
                Err(why) => Item::unknown("chain", why),
            }),
            (CertificateOrigin::Imported | CertificateOrigin::Backup, _) => {
                let vouching = self.roots.of_all(&self.config, self.monotonic);
                let (truth, why) = vouching.judge(chain, self.now);
                let evidence = if truth == Truth::Pass { issued() } else { why };
                Some(Item { item: "chain", truth, evidence })
            }
        }
    }

    fn material(&self, given: (&[u8], &[u8])) -> Vec<Item> {
        let current = &self.current;
        let mut items = match self.looked_at(given, current) {
            Ok(items) => items,
            Err(why) => vec![Item::of("chain", Err(why))],
        };
        let origin = match current.origin {
            CertificateOrigin::SelfSigned => Err("it signs itself: no client trusts it".to_owned()),
            _ => match plan::usable(current, &self.certificate.identifiers, self.now) {
                Ok(()) => return items,
                Err(why) => Err(why),
            },
        };
        items.push(Item::of("trust", origin));
        items
    }

    /// Looks at what is on the disk of a generation.
    fn looked_at(
        &self,
        (fullchain, key): (&[u8], &[u8]),
        of: &GenerationRecord,
    ) -> Result<Vec<Item>, String> {
        let names = &self.certificate.identifiers;
        let (leaf, checks) = material::preflight((fullchain, key), names, None, None, self.now)?;
        let mut items = Vec::new();
        if leaf.fingerprint != of.fingerprint {
            let why = "the certificate on the disk is another one".to_owned();
            items.push(Item::of("key", Err(why)));
        }
        items.extend(checks.into_iter().map(|it| Item::of(it.item, it.outcome)));
        items.extend(self.chain(&material::chain(fullchain)?, of));
        Ok(items)
    }

    /// The one for need, as one item: it is not in service, and must be good on the day when it is needed.
    fn backup(&self) -> Option<Item> {
        let backup = self.backup.as_ref()?;
        let looked_at = self.folder.read(0).and_then(|it| self.looked_at((&it.0, &it.1), backup));
        let items = match looked_at {
            Ok(items) => items,
            Err(why) => return Some(Item::of("backup", Err(why))),
        };
        let barred = plan::good(backup, self.now).err();
        let worst = items.iter().map(|it| it.truth).max().unwrap_or(Truth::Unknown);
        let truth = if barred.is_some() { Truth::Fail } else { worst };
        let wrong = items.into_iter().filter(|it| it.truth != Truth::Pass);
        let wrong: Vec<String> = wrong.map(|it| it.evidence).chain(barred).collect();
        let evidence = match wrong.is_empty() {
            true => format!("until {}, issued by {}", backup.not_after, backup.issuer),
            false => format!("the one for need: {}", wrong.join("; ")),
        };
        Some(Item { item: "backup", truth, evidence })
    }

    fn copies(&self, (fullchain, key): &Material) -> Result<(), String> {
        let copies = self.certificate.deployments.iter();
        let wrong: Vec<String> =
            copies.filter_map(|copy| copies::compare(copy, fullchain, key).err()).collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("; ")),
        }
    }
}
