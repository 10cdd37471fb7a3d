//! Generations on the disk: `NAME/gen-N/{key.pem, fullchain.pem, meta.json}`, and the link `NAME/current`. Whatever has
//! its name is whole: written beside, flushed, renamed.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use genesis_storage::GenerationRecord;
use rustix::fs::{CWD, Gid, RenameFlags, Uid};
use rustix::io::Errno;

use super::material::{self, PEM_LIMIT};
use crate::outside::files::{self, sync_folder_of};
use crate::outside::{failpoint, secret, trees};

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
/// The beginning of the name of a folder in which a generation is written beside its place.
const STAGING: &str = ".new-";
/// What was in the place, while it can't be exchanged.
const BEFORE: &str = "before";

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

    /// The agent's own folder: that of all is in it.
    pub fn state(&self) -> &Path {
        self.0.ancestors().nth(2).unwrap_or(&self.0)
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

    /// Completes a generation. `meta.json` comes last: with it the generation is whole. Of what is given as the chain only
    /// the certificates are kept: copies of it are for everybody, and must not hold what else was in it.
    ///
    /// # Errors
    /// What the disk says, or that it is no chain.
    pub fn complete(&self, fullchain: &[u8], record: &GenerationRecord) -> io::Result<()> {
        let folder = self.generation(record.number);
        let chain = material::chain(fullchain).map_err(io::Error::other)?;
        write(&folder.join("fullchain.pem"), &material::text(&chain), 0o600, None)?;
        failpoint::hit("certificates.chain-written");
        let meta = serde_json::json!({
            "name": record.name, "generation": record.number, "identifiers": record.identifiers, "ca": record.ca,
            "serial": record.serial, "sha256": record.fingerprint, "issuer": record.issuer,
            "notBefore": record.not_before.to_string(), "notAfter": record.not_after.to_string(),
        });
        let meta = format!("{meta:#}\n");
        write(&folder.join(META), meta.as_bytes(), 0o600, None)
    }

    /// Writes a whole generation in one go; what was in its place is there until the new one is.
    ///
    /// # Errors
    /// What the disk says; what was in its place is still there then.
    pub fn install(
        &self,
        (fullchain, key): (&[u8], &[u8]),
        record: &GenerationRecord,
    ) -> io::Result<()> {
        // A place of its own: two that are written at a time must not become one of both.
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let place = self.generation(record.number);
        self.make()?;
        let count = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let staging = Self(self.0.join(format!("{STAGING}{}-{count}", record.number)));
        trees::remove(&staging.0)?;
        let written = (|| {
            private_folder(&staging.0)?;
            staging.begin(record.number, key)?;
            staging.complete(fullchain, record)?;
            failpoint::hit("certificates.written-beside");
            put(&staging.generation(record.number), &place)?;
            sync_folder_of(&place)
        })();
        failpoint::hit("certificates.put-in-place");
        // Also after a failure, since there is a key in it; but not what could not be put back.
        if written.is_err() && !place.exists() && staging.0.join(BEFORE).exists() {
            return written;
        }
        written.and(trees::remove(&staging.0))
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
        self.go_on_putting()?;
        for name in trees::names(&self.0)? {
            let number = name.strip_prefix("gen-").and_then(|number| number.parse().ok());
            let whole = || self.0.join(&name).join(META).exists();
            match number {
                Some(number) if !known.contains(&number) && !whole() => self.remove(number)?,
                None if name.starts_with(STAGING) || name == BESIDE => {
                    trees::remove(&self.0.join(name))?;
                }
                Some(_) => self.clear_halves(&name)?,
                None if name == BACKUP => self.clear_halves(&name)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Where folders can't be exchanged, a crash may have come between the one that went and the one that comes.
    fn go_on_putting(&self) -> io::Result<()> {
        for name in trees::names(&self.0)?.iter().filter(|name| name.starts_with(STAGING)) {
            let staging = Self(self.0.join(name));
            let before = staging.0.join(BEFORE);
            let number = name[STAGING.len()..].split('-').next().and_then(|it| it.parse().ok());
            let (Some(number), true) = (number, before.exists()) else { continue };
            let (place, new) = (self.generation(number), staging.generation(number));
            if !place.exists() {
                fs::rename(if new.join(META).exists() { new } else { before }, &place)?;
                sync_folder_of(&place)?;
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
            secret::is_open(mode).then(|| format!("{} has mode {mode:04o}", path.display()))
        };
        [folder.join("key.pem"), folder, self.0.clone()].into_iter().filter_map(wide).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = files::read_small(path, PEM_LIMIT);
    read.map(|(bytes, _)| bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Puts a folder in its place. What was there is in `new` afterwards, or beside it: there is no moment without either.
fn put(new: &Path, place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::rename(new, place),
        Err(error) => return Err(error),
    }
    match rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => put_without_exchange(new, place),
        Err(error) => Err(error.into()),
    }
}

/// As [`put`] where the file system can't exchange, such as NFS: [`Folder::clear_away`] goes on from between.
fn put_without_exchange(new: &Path, place: &Path) -> io::Result<()> {
    let before = new.with_file_name(BEFORE);
    fs::rename(place, &before)?;
    sync_folder_of(&before)?;
    let put = fs::rename(new, place);
    if put.is_err() {
        fs::rename(&before, place)?;
    }
    put
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
pub(super) fn write(
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
