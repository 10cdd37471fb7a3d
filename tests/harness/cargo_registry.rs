//! A sparse registry of crates on loopback, which cargo takes for crates.io by source replacement: locks that are made
//! with it name crates.io.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::index_server::{Asked, IndexServer, Outage, Reply};
use crate::wheels::packed;

/// A crate to be published.
#[derive(Debug, Clone)]
pub struct Crate {
    name: String,
    version: String,
    needs: Vec<Need>,
    features: BTreeMap<String, Vec<String>>,
    rust_version: Option<String>,
    source: String,
}

#[derive(Debug, Clone)]
struct Need {
    name: String,
    requirement: String,
    optional: bool,
    target: Option<String>,
}

impl Crate {
    /// A library whose `src/lib.rs` is `source`.
    pub fn new(name: &str, version: &str, source: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            needs: Vec::new(),
            features: BTreeMap::new(),
            rust_version: None,
            source: source.to_owned(),
        }
    }

    /// It depends on another one.
    #[must_use]
    pub fn needs(self, name: &str, requirement: &str) -> Self {
        self.need(name, requirement, false, None)
    }

    /// It may depend on another one: a feature of that name.
    #[must_use]
    pub fn may_need(self, name: &str, requirement: &str) -> Self {
        self.need(name, requirement, true, None)
    }

    /// It depends on another one where this holds: `cfg(windows)`.
    #[must_use]
    pub fn needs_on(self, target: &str, name: &str, requirement: &str) -> Self {
        self.need(name, requirement, false, Some(target.to_owned()))
    }

    /// It has a feature.
    #[must_use]
    pub fn feature(mut self, name: &str, enables: &[&str]) -> Self {
        let enables = enables.iter().map(|it| (*it).to_owned()).collect();
        self.features.insert(name.to_owned(), enables);
        self
    }

    /// The oldest compiler that it says it is for.
    #[must_use]
    pub fn rust_version(mut self, version: &str) -> Self {
        self.rust_version = Some(version.to_owned());
        self
    }

    fn need(
        mut self,
        name: &str,
        requirement: &str,
        optional: bool,
        target: Option<String>,
    ) -> Self {
        let (name, requirement) = (name.to_owned(), requirement.to_owned());
        self.needs.push(Need { name, requirement, optional, target });
        self
    }

    fn manifest(&self) -> String {
        let Self { name, version, .. } = self;
        let mut text = format!(
            "[package]\nname = {name:?}\nversion = {version:?}\nedition = \"2021\"\n\
             license = \"MIT\"\ndescription = \"A crate of the tests\"\n"
        );
        if let Some(version) = &self.rust_version {
            text.push_str(&format!("rust-version = {version:?}\n"));
        }
        for need in &self.needs {
            let table = match &need.target {
                Some(target) => format!("target.'{target}'.dependencies.{}", need.name),
                None => format!("dependencies.{}", need.name),
            };
            let (requirement, optional) = (&need.requirement, need.optional);
            text.push_str(&format!(
                "\n[{table}]\nversion = {requirement:?}\noptional = {optional}\n"
            ));
        }
        text.push_str("\n[features]\n");
        for (name, enables) in &self.features {
            text.push_str(&format!("{name} = {enables:?}\n"));
        }
        text
    }

    fn archive(&self) -> Vec<u8> {
        let folder = format!("{}-{}", self.name, self.version);
        let files = [("Cargo.toml", self.manifest()), ("src/lib.rs", self.source.clone())];
        packed(files.map(|(path, text)| (format!("{folder}/{path}"), text.into_bytes())))
    }

    fn line(&self) -> Map<String, Value> {
        let dependencies = self.needs.iter().map(|need| {
            json!({
                "name": need.name, "req": need.requirement, "features": [],
                "optional": need.optional, "default_features": true, "target": need.target,
                "kind": "normal",
            })
        });
        let dependencies: Vec<Value> = dependencies.collect();
        let mut line = Map::new();
        line.insert("name".to_owned(), json!(self.name));
        line.insert("vers".to_owned(), json!(self.version));
        line.insert("deps".to_owned(), json!(dependencies));
        line.insert("features".to_owned(), json!(self.features));
        if let Some(version) = &self.rust_version {
            line.insert("rust_version".to_owned(), json!(version));
        }
        line
    }
}

