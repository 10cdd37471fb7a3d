//! Certificates that somebody else ordered: one that is kept for need, and the lineage of another client.

use std::path::{Path, PathBuf};

use genesis_storage::{CertificateOrigin, GenerationRecord};

use super::config::Certificate;
use super::deploy::on_its_way;
use super::material::PEM_LIMIT;
use super::record::{Event, Who};
use super::renew::{blocking, unusable};
use super::verbs::Moved;
use super::{Certificates, material};
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};

impl Certificates {
    /// What keeping a certificate for need would do.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_UNUSABLE`.
    pub fn plan_install(
        &self,
        domain: &str,
        fullchain: &[u8],
        key: &[u8],
    ) -> Result<(Certificate, GenerationRecord, Plan)> {
        let certificate = self.named(domain)?;
        let record = self.offered(&certificate, (fullchain, key), CertificateOrigin::Backup)?;
        let name = &certificate.name;
        let step = PlanStep::new(
            "keep for need",
            format!("{name}/backup"),
            format!("issued by {}, until {}", record.issuer, record.not_after),
        );
        let plan = Plan::new("certificate.install-backup", &[&record.fingerprint], vec![step]);
        Ok((certificate, record, plan))
    }

    /// A certificate that is offered, as a record, once it was looked at.
    fn offered(
        &self,
        certificate: &Certificate,
        (fullchain, key): (&[u8], &[u8]),
        origin: CertificateOrigin,
    ) -> Result<GenerationRecord> {
        if fullchain.len() > PEM_LIMIT || key.len() > PEM_LIMIT {
            return Err(unusable(format!("a file has more than {PEM_LIMIT} bytes")));
        }
        let now = self.now();
        let (leaf, checks) =
            material::preflight((fullchain, key), &certificate.identifiers, None, None, now)
                .map_err(unusable)?;
        let wrong: Vec<String> = checks
            .into_iter()
            .filter_map(|it| it.outcome.err().map(|why| format!("{}: {why}", it.item)))
            .collect();
        if !wrong.is_empty() {
            return Err(unusable(wrong.join("; ")));
        }
        Ok(material::record((&certificate.name, 0), &leaf, (origin, ""), now))
    }

    /// Keeps a certificate for when no other can be had.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_UNUSABLE`, `PLAN_CHANGED`, `CERTIFICATE_DISK_FAILED`.
    pub async fn install_backup(
        &self,
        domain: &str,
        (fullchain, key, plan_hash): (Vec<u8>, Vec<u8>, &str),
        who: (String, String),
    ) -> Result<GenerationRecord> {
        let (certificate, record, plan) = self.plan_install(domain, &fullchain, &key)?;
        plan.accept(plan_hash)?;
        let (folder, written, name) =
            (self.folder(&certificate.name), record.clone(), certificate.name);
        blocking(move || folder.install((&fullchain, &key), &written)).await?;
        let event = Event {
            kind: "backup-installed",
            identifiers: record.identifiers.clone(),
            detail: format!("until {}, sha256 {}", record.not_after, &record.fingerprint[..16]),
            ..Event::default()
        };
        let (who, kept) = (Who { actor: who.0, reason: who.1, run: String::new() }, record.clone());
        self.change(&name, &who, event, move |_| vec![kept]).await?;
        self.wake.notify_one();
        Ok(record)
    }

    /// What taking over a folder of another client would do.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_UNUSABLE`.
    pub fn plan_import(&self, domain: &str, folder: &str) -> Result<Plan> {
        let certificate = self.named(domain)?;
        let (fullchain, key) = lineage(folder)?;
        let record = self.offered(&certificate, (&fullchain, &key), CertificateOrigin::Imported)?;
        let number = self.standing(&certificate.name)?.record.greatest + 1;
        let name = &certificate.name;
        let steps = vec![
            PlanStep::new(
                "import",
                folder,
                format!("issued by {}, until {}", record.issuer, record.not_after),
            ),
            PlanStep::new("deploy", format!("{name}/gen-{number}"), "it was looked at"),
        ];
        Ok(Plan::new("certificate.import", &[&record.fingerprint], steps))
    }

    /// Takes over what another client ordered, as a generation, and puts it into service.
    ///
    /// # Errors
    /// Those of [`Certificates::plan_import`], `PLAN_CHANGED`, `CERTIFICATE_PINNED`, `DEPLOY_FAILED`.
    pub async fn import(
        &self,
        domain: &str,
        (folder, plan_hash): (&str, &str),
        who: (String, String),
    ) -> Result<Moved> {
        self.plan_import(domain, folder)?.accept(plan_hash)?;
        let certificate = self.named(domain)?;
        let (fullchain, key) = lineage(folder)?;
        let who = Who { actor: who.0, reason: who.1, run: String::new() };
        let turn = self.turn(&certificate.name);
        let _turn = turn.lock().await;
        let standing = self.standing(&certificate.name)?;
        if standing.record.pin.is_some() {
            let message =
                format!("{} is pinned; `genesisctl cert unpin` ends that", certificate.name);
            return Err(Error::refused("CERTIFICATE_PINNED", message, Vec::new()));
        }
        let from = (CertificateOrigin::Imported, "");
        let to = self.adopt(&certificate, (fullchain, key), from, &who).await?;
        let deployed = self.place_in_turn(&certificate, &who, on_its_way(to, None)).await?;
        Ok(Moved { name: certificate.name, from: standing.record.generation, to, deployed })
    }
}

/// The chain and the key in a folder of certbot's kind.
fn lineage(folder: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let folder = PathBuf::from(folder);
    if !folder.is_absolute() {
        return Err(unusable(format!(
            "{} must be an absolute path of this host",
            folder.display()
        )));
    }
    let read = |name: &str| read_small(&folder.join(name));
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

fn read_small(path: &Path) -> Result<Vec<u8>> {
    let failed = |why: String| unusable(format!("{}: {why}", path.display()));
    let facts = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !facts.is_file() || facts.len() > PEM_LIMIT as u64 {
        return Err(failed(format!("is no file of at most {PEM_LIMIT} bytes")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}
