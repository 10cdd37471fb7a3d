//! Contexts: which agents there are, and by what certificate to speak to them, under a name in a file.

mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::{Error, Kind, Node, Tls};

/// The longest name of a context, in bytes.
pub const CONTEXT_NAME_LIMIT: usize = 63;

/// The environment variable that chooses a context.
const CONTEXT_VARIABLE: &str = "GENESISCTL_CONTEXT";

/// A text in PEM form, here or in a file of its own.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The text itself.
    Text(String),
    /// The absolute path of the file that has it.
    File(PathBuf),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It may be a key.
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// What secures the connections of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsMaterial {
    /// The CAs that the servers' certificates must come from.
    pub ca: Pem,
    /// The client's certificate and its key.
    pub identity: Option<(Pem, Pem)>,
    /// The name that every server must prove to have, instead of its node's host.
    pub server_name: Option<String>,
}

/// Agents under a common name, and what secures the connections to them.
#[derive(Debug, Clone)]
pub struct Context {
    name: String,
    nodes: Vec<Node>,
    material: Option<TlsMaterial>,
    tls: OnceLock<Tls>,
}

impl Context {
    /// A context of these nodes. Without `material` they are spoken to without TLS.
    ///
    /// # Errors
    /// `Invalid` with `CONTEXT_NAME_INVALID`.
    pub fn new(name: &str, nodes: Vec<Node>, material: Option<TlsMaterial>) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let sound = name.bytes().all(allowed)
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.len() <= CONTEXT_NAME_LIMIT;
        if !sound {
            return Err(Error::invalid(
                "CONTEXT_NAME_INVALID",
                format!("{name:?} can't be the name of a context"),
                "use letters, digits, `.`, `_` and `-`, at most 63, a letter or digit first",
            ));
        }
        Ok(Self { name: name.to_owned(), nodes, material, tls: OnceLock::new() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its agents, in the order of the file.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What secures its connections.
    pub fn material(&self) -> Option<&TlsMaterial> {
        self.material.as_ref()
    }

    /// What secures its connections, read and checked; `None`: nothing does. It is made at the first call and
    /// then shared, so that all connections of the context have one. For certificates that were renewed since,
    /// load the contexts again.
    ///
    /// # Errors
    /// `Invalid`: `CONTEXT_PEM_UNREADABLE`, `CONTEXT_FILE_OPEN_TO_OTHERS` for a key, `CONTEXT_PEM_INVALID`,
    /// `CONTEXT_KEY_MISMATCH`, `CONTEXT_INVALID` for the server name.
    pub fn tls(&self) -> Result<Option<Tls>, Error> {
        let Some(material) = &self.material else { return Ok(None) };
        if let Some(tls) = self.tls.get() {
            return Ok(Some(tls.clone()));
        }
        let tls =
            load(material).map_err(|error| error.within(&format!("context {}", self.name)))?;
        Ok(Some(self.tls.get_or_init(|| tls).clone()))
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.nodes == other.nodes && self.material == other.material
    }
}

impl Eq for Context {}

fn load(material: &TlsMaterial) -> Result<Tls, Error> {
    let ca = file::pem(&material.ca, "ca", false)?;
    let tls = match &material.identity {
        Some((certificate, key)) => {
            let certificate = file::pem(certificate, "certificate", false)?;
            let key = file::pem(key, "key", true)?;
            Tls::new(&ca, Some((&certificate, &key)))?
        }
        None => Tls::new(&ca, None)?,
    };
    match &material.server_name {
        Some(name) => tls.with_server_name(name),
        None => Ok(tls),
    }
}

/// The contexts of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    path: PathBuf,
    current: Option<String>,
    contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Where a user's contexts are: `$XDG_CONFIG_HOME/genesis/genesisctl.toml`, else under `~/.config`; `None`
    /// where there is no home. `env` looks up an environment variable.
    pub fn default_path(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .map(|folder| folder.join("genesis/genesisctl.toml"))
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Invalid`: `CONTEXT_FILE_UNREADABLE` (also when there is none), `CONTEXT_FILE_OPEN_TO_OTHERS`, and
    /// `CONTEXT_INVALID` with line and column.
    pub fn load(path: &Path) -> Result<Self, Error> {
        file::load(path)?.ok_or_else(|| {
            Error::invalid(
                "CONTEXT_FILE_UNREADABLE",
                format!("there is no file {}", path.display()),
                "name the file that has the contexts",
            )
        })
    }

    /// [`Contexts::load`], but no file means no contexts.
    ///
    /// # Errors
    /// Those of [`Contexts::load`].
    pub fn load_or_default(path: &Path) -> Result<Self, Error> {
        let none = || Self { path: path.to_owned(), current: None, contexts: BTreeMap::new() };
        Ok(file::load(path)?.unwrap_or_else(none))
    }

    /// Writes the file whole or not at all: mode 0600, in a folder that is made with mode 0700 where there is
    /// none. Comments of the file before are not kept.
    ///
    /// # Errors
    /// `Internal` with `CONTEXT_FILE_UNWRITABLE`.
    pub fn save(&self) -> Result<(), Error> {
        file::save(self)
    }

    /// Reads the file at `path`, lets `change` work on it, and writes it if that went well. Programs that do so
    /// at the same time wait for each other, so that no change is lost.
    ///
    /// # Errors
    /// Those of [`Contexts::load_or_default`], [`Contexts::save`], and `change`.
    pub fn edit<T, E: From<Error>>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = file::lock(path)?;
        let mut contexts = Self::load_or_default(path)?;
        let changed = change(&mut contexts)?;
        contexts.save()?;
        Ok(changed)
    }

    /// The file they were read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the context that is used where none is named.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Context> {
        self.contexts.values()
    }

    /// The context of this name.
    ///
    /// # Errors
    /// `NotFound` with `CONTEXT_NOT_FOUND`, naming what is near.
    pub fn get(&self, name: &str) -> Result<&Context, Error> {
        self.contexts.get(name).ok_or_else(|| self.absent(name))
    }

    /// Adds a context, or replaces the one of its name.
    pub fn insert(&mut self, context: Context) {
        self.contexts.insert(context.name.clone(), context);
    }

    /// Takes a context out. If it was the current one, there is none any more.
    ///
    /// # Errors
    /// Those of [`Contexts::get`].
    pub fn remove(&mut self, name: &str) -> Result<Context, Error> {
        let removed = self.contexts.remove(name).ok_or_else(|| self.absent(name))?;
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        Ok(removed)
    }

    /// Makes a context the one that is used where none is named; `None`: none is.
    ///
    /// # Errors
    /// Those of [`Contexts::get`].
    pub fn set_current(&mut self, name: Option<&str>) -> Result<(), Error> {
        if let Some(name) = name {
            self.get(name)?;
        }
        self.current = name.map(str::to_owned);
        Ok(())
    }

    /// The context to use: the one named, else `$GENESISCTL_CONTEXT`, else the current one, else none. `env`
    /// looks up an environment variable.
    ///
    /// # Errors
    /// Those of [`Contexts::get`].
    pub fn resolve(
        &self,
        name: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<&Context>, Error> {
        if let Some(name) = name {
            return self.get(name).map(Some);
        }
        if let Some(name) = env(CONTEXT_VARIABLE).filter(|name| !name.is_empty()) {
            let of_variable = |error: Error| error.within(&format!("${CONTEXT_VARIABLE}"));
            return self.get(&name).map(Some).map_err(of_variable);
        }
        match self.current() {
            Some(name) => self.get(name).map(Some).map_err(|error| error.within("`current`")),
            None => Ok(None),
        }
    }

    fn absent(&self, name: &str) -> Error {
        let mut near: Vec<(f64, &str)> = self
            .contexts
            .keys()
            .map(|known| (strsim::jaro_winkler(known, name), known.as_str()))
            .filter(|(nearness, _)| *nearness > 0.7)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near: Vec<_> = near.iter().take(3).map(|(_, known)| format!("`{known}`")).collect();
        let path = self.path.display();
        let next = match (near.is_empty(), self.contexts.is_empty()) {
            (false, _) => format!("did you mean {}?", near.join(" or ")),
            (true, false) => "list them with `genesisctl context list`".to_owned(),
            (true, true) => "add one with `genesisctl context add`".to_owned(),
        };
        let message = format!("there is no context {name:?} in {path}");
        Error::new(Kind::NotFound, "NOT_FOUND", "CONTEXT_NOT_FOUND", message, next)
    }
}
