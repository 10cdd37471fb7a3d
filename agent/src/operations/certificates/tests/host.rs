//! A host with certificates, and the CA that it asks, under a clock that the test moves. The CA's own clock goes with time
//! as it passes, not with what the host's shows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{CertificateEventRecord, Identity, Options, RunRecord, Store};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, CrlDistributionPoint, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::job::Check;
use super::super::metrics::Metrics;
use super::super::plan::{minus, plus};
use super::super::{CHECK, Certificates, Standing};
use super::{at, seconds};
use crate::config::{Config as AgentConfig, Places};
use crate::emergency::{Emergency, Stance};
use crate::events::{Bell, Condition};
use crate::fleet::Fleet;
use crate::outside::acme::{
    Acme, Answer, Authority, Class, Directory, Ordered, RenewalInfo, Trouble, Wanted,
};
use crate::outside::{Clock, ManualClock, Outside};
use crate::runs::{Request, Runs, SecondCaller};
use crate::state::State;

/// What the CA does.
pub(super) struct Mood {
    /// What it issues lives so long, from an hour before.
    pub(super) life: Duration,
    /// It can't be reached.
    pub(super) down: bool,
    /// An order is refused with this, by the CA of that name; another one does not.
    pub(super) refuses: Option<Trouble>,
    /// An order does not get on.
    pub(super) stuck: Option<Trouble>,
    /// It names this time.
    pub(super) window: Option<(Timestamp, Timestamp)>,
    /// It takes orders for replacements.
    pub(super) replaces: bool,
    /// What it issues says that its list is there; "{n}" stands for how many it has issued before.
    pub(super) list: Option<String>,
    /// It revokes nothing, for this reason.
    pub(super) keeps: Option<Trouble>,
    /// The clock of the CA of that name is ahead by so many seconds.
    pub(super) ahead: Option<(&'static str, i64)>,
    /// What it says of itself can't be had, for this reason.
    pub(super) hidden: Option<Trouble>,
    /// The CA of that name never says anything of itself.
    pub(super) hangs: Option<&'static str>,
}

pub(super) struct Ca {
    clock: Arc<ManualClock>,
    origin: (Timestamp, Duration),
    issuer: Issuer<'static, KeyPair>,
    pub(super) root: String,
    pub(super) mood: Mutex<Mood>,
    /// When orders were asked for, and certificates issued, on its clock.
    pub(super) orders: Mutex<Vec<Timestamp>>,
    pub(super) issued: Mutex<Vec<Timestamp>>,
    pub(super) directories: AtomicUsize,
    /// Orders wait while it is shut.
    pub(super) gate: tokio::sync::RwLock<()>,
    /// So does what is to be revoked while this is.
    pub(super) revocations: tokio::sync::RwLock<()>,
    /// How often it was asked when it wants one renewed.
    pub(super) asked_when: AtomicUsize,
    /// How often it was told to revoke something.
    pub(super) revoking: AtomicUsize,
}

pub(super) fn trouble(class: Class, retry_after: Option<Duration>) -> Trouble {
    Trouble {
        class,
        message: "as the test says".to_owned(),
        kind: String::new(),
        retry_after,
        identifiers: Vec::new(),
        date: None,
    }
}

fn time_of(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap()
}

/// A root, as who signs and in PEM.
pub(super) fn root(until: Timestamp) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the CA of a test");
    (params.not_before, params.not_after) = (time_of(at(-4_000 * 86_400)), time_of(until));
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// What a CA has revoked, in DER.
pub(super) fn list_of(
    issuer: &Issuer<'static, KeyPair>,
    serials: &[&str],
    from: Timestamp,
) -> Vec<u8> {
    let revoked = |serial: &&str| RevokedCertParams {
        serial_number: SerialNumber::from(hex::decode(serial).unwrap()),
        revocation_time: time_of(from),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: time_of(from),
        next_update: time_of(plus(from, seconds(86_400))),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

impl Ca {
    fn new(clock: &Arc<ManualClock>, life: Duration) -> Self {
        let (issuer, root) = root(at(4_000 * 86_400));
        Self {
            clock: Arc::clone(clock),
            origin: (clock.now(), clock.monotonic()),
            issuer,
            root,
            mood: Mutex::new(Mood {
                life,
                down: false,
                refuses: None,
                stuck: None,
                window: None,
                replaces: false,
                list: None,
                keeps: None,
                ahead: None,
                hidden: None,
                hangs: None,
            }),
            orders: Mutex::default(),
            issued: Mutex::default(),
            directories: AtomicUsize::new(0),
            gate: tokio::sync::RwLock::default(),
            revocations: tokio::sync::RwLock::default(),
            asked_when: AtomicUsize::new(0),
            revoking: AtomicUsize::new(0),
        }
    }

    /// What its own clock shows.
    pub(super) fn now(&self) -> Timestamp {
        plus(self.origin.0, self.clock.monotonic() - self.origin.1)
    }

    pub(super) fn set(&self, f: impl FnOnce(&mut Mood)) {
        f(&mut self.mood.lock().unwrap());
    }

    fn there(&self) -> Result<(), Trouble> {
        match self.mood.lock().unwrap().down {
            true => Err(trouble(Class::Server, None)),
            false => Ok(()),
        }
    }

    pub(super) fn issued(&self) -> Vec<i64> {
        let from = self.origin.0;
        self.issued.lock().unwrap().iter().map(|it| it.duration_since(from).as_secs()).collect()
    }

    /// Its list of what it has revoked, in DER: these serials (hexadecimal), good for a day from `from` on.
    pub(super) fn list(&self, serials: &[&str], from: Timestamp) -> Vec<u8> {
        list_of(&self.issuer, serials, from)
    }

    pub(super) fn ordered(&self) -> usize {
        self.orders.lock().unwrap().len()
    }
}

#[async_trait]
impl Acme for Ca {
    async fn directory(&self, ca: &Authority) -> Result<Directory, Trouble> {
        self.directories.fetch_add(1, Ordering::SeqCst);
        let hangs = self.mood.lock().unwrap().hangs;
        if hangs == Some(ca.name.as_str()) {
            std::future::pending::<()>().await;
        }
        self.there()?;
        let mood = self.mood.lock().unwrap();
        if let Some(trouble) = &mood.hidden {
            return Err(trouble.clone());
        }
        let ahead = mood.ahead.filter(|(name, _)| *name == ca.name).map_or(0, |(_, by)| by);
        let date = self.now().checked_add(jiff::SignedDuration::from_secs(ahead)).unwrap();
        let renewal_info = mood.window.is_some();
        Ok(Directory { date: Some(date), renewal_info, ..Directory::default() })
    }

    async fn order(&self, ca: &Authority, wanted: &Wanted) -> Result<Ordered, Trouble> {
        let _open = self.gate.read().await;
        self.there()?;
        self.orders.lock().unwrap().push(self.now());
        let mood = self.mood.lock().unwrap();
        if let Some(refusal) = mood.refuses.as_ref().filter(|_| ca.name == "ca") {
            return Err(refusal.clone());
        }
        let replaces = mood.replaces && wanted.replaces.is_some();
        Ok(Ordered { url: format!("order/{}", self.ordered()), replaces })
    }

    async fn finish(
        &self,
        _: &Authority,
        _: &str,
        _: &Answer,
        csr: &[u8],
        _: Duration,
    ) -> Result<String, Trouble> {
        self.there()?;
        let (life, stuck, list) = {
            let mood = self.mood.lock().unwrap();
            (mood.life, mood.stuck.clone(), mood.list.clone())
        };
        if let Some(trouble) = stuck {
            return Err(trouble);
        }
        let mut request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        let from = minus(self.now(), seconds(3_600));
        request.params.not_before = time_of(from);
        request.params.not_after = time_of(plus(from, life));
        request.params.distinguished_name = DistinguishedName::new();
        let mut all = self.issued.lock().unwrap();
        let uris = list.map(|url| vec![url.replace("{n}", &all.len().to_string())]);
        request.params.crl_distribution_points =
            uris.into_iter().map(|uris| CrlDistributionPoint { uris }).collect();
        let issued = request.signed_by(&self.issuer).unwrap();
        all.push(self.now());
        Ok(issued.pem())
    }

    async fn renewal_info(&self, _: &Authority, _: &[u8]) -> Result<RenewalInfo, Trouble> {
        self.asked_when.fetch_add(1, Ordering::SeqCst);
        self.there()?;
        let window = self.mood.lock().unwrap().window;
        let (start, end) = window.ok_or_else(|| trouble(Class::Policy, None))?;
        let ask_again = Some(Duration::from_secs(3_600));
        Ok(RenewalInfo { start, end, explanation: None, ask_again })
    }

    async fn revoke(&self, _: &Authority, _: &[u8]) -> Result<(), Trouble> {
        self.revoking.fetch_add(1, Ordering::SeqCst);
        let _open = self.revocations.read().await;
        self.there()?;
        self.mood.lock().unwrap().keeps.clone().map_or(Ok(()), Err)
    }
}

pub(super) struct Host {
    folder: Arc<TempDir>,
    config: String,
    pub(super) clock: Arc<ManualClock>,
    pub(super) ca: Arc<Ca>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) runs: Runs,
}

/// A certificate for an address: nothing is looked up of it when an attempt fails.
pub(super) const GW: &str = "[[certificates.certificate]]\nname = \"gw\"\ndomains = [\"192.0.2.7\"]\nrenew_before = \"30d\"\n";

impl Host {
    /// A host at the very beginning of a day.
    pub(super) async fn new(life: Duration) -> Self {
        Self::with(life, GW, false).await
    }

    /// With these certificates; `clock_ahead`: the host's clock is 60 days ahead.
    pub(super) async fn with(life: Duration, certificates: &str, clock_ahead: bool) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let clock = Arc::new(ManualClock::new(at(0)));
        let ca = Arc::new(Ca::new(&clock, life));
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, &ca.root).unwrap();
        let extra = folder.path().join("extra.pem");
        let config = format!(
            "[certificates]\nextra_roots_file = {extra:?}\nsplay = \"0s\"\nresolvers = [\"127.0.0.1:1\"]\n\n[[certificates.acme]]\nname = \"ca\"\n\
             directory = \"https://ca.example/directory\"\nterms_agreed = true\nissuer_roots_file = {roots:?}\n\n{certificates}"
        );
        if clock_ahead {
            clock.set(at(60 * 86_400));
        }
        let folder = Arc::new(folder);
        let (certificates, runs) = open(&folder, &config, &clock, &ca).await;
        Self { folder, config, clock, ca, certificates, runs }
    }

