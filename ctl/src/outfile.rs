//! A file that appears under its name only when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ulid::Ulid;

use crate::exit::Halt;

/// Data on its way into a file: written beside it, then put in its place.
#[derive(Debug)]
pub(crate) struct OutFile {
    /// `None` once it was committed or kept.
    file: Option<BufWriter<File>>,
    partial: PathBuf,
    target: PathBuf,
    replace: bool,
}

impl OutFile {
    /// Begins to write what shall become `target`. An existing regular file is replaced only if `replace`.
    pub(crate) fn create(target: &Path, replace: bool) -> Result<Self, Halt> {
        // As the umask has it.
        Self::create_with_mode(target, replace, 0o666)
    }

    /// [`Self::create`], for what only the owner may read.
    pub(crate) fn create_private(target: &Path, replace: bool) -> Result<Self, Halt> {
        Self::create_with_mode(target, replace, 0o600)
    }

    fn create_with_mode(target: &Path, replace: bool, mode: u32) -> Result<Self, Halt> {
        let shown = target.display();
        match fs::symlink_metadata(target) {
            Ok(found) if !found.is_file() => {
                return Err(Halt::Usage(format!(
                    "{shown} is not a regular file: name another with --out, or leave --out out and \
                     redirect standard output"
                )));
            }
            Ok(_) if !replace => {
                return Err(Halt::Usage(format!(
                    "{shown} exists: name another file, or add --yes to replace it"
                )));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("look at", target, &error)),
        }
        let Some(name) = target.file_name() else {
            return Err(Halt::Usage(format!("{shown} is no file name: name a file with --out")));
        };
        let mut beside = name.to_owned();
        beside.push(format!(".{}.partial", Ulid::generate()));
        let partial = target.with_file_name(beside);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&partial)
            .map_err(|error| cannot("create", &partial, &error))?;
        let file = Some(BufWriter::with_capacity(256 << 10, file));
        Ok(Self { file, partial, target: target.to_owned(), replace })
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), Halt> {
        match &mut self.file {
            Some(file) => {
                file.write_all(data).map_err(|error| cannot("write", &self.partial, &error))
            }
            None => Ok(()),
        }
    }

    /// Makes it durable and puts it in its place.
    pub(crate) fn commit(mut self) -> Result<(), Halt> {
        self.sync()?;
        // One that has appeared meanwhile is not written over either.
        let renamed = match self.replace {
            true => fs::rename(&self.partial, &self.target),
            false => fs::hard_link(&self.partial, &self.target)
                .and_then(|()| fs::remove_file(&self.partial)),
        };
        renamed.map_err(|error| cannot("rename to", &self.target, &error))?;
        self.file = None;
        let folder = match self.target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| cannot("make durable", folder, &error))
    }

    /// Leaves what has come under its partial name, which is returned.
    pub(crate) fn keep(mut self) -> Result<PathBuf, Halt> {
        self.sync()?;
        self.file = None;
        Ok(self.partial.clone())
    }

    fn sync(&mut self) -> Result<(), Halt> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.flush()
            .and_then(|()| file.get_ref().sync_all())
            .map_err(|error| cannot("write", &self.partial, &error))
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Nothing better can be done about a leftover here.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Halt {
    Halt::Failed(format!(
        "can't {what} {}: {error}: make room or name another file with --out",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_name_appears_only_with_the_whole_content() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x.log");
        let mut out = OutFile::create(&target, false).unwrap();
        out.write(b"half").unwrap();
        assert!(!target.exists());
        drop(out);
        assert!(names(folder.path()).is_empty(), "what is given up leaves nothing");

        let mut out = OutFile::create(&target, false).unwrap();
        out.write(b"whole").unwrap();
        out.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["x.log"]);

        let refusal = OutFile::create(&target, false).unwrap_err();
        assert!(refusal.message().unwrap().contains("--yes"));
        let mut out = OutFile::create(&target, true).unwrap();
        out.write(b"new").unwrap();
        let kept = out.keep().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(fs::read(kept).unwrap(), b"new");
    }

    #[test]
    fn what_is_no_regular_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for target in
            [folder.path(), &link, Path::new("/dev/null"), Path::new("/"), Path::new("..")]
        {
            assert!(matches!(OutFile::create(target, true), Err(Halt::Usage(_))), "{target:?}");
        }
        let absent = folder.path().join("absent/x");
        assert!(matches!(OutFile::create(&absent, false), Err(Halt::Failed(_))));
    }
}
