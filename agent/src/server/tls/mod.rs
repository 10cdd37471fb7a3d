//! TLS of the TCP listener: what is in force, taken over from its files without a restart. A new set of files
//! that is no good is refused and the old one stays; a client that a new set refuses is cut off.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::Notify;

use crate::config::TlsFiles;
use crate::error::{Error, Result, Unmet};
use crate::outside::Clock;
use crate::server::connection::Connections;

pub mod identity;
pub mod material;
pub mod rpc;
mod told;

use material::{Material, Raw};

/// How often the files are looked at. A revoked client is cut off within this and a second.
const LOOK: Duration = Duration::from_secs(2);
/// The chains of so many clients are verified at a look, where no file has changed: thousands would take a core, over and
/// over. One that has expired is cut off within half a minute where two thousand are connected.
const IN_TURN: usize = 128;

/// What secures the TCP listener.
pub struct Tls {
    files: TlsFiles,
    /// The address as configured.
    pub listen: String,
    clock: Arc<dyn Clock>,
    connections: Arc<Connections>,
    material: ArcSwapOption<Material>,
    /// The files as they were last read, good or not; only another set is tried again.
    tried: Mutex<Option<[u8; 32]>>,
    fault: Mutex<Option<told::Fault>>,
    /// Rung by whoever has changed the files.
    changed: Notify,
}

impl Tls {
    /// Reads the files. Without usable ones the listener refuses every client until there are some.
    pub fn open(
        files: TlsFiles,
        listen: String,
        clock: Arc<dyn Clock>,
        connections: Arc<Connections>,
    ) -> Arc<Self> {
        let tls = Arc::new(Self {
            files,
            listen,
            clock,
            connections,
            material: ArcSwapOption::empty(),
            tried: Mutex::default(),
            fault: Mutex::default(),
            changed: Notify::new(),
        });
        if let Err(error) = tls.reload() {
            tracing::error!(error = error.chain(), "no client can connect over TLS");
        }
        tls
    }

    /// The files have changed: they are looked at now.
    pub fn look_now(&self) {
        self.changed.notify_one();
    }

    /// What is in force.
    pub fn material(&self) -> Option<Arc<Material>> {
        self.material.load_full()
    }

    /// What new connections are accepted with.
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.material.load().as_ref().map(|material| Arc::clone(&material.config))
    }

    /// What new connections of HTTP are accepted with.
    pub fn http_config(&self) -> Option<Arc<ServerConfig>> {
        self.material.load().as_ref().map(|material| Arc::clone(&material.http))
    }

    /// Why the files as they are now are not in force, if they are not.
    pub fn fault(&self) -> Option<Unmet> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.as_ref().map(|fault| fault.unmet.clone())
    }

    /// The files it is read from.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Takes the files over if they have changed and are good; returns whether they were.
    ///
    /// # Errors
    /// `TLS_FILE_UNREADABLE`, `TLS_KEY_OPEN_TO_OTHERS`, `TLS_FILE_INVALID`, `TLS_KEY_MISMATCH`,
    /// `TLS_CERTIFICATE_EXPIRED`; what was in force stays in force.
    pub fn reload(&self) -> Result<bool> {
        // Held throughout: an older set must not replace a newer one.
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let loaded = match Raw::read(&self.files) {
            Ok(raw) => {
                let digest = raw.digest();
                if *tried == Some(digest) {
                    return self.fault().map_or(Ok(false), |fault| {
                        Err(Error::unavailable(fault.code, fault.message))
                    });
                }
                let loaded = raw.load(&self.files, now).and_then(|new| self.not_older(new));
                // What the time decides may be another thing a moment later, or once the clock is right.
                let by_time = |error: &Error| error.code == "TLS_CERTIFICATE_EXPIRED";
                *tried = (!loaded.as_ref().is_err_and(by_time)).then_some(digest);
                loaded
            }
            Err(error) => {
                *tried = None;
                Err(error)
            }
        };
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(material) => {
                *fault = None;
                self.material.store(Some(Arc::new(material)));
                drop(fault);
                self.cut_refused(usize::MAX);
                tracing::info!("certificates, client CA and revocation list were taken over");
                Ok(true)
            }
            Err(error) => {
                let unmet = Unmet {
                    code: error.code,
                    subject: error
                        .unmet
                        .first()
                        .map(|unmet| unmet.subject.clone())
                        .unwrap_or_default(),
                    message: error.chain(),
                };
                let before = fault.as_ref().filter(|before| before.unmet.code == unmet.code);
                let since = before.map_or_else(|| self.clock.monotonic(), |before| before.since);
                *fault = Some(told::Fault { unmet, since });
                Err(error)
            }
        }
    }

    /// Refuses a set with a revocation list that is older than the one in force: who was revoked stays so.
    fn not_older(&self, new: Material) -> Result<Material> {
        let before = self.material();
        let Some(older) = before.as_ref().and_then(|before| new.older_list(before)) else {
            return Ok(new);
        };
        let message = format!(
            "the revocation list in {} is older than the one in force: put the newest one there",
            older.path
        );
        let unmet = Unmet {
            code: "TLS_REVOCATION_LIST_OLDER",
            subject: older.path.clone(),
            message: message.clone(),
        };
        Err(Error::unavailable("TLS_REVOCATION_LIST_OLDER", message).with_unmet(vec![unmet]))
    }

    /// Whether a client's certificates are good now.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        let Some(material) = self.material() else {
            return Err(rustls::Error::General("there is no client CA".into()));
        };
        let (first, rest) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        material.verifier.verify_client_cert(first, rest, unix_time(self.clock.now())).map(drop)
    }

    /// Ends the connections of clients that would not be let in any more, among the next `most`.
    fn cut_refused(&self, most: usize) {
        let cut = self.connections.cut_where(most, |chain| self.verify(chain).is_err());
        if cut > 0 {
            tracing::warn!(cut, "connections of revoked or expired clients were cut");
        }
    }

    /// Looks at the files, and at the time that certificates have left, for ever.
    pub async fn serve(self: Arc<Self>) {
        let mut said = None;
        loop {
            tokio::select! {
                () = self.clock.tick(LOOK) => {}
                () = self.changed.notified() => {}
            }
            let tls = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let reloaded = tls.reload();
                if !matches!(reloaded, Ok(true)) {
                    // Only time can have changed what comes of it.
                    tls.cut_refused(IN_TURN);
                }
                reloaded
            });
            let fault = looked.await.ok().and_then(Result::err).map(|error| error.chain());
            if fault.is_some() && fault != said {
                tracing::error!(
                    fault,
                    "the new TLS files were refused, the old ones stay in force"
                );
            }
            said = fault;
        }
    }
}

/// An instant as rustls wants it; before 1970 counts as 1970.
fn unix_time(at: Timestamp) -> UnixTime {
    let since = Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default();
    UnixTime::since_unix_epoch(since)
}

/// The files of a set, in order.
fn paths(files: &TlsFiles) -> Vec<PathBuf> {
    let TlsFiles { certificate, key, client_ca, revocation_list, managed: _ } = files.clone();
    [certificate, key, client_ca].into_iter().chain(revocation_list).collect()
}
