//! The kernel's own proof that nobody has a file open for writing.

use std::fs::File;
use std::os::fd::AsRawFd;

/// What the kernel says about writers of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody has it open for writing, nor mapped for it.
    None,
    /// Somebody has.
    Some,
    /// The kernel can't or won't say (another user's file without CAP_LEASE, a network file system).
    Unknown,
}

/// `F_SETSIG` of Linux's asm-generic/fcntl.h, which libc does not name.
const F_SETSIG: libc::c_int = 10;

/// Asks for a read lease on `file` and gives it back at once.
///
/// Linux grants a read lease (`F_SETLEASE`, `F_RDLCK`; fcntl(2)) only on a file that no process has open
/// for writing, in whatever namespace or under whatever user, so that the grant is a proof that a look
/// through `/proc/*/fd` can't give to an unprivileged process. `file` must be open for reading only.
#[allow(unsafe_code)] // No crate in the tree wraps leases.
pub fn writers_of(file: &File) -> Writers {
    let fd = file.as_raw_fd();
    // A lease is broken by a signal when a writer comes; SIGURG is ignored by default, SIGIO would kill.
    // SAFETY: fcntl on a descriptor that `file` keeps open, with integer arguments only.
    let (set, lease) = unsafe {
        let signal = libc::fcntl(fd, F_SETSIG, libc::SIGURG);
        (signal, if signal == 0 { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } else { -1 })
    };
    if set != 0 {
        return Writers::Unknown;
    }
    if lease == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Writers::None;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writers::Some,
        _ => Writers::Unknown,
    }
}
