//! `cert install-backup`: a certificate and its key from files of whoever calls.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use genesis_client::v1::{InstallBackupCertificateRequest, InstallBackupCertificateResponse};

use super::{InstallBackup, SERVICE};
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, View};

/// No chain and no key is larger.
const SIZE_LIMIT: u64 = 64 << 10;

pub(super) async fn install(
    session: &Session<'_>,
    arguments: &InstallBackup,
) -> Result<Exit, Halt> {
    let InstallBackup { which, fullchain, key } = arguments;
    if let Some(node) = session.in_plain_text() {
        return Err(Halt::Usage(format!(
            "a key is not sent in plain text, as it would be to {node}: call over the agent's unix socket, or name \
             a context that has certificates (`genesisctl context list`, then --context NAME)"
        )));
    }
    let request = InstallBackupCertificateRequest {
        domain: which.domain.clone(),
        fullchain: chain_of(fullchain)?,
        key: key_of(key)?,
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, certificates, plan_install_backup_certificate);
    }
    let what = format!("install a backup for {}", which.named());
    consent(session, SERVICE, "InstallBackupCertificate", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move {
                    c.certificates().install_backup_certificate(r).await
                })
                .await?;
            let json = session.json("InstallBackupCertificateResponse", &response)?;
            Ok(Answer::new(json, View::line(installed(&response))))
        })
        .await
}

fn installed(response: &InstallBackupCertificateResponse) -> String {
    let name = &response.name;
    match &response.backup {
        None => format!("the backup of {name} is installed"),
        Some(backup) => format!(
            "the backup of {name} is installed: for {}, by {}, until {}",
            format::or_none(&backup.identifiers.join(", ")),
            format::or_none(&backup.issuer),
            format::time(backup.not_after.as_ref())
        ),
    }
}

fn chain_of(path: &Path) -> Result<Vec<u8>, Halt> {
    let chain = read(path, "--fullchain", false)?;
    let shown = path.display();
    if has(&chain, "PRIVATE KEY-----") {
        return Err(Halt::Usage(format!(
            "--fullchain {shown} has a private key: give the certificates alone there, and the key's file with --key"
        )));
    }
    if !has(&chain, "-----BEGIN CERTIFICATE-----") {
        return Err(Halt::Usage(format!(
            "--fullchain {shown} has no certificate in PEM form: give the text from -----BEGIN CERTIFICATE----- on, \
             the intermediates behind it"
        )));
    }
    Ok(chain)
}

fn key_of(path: &Path) -> Result<Vec<u8>, Halt> {
    let key = read(path, "--key", true)?;
    let shown = path.display();
    if has(&key, "ENCRYPTED") {
        return Err(Halt::Usage(format!(
            "--key {shown} is encrypted, and the agent has no passphrase for it: decrypt it with `umask 077; openssl \
             pkey -in {shown} -out FILE`, and remove FILE afterwards"
        )));
    }
    if !has(&key, "PRIVATE KEY-----") {
        return Err(Halt::Usage(format!(
            "--key {shown} has no private key in PEM form: give the text from -----BEGIN PRIVATE KEY----- on"
        )));
    }
    Ok(key)
}

fn has(data: &[u8], text: &str) -> bool {
    data.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The content of a small file; of one with a secret only where nobody else can read it.
fn read(path: &Path, flag: &str, secret: bool) -> Result<Vec<u8>, Halt> {
    let shown = path.display();
    if path == Path::new("-") {
        return Err(Halt::Usage(format!(
            "{flag} - is no file: name one, standard input is not read"
        )));
    }
    let unreadable = |why: &str| {
        Halt::Usage(format!("can't read {flag} {shown}: {why}: name another file, or mend that"))
    };
    let io = |error: std::io::Error| unreadable(&error.to_string());
    // What is no file might keep whoever opens it waiting.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(unreadable("it is no regular file"));
    }
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if secret && mode & 0o077 != 0 {
        return Err(Halt::Usage(format!(
            "others may read {flag} {shown}: its mode is {mode:03o}: run `chmod 600 {shown}`; if others had access, \
             have a new certificate issued with a new key"
        )));
    }
    let mut content = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > SIZE_LIMIT {
        return Err(unreadable("it is larger than 64 KiB"));
    }
    Ok(content)
}
