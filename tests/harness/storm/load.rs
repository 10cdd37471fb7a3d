//! The load of each domain: threads that ask the agent through the real client, again and again, as programs and people
//! do. What was not answered is asked again, under the same request id or as the same file, until it is known what became
//! of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ledger::{Became, Fact, Ledger};
use super::world::{LOG, Service, World};
use crate::clock::{LOOK, Watch, wait_until_within};
use crate::health::Patient;
use crate::random::Random;
use crate::{Output, ctl};

mod domains;
mod practice;
mod releases;

/// So long what was asked is asked again before that counts as never answered.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two deeds of one domain, and before something is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// A call is given up after so long, and sent again.
const TIMEOUT: &str = "10s";
/// The same for one whose run is followed to its end.
const LONG: &str = "120s";

/// What all threads of the load have in common.
struct Shared {
    node: String,
    folder: PathBuf,
    patient: Patient,
    /// The file of the configuration, and the digests of the texts that it may have.
    configuration: (PathBuf, [String; 2]),
    ledger: Arc<Ledger>,
    /// Nothing new is to be begun.
    held: AtomicBool,
    /// They are to end.
    over: AtomicBool,
    /// Threads that are not in the middle of something.
    idle: AtomicUsize,
    /// Turns of domains that are over; one may ask for nothing, or for several things.
    steps: AtomicU64,
    /// What was asked for, each once however often it had to be asked.
    deeds: AtomicU64,
    /// What must not happen, such as an answer that nobody expects.
    wrong: Mutex<Vec<String>>,
}

/// The load, until it is dropped.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How a deed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The agent said that it is done.
    Done,
    /// Nothing was done: somebody else is at it, an emergency is in force.
    Refused,
    /// It was tried and did not go well; a part of it may be done.
    Failed,
    /// Nobody can tell.
    Doubtful,
}

/// What one domain does.
trait Domain: Send {
    /// Its name in what is told.
    fn name(&self) -> &'static str;
    /// The next deed, which is over when this returns. `number` is how many there were before.
    fn step(&mut self, hands: &Hands, number: u64);
}

/// How a thread of the load asks.
struct Hands {
    shared: Arc<Shared>,
    random: Mutex<Random>,
    domain: &'static str,
}