/// What the registry says of a crate.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// When it was published; a registry need not say it.
    pub at: Option<Timestamp>,
    /// Nobody is to take it who has not locked it.
    pub yanked: bool,
    /// The checksum that is stated is that of another archive.
    pub lies: bool,
}

struct Entry {
    line: Map<String, Value>,
    published: Published,
    archive: Vec<u8>,
}

/// By name and version.
type Shelf = BTreeMap<(String, String), Entry>;

/// The registry, until it is dropped.
pub struct CargoRegistry {
    server: IndexServer,
    shelf: Arc<Mutex<Shelf>>,
}

impl CargoRegistry {
    /// An empty one on a port of its own.
    ///
    /// # Panics
    /// When it can't listen.
    pub fn start() -> Self {
        let shelf = Arc::<Mutex<Shelf>>::default();
        let held = Arc::clone(&shelf);
        let server = IndexServer::start(move |asked| {
            answer(&lock(&held), asked).unwrap_or_else(Reply::not_found)
        });
        Self { server, shelf }
    }

    /// A `.cargo/config.toml` by which it is crates.io.
    pub fn config(&self) -> String {
        format!(
            "[source.crates-io]\nreplace-with = \"here\"\n\n\
             [source.here]\nregistry = \"sparse+{}\"\n",
            self.server.url("/index/")
        )
    }

    /// Writes that into a folder.
    ///
    /// # Panics
    /// When it can't.
    pub fn configure(&self, folder: &Path) {
        std::fs::create_dir_all(folder.join(".cargo")).expect("a folder of ours");
        let path = folder.join(".cargo/config.toml");
        std::fs::write(path, self.config()).expect("a folder of ours");
    }

    /// Has a crate from now on. One of the same name and version is replaced.
    pub fn publish(&self, it: &Crate, published: Published) {
        let (line, archive) = (it.line(), it.archive());
        let key = (it.name.clone(), it.version.clone());
        lock(&self.shelf).insert(key, Entry { line, published, archive });
    }

    /// Says something else of a crate of its own.
    ///
    /// # Panics
    /// When it has no such crate.
    pub fn republish(&self, name: &str, version: &str, published: Published) {
        let key = (name.to_owned(), version.to_owned());
        let mut shelf = lock(&self.shelf);
        shelf.get_mut(&key).expect("a crate that was published").published = published;
    }

    /// From now on it goes wrong like this.
    pub fn fail(&self, outage: Outage) {
        self.server.fail(outage);
    }

    /// The paths of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.server.requests()
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().expect("never poisoned")
}

fn answer(shelf: &Shelf, asked: &Asked) -> Option<Reply> {
    if let Some(rest) = asked.path.strip_prefix("/crates/") {
        let (name, version) = rest.strip_suffix(".crate")?.split_once('/')?;
        let entry = shelf.get(&(name.to_owned(), version.to_owned()))?;
        return Some(Reply::found("application/gzip", entry.archive.clone()));
    }
    let file = asked.path.strip_prefix("/index/")?;
    if file == "config.json" {
        // Cargo wants the whole address.
        let archives = format!("http://{}/crates/{{crate}}/{{version}}.crate", asked.host);
        return Some(Reply::found("application/json", json!({ "dl": archives }).to_string()));
    }
    let name = file.rsplit('/').next()?;
    let entries = shelf.iter().filter(|((it, _), _)| it == name).map(|(_, entry)| entry);
    let lines: String = entries.map(|entry| line(entry) + "\n").collect();
    (!lines.is_empty()).then(|| Reply::found("text/plain", lines))
}

fn line(entry: &Entry) -> String {
    let mut line = entry.line.clone();
    let mut digest = Sha256::new();
    digest.update(&entry.archive);
    if entry.published.lies {
        digest.update(b"another");
    }
    line.insert("cksum".to_owned(), json!(hex::encode(digest.finalize())));
    line.insert("yanked".to_owned(), json!(entry.published.yanked));
    if let Some(at) = entry.published.at {
        line.insert("pubtime".to_owned(), json!(format!("{at:.0}")));
    }
    Value::Object(line).to_string()
}
