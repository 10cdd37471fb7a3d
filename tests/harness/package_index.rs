//! A package index for Python on loopback, as pip and uv know it: PEP 691 in JSON with the times of PEP 700, PEP 503 in
//! HTML, and the metadata of wheels beside them (PEP 658).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::index_server::{Asked, IndexServer, Outage, Reply};
use crate::wheels::{Wheel, metadata_of, normalised};

const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// What the index says of a file.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// When it was uploaded; an index need not say it.
    pub at: Option<Timestamp>,
    /// Why it was taken back.
    pub yanked: Option<String>,
    /// The hash that is stated is that of another archive.
    pub lies: bool,
}

impl Listed {
    /// Uploaded then.
    pub fn at(time: Timestamp) -> Self {
        Self { at: Some(time), ..Self::default() }
    }
}

struct File {
    listed: Listed,
    bytes: Vec<u8>,
    /// Of a wheel.
    metadata: Option<String>,
}

#[derive(Default)]
struct Shelf {
    /// By the name of the file.
    files: BTreeMap<String, File>,
    html_only: bool,
}

/// The index, until it is dropped.
pub struct PackageIndex {
    server: IndexServer,
    shelf: Arc<Mutex<Shelf>>,
}

impl PackageIndex {
    /// An empty one on a port of its own.
    ///
    /// # Panics
    /// When it can't listen.
    pub fn start() -> Self {
        let shelf = Arc::<Mutex<Shelf>>::default();
        let held = Arc::clone(&shelf);
        let server = IndexServer::start(move |asked| answer(&lock(&held), asked));
        Self { server, shelf }
    }

    /// Its address, as `--index-url` and `--default-index` take it.
    pub fn url(&self) -> String {
        self.server.url("/simple/")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A `uv.toml` with it as the only index.
    pub fn uv_toml(&self) -> String {
        format!("[[index]]\nurl = \"{}\"\ndefault = true\n", self.url())
    }

    /// A `pip.conf` with it as the only index.
    pub fn pip_conf(&self) -> String {
        format!("[global]\nindex-url = {}\n", self.url())
    }

    /// Has a wheel from now on. One of the same name and version is replaced.
    pub fn publish(&self, wheel: &Wheel, listed: Listed) {
        self.publish_file(&wheel.file_name(), wheel.build(), listed);
    }

    /// Has any file from now on: `NAME-VERSION...`.
    pub fn publish_file(&self, file: &str, bytes: Vec<u8>, listed: Listed) {
        let metadata = metadata_of(&bytes);
        lock(&self.shelf).files.insert(file.to_owned(), File { listed, bytes, metadata });
    }

    /// Has the wheels of a folder from now on, as uploaded long ago.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn publish_folder(&self, folder: &Path) {
        let at = "2020-01-01T00:00:00Z".parse().expect("a time");
        for entry in std::fs::read_dir(folder).expect("a folder of wheels") {
            let path = entry.expect("a folder of wheels").path();
            if path.extension().is_some_and(|extension| extension == "whl") {
                let name = path.file_name().expect("a file").to_string_lossy().into_owned();
                let bytes = std::fs::read(&path).expect("a wheel");
                self.publish_file(&name, bytes, Listed::at(at));
            }
        }
    }

    /// Says something else of a file of its own.
    ///
    /// # Panics
    /// When it has no such file.
    pub fn relist(&self, file: &str, listed: Listed) {
        lock(&self.shelf).files.get_mut(file).expect("a file that was published").listed = listed;
    }

    /// Has lost a file.
    pub fn remove(&self, file: &str) {
        lock(&self.shelf).files.remove(file);
    }

    /// Speaks HTML only, as older indexes do; there are no times of upload in it.
    pub fn html_only(&self, only: bool) {
        lock(&self.shelf).html_only = only;
    }

    /// From now on it goes wrong like this.
    pub fn fail(&self, outage: Outage) {
        self.server.fail(outage);
    }

    /// The paths of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.server.requests()
    }

    /// Waits for so many requests.
    ///
    /// # Panics
    /// When there are fewer.
    #[track_caller]
    pub fn wait_requests(&self, count: usize) {
        self.server.wait_requests(count);
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().expect("never poisoned")
}