impl Load {
    /// Begins, each domain with a sequence of its own that depends on `seed` alone.
    pub fn start(world: &World, ledger: &Arc<Ledger>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            node: world.agent.node(),
            folder: world.folder(),
            patient: world.patient.clone(),
            configuration: (world.agent.config(), world.digests.clone()),
            ledger: Arc::clone(ledger),
            held: AtomicBool::new(false),
            over: AtomicBool::new(false),
            idle: AtomicUsize::new(0),
            steps: AtomicU64::new(0),
            deeds: AtomicU64::new(0),
            wrong: Mutex::new(Vec::new()),
        });
        let domains = domains::of(world);
        let threads = domains.into_iter().zip(1..).map(|(mut domain, number)| {
            let (shared, random) = (Arc::clone(&shared), Random::new(seed.wrapping_add(number)));
            let hands = Hands { shared, random: Mutex::new(random), domain: domain.name() };
            std::thread::spawn(move || hands.work(domain.as_mut()))
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// How many turns of its domains are over.
    pub fn steps(&self) -> u64 {
        self.shared.steps.load(Ordering::SeqCst)
    }

    /// How many things were asked for.
    pub fn deeds(&self) -> u64 {
        self.shared.deeds.load(Ordering::SeqCst)
    }

    /// Has nobody begin anything new, and waits until all that was begun is over; what is not, by then, is wrong.
    pub fn hold(&self) -> Result<(), String> {
        self.shared.held.store(true, Ordering::SeqCst);
        let watch = Watch::start();
        while self.shared.idle.load(Ordering::SeqCst) < self.threads.len() {
            if watch.elapsed() > PATIENCE + Duration::from_secs(60) {
                return Err("some of the load neither went well nor was refused".to_owned());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        let before = self.steps();
        self.shared.held.store(false, Ordering::SeqCst);
        // Whoever waits for so many deeds from now on counts from here.
        wait_until_within(PATIENCE, "the load to go on", || self.steps() > before);
    }

    /// What was answered that must not be, since the last time that this was asked.
    pub fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.wrong.lock().expect("never poisoned"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // It failed: the storm that it belongs to fails already.
            let _ = thread.join();
        }
    }
}

impl Hands {
    fn work(&self, domain: &mut dyn Domain) {
        let shared = &self.shared;
        for number in 0.. {
            // Again after it has left the idle ones: it may have been among those that were counted.
            while shared.held.load(Ordering::SeqCst) && !self.is_over() {
                shared.idle.fetch_add(1, Ordering::SeqCst);
                while shared.held.load(Ordering::SeqCst) && !self.is_over() {
                    std::thread::sleep(LOOK);
                }
                shared.idle.fetch_sub(1, Ordering::SeqCst);
            }
            if self.is_over() {
                return;
            }
            domain.step(self, number);
            shared.steps.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(PAUSE);
        }
    }

    fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::SeqCst)
    }

    /// A number from `from` up to, not including, `until`.
    fn within(&self, from: u64, until: u64) -> u64 {
        self.random.lock().expect("never poisoned").within(from, until)
    }

    /// A request id: a ULID that only this sequence has.
    fn request_id(&self) -> String {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let digit = |_| char::from(DIGITS[self.within(0, 32) as usize]);
        // 128 bits in 26 digits of 5: the first one is small.
        format!("0{}", (0..25).map(digit).collect::<String>())
    }

    fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    fn begins_a_deed(&self) {
        self.shared.deeds.fetch_add(1, Ordering::SeqCst);
    }

    fn is_wrong(&self, what: &str, output: &Output) {
        self.must_not_be(&format!("{what}: exit {}: {}", output.code, output.stderr));
    }

    fn must_not_be(&self, what: &str) {
        let said = format!("{}: {what}", self.domain);
        self.shared.wrong.lock().expect("never poisoned").push(said);
    }

    /// Nobody was told within the time that anything may take.
    fn never_told(&self) {
        if !self.is_over() {
            let said = format!("{}: people were never told", self.domain);
            self.shared.wrong.lock().expect("never poisoned").push(said);
        }
    }

    /// genesisctl, once.
    fn ask(&self, arguments: &[&str]) -> Output {
        self.ask_within(TIMEOUT, arguments)
    }

    fn ask_within(&self, timeout: &str, arguments: &[&str]) -> Output {
        ctl(&[&["-n", &self.shared.node, "--timeout", timeout], arguments].concat())
    }

    /// A change, under one request id however often it has to be asked for.
    fn change(&self, timeout: &str, arguments: &[&str]) -> Answer {
        self.begins_a_deed();
        let id = self.request_id();
        let arguments = [arguments, &["--request-id", &id]].concat();
        let watch = Watch::start();
        loop {
            let output = self.ask_within(timeout, &arguments);
            let said = |word: &str| output.stderr.contains(word) || output.text().contains(word);
            match output.code {
                // With findings, it may be.
                0 | 3 => return Answer::Done,
                // Busy, unreachable, or cut off before the answer: it is asked under its id what became of it.
                7 => {}
                5 if said("OUTCOME_UNKNOWN") => {}
                // The agent was cut off in the request, or in the run that came of it; or it can't tell for itself.
                _ if output.code == 5 || said("INTERRUPTED") => return Answer::Doubtful,
                1 => return Answer::Failed,
                4 | 9 => return Answer::Refused,
                _ => {
                    self.is_wrong("a change", &output);
                    return Answer::Doubtful;
                }
            }
            if self.waits_in_vain(&watch) {
                self.is_wrong("a change was never answered", &output);
                return Answer::Doubtful;
            }
        }
    }

    /// A change of which it counts whether it was made.
    fn note(&self, fact: Fact, arguments: &[&str]) {
        self.note_within(TIMEOUT, fact, arguments);
    }

    fn note_within(&self, timeout: &str, fact: Fact, arguments: &[&str]) {
        match self.change(timeout, arguments) {
            Answer::Done => self.ledger().note(fact, Became::Acknowledged),
            Answer::Failed | Answer::Doubtful => self.ledger().note(fact, Became::Doubtful),
            Answer::Refused => {}
        }
    }

    /// A file whose lines are sent until all of them count: it is known by its content.
    fn send(&self, name: &str, text: &str, arguments: &[&str], fact: Fact) {
        self.begins_a_deed();
        let path = self.shared.folder.join(name);
        std::fs::write(&path, text).expect("a folder of our own");
        let file = path.to_str().expect("UTF-8");
        let watch = Watch::start();
        loop {
            let output = self.ask(&[arguments, &["--file", file]].concat());
            match output.code {
                0 => break self.ledger().note(fact, Became::Acknowledged),
                // A part of it may be there: the rest is sent by sending all of it again.
                1 | 5 | 7 | 8 => {}
                _ => break self.is_wrong("a file", &output),
            }
            if self.waits_in_vain(&watch) {
                break self.is_wrong("a file was never taken as a whole", &output);
            }
        }
    }

    /// Does nothing for so many tenths of a second, unless nothing new is to be begun.
    fn rest(&self, tenths: u64) {
        let watch = Watch::start();
        let over = || watch.elapsed().as_millis() >= u128::from(tenths * 100);
        while !over() && !self.is_over() && !self.shared.held.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
        }
    }

    /// Waits a moment before something is asked again; `true`: it was waited long enough.
    fn waits_in_vain(&self, watch: &Watch) -> bool {
        std::thread::sleep(PAUSE);
        self.is_over() || watch.elapsed() > PATIENCE
    }
}
