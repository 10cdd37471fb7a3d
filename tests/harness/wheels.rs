//! Python packages, built in memory: wheels of pure Python, and archives of sources that run code when they are built.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// A wheel to be built.
#[derive(Debug, Clone)]
pub struct Wheel {
    name: String,
    version: String,
    headers: Vec<String>,
    files: BTreeMap<String, String>,
}

impl Wheel {
    /// One with nothing in it.
    pub fn new(name: &str, version: &str) -> Self {
        let files = BTreeMap::new();
        Self { name: name.to_owned(), version: version.to_owned(), headers: Vec::new(), files }
    }

    /// What it needs, as in `Requires-Dist`: `ticks>=1,<2`.
    #[must_use]
    pub fn requires(mut self, requirement: &str) -> Self {
        self.headers.push(format!("Requires-Dist: {requirement}"));
        self
    }

    /// Which versions of Python it is for: `>=3.9`.
    #[must_use]
    pub fn requires_python(mut self, specifier: &str) -> Self {
        self.headers.push(format!("Requires-Python: {specifier}"));
        self
    }

    /// A file in it.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// The module of its own name.
    #[must_use]
    pub fn source(self, text: &str) -> Self {
        let path = format!("{}.py", stem(&self.name));
        self.file(&path, text)
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{}-{}-py3-none-any.whl", stem(&self.name), self.version)
    }

    /// Its archive; the same bytes every time.
    ///
    /// # Panics
    /// Never.
    pub fn build(&self) -> Vec<u8> {
        let info = format!("{}-{}.dist-info", stem(&self.name), self.version);
        let mut files = self.files.clone();
        files.insert(format!("{info}/METADATA"), self.metadata());
        let wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n\
                     Tag: py3-none-any\n";
        files.insert(format!("{info}/WHEEL"), wheel.to_owned());
        let record = format!("{info}/RECORD");
        let mut lines = String::new();
        for (path, text) in &files {
            let digest = Sha256::digest(text.as_bytes());
            let digest = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, digest);
            lines.push_str(&format!("{path},sha256={digest},{}\n", text.len()));
        }
        lines.push_str(&format!("{record},,\n"));
        files.insert(record, lines);
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for (path, text) in files {
            archive.start_file(path, options.unix_permissions(0o644)).expect("memory");
            archive.write_all(text.as_bytes()).expect("memory");
        }
        archive.finish().expect("memory").into_inner()
    }

    fn metadata(&self) -> String {
        let (name, version) = (&self.name, &self.version);
        let mut text = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        for header in &self.headers {
            text.push_str(header);
            text.push('\n');
        }
        text
    }
}

/// An archive of sources whose `setup.py` is `script`; returns the name of its file and the archive.
///
/// # Panics
/// Never.
pub fn source_archive(name: &str, version: &str, script: &str) -> (String, Vec<u8>) {
    let folder = format!("{}-{version}", stem(name));
    let information = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
    let files = [("PKG-INFO", information.as_str()), ("setup.py", script)];
    let files = files.map(|(path, text)| (format!("{folder}/{path}"), text.as_bytes().to_vec()));
    (format!("{folder}.tar.gz"), packed(files))
}

/// A gzipped tar archive of these files; the same bytes every time.
pub(crate) fn packed(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, bytes.as_slice()).expect("memory");
    }
    archive.into_inner().expect("memory").finish().expect("memory")
}

/// The metadata in a wheel; `None` for what is no wheel.
pub(crate) fn metadata_of(wheel: &[u8]) -> Option<String> {
    let mut archive = ZipArchive::new(Cursor::new(wheel)).ok()?;
    let path = archive
        .file_names()
        .filter_map(|path| Some(path.ok()?.into_owned()))
        .find(|path| path.ends_with(".dist-info/METADATA") && path.matches('/').count() == 1)?;
    let mut text = String::new();
    archive.by_name(&path).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A name as indexes know it (PEP 503).
pub(crate) fn normalised(name: &str) -> String {
    let mut normal = String::new();
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(&part.to_ascii_lowercase());
    }
    normal
}

/// A name as files have it.
fn stem(name: &str) -> String {
    normalised(name).replace('-', "_")
}