/// The name of the project that a file belongs to.
fn project_of(file: &str) -> String {
    let stem = file.strip_suffix(".tar.gz").unwrap_or(file);
    let name =
        if stem == file { stem.split('-').next() } else { stem.rsplit_once('-').map(|it| it.0) };
    normalised(name.unwrap_or_default())
}

fn version_of(file: &str) -> &str {
    match file.strip_suffix(".tar.gz") {
        Some(stem) => stem.rsplit_once('-').map_or("", |it| it.1),
        None => file.split('-').nth(1).unwrap_or_default(),
    }
}

fn answer(shelf: &Shelf, asked: &Asked) -> Reply {
    if let Some(name) = asked.path.strip_prefix("/files/") {
        let found = match name.strip_suffix(".metadata") {
            Some(wheel) => {
                shelf.files.get(wheel).and_then(|it| Some(it.metadata.clone()?.into_bytes()))
            }
            None => shelf.files.get(name).map(|it| it.bytes.clone()),
        };
        return found.map_or_else(Reply::not_found, |bytes| {
            Reply::found("application/octet-stream", bytes)
        });
    }
    let Some(project) = asked.path.strip_prefix("/simple/").map(|it| it.trim_end_matches('/'))
    else {
        return Reply::not_found();
    };
    let files: Vec<(&String, &File)> =
        shelf.files.iter().filter(|(name, _)| project_of(name) == project).collect();
    if files.is_empty() {
        return Reply::not_found();
    }
    if asked.accept.contains(JSON) && !shelf.html_only {
        return Reply::found(JSON, page(project, &files).to_string());
    }
    Reply::found("text/html", html(project, &files))
}

fn stated_hash(file: &File) -> String {
    let mut digest = Sha256::new();
    digest.update(&file.bytes);
    if file.listed.lies {
        digest.update(b"another");
    }
    hex::encode(digest.finalize())
}

fn requires_python(file: &File) -> Option<&str> {
    let lines = file.metadata.as_deref()?.lines();
    lines.take_while(|line| !line.is_empty()).find_map(|it| it.strip_prefix("Requires-Python: "))
}

fn page(project: &str, files: &[(&String, &File)]) -> Value {
    let mut versions: Vec<&str> = files.iter().map(|(name, _)| version_of(name)).collect();
    versions.dedup();
    let files = files.iter().map(|(name, file)| {
        let mut entry = json!({
            "filename": name,
            "url": format!("/files/{name}"),
            "hashes": { "sha256": stated_hash(file) },
            "size": file.bytes.len(),
            "yanked": file.listed.yanked.as_ref().map_or(json!(false), |reason| json!(reason)),
        });
        if let Some(at) = file.listed.at {
            entry["upload-time"] = json!(format!("{at:.6}"));
        }
        if let Some(specifier) = requires_python(file) {
            entry["requires-python"] = json!(specifier);
        }
        if let Some(metadata) = &file.metadata {
            let digest = hex::encode(Sha256::digest(metadata.as_bytes()));
            entry["core-metadata"] = json!({ "sha256": digest });
        }
        entry
    });
    let files: Vec<Value> = files.collect();
    json!({ "meta": { "api-version": "1.1" }, "name": project, "versions": versions, "files": files })
}

fn html(project: &str, files: &[(&String, &File)]) -> String {
    let mut lines = String::new();
    for (name, file) in files {
        let mut attributes = String::new();
        if let Some(specifier) = requires_python(file) {
            attributes.push_str(&format!(" data-requires-python=\"{}\"", escaped(specifier)));
        }
        if let Some(reason) = &file.listed.yanked {
            attributes.push_str(&format!(" data-yanked=\"{}\"", escaped(reason)));
        }
        if let Some(metadata) = &file.metadata {
            let digest = hex::encode(Sha256::digest(metadata.as_bytes()));
            attributes.push_str(&format!(" data-core-metadata=\"sha256={digest}\""));
        }
        let hash = stated_hash(file);
        lines.push_str(&format!(
            "<a href=\"/files/{name}#sha256={hash}\"{attributes}>{name}</a><br>\n"
        ));
    }
    format!(
        "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" content=\"1.0\">\
         <title>{project}</title></head><body>\n{lines}</body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
