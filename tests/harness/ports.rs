//! Ports for servers that can't be told to take any, or that have to come back on the same one.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::clock::now;
use crate::random::Random;

/// Below those that the kernel gives to whoever asks for any: a port of a server that is down for a while can't become
/// the local end of somebody's connection meanwhile.
const PORTS: Range<u64> = 20_000..32_000;

/// What this process has, with its locks. They go with the process.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of loopback at which nobody listens, neither by TCP nor by UDP, and which no other test gets as long as this
/// process runs.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let user = rustix::process::geteuid().as_raw();
    let folder = std::env::temp_dir().join(format!("genesis-ports-{user}"));
    std::fs::create_dir_all(&folder).expect("a folder for locks");
    let nanoseconds = now().as_nanosecond().cast_unsigned() as u64;
    let mut random = Random::new(nanoseconds ^ u64::from(std::process::id()).rotate_left(32));
    (0..1_000)
        .find_map(|_| {
            let port = u16::try_from(random.within(PORTS.start, PORTS.end)).expect("a small one");
            taken(folder.join(port.to_string()), port).then_some(port)
        })
        .expect("a free port")
}

fn taken(lock: PathBuf, port: u16) -> bool {
    let file = File::options().create(true).append(true).open(lock).expect("a lock of ours");
    // Tests run in processes of their own, so that only a lock of the system keeps them apart.
    if file.try_lock().is_err()
        || TcpListener::bind(("127.0.0.1", port)).is_err()
        || UdpSocket::bind(("127.0.0.1", port)).is_err()
    {
        return false;
    }
    TAKEN.lock().expect("never poisoned").push(file);
    true
}
