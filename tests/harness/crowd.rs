//! Many connections to an agent of which nobody wants anything, and what an agent takes of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// The client's preface of HTTP/2, and settings that say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// That settings were taken over.
const SETTINGS_TAKEN: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
/// So many connect at a time.
const TOGETHER: usize = 200;
/// More than a frame has that a server sends of itself, in bytes.
const FRAME: u32 = 16 << 10;

/// Lets this process have as many files open as it may, and says how many those are.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// An address of this host, of which there are many: 127.0.1.1, 127.0.1.2 and so on.
pub fn address(number: usize) -> IpAddr {
    let part = |part: usize| u8::try_from(part % 250 + 1).unwrap_or(1);
    IpAddr::V4(Ipv4Addr::new(127, 0, part(number / 250), part(number)))
}

/// Memory of a process that is resident, in bytes.
///
/// # Panics
/// When there is no such process.
pub fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// Connections that have said hello, answer when they are asked whether they live, and call nobody.
pub struct Crowd {
    tasks: JoinSet<()>,
    alive: Arc<AtomicUsize>,
}

/// One of them, until it is dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn count(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Crowd {
    /// So many, from many addresses of this host. Some may not be let in.
    ///
    /// # Panics
    /// When none can be made for want of memory.
    pub async fn gather(agent: SocketAddr, count: usize) -> Self {
        let (mut tasks, alive) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        let places = Arc::new(tokio::sync::Semaphore::new(TOGETHER));
        for number in 0..count {
            let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
            let alive = Arc::clone(&alive);
            tasks.spawn(async move {
                let connected = greet(agent, address(number)).await;
                drop(place);
                let Ok(stream) = connected else { return };
                let _alive = Alive::count(&alive);
                // It ends when the agent wants so.
                let _ = idle(stream).await;
            });
        }
        // All have tried.
        let _ = places.acquire_many(u32::try_from(TOGETHER).expect("few")).await;
        Self { tasks, alive }
    }

    /// How many are connected still.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// All of them leave.
    pub async fn disperse(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn greet(agent: SocketAddr, from: IpAddr) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(agent).await?;
    stream.write_all(PREFACE).await?;
    Ok(stream)
}

/// Answers what has to be answered, for as long as the other side wants.
async fn idle(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut header = [0_u8; 9];
    loop {
        stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        if length > FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut rest = vec![0; length as usize];
        stream.read_exact(&mut rest).await?;
        let (kind, acknowledged) = (header[3], header[4] & 1 == 1);
        match kind {
            // SETTINGS.
            4 if !acknowledged => stream.write_all(SETTINGS_TAKEN).await?,
            // PING, of eight bytes.
            6 if !acknowledged => {
                header[4] = 1;
                stream.write_all(&header).await?;
                stream.write_all(&rest).await?;
            }
            // GOAWAY.
            7 => return Ok(()),
            _ => {}
        }
    }
}
