//! Ports for servers that can't be told to take any, or that have to come back on the same one. The agent's own tests
//! take this file in as well, so that all of them have one set of locks.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;

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
    // Its keys are random in each process.
    let random = RandomState::new();
    (0..1_000)
        .find_map(|attempt: u32| {
            let place = random.hash_one(attempt) % (PORTS.end - PORTS.start);
            let port = u16::try_from(PORTS.start + place).expect("a small one");
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
