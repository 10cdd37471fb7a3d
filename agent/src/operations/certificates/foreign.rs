//! Certificates that somebody else ordered: one that is kept for need, and the lineage of another client.

use std::path::{Path, PathBuf};

use genesis_storage::{CertificateOrigin, GenerationRecord};
use sha2::{Digest, Sha256};

use super::config::Certificate;
use super::deploy::on_its_way;
use super::material::PEM_LIMIT;
use super::record::{Event, Who};
use super::renew::{blocking, unusable};
use super::verbs::Moved;
use super::verify::Truth;
use super::{Certificates, material, plan};
use crate::error::{Error, Result};
use crate::outside::files;
use crate::plan::{Plan, PlanStep};

/// A certificate that is offered, once it was looked at, as it will be kept: what is planned is what is done.
struct Offered {
    certificate: Certificate,
    record: GenerationRecord,
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Offered {
    /// Names the chain and the key: another of either makes another plan.
    fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for bytes in [&self.chain, &self.key] {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        }
        hex::encode(digest.finalize())
    }

    fn plan_to_keep(&self) -> Plan {
        let step = PlanStep::new(
            "keep for need",
            format!("{}/backup", self.certificate.name),
            format!("issued by {}, until {}", self.record.issuer, self.record.not_after),
        );
        Plan::new("certificate.install-backup", &[&self.digest()], vec![step])
    }

    fn plan_to_import(&self, folder: &str, number: u32) -> Plan {
        let steps = vec![
            PlanStep::new(
                "import",
                folder,
                format!("issued by {}, until {}", self.record.issuer, self.record.not_after),
            ),
            PlanStep::new(
                "deploy",
                format!("{}/gen-{number}", self.certificate.name),
                "it was looked at",
            ),
        ];
        Plan::new("certificate.import", &[&self.digest()], steps)
    }
}

impl Certificates {
    /// What keeping a certificate for need would do.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_UNUSABLE`, `CERTIFICATE_UNTRUSTED`.
    pub async fn plan_install(&self, domain: &str, fullchain: &[u8], key: &[u8]) -> Result<Plan> {
        let certificate = self.named(domain)?;
        let given = (fullchain, key.to_vec());
        Ok(self.offered(certificate, given, CertificateOrigin::Backup).await?.plan_to_keep())
    }

    /// Looks at a certificate that is offered.
    async fn offered(
        &self,
        certificate: Certificate,
        (fullchain, key): (&[u8], Vec<u8>),
        origin: CertificateOrigin,
    ) -> Result<Offered> {
        if fullchain.len() > PEM_LIMIT || key.len() > PEM_LIMIT {
            return Err(unusable(format!("a file has more than {PEM_LIMIT} bytes")));
        }
        let chain = material::chain_alone(fullchain).map_err(unusable)?;
        let now = self.now();
        let (leaf, checks) =
            material::preflight((&chain, &key), &certificate.identifiers, None, None, now)
                .map_err(unusable)?;
        let wrong: Vec<String> = checks
            .into_iter()
            .filter_map(|it| it.outcome.err().map(|why| format!("{}: {why}", it.item)))
            .collect();
        if !wrong.is_empty() {
            return Err(unusable(wrong.join("; ")));
        }
        let config = self.config.load_full();
        let vouching = self.looks.vouching(config, self.outside.clock.monotonic()).await;
        let vouching = vouching.map_err(unusable)?;
        match vouching.judge(&material::chain(&chain).map_err(unusable)?, now) {
            (Truth::Pass, _) => {}
            (_, why) => return Err(Error::refused("CERTIFICATE_UNTRUSTED", why, Vec::new())),
        }
        let record = material::record((&certificate.name, 0), &leaf, (origin, ""), now);
        Ok(Offered { certificate, record, chain, key })
    }

    /// Keeps a certificate for when no other can be had.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_UNUSABLE`, `CERTIFICATE_UNTRUSTED`, `PLAN_CHANGED`, `CERTIFICATE_DISK_FAILED`.
    pub async fn install_backup(
        &self,
        domain: &str,
        (fullchain, key, plan_hash): (Vec<u8>, Vec<u8>, &str),
        who: (String, String),
    ) -> Result<GenerationRecord> {
        let certificate = self.named(domain)?;
        let turn = self.turn(&certificate.name);
        let _turn = turn.lock().await;
        let given = (fullchain.as_slice(), key);
        let offered = self.offered(certificate, given, CertificateOrigin::Backup).await?;
        offered.plan_to_keep().accept(plan_hash)?;
        let Offered { certificate, record, chain, key } = offered;
        let (folder, written) = (self.folder(&certificate.name), record.clone());
        blocking(move || folder.install((&chain, &key), &written)).await?;
        let event = Event {
            kind: "backup-installed",
            identifiers: record.identifiers.clone(),
            detail: format!("until {}, sha256 {}", record.not_after, &record.fingerprint[..16]),
            ..Event::default()
        };
        let (who, kept) = (Who { actor: who.0, reason: who.1, run: String::new() }, record.clone());
        self.change(&certificate.name, &who, event, move |_| vec![kept]).await?;
        self.wake.notify_one();
        Ok(record)
    }

