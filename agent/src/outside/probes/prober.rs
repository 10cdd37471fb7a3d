//! The prober of the real host.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::channel::Authorities;
use super::{Outcome, Probe, Prober, ProcessRef};
use super::{certificate, clock, database, disk, grpc, memory, net, processes, queue, secrets};
use crate::outside::Clock;
use crate::outside::aside::Aside;
use crate::outside::database::directory::Databases;
use crate::outside::dial::Resolver;
use crate::outside::web::Web;

/// Looks at the host and at what its services answer. What may hang in the kernel is looked at aside: who asks for
/// the same again meanwhile gets the answer of the look that is under way.
pub struct HostProber {
    clock: Arc<dyn Clock>,
    resolver: Resolver,
    web: Web,
    authorities: Authorities,
    aside: Aside<Probe, Outcome>,
    databases: Arc<Databases>,
}

impl fmt::Debug for HostProber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostProber").finish_non_exhaustive()
    }
}

impl HostProber {
    /// A prober that takes the time of answers from `clock`, and finds databases by their names.
    pub fn new(clock: Arc<dyn Clock>, databases: Arc<Databases>) -> Self {
        let resolver = Resolver::default();
        let web = Web::new(resolver.clone());
        let (authorities, aside) = (Authorities::default(), Aside::default());
        Self { clock, resolver, web, authorities, aside, databases }
    }
}

#[async_trait]
impl Prober for HostProber {
    async fn measure(&self, probe: &Probe) -> Outcome {
        let (time, resolver) = (&*self.clock, &self.resolver);
        match probe {
            Probe::Tcp { address } => net::tcp(time, resolver, address).await,
            Probe::Http { url, status } => net::http(time, &self.web, url, *status).await,
            Probe::GrpcHealth { target, service, ca } => {
                let ca = ca.as_deref();
                grpc::health(time, resolver, &self.authorities, target, service, ca).await
            }
            Probe::Certificate { address, server_name } => {
                certificate::days_left(time, resolver, address, server_name).await
            }
            Probe::Command { command, timeout } => queue::command(command, *timeout).await,
            Probe::Scrape { url, metric } => queue::scrape(&self.web, url, metric).await,
            Probe::DatabaseAnswers { database }
            | Probe::DatabasePool { database }
            | Probe::DatabasePooler { database }
            | Probe::DatabaseBlocked { database, .. }
            | Probe::DatabaseDeadlocks { database }
            | Probe::DatabaseIntegrity { database }
            | Probe::Sql { database, .. } => {
                let known = self.databases.get(database)?;
                database::measure(time, &known, probe).await
            }
            // A few lines of the kernel's own, at hand at once: not worth a thread.
            Probe::HostMemory | Probe::Load | Probe::Clock => of_host(probe),
            Probe::DiskBytes { .. }
            | Probe::DiskInodes { .. }
            | Probe::ProcessMemory { .. }
            | Probe::GroupMemory { .. }
            | Probe::Process { .. }
            | Probe::Secrets { .. }
            | Probe::BackupAge { .. }
            | Probe::Latency { .. }
            | Probe::Agent => {
                let look = probe.clone();
                self.aside.run(probe, move || of_host(&look)).await?
            }
        }
    }
}

