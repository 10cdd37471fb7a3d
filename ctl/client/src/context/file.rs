//! The contexts' file: its form, and reading and writing it without ever showing it to others.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{Context, Contexts, Pem, TlsMaterial};
use crate::{Error, Kind, Node};

/// A larger file is not what it should be.
const SIZE_LIMIT: u64 = 4 << 20;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileForm<C> {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default = "BTreeMap::new")]
    context: BTreeMap<String, C>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct ContextForm {
    nodes: Vec<NodeForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
}

#[derive(Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
struct NodeForm(Node);

impl TryFrom<String> for NodeForm {
    type Error = crate::NodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<NodeForm> for String {
    fn from(node: NodeForm) -> Self {
        node.0.to_string()
    }
}

impl ContextForm {
    /// `folder`: where relative paths begin.
    fn read(self, name: &str, folder: &Path) -> Result<Context, String> {
        let pem = |key: &str, text: Option<String>, file: Option<PathBuf>| match (text, file) {
            (Some(_), Some(_)) => Err(format!("`{key}` and `{key}_file` are both given: keep one")),
            (Some(text), None) => Ok(Some(Pem::Text(text))),
            (None, Some(file)) => Ok(Some(Pem::File(folder.join(file)))),
            (None, None) => Ok(None),
        };
        let ca = pem("ca", self.ca, self.ca_file)?;
        let certificate = pem("certificate", self.certificate, self.certificate_file)?;
        let key = pem("key", self.key, self.key_file)?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => return Err("`certificate` is given without its `key`".into()),
            (None, Some(_)) => return Err("`key` is given without its `certificate`".into()),
            (None, None) => None,
        };
        let material = match (ca, identity, self.server_name) {
            (Some(ca), identity, server_name) => Some(TlsMaterial { ca, identity, server_name }),
            (None, Some(_), _) => return Err("`certificate` is given without a `ca`".into()),
            (None, None, Some(_)) => return Err("`server_name` is given without a `ca`".into()),
            (None, None, None) => None,
        };
        let nodes = self.nodes.into_iter().map(|node| node.0).collect();
        Context::new(name, nodes, material).map_err(|error| error.to_string())
    }

    /// `folder`: the files below it are named relative to it.
    fn write(context: &Context, folder: &Path) -> Self {
        let mut form = Self {
            nodes: context.nodes.iter().cloned().map(NodeForm).collect(),
            ..Self::default()
        };
        let Some(TlsMaterial { ca, identity, server_name }) = &context.material else {
            return form;
        };
        let put = |pem: &Pem, text: &mut Option<String>, file: &mut Option<PathBuf>| match pem {
            Pem::Text(pem) => *text = Some(pem.clone()),
            Pem::File(path) => *file = Some(path.strip_prefix(folder).unwrap_or(path).to_owned()),
        };
        put(ca, &mut form.ca, &mut form.ca_file);
        if let Some((certificate, key)) = identity {
            put(certificate, &mut form.certificate, &mut form.certificate_file);
            put(key, &mut form.key, &mut form.key_file);
        }
        form.server_name.clone_from(server_name);
        form
    }
}

/// `None`: there is no such file.
pub(super) fn load(path: &Path) -> Result<Option<Contexts>, Error> {
    let Some(text) = read(path, "CONTEXT_FILE_UNREADABLE", true)? else { return Ok(None) };
    let invalid = |at: Option<usize>, why: &str| {
        let mut place = path.display().to_string();
        if let Some(at) = at {
            let before = String::from_utf8_lossy(&text[..at.min(text.len())]);
            let last = before.rsplit('\n').next().unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            place = format!("{place}:{line}:{}", last.chars().count() + 1);
        }
        Error::invalid(
            "CONTEXT_INVALID",
            format!("{place}: {}", why.trim_end()),
            "correct the file; `genesisctl context add` writes sound ones",
        )
    };
    let utf8 = std::str::from_utf8(&text)
        .map_err(|error| invalid(Some(error.valid_up_to()), "this is no UTF-8"))?;
    let form: FileForm<Spanned<ContextForm>> = toml::from_str(utf8)
        .map_err(|error| invalid(error.span().map(|span| span.start), error.message()))?;
    let folder = absolute_folder(path);
    let mut contexts = BTreeMap::new();
    for (name, form) in form.context {
        let at = form.span().start;
        let context = form
            .into_inner()
            .read(&name, &folder)
            .map_err(|why| invalid(Some(at), &format!("context {name}: {why}")))?;
        contexts.insert(name, context);
    }
    Ok(Some(Contexts { path: path.to_owned(), current: form.current, contexts }))
}

