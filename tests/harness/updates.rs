//! An agent that updates an application of ours, and what it is to know of vulnerabilities.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::agent::TestAgent;
use crate::application::{Application, Flaw, library};
use crate::binaries::foreign;
use crate::client::Output;
use crate::clock::now;
use crate::package_index::{Listed, PackageIndex};

/// CVSS of something critical.
pub const CRITICAL: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
/// And of something that is not.
pub const MEDIUM: &str = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:L/I:L/A:N";

/// A record of OSV: a package is affected from 0 until `fixed`.
pub fn vulnerable(
    id: &str,
    ecosystem: &str,
    package: &str,
    from: &str,
    fixed: &str,
    vector: &str,
) -> Value {
    let day = now().to_string();
    json!({
        "schema_version": "1.6.0",
        "id": id,
        "aliases": [],
        "modified": day,
        "published": day,
        "summary": format!("{package} does harm"),
        "severity": [{"type": "CVSS_V3", "score": vector}],
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": package},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": from}, {"fixed": fixed}]}],
        }],
    })
}

/// A ZIP of records, beside some about packages that nobody has, lest it be taken for half of what there was.
///
/// # Panics
/// When it can't be written.
pub fn advisories(path: &Path, records: &[Value]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).expect("our folder"));
    let others = (0..20).map(|number| {
        vulnerable(
            &format!("PYSEC-0-{number}"),
            "PyPI",
            &format!("other-{number}"),
            "0",
            "1",
            MEDIUM,
        )
    });
    for record in records.iter().cloned().chain(others) {
        let name = format!("{}.json", record["id"].as_str().expect("an id"));
        archive.start_file(name, zip::write::SimpleFileOptions::default()).expect("a ZIP");
        archive.write_all(record.to_string().as_bytes()).expect("a ZIP");
    }
    archive.finish().expect("a ZIP");
}

/// A catalogue of vulnerabilities that use is made of.
///
/// # Panics
/// When it can't be written.
pub fn exploited(path: &Path, ids: &[&str]) {
    let day = now().to_string();
    let day = day.get(..10).expect("a day");
    let each = ids.iter().copied().chain(["CVE-1999-0001"]).map(|id| {
        json!({
            "cveID": id, "vendorProject": "x", "product": "x", "vulnerabilityName": "x", "dateAdded": day,
            "shortDescription": "x", "requiredAction": "x", "dueDate": day,
            "knownRansomwareCampaignUse": "Unknown", "notes": "", "cwes": [],
        })
    });
    let each: Vec<Value> = each.collect();
    let catalogue = json!({
        "title": "CISA Catalog of Known Exploited Vulnerabilities", "catalogVersion": "1",
        "dateReleased": now().to_string(), "count": each.len(), "vulnerabilities": each,
    });
    std::fs::write(path, catalogue.to_string()).expect("our folder");
}

/// An agent with an application that it may update.
pub struct Updates {
    /// The agent.
    pub agent: TestAgent,
    /// The application.
    pub app: Application,
    /// The index that its tools know.
    pub index: PackageIndex,
}

impl Updates {
    /// The application runs, the agent knows of no vulnerability, and is started. `project` is what more is configured of the
    /// project, `top` of everything else.
    ///
    /// # Panics
    /// When that fails.
    pub fn started(top: &str, project: &str) -> Self {
        let mut host = Self::new(top, project);
        host.agent.start();
        host.know(&[]);
        host
    }

    /// The same, not started, and without what is known of vulnerabilities.
    ///
    /// # Panics
    /// When that fails.
    pub fn new(top: &str, project: &str) -> Self {
        let index = PackageIndex::start();
        let app = Application::lay_out(&index);
        app.restart();
        let agent = TestAgent::new(|_| configured(&app, top, project, &app.path("releases")));
        Self { agent, app, index }
    }