/// What the kernel of this host tells; it may take as long as a disk lets it.
fn of_host(probe: &Probe) -> Outcome {
    match probe {
        Probe::DiskBytes { path } => disk::free_bytes(path),
        Probe::DiskInodes { path } => disk::free_inodes(path),
        Probe::HostMemory => memory::host(),
        Probe::ProcessMemory { process, of } => memory::process(process, *of),
        Probe::GroupMemory { group } => memory::control_group(group),
        Probe::Process { process: ProcessRef::Pidfile(pidfile) } => processes::of_pidfile(pidfile),
        Probe::Process { process: ProcessRef::Name(name) } => processes::of_name(name),
        Probe::Load => processes::load(),
        Probe::Clock => clock::error(),
        Probe::Secrets { files } => secrets::open_to_others(files),
        Probe::Agent | Probe::BackupAge { .. } | Probe::Latency { .. } => {
            Err("the agent is not asked by a probe".to_owned())
        }
        Probe::Tcp { .. }
        | Probe::Http { .. }
        | Probe::GrpcHealth { .. }
        | Probe::Certificate { .. }
        | Probe::Command { .. }
        | Probe::Scrape { .. }
        | Probe::DatabaseAnswers { .. }
        | Probe::DatabasePool { .. }
        | Probe::DatabasePooler { .. }
        | Probe::DatabaseBlocked { .. }
        | Probe::DatabaseDeadlocks { .. }
        | Probe::DatabaseIntegrity { .. }
        | Probe::Sql { .. } => Err("nothing of the host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outside::SystemClock;

    #[tokio::test]
    async fn every_probe_is_looked_at_where_it_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let pidfile = folder.path().join("pid");
        std::fs::write(&pidfile, std::process::id().to_string()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (own, path) = (ProcessRef::Pidfile(pidfile.clone()), folder.path().to_owned());
        let nobody = ProcessRef::Name("nobody-at-all".to_owned());
        let prober = HostProber::new(Arc::new(SystemClock::new()), Arc::default());
        for (probe, range) in [
            (Probe::DiskBytes { path: path.clone() }, 0.0..=100.0),
            (Probe::DiskInodes { path: path.clone() }, 0.0..=100.0),
            (Probe::HostMemory, 0.0..=100.0),
            (Probe::ProcessMemory { process: own.clone(), of: Some(1) }, 100.0..=f64::MAX),
            (Probe::Process { process: own }, 1.0..=1.0),
            (Probe::Process { process: nobody.clone() }, 0.0..=0.0),
            (Probe::Load, 0.0..=f64::MAX),
            (Probe::Secrets { files: vec![path.join("gone")] }, 0.0..=0.0),
            (Probe::Tcp { address }, 0.0..=f64::MAX),
            (
                Probe::Command {
                    command: ["echo", "5"].map(str::to_owned).to_vec(),
                    timeout: Duration::from_secs(60),
                },
                5.0..=5.0,
            ),
        ] {
            let measured = prober.measure(&probe).await.unwrap();
            assert!(range.contains(&measured.value), "{probe}: {measured:?}");
        }
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], crate::outside::ports::free_port()));
        let target = format!("http://{free}");
        for probe in [
            Probe::Http { url: target.clone(), status: None },
            Probe::GrpcHealth { target: target.clone(), service: String::new(), ca: None },
        ] {
            assert_eq!(prober.measure(&probe).await.unwrap().value, f64::INFINITY, "{probe}");
        }
        for probe in [
            Probe::Agent,
            Probe::GroupMemory { group: path },
            Probe::ProcessMemory { process: nobody, of: None },
            Probe::Scrape { url: target, metric: "up".to_owned() },
        ] {
            assert!(prober.measure(&probe).await.is_err(), "{probe}");
        }
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_not_begun_again_and_holds_no_other() {
        // Opening a pipe that nobody writes to hangs as a dead mount does.
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pid");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        let probe = Probe::Process { process: ProcessRef::Pidfile(pipe.clone()) };
        let prober = HostProber::new(Arc::new(SystemClock::new()), Arc::default());
        for _ in 0..100 {
            let asked = prober.measure(&probe);
            assert!(futures_util::FutureExt::now_or_never(asked).is_none());
        }
        assert!(prober.measure(&Probe::Load).await.is_ok());
        // Asked before the pipe is written: afterwards it would be another look, which hangs as well.
        let mut asked = prober.measure(&probe);
        assert!(futures_util::poll!(&mut asked).is_pending());
        let write =
            std::thread::spawn(move || std::fs::write(pipe, std::process::id().to_string()));
        assert_eq!(asked.await.unwrap().value, 1.0);
        write.join().unwrap().unwrap();
    }
}