pub(super) fn save(contexts: &Contexts) -> Result<(), Error> {
    let path = &contexts.path;
    let failed = |what: &str, error: io::Error| unwritable(what, path, &error);
    let folder = absolute_folder(path);
    make_folder(&folder).map_err(|error| failed("make the folder of", error))?;
    let forms = contexts.contexts.values();
    let form = FileForm {
        current: contexts.current.clone(),
        context: forms
            .map(|context| (context.name.clone(), ContextForm::write(context, &folder)))
            .collect(),
    };
    let text =
        toml::to_string_pretty(&form).map_err(|error| failed("write", io::Error::other(error)))?;
    // A link stays one: what it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let mut beside = target.file_name().unwrap_or_default().to_owned();
    beside.push(format!(".{}.partial", ulid::Ulid::generate()));
    let partial = target.with_file_name(beside);
    let written = write(&partial, text.as_bytes())
        .and_then(|()| fs::rename(&partial, &target))
        .and_then(|()| File::open(absolute_folder(&target))?.sync_all());
    if written.is_err() {
        // Nothing better can be done about a leftover here.
        let _ = fs::remove_file(&partial);
    }
    written.map_err(|error| failed("write", error))
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Held until it is dropped. It is the folder that is locked, since the file is replaced.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let folder = absolute_folder(path);
    let lock = || {
        make_folder(&folder)?;
        let folder = File::open(&folder)?;
        folder.lock()?;
        Ok(folder)
    };
    lock().map_err(|error| unwritable("lock the folder of", path, &error))
}

/// The text of a certificate or key. `secret`: nobody else may be able to read its file.
pub(super) fn pem(pem: &Pem, what: &str, secret: bool) -> Result<Vec<u8>, Error> {
    let path = match pem {
        Pem::Text(text) => return Ok(text.clone().into_bytes()),
        Pem::File(path) => path,
    };
    read(path, "CONTEXT_PEM_UNREADABLE", secret)?.ok_or_else(|| {
        let message = format!("there is no file {} (`{what}_file`)", path.display());
        Error::invalid("CONTEXT_PEM_UNREADABLE", message, "put it there, or correct the context")
    })
}

/// The bytes of a file; `None`: there is none.
fn read(path: &Path, reason: &str, secret: bool) -> Result<Option<Vec<u8>>, Error> {
    let shown = path.display();
    let unreadable = |why: &str| {
        let message = format!("can't read {shown}: {why}");
        Error::invalid(reason, message, "check the path and its permissions")
    };
    // A pipe would block here until somebody writes to it.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error.to_string())),
    };
    let found = file.metadata().map_err(|error| unreadable(&error.to_string()))?;
    if !found.is_file() {
        return Err(unreadable("it is no regular file"));
    }
    let mode = found.permissions().mode() & 0o777;
    if secret && mode & 0o077 != 0 {
        return Err(Error::invalid(
            "CONTEXT_FILE_OPEN_TO_OTHERS",
            format!("others may use {shown}: its mode is {mode:03o}"),
            &format!(
                "run `chmod 600 {shown}`; if others had access, have a new certificate issued"
            ),
        ));
    }
    if found.len() > SIZE_LIMIT {
        return Err(unreadable("it is larger than 4 MiB"));
    }
    let mut text = Vec::new();
    file.take(SIZE_LIMIT).read_to_end(&mut text).map_err(|error| unreadable(&error.to_string()))?;
    Ok(Some(text))
}

fn absolute_folder(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn unwritable(what: &str, path: &Path, error: &io::Error) -> Error {
    let message = format!("can't {what} {}: {error}", path.display());
    let next = "check the folder's permissions and its space";
    Error::new(Kind::Internal, "INTERNAL", "CONTEXT_FILE_UNWRITABLE", message, next)
}
