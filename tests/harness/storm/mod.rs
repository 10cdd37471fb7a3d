//! A storm: the real agent under a load of every domain at once, while one thing after another goes wrong around it.
//! After each, all that must hold is looked at: what was acknowledged is there, nothing was done twice, nothing is left.
//!
//! The schedule of the faults and what the load asks depend on a seed alone. When exactly they meet does not: threads,
//! disks and networks are real.

pub mod faults;
pub mod ledger;
pub mod load;
pub mod proxy;
pub mod report;
pub mod verdict;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use faults::{Fault, Moment};
use ledger::Ledger;
use load::Load;
use report::Report;
use verdict::Violation;
use world::{LOG, Service, World};

use crate::clock::{LOOK, Watch, wait_until_within};

/// So long after the end of a fault, and of what was under way meanwhile, everything must hold again.
pub const RECOVERY: Duration = Duration::from_secs(120);
/// So many turns of the load are over within this, or it stands still.
const PATIENCE: Duration = Duration::from_secs(240);

/// A storm that is going on.
pub struct Storm {
    /// Before the world, so that it ends before that.
    load: Load,
    world: World,
    ledger: Arc<Ledger>,
    report: Report,
    watch: Watch,
}

impl Storm {
    /// Starts the world, and the load on it.
    ///
    /// # Panics
    /// When either does not start.
    pub fn begin(services: &[Service], seed: u64) -> Self {
        let world = World::start(services);
        let ledger = Arc::new(Ledger::default());
        let load = Load::start(&world, &ledger, seed);
        Self { load, world, ledger, report: Report::new(seed), watch: Watch::start() }
    }

    /// How long it has gone on.
    pub fn elapsed(&self) -> Duration {
        self.watch.elapsed()
    }

    /// Waits for the moment, lets it go wrong, and looks at all that must hold.
    ///
    /// # Panics
    /// When the load stands still, the agent can't be started again, or something does not hold.
    pub fn strike(&mut self, moment: Moment) {
        let until = self.load.steps() + moment.steps;
        let load = &self.load;
        wait_until_within(PATIENCE, "turns of the load", || load.steps() >= until);
        let died = moment.fault.rage(&mut self.world);
        let recovery = Watch::start();
        let mut violations = self.settle();
        violations.extend(died.err().map(Violation::broken));
        self.report.add(moment.fault, &violations, recovery.elapsed());
        // What does not hold now would be found again after each fault that follows.
        if !violations.is_empty() {
            self.report.keep();
            panic!("after {:?}, seed {}: {violations:#?}", moment.fault, self.report.seed);
        }
        self.load.go_on();
    }

    /// Has the load end what it began, and waits until all holds; what does not in the end.
    fn settle(&self) -> Vec<Violation> {
        let held = self.load.hold();
        // What was under way has had its own time.
        let since = Watch::start();
        let mut violations = loop {
            let violations = verdict::all(&self.world, &self.ledger);
            if violations.is_empty() || since.elapsed() > RECOVERY {
                break violations;
            }
            std::thread::sleep(LOOK);
        };
        violations.extend(held.err().map(Violation::broken));
        violations.extend(self.load.wrong().into_iter().map(Violation::broken));
        violations
    }

    /// Ends it: all that the log's writer wrote is there once, positions are closed once when somebody asks for that, and
    /// an agent that starts once more finds everything as it was.
    ///
    /// # Panics
    /// When something of that does not hold.
    pub fn end(mut self) -> Report {
        // Held at once, so that nothing comes in between.
        let left = self.settle();
        assert!(left.is_empty(), "{left:#?}");
        self.report.deeds = self.load.deeds();
        self.report.acknowledged = self.ledger.acknowledged();
        let lines = self.world.writer.take().expect("it writes until now").stop();
        self.world.agent.rotate(LOG);
        let archived = || self.world.agent.segments(LOG).iter().all(verdict::is_proven);
        wait_until_within(RECOVERY, "all segments to be proven", archived);
        self.world.agent.assert_holds(LOG, lines);
        self.world.agent.restart();
        let left = self.settle();
        assert!(left.is_empty(), "after a restart: {left:#?}");
        self.close_positions();
        self.report.lasted = self.watch.elapsed();
        self.report.keep();
        self.report
    }

    /// Once, whatever the storm has left.
    fn close_positions(&self) {
        let Some(venue) = &self.world.venue else { return };
        let close = ["emergency", "close-positions", "--yes", "--reason", "the storm is over"];
        self.world.agent.ctl(&close).ok().says(&["FLAT"]);
        assert!(venue.is_flat(), "{}", venue.book());
        for (name, symbol, held) in [("alpha", "BTC-PERP", 3.0_f64), ("beta", "ETH-PERP", -20.0)] {
            let traded = venue.trades(name, symbol);
            let each = || traded.iter().map(|it| it.parse::<f64>().expect("a quantity"));
            let (sum, all) = (each().sum::<f64>(), each().map(f64::abs).sum::<f64>());
            assert_eq!((sum, all), (-held, held.abs()), "{name} {symbol}: {traded:?}");
        }
    }
}

/// A short storm: each kind of fault once, on a world that is quick to start.
///
/// # Panics
/// With what did not hold.
pub fn short(seed: u64) -> Report {
    let mut storm = Storm::begin(&Service::QUICK, seed);
    let faults = Fault::of_each_kind(&Service::QUICK, seed);
    for moment in faults::schedule(seed, &faults).take(faults.len()) {
        storm.strike(moment);
    }
    storm.end()
}

/// A long one: everything that there is, every fault of it again and again, for so long; each at least once.
///
/// # Panics
/// With what did not hold.
pub fn long(seed: u64, lasts: Duration) -> Report {
    let mut storm = Storm::begin(&Service::ALL, seed);
    let faults = Fault::all(&Service::ALL);
    for (number, moment) in faults::schedule(seed, &faults).enumerate() {
        if storm.elapsed() > lasts && number >= faults.len() {
            break;
        }
        storm.strike(moment);
    }
    storm.end()
}
