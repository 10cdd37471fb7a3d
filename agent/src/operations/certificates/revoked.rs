//! What CAs have revoked, where they publish it: such a generation never comes into service again, and is replaced where
//! it is.

use std::collections::BTreeMap;

use genesis_storage::{CertificateOrigin, GenerationRecord};

use super::config::{Ca, Certificate};
use super::record::{Event, Who};
use super::{Certificates, material, plan};
use crate::error::Result;

/// A list is at most so long, in bytes.
const LIST: usize = 8 << 20;
/// So many lists are fetched by a check.
const LISTS: usize = 50;

impl Certificates {
    /// Looks at the lists of the CAs whose certificates may be in service. What can't be had says nothing.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn look_for_revoked(&self) -> Result<()> {
        let config = self.config.load_full();
        let mut fetched: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        for certificate in &config.certificates {
            let standing = self.standing(&certificate.name)?;
            let usable = |it: &&GenerationRecord| {
                it.origin == CertificateOrigin::Acme
                    && plan::usable(it, &certificate.identifiers, self.now()).is_ok()
            };
            for generation in standing.generations.iter().filter(usable) {
                let Some(ca) = config.ca(&generation.ca) else { continue };
                self.look_at_lists(certificate, generation, ca, &mut fetched).await?;
            }
        }
        Ok(())
    }

    async fn look_at_lists(
        &self,
        certificate: &Certificate,
        generation: &GenerationRecord,
        ca: &Ca,
        fetched: &mut BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<()> {
        let name = &certificate.name;
        let Ok((fullchain, _)) = self.folder(name).read(generation.number) else { return Ok(()) };
        let Ok(chain) = material::chain(&fullchain) else { return Ok(()) };
        let Ok(leaf) = material::leaf(&chain[0]) else { return Ok(()) };
        let Ok(roots) = self.roots(ca) else { return Ok(()) };
        for url in leaf.revocation_lists.iter().filter(|url| url.starts_with("http://")) {
            if !fetched.contains_key(url) {
                if fetched.len() >= LISTS {
                    return Ok(());
                }
                let answer = self.outside.web.get(url, &[], LIST).await;
                let list = answer.ok().filter(|it| it.status == 200).map(|it| it.body.to_vec());
                if list.is_none() {
                    tracing::info!(certificate = name, url, "what its CA has revoked can't be had");
                }
                fetched.insert(url.clone(), list);
            }
            let Some(Some(list)) = fetched.get(url) else { continue };
            match material::is_revoked(&chain, &roots, list, self.now()) {
                Ok(true) => return self.note_revoked(name, generation.clone(), ca).await,
                Ok(false) => {}
                Err(why) => {
                    tracing::info!(certificate = name, url, why, "a revocation list says nothing")
                }
            }
        }
        Ok(())
    }

    async fn note_revoked(
        &self,
        name: &str,
        mut generation: GenerationRecord,
        ca: &Ca,
    ) -> Result<()> {
        generation.revoked_at = Some(self.now());
        let event = Event {
            kind: "revoked",
            ca: ca.authority.name.clone(),
            generation: generation.number,
            detail: format!("serial {}", generation.serial),
            ..Event::default()
        };
        let number = generation.number;
        self.change(name, &Who::system(), event, move |record| {
            record.pin.take_if(|_| record.generation == number);
            vec![generation]
        })
        .await
    }
}