    async fn lineage(&self, folder: &str) -> Result<(Vec<u8>, Vec<u8>)> {
        let folder = PathBuf::from(folder);
        if !folder.is_absolute() {
            let shown = folder.display();
            return Err(unusable(format!("{shown} must be an absolute path of this host")));
        }
        self.looks.lineage(folder).await.map_err(unusable)
    }

    /// What taking over a folder of another client would do.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_UNUSABLE`, `CERTIFICATE_UNTRUSTED`, `CERTIFICATE_ENDS_EARLIER`.
    pub async fn plan_import(
        &self,
        domain: &str,
        (folder, earlier_end_allowed): (&str, bool),
    ) -> Result<Plan> {
        let certificate = self.named(domain)?;
        let (fullchain, key) = self.lineage(folder).await?;
        let number = self.next_number(&certificate.name)?;
        let given = (fullchain.as_slice(), key);
        let offered = self.offered(certificate, given, CertificateOrigin::Imported).await?;
        self.is_no_loss(&offered.record, earlier_end_allowed)?;
        Ok(offered.plan_to_import(folder, number))
    }

    /// Whether what is imported lasts as long as the one in force, where that is sound, or somebody wants it all the same.
    fn is_no_loss(&self, offered: &GenerationRecord, earlier_end_allowed: bool) -> Result<()> {
        let (standing, now) = (self.standing(&offered.name)?, self.now());
        let sound = |it: &&GenerationRecord| {
            it.origin != CertificateOrigin::SelfSigned && plan::good(it, now).is_ok()
        };
        match standing.current().filter(sound) {
            Some(current) if offered.not_after < current.not_after && !earlier_end_allowed => {
                let message = format!(
                    "it ends at {}, before generation {}, which is in force until {}; \
                     `genesisctl cert import --allow-earlier-end` imports it all the same",
                    offered.not_after, current.number, current.not_after
                );
                Err(Error::refused("CERTIFICATE_ENDS_EARLIER", message, Vec::new()))
            }
            _ => Ok(()),
        }
    }

    /// The number that the next generation has, unless another one is begun meanwhile.
    fn next_number(&self, name: &str) -> Result<u32> {
        Ok(self.standing(name)?.record.greatest.saturating_add(1))
    }

    /// Takes over what another client ordered, as a generation, and puts it into service.
    ///
    /// # Errors
    /// Those of [`Certificates::plan_import`], `PLAN_CHANGED`, `CERTIFICATE_PINNED`, `DEPLOY_FAILED`.
    pub async fn import(
        &self,
        domain: &str,
        (folder, earlier_end_allowed, plan_hash): (&str, bool, &str),
        who: (String, String),
    ) -> Result<Moved> {
        let certificate = self.named(domain)?;
        // Read once: the other client may renew between two readings.
        let (fullchain, key) = self.lineage(folder).await?;
        let turn = self.turn(&certificate.name);
        let _turn = turn.lock().await;
        let number = self.next_number(&certificate.name)?;
        let given = (fullchain.as_slice(), key);
        let offered = self.offered(certificate, given, CertificateOrigin::Imported).await?;
        self.is_no_loss(&offered.record, earlier_end_allowed)?;
        offered.plan_to_import(folder, number).accept(plan_hash)?;
        let Offered { certificate, chain, key, record: _ } = offered;
        let who = Who { actor: who.0, reason: who.1, run: String::new() };
        let standing = self.standing(&certificate.name)?;
        if standing.record.pin.is_some() {
            let message =
                format!("{} is pinned; `genesisctl cert unpin` ends that", certificate.name);
            return Err(Error::refused("CERTIFICATE_PINNED", message, Vec::new()));
        }
        let from = (CertificateOrigin::Imported, "");
        let to = self.adopt(&certificate, (chain, key), from, &who).await?;
        let deployed = self.place_in_turn(&certificate, &who, on_its_way(to, None)).await?;
        Ok(Moved { name: certificate.name, from: standing.record.generation, to, deployed })
    }
}

/// The chain and the key in a folder of certbot's kind.
///
/// # Errors
/// In words, with the path.
pub(super) fn lineage(folder: &Path) -> Result<(Vec<u8>, Vec<u8>), String> {
    let read = |name: &str| {
        let path = folder.join(name);
        let read = files::read_small(&path, PEM_LIMIT);
        read.map(|(bytes, _)| bytes).map_err(|error| format!("{}: {error}", path.display()))
    };
    let key = read("privkey.pem").or_else(|error| match read("key.pem") {
        Ok(key) => Ok(key),
        Err(_) => Err(error),
    })?;
    if let Ok(fullchain) = read("fullchain.pem") {
        return Ok((fullchain, key));
    }
    let (leaf, chain) = (read("cert.pem")?, read("chain.pem")?);
    Ok(([leaf, b"\n".to_vec(), chain].concat(), key))
}