    /// The agent ends, and another one starts on the same state at once.
    pub(super) async fn restart(self) -> Self {
        let Self { folder, config, clock, ca, certificates, runs } = self;
        drop(certificates);
        drop(runs);
        let (certificates, runs) = open(&folder, &config, &clock, &ca).await;
        Self { folder, config, clock, ca, certificates, runs }
    }

    /// What people give may lead to this root.
    pub(super) fn trust(&self, root: &str) {
        std::fs::write(self.folder.path().join("extra.pem"), root).unwrap();
    }

    /// What is due now is begun, and has come to its end.
    pub(super) async fn look(&self) {
        self.certificates.look_once().await.unwrap();
        self.idle().await;
        self.certificates.ask_when().await.unwrap();
    }

    pub(super) async fn idle(&self) {
        while let Some(run) = self.runs.active_with_key(&super::super::key("gw")) {
            self.runs.wait(&run).await.unwrap();
            tokio::task::yield_now().await;
        }
        while self.runs.active_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// The daily check.
    pub(super) async fn check(&self) -> RunRecord {
        let request = Request {
            kind: CHECK,
            actor: "schedule".to_owned(),
            reason: String::new(),
            parameters: serde_json::Value::Null,
            key: CHECK.to_owned(),
            second: SecondCaller::Attach,
            stance: Stance::GoOn,
        };
        let job = Arc::new(Check(Arc::clone(&self.certificates)));
        let started =
            self.runs.start(request, move |context| crate::scheduler::Job::run(job, context)).await;
        let ended = self.runs.wait(&started.unwrap().id).await.unwrap();
        self.idle().await;
        ended
    }

    /// Time goes on by so much.
    pub(super) async fn on(&self, step: i64) {
        self.clock.advance(seconds(step));
        self.look().await;
    }

    /// The file with the root that what is issued leads to.
    pub(super) fn roots(&self) -> std::path::PathBuf {
        self.folder.path().join("roots.pem")
    }

    /// Other certificates are configured, and taken over.
    pub(super) async fn configure(&self, certificates: &str) {
        let at = self.config.find("[[certificates.certificate]]").unwrap();
        let text = format!("{}{certificates}", &self.config[..at]);
        let config = parsed(&text, &places(&self.folder));
        crate::config::Follower::follow(&*self.certificates, &config).await;
    }

    pub(super) fn standing(&self) -> Standing {
        self.certificates.standing("gw").unwrap()
    }

    pub(super) fn conditions(&self) -> Vec<Condition> {
        self.certificates.told().unwrap()
    }

    /// What people hear of now, without the certificate's name, sorted.
    pub(super) fn told(&self) -> Vec<String> {
        let mut keys: Vec<String> = self
            .conditions()
            .iter()
            .map(|it| {
                it.key.trim_start_matches("certificate/").trim_start_matches("gw/").to_owned()
            })
            .collect();
        keys.sort();
        keys
    }

    /// What happened of this kind, oldest first.
    pub(super) fn events(&self, kind: &str) -> Vec<CertificateEventRecord> {
        let mut events = self.certificates.history("", usize::MAX).unwrap();
        events.retain(|event| event.kind == kind);
        events.reverse();
        events
    }
}

fn places(folder: &TempDir) -> Places {
    Places { state: folder.path().to_owned(), socket: folder.path().join("agent.sock") }
}

fn parsed(text: &str, places: &Places) -> AgentConfig {
    let checked = AgentConfig::parse(text, "test", places);
    let said: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    checked.config.unwrap_or_else(|| panic!("{}", said.join("\n")))
}

async fn open(
    folder: &Arc<TempDir>,
    text: &str,
    clock: &Arc<ManualClock>,
    ca: &Arc<Ca>,
) -> (Arc<Certificates>, Runs) {
    let places = places(folder);
    let config = parsed(text, &places);
    let store = loop {
        match Store::open(&places.database(), Options::default()) {
            Ok(store) => break store,
            // Tasks of the agent before are only ending.
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let state = State::new(Arc::new(store), watch::channel(0).1);
    let seam: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let flag = places.emergency_flag();
    let emergency = Emergency::open(state.clone(), Arc::clone(&seam), flag).await.unwrap();
    let runs = Runs::new(state.clone(), Arc::clone(&seam), emergency.clone());
    let host =
        Identity { host_id: "01HOST".to_owned(), created_at: at(0), hostname: "gw-1".to_owned() };
    let intent = genesis_storage::Intent::new(at(0), "test", "identity");
    state.write(intent, move |w| Ok(w.identity().put(&host)?)).await.unwrap();
    let outside = Outside { clock: seam, acme: Arc::clone(ca) as Arc<dyn Acme>, ..Outside::real() };
    let fleet = Fleet::alone(&outside, emergency);
    let certificates = Certificates::open(
        state,
        outside,
        runs.clone(),
        (config.certificates.clone(), places.certificates()),
        Metrics::default(),
        (Bell::default(), fleet),
    );
    (certificates.unwrap(), runs)
}
