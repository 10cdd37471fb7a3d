//! A project whose lock holds something vulnerable, and an advisory about it.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

/// The project of the tour.
pub(super) const PROJECT: &str = "pricing";

/// What is configured of it, with its advisories in a folder beside it.
pub(super) fn configuration(root: &Path) -> String {
    format!(
        "[dependencies]\nadvisories = [\"{}\"]\n\n\
         [[dependencies.project]]\nname = \"{PROJECT}\"\nroot = \"{}\"\nmanifests = [\"requirements.txt\"]\n\n",
        root.join("advisories").display(),
        root.join(PROJECT).display(),
    )
}

/// Locks a version of the package that has a vulnerability in what is older than 3.1.3.
pub(super) fn lock(root: &Path, version: &str) -> io::Result<()> {
    let folder = root.join(PROJECT);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("requirements.txt"), format!("jinja2=={version}\nmarkupsafe==2.1.5\n"))
}

/// Writes that advisory, in the format of OSV.
pub(super) fn advise(root: &Path, now: Timestamp) -> io::Result<()> {
    let folder = root.join("advisories");
    fs::create_dir_all(&folder)?;
    let record = json!({
        "schema_version": "1.6.0",
        "id": "GHSA-h5c8-rqwp-cp95",
        "aliases": ["CVE-2024-22195"],
        "modified": now.to_string(),
        "published": "2024-01-11T15:20:48Z",
        "summary": "keys of xmlattr can inject attributes into HTML",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"}],
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": "jinja2"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.3"}]}],
        }],
    });
    fs::write(folder.join("GHSA-h5c8-rqwp-cp95.json"), record.to_string())
}