    /// The same, with the state of the agent on a disk of so many MiB.
    ///
    /// # Panics
    /// When that fails.
    pub fn on_small_disk(mib: u64) -> Self {
        let index = PackageIndex::start();
        let app = Application::lay_out(&index);
        app.restart();
        let text = configured(&app, "", "", &app.path("releases"));
        let agent = TestAgent::with_small_disk(mib, |_| text);
        Self { agent, app, index }
    }

    /// Configures the agent anew.
    ///
    /// # Panics
    /// When that fails.
    pub fn configure(&self, top: &str, project: &str) {
        self.agent.configure(&configured(&self.app, top, project, &self.app.path("releases")));
    }

    /// Publishes a version of a library, a hundred days ago.
    pub fn publish(&self, name: &str, version: &str, flaw: &Flaw) {
        self.publish_at(name, version, flaw, now() - SignedDuration::from_hours(100 * 24));
    }

    /// Publishes a version of a library.
    pub fn publish_at(&self, name: &str, version: &str, flaw: &Flaw, at: Timestamp) {
        self.index.publish(&library(name, version, flaw), Listed::at(at));
    }

    /// Imports records of vulnerabilities.
    ///
    /// # Panics
    /// When that fails.
    pub fn know(&self, records: &[Value]) {
        let path = self.agent.folder().join("advisories.zip");
        advisories(&path, records);
        let path = path.to_string_lossy().into_owned();
        self.agent.ctl(&["deps", "import-advisories", &path, "--reason", "a test"]).ok();
    }

    /// Updates by a strategy, to its end.
    pub fn update(&self, strategy: &str) -> Output {
        self.agent.ctl(&["deps", "update", "--strategy", strategy, "--yes", "--reason", "a test"])
    }

    /// The newest update.
    ///
    /// # Panics
    /// When there is none.
    pub fn newest(&self) -> Value {
        let history = self.agent.ctl(&["deps", "history", "-o", "json"]).ok().response();
        history["updates"][0].clone()
    }

    /// The project as the agent sees it.
    ///
    /// # Panics
    /// When there is none.
    pub fn project(&self) -> Value {
        let status = self.agent.ctl(&["deps", "status", "-o", "json"]).response();
        status["projects"][0].clone()
    }

    /// What is locked of a package.
    pub fn locked(&self, package: &str) -> String {
        let text = self.app.text("requirements.txt");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{package}==")));
        let version = line.and_then(|line| line.split_whitespace().next());
        version.unwrap_or_default().to_owned()
    }
}

/// What is configured of the application, and `top` of everything else.
pub fn configured(app: &Application, top: &str, project: &str, releases: &Path) -> String {
    format!("[health]\ndefaults = false\n{top}\n{}", configured_project(app, project, releases))
}

/// What is configured of the application alone.
pub fn configured_project(app: &Application, project: &str, releases: &Path) -> String {
    let quoted = |words: &[String]| serde_json::to_string(words).expect("text");
    let tools = foreign("python/bin");
    let path = format!("PATH={}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    format!(
        "[[dependencies.project]]\nname = \"app\"\nroot = \"{}\"\nmanifests = [\"requirements.txt\"]\nenvironment = [{path:?}]\n{project}\n\
         [dependencies.project.test]\ncommand = [\"python\", \"-m\", \"pytest\", \"-q\", \"-p\", \"no:cacheprovider\", \"tests\"]\ntimeout = \"20s\"\n\
         [dependencies.project.deploy]\nreleases_dir = \"{}\"\nlink = \"{}\"\nhealth_for = \"2s\"\nstart_within = \"10s\"\nhealth = \"{}\"\n\
         restart = {{ command = {}, timeout = \"20s\" }}\n",
        app.root().display(),
        releases.display(),
        app.path("current").display(),
        app.health_url(),
        quoted(&app.restart_hook()),
    )
}

/// Where the manifests of a generation are kept.
pub fn kept(agent: &TestAgent, generation: u64) -> PathBuf {
    agent.state().join("dependencies/app").join(generation.to_string())
}
