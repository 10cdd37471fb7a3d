//! Generations on the disk: `NAME/gen-N/{key.pem, fullchain.pem, meta.json}`, and the link `NAME/current`. Whatever has
//! its name is whole: written beside, flushed, renamed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use genesis_storage::GenerationRecord;
use rustix::fs::{Gid, Uid};

use super::config::{Content, Deployment};
use super::material::PEM_LIMIT;
use crate::outside::files::sync_folder_of;
use crate::outside::{failpoint, trees};

/// The link to the generation in force.
const CURRENT: &str = "current";
/// What a generation is; written last.
const META: &str = "meta.json";
/// What becomes that link.
const BESIDE: &str = ".current.new";
/// The end of the name of what is being written.
const HALF: &str = ".genesis-new";
/// The folder of the one for need.
const BACKUP: &str = "backup";

/// The folders of one certificate.
#[derive(Debug, Clone)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Below the folder of all.
    pub fn of(home: &Path, name: &str) -> Self {
        Self(home.join(name))
    }

    /// The greatest number of which there is a generation; 0: none. One of a state that was lost is there still.
    ///
    /// # Errors
    /// What the disk says.
    pub fn greatest(&self) -> io::Result<u32> {
        let names = match fs::read_dir(&self.0) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut greatest = 0;
        for name in names {
            let name = name?.file_name();
            let number = name.to_str().and_then(|it| it.strip_prefix("gen-")?.parse().ok());
            greatest = greatest.max(number.unwrap_or(0));
        }
        Ok(greatest)
    }

    /// Whether the key of a generation is there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn has_key(&self, number: u32) -> io::Result<bool> {
        match self.generation(number).join("key.pem").symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where a generation is; 0 is the one for need.
    pub fn generation(&self, number: u32) -> PathBuf {
        match number {
            0 => self.0.join(BACKUP),
            number => self.0.join(format!("gen-{number}")),
        }
    }

    fn make(&self) -> io::Result<()> {
        if let Some(home) = self.0.parent() {
            private_folder(home)?;
        }
        private_folder(&self.0)
    }

    /// Makes the folder of a generation with its key in it. A key that is there stays: an order may have been placed for it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(&self, number: u32, key: &[u8]) -> io::Result<()> {
        let folder = self.generation(number);
        self.make()?;
        private_folder(&folder)?;
        let path = folder.join("key.pem");
        match path.symlink_metadata() {
            Ok(_) => Ok(()),
            Err(_) => write(&path, key, 0o600, None),
        }
    }

    /// Completes a generation. `meta.json` comes last: with it the generation is whole.
    ///
    /// # Errors
    /// What the disk says.
    pub fn complete(&self, fullchain: &[u8], record: &GenerationRecord) -> io::Result<()> {
        let folder = self.generation(record.number);
        write(&folder.join("fullchain.pem"), fullchain, 0o600, None)?;
        failpoint::hit("certificates.chain-written");
        let meta = serde_json::json!({
            "name": record.name, "generation": record.number, "identifiers": record.identifiers, "ca": record.ca,
            "serial": record.serial, "sha256": record.fingerprint, "issuer": record.issuer,
            "notBefore": record.not_before.to_string(), "notAfter": record.not_after.to_string(),
        });
        let meta = format!("{meta:#}\n");
        write(&folder.join(META), meta.as_bytes(), 0o600, None)
    }

    /// Writes a whole generation in one go; what was in its place goes.
    ///
    /// # Errors
    /// What the disk says.
    pub fn install(
        &self,
        (fullchain, key): (&[u8], &[u8]),
        record: &GenerationRecord,
    ) -> io::Result<()> {
        let place = self.generation(record.number);
        self.make()?;
        let beside = self.0.join(format!(".new-{}", record.number));
        trees::remove(&beside)?;
        private_folder(&beside)?;
        let staging = Self(beside.clone());
        staging.begin(record.number, key)?;
        staging.complete(fullchain, record)?;
        trees::remove(&place)?;
        fs::rename(staging.generation(record.number), &place)?;
        sync_folder_of(&place)?;
        trees::remove(&beside)
    }

    /// The chain and the key of a generation.
    ///
    /// # Errors
    /// What the disk says, with the path.
    pub fn read(&self, number: u32) -> Result<(Vec<u8>, Vec<u8>), String> {
        let folder = self.generation(number);
        Ok((read(&folder.join("fullchain.pem"))?, read(&folder.join("key.pem"))?))
    }

    /// The key of a generation.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub fn key(&self, number: u32) -> Result<Vec<u8>, String> {
        read(&self.generation(number).join("key.pem"))
    }

    /// The generation that the link names; `None` where there is no link.
    ///
    /// # Errors
    /// When it names something else.
    pub fn current(&self) -> Result<Option<u32>, String> {
        let link = self.0.join(CURRENT);
        let to = match fs::read_link(&link) {
            Ok(to) => to,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", link.display())),
        };
        let name = to.to_string_lossy();
        let number = name.strip_prefix("gen-").and_then(|number| number.parse().ok());
        number.map(Some).ok_or_else(|| format!("{} leads to {name}", link.display()))
    }

    /// Lets the link name a generation.
    ///
    /// # Errors
    /// What the disk says.
    pub fn switch(&self, number: u32) -> io::Result<()> {
        let (link, beside) = (self.0.join(CURRENT), self.0.join(BESIDE));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(format!("gen-{number}"), &beside)?;
        fs::rename(&beside, &link)?;
        sync_folder_of(&link)
    }

    /// Removes a generation, its key first.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        let folder = self.generation(number);
        match fs::remove_file(folder.join("key.pem")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        trees::remove(&folder)
    }

    /// Removes what a crash has left: generations that are not whole and that nobody knows of, and what was not written to
    /// its end. What is whole stays: the state may be an older one than the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn clear_away(&self, known: &[u32]) -> io::Result<()> {
        for name in trees::names(&self.0)? {
            let number = name.strip_prefix("gen-").and_then(|number| number.parse().ok());
            let whole = || self.0.join(&name).join(META).exists();
            match number {
                Some(number) if !known.contains(&number) && !whole() => self.remove(number)?,
                None if name.starts_with(".new-") || name == BESIDE => {
                    trees::remove(&self.0.join(name))?;
                }
                Some(_) => self.clear_halves(&name)?,
                None if name == BACKUP => self.clear_halves(&name)?,
                None => {}
            }
        }
        Ok(())
    }

    fn clear_halves(&self, folder: &str) -> io::Result<()> {
        let folder = self.0.join(folder);
        let mut halves = trees::names(&folder)?.into_iter().filter(|name| name.ends_with(HALF));
        halves.try_for_each(|name| trees::remove(&folder.join(name)))
    }

    /// What of the permissions is wider than it should be.
    pub fn open_to_others(&self, number: u32) -> Vec<String> {
        let folder = self.generation(number);
        let wide = |path: PathBuf| {
            let mode = fs::symlink_metadata(&path).ok()?.permissions().mode() & 0o7777;
            (mode & 0o077 != 0).then(|| format!("{} has mode {mode:04o}", path.display()))
        };
        [folder.join("key.pem"), folder, self.0.clone()].into_iter().filter_map(wide).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(PEM_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Makes a folder that nobody else looks into.
fn private_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    sync_folder_of(folder)
}

/// Writes a file beside its place and moves it there when all of it is on the disk.
fn write(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(Option<u32>, Option<u32>)>,
) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = path.with_file_name(format!(".{name}{HALF}"));
    let written = (|| {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Nobody but the owner until it belongs to whom it should.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        if let Some((user, group)) = owner {
            rustix::fs::fchown(&file, user.map(Uid::from_raw), group.map(Gid::from_raw))?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder_of(path)
    })();
    if written.is_err() {
        // What failed is told; that it could not be cleared away too is not.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// What a copy holds of a chain and a key.
pub fn content(content: Content, fullchain: &[u8], key: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(fullchain);
    let end = "-----END CERTIFICATE-----";
    let split = text.find(end).map_or(text.len(), |at| at + end.len());
    let (leaf, chain) = text.split_at(split);
    let lines = |text: &str| {
        let text = text.trim();
        if text.is_empty() { Vec::new() } else { format!("{text}\n").into_bytes() }
    };
    match content {
        Content::Fullchain => lines(&text),
        Content::Chain => lines(chain),
        Content::Leaf => lines(leaf),
        Content::Key => lines(&String::from_utf8_lossy(key)),
        Content::Combined => [lines(&String::from_utf8_lossy(key)), lines(&text)].concat(),
    }
}

/// Writes a copy.
///
/// # Errors
/// What the disk says, with the path, and what to do.
pub fn deploy(deployment: &Deployment, fullchain: &[u8], key: &[u8]) -> Result<(), String> {
    let path = &deployment.path;
    let id = |what: &str, name: &str, id: Option<u32>| match (name.is_empty(), id) {
        (true, _) => Ok(None),
        (false, Some(id)) => Ok(Some(id)),
        (false, None) => Err(format!("there is no {what} {name:?} for {}", path.display())),
    };
    let owner = (
        id("user", &deployment.owner, crate::outside::host::user_id(&deployment.owner))?,
        id("group", &deployment.group, crate::outside::host::group_id(&deployment.group))?,
    );
    let bytes = content(deployment.content, fullchain, key);
    // A link there is somebody's choice; what it leads to is written.
    let place = fs::canonicalize(path)
        // Also where nothing is there yet.
        .or_else(|_| fs::read_link(path).map(|to| path.with_file_name("").join(to)))
        .unwrap_or_else(|_| path.clone());
    let owner = (owner != (None, None)).then_some(owner);
    write(&place, &bytes, deployment.mode, owner)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether a copy is as it should be.
///
/// # Errors
/// What is wrong with it.
pub fn compare(deployment: &Deployment, fullchain: &[u8], key: &[u8]) -> Result<(), String> {
    let shown = deployment.path.display();
    let found = read(&deployment.path)?;
    if found != content(deployment.content, fullchain, key) {
        return Err(format!("{shown} holds something else"));
    }
    let mode = fs::metadata(&deployment.path)
        .map_err(|error| format!("{shown}: {error}"))?
        .permissions()
        .mode()
        & 0o7777;
    match mode & !deployment.mode {
        0 => Ok(()),
        _ => Err(format!("{shown} has mode {mode:04o}, {:04o} is configured", deployment.mode)),
    }
}
