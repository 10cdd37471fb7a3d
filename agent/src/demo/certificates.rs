//! A certificate for the tour's gateway, of a CA of the tour's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::pki::{InitRequest, IssueRequest, Pki, Role, Validity};

/// The name that it is for.
pub(super) const DOMAIN: &str = "gateway.demo.example";
/// It ends so soon.
const DAYS: u32 = 60;

/// What certbot would have left: `fullchain.pem` and `privkey.pem`, in the folder that this returns.
pub(super) fn issue(root: &Path, now: Timestamp) -> Result<PathBuf> {
    let failed = |error: io::Error| {
        Error::internal("DEMO_FAILED", "can't write a certificate").caused_by(error)
    };
    let init = InitRequest { fleet: "demo".to_owned(), validity: Validity::Days(365) };
    let pki = Pki::init(&ca(root), &init, now)?;
    let request = IssueRequest {
        name: "gateway".to_owned(),
        role: Role::Agent,
        hosts: vec![DOMAIN.to_owned()],
        validity: Validity::Days(DAYS),
    };
    let issued = pki.issue(&request, now)?;
    let folder = root.join("live");
    fs::create_dir_all(&folder).map_err(failed)?;
    let chain = format!("{}{}", issued.certificate_pem, issued.ca_pem);
    fs::write(folder.join("fullchain.pem"), chain).map_err(failed)?;
    fs::write(folder.join("privkey.pem"), issued.key_pem).map_err(failed)?;
    Ok(folder)
}

fn ca(root: &Path) -> PathBuf {
    root.join("ca")
}

/// What is configured of it.
pub(super) fn configuration(root: &Path) -> String {
    format!(
        "\n[certificates]\nextra_roots_file = \"{}\"\n\n[[certificates.certificate]]\nname = \"gateway\"\n\
         domains = [\"{DOMAIN}\"]\n",
        ca(root).join("ca.pem").display()
    )
}
