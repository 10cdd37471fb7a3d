//! Disks of their own: ext4 in a file, through a loop device; and disks that are full.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

/// An ext4 of its own, mounted until it is dropped. Declare it before the agent that works on it.
pub struct LoopDisk {
    /// Where its image is.
    _folder: TempDir,
    path: PathBuf,
}

impl LoopDisk {
    /// A disk of so many MiB.
    ///
    /// # Panics
    /// When this is not root on a Linux with loop devices, or mkfs.ext4 (e2fsprogs) is missing.
    pub fn ext4(mib: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-mount-").tempdir().expect("a folder");
        // Nobody else looks for it, so that it may outlive this.
        Self::ext4_at(mib, &folder.keep())
    }

    /// A disk of so many MiB, mounted at a folder.
    ///
    /// # Panics
    /// As [`LoopDisk::ext4`].
    pub fn ext4_at(mib: u64, path: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-disk-").tempdir().expect("a folder");
        let image = folder.path().join("image");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(mib << 20).expect("room for an image");
        tool(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        tool(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(path));
        Self { _folder: folder, path: path.to_owned() }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It stands still: whoever writes to it waits, until the guard is dropped.
    ///
    /// # Panics
    /// When fsfreeze (util-linux) is missing.
    pub fn freeze(&self) -> Frozen {
        tool(Command::new("fsfreeze").arg("-f").arg(&self.path));
        Frozen(self.path.clone())
    }

    /// A path on it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        // Where it was mounted in a folder of its own, which is empty now.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// A disk that stands still as long as this lives.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
    }
}

/// A file that takes all the room of its disk, and what is given back meanwhile, until it is released.
pub struct Ballast {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    filler: JoinHandle<()>,
}

impl Ballast {
    /// Fills the disk that `path` will be on.
    ///
    /// # Panics
    /// When the file can't be made.
    pub fn fill(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("a file");
        // A small ext4 has blocks of a quarter of a page: the last of them take a piece of their own.
        let mut fill = move || {
            for size in [4_096, 512] {
                while file.write_all(&vec![0; size]).is_ok() {}
            }
        };
        fill();
        let filler = filler(&stop, fill);
        Self { path, stop, filler }
    }

    /// Leaves `spare` bytes of the disk that `path` will be on, however much is given back meanwhile.
    ///
    /// # Panics
    /// When the file can't be made.
    pub fn all_but(path: PathBuf, spare: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let file = File::create(&path).expect("a file");
        let mut taken = 0;
        let mut take = move || {
            let free = rustix::fs::fstatvfs(&file).map_or(0, |it| it.f_bavail * it.f_frsize);
            let more = free.saturating_sub(spare);
            // What is counted as free may still wait for the journal: the next turn takes it.
            if more > 0 && fallocate(&file, FallocateFlags::empty(), taken, more).is_ok() {
                taken += more;
            }
        };
        // What was given back just now is free once the journal has it.
        rustix::fs::syncfs(File::open(&path).expect("our own file")).expect("a disk that lives");
        take();
        let filler = filler(&stop, take);
        Self { path, stop, filler }
    }

    /// There is room again.
    ///
    /// # Panics
    /// When the file is gone already.
    pub fn release(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.filler.join().expect("it only writes");
        std::fs::remove_file(self.path).expect("our own file");
    }
}

/// A thread that does it again each millisecond, until it is told to stop.
fn filler(stop: &Arc<AtomicBool>, mut fill: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    let stopped = Arc::clone(stop);
    std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            fill();
            std::thread::park_timeout(Duration::from_millis(1));
        }
    })
}

fn tool(command: &mut Command) {
    let output = command.output().expect("the tool can be started");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}
