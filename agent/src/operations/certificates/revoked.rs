//! What CAs have revoked, where they publish it: such a generation never comes into service again, and is replaced where
//! it is.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_storage::{CertificateOrigin, GenerationRecord};

use super::record::{Event, Who};
use super::{Certificates, material, plan};
use crate::error::Result;
use crate::runs::Context;

/// A list is at most so long, in bytes. One is held at a time.
const LIST: usize = 8 << 20;
/// So many lists are fetched by a check; where there are more, each has its turn.
const LISTS: usize = 50;
/// One is fetched within this.
const FETCH: Duration = Duration::from_secs(30);
/// All of them are within this: lists that can't be had keep the check from nothing else.
const ALL: Duration = Duration::from_secs(600);

/// What came of looking at the lists.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// So many generations were found to be revoked.
    pub(super) revoked: usize,
    /// So many lists were not looked at for want of time.
    pub(super) left: usize,
}

impl Certificates {
    /// Looks at the lists of the CAs whose certificates may be in service, each once for all that name it. What can't be had
    /// says nothing.
    ///
    /// # Errors
    /// `STORAGE_FAILED`; cancelled.
    pub(super) async fn look_for_revoked(&self, context: &Context) -> Result<Looked> {
        let named_by = self.lists()?;
        let (begun, count) = (self.outside.clock.monotonic(), named_by.len());
        // Each day begins behind those that the day before has got to.
        let day = usize::try_from(self.now().as_second().div_euclid(86_400)).unwrap_or_default();
        let first = day.wrapping_mul(LISTS) % count.max(1);
        let mut looked = Looked { left: count, ..Looked::default() };
        for (url, generations) in named_by.iter().cycle().skip(first).take(count.min(LISTS)) {
            context.safe_point()?;
            if self.outside.clock.monotonic().saturating_sub(begun) >= ALL {
                break;
            }
            looked.left -= 1;
            let asked = tokio::time::timeout(FETCH, self.outside.web.get(url, &[], LIST)).await;
            let list = asked.ok().and_then(std::result::Result::ok).filter(|it| it.status == 200);
            let Some(list) = list else {
                tracing::info!(url, "what its CA has revoked can't be had");
                continue;
            };
            for (name, number) in generations {
                looked.revoked += usize::from(self.look_at_list(name, *number, &list.body).await?);
            }
        }
        Ok(looked)
    }

    /// The lists, and the generations that name each.
    fn lists(&self) -> Result<BTreeMap<String, Vec<(String, u32)>>> {
        let mut named_by = BTreeMap::<String, Vec<(String, u32)>>::new();
        for certificate in &self.config.load_full().certificates {
            let name = &certificate.name;
            let usable = |it: &GenerationRecord| {
                it.origin == CertificateOrigin::Acme
                    && plan::usable(it, &certificate.identifiers, self.now()).is_ok()
            };
            for generation in self.standing(name)?.generations.into_iter().filter(usable) {
                let read = self.folder(name).read(generation.number);
                let leaf = read.and_then(|(fullchain, _)| {
                    material::chain(&fullchain).and_then(|chain| material::leaf(&chain[0]))
                });
                let Ok(leaf) = leaf else { continue };
                let urls = leaf.revocation_lists.into_iter();
                for url in urls.filter(|url| url.starts_with("http://")) {
                    named_by.entry(url).or_default().push((name.clone(), generation.number));
                }
            }
        }
        Ok(named_by)
    }

    /// Whether a list has revoked a generation, which is noted then.
    async fn look_at_list(&self, name: &str, number: u32, list: &[u8]) -> Result<bool> {
        let standing = self.standing(name)?;
        // Another list may have said so already.
        let Some(generation) = standing.generation(number).filter(|it| it.revoked_at.is_none())
        else {
            return Ok(false);
        };
        let config = self.config.load_full();
        let Some(ca) = config.ca(&generation.ca) else { return Ok(false) };
        let Ok((fullchain, _)) = self.folder(name).read(number) else { return Ok(false) };
        let (Ok(chain), Ok(roots)) = (material::chain(&fullchain), self.roots(ca)) else {
            return Ok(false);
        };
        match material::is_revoked(&chain, &roots, list, self.now()) {
            Ok(true) => self.note_revoked(name, generation).await.map(|()| true),
            Ok(false) => Ok(false),
            Err(why) => {
                tracing::info!(certificate = name, why, "a revocation list says nothing");
                Ok(false)
            }
        }
    }

    async fn note_revoked(&self, name: &str, generation: &GenerationRecord) -> Result<()> {
        let (number, now) = (generation.number, self.now());
        let event = Event {
            kind: "revoked",
            ca: generation.ca.clone(),
            generation: number,
            detail: format!("serial {}", generation.serial),
            ..Event::default()
        };
        self.change_generation(name, number, &Who::system(), event, move |record, generation| {
            record.pin.take_if(|_| record.generation == number);
            if let Some(generation) = generation {
                generation.revoked_at.get_or_insert(now);
            }
        })
        .await
    }
}
