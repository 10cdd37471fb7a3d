//! What goes wrong, and when: a schedule that depends on its seed alone.

use std::time::Duration;

use jiff::SignedDuration;

use super::proxy::Mode;
use super::world::{Service, World};
use crate::Ballast;
use crate::clock::{LOOK, Watch};
use crate::random::Random;

/// None lasts longer.
const LONGEST: Duration = Duration::from_secs(40);

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and an agent anew.
    Kill,
    /// The agent's process stands still.
    Freeze,
    /// There is no byte left on the disk of the state.
    FullDisk,
    /// Commits of observations wait at their fail point.
    SlowDisk,
    /// The disk of the state stands still: whoever writes to it waits.
    StandingDisk,
    /// The wall clock is ten minutes ahead, and then set back.
    Clock,
    /// The trading system dies, and comes back with what it has kept.
    VenueKilled,
    /// A service is gone, and comes back.
    Gone(Service),
    /// Nothing gets through to a service.
    Cut(Service),
    /// It takes long to get through to a service.
    Slow(Service),
    /// What a service answers does not arrive.
    HalfClosed(Service),
    /// What a service is asked arrives twice.
    Repeated(Service),
}

/// What a fault is begun for; its end is the fault's.
pub enum Raging {
    /// There is nothing to take back but what [`Fault::end`] does.
    Plain,
    /// The disk is full as long as this is there.
    Full(Ballast),
    /// The disk stands still as long as this is there.
    Standing(crate::disk::Frozen),
}

impl Fault {
    /// Every fault that there is in a world with these services, each once.
    pub fn all(services: &[Service]) -> Vec<Self> {
        let mut all = vec![
            Self::Kill,
            Self::Freeze,
            Self::FullDisk,
            Self::SlowDisk,
            Self::StandingDisk,
            Self::Clock,
        ];
        if services.contains(&Service::Venue) {
            all.push(Self::VenueKilled);
        }
        for service in services {
            let of = [Self::Gone, Self::Cut, Self::Slow, Self::HalfClosed];
            all.extend(of.map(|fault| fault(*service)));
            if service.repeats() {
                all.push(Self::Repeated(*service));
            }
        }
        all
    }

    /// One fault of each kind; of those that are about a service, it is one that the seed chooses.
    pub fn of_each_kind(services: &[Service], seed: u64) -> Vec<Self> {
        let mut random = Random::new(seed);
        let mut found: Vec<Self> = Vec::new();
        for fault in shuffled(Self::all(services), &mut random) {
            if found.iter().all(|known| known.kind() != fault.kind()) {
                found.push(fault);
            }
        }
        found
    }

    /// By which it is counted.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Freeze => "the process stands still",
            Self::FullDisk => "full disk",
            Self::SlowDisk => "slow disk",
            Self::StandingDisk => "disk that stands still",
            Self::Clock => "clock step",
            Self::VenueKilled => "trading system killed",
            Self::Gone(_) => "service gone",
            Self::Cut(_) => "network cut",
            Self::Slow(_) => "network slow",
            Self::HalfClosed(_) => "answers lost",
            Self::Repeated(_) => "requests repeated",
        }
    }

    /// What it is about, for a report.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Gone(service)
            | Self::Cut(service)
            | Self::Slow(service)
            | Self::HalfClosed(service)
            | Self::Repeated(service) => service.name(),
            Self::VenueKilled => Service::Venue.name(),
            _ => "the agent",
        }
    }

    /// So long it lasts: longer than the agent's own timeouts, or hardly anybody would notice.
    pub fn lasts(self) -> Duration {
        Duration::from_millis(match self {
            Self::Kill | Self::VenueKilled => 200,
            Self::Gone(_) | Self::Cut(_) | Self::Slow(_) => 5_000,
            _ => 3_000,
        })
    }

    /// Begins.
    ///
    /// # Panics
    /// When it can't be begun.
    pub fn begin(self, world: &mut World) -> Raging {
        match self {
            Self::Kill => world.agent.kill(),
            Self::Freeze => world.agent.freeze(),
            Self::FullDisk => return Raging::Full(Ballast::fill(world.disk.join("ballast"))),
            Self::StandingDisk => return Raging::Standing(world.disk.freeze()),
            Self::SlowDisk => std::fs::write(world.pause(), "").expect("a folder of our own"),
            Self::Clock => world.clock.ahead(SignedDuration::from_mins(10)),
            Self::VenueKilled => world.venue.as_mut().expect("it is in this world").kill(),
            Self::Gone(service) => world.proxy(service).turn(Mode::Refuse),
            Self::Cut(service) => world.proxy(service).turn(Mode::Drop),
            Self::Slow(service) => {
                world.proxy(service).turn(Mode::Delay(Duration::from_millis(700)));
            }
            Self::HalfClosed(service) => world.proxy(service).turn(Mode::HalfClose),
            Self::Repeated(service) => world.proxy(service).turn(Mode::Repeat),
        }
        Raging::Plain
    }

    /// Ends. An agent that has died of it is reported, and started anew.
    ///
    /// # Errors
    /// That it has.
    ///
    /// # Panics
    /// When it can't be ended, or the agent does not start.
    pub fn end(self, world: &mut World, raging: Raging) -> Result<(), String> {
        match raging {
            Raging::Full(ballast) => ballast.release(),
            Raging::Standing(frozen) => drop(frozen),
            Raging::Plain => {}
        }
        match self {
            Self::Kill => world.agent.start(),
            Self::Freeze => world.agent.thaw(),
            Self::FullDisk | Self::StandingDisk => {}
            Self::SlowDisk => std::fs::remove_file(world.pause()).expect("a file of our own"),
            Self::Clock => world.clock.ahead(SignedDuration::ZERO),
            Self::VenueKilled => world.venue.as_mut().expect("it is in this world").start_again(),
            Self::Gone(service)
            | Self::Cut(service)
            | Self::Slow(service)
            | Self::HalfClosed(service)
            | Self::Repeated(service) => world.proxy(service).turn(Mode::Pass),
        }
        if world.is_alive() {
            return Ok(());
        }
        let ended = world.agent.wait();
        world.agent.start();
        Err(format!("the agent has ended: {ended:?}"))
    }

    /// [`Fault::begin`], what it lasts, and [`Fault::end`].
    ///
    /// # Errors
    /// As [`Fault::end`].
    ///
    /// # Panics
    /// As both.
    pub fn rage(self, world: &mut World) -> Result<(), String> {
        let raging = self.begin(world);
        let watch = Watch::start();
        while watch.elapsed() < self.lasts().min(LONGEST) {
            std::thread::sleep(LOOK);
        }
        self.end(world, raging)
    }
}

/// When: behind so many turns of the load since the last one was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// So many turns.
    pub steps: u64,
    /// What goes wrong then.
    pub fault: Fault,
}

/// The schedule of a seed, without end: rounds in which each of `faults` comes once, in another order each time.
pub fn schedule(seed: u64, faults: &[Fault]) -> impl Iterator<Item = Moment> + use<> {
    let (mut random, faults) = (Random::new(seed), faults.to_vec());
    let mut round: Vec<Fault> = Vec::new();
    std::iter::from_fn(move || {
        if round.is_empty() {
            round = shuffled(faults.clone(), &mut random);
        }
        let fault = round.pop()?;
        Some(Moment { steps: random.within(2, 20), fault })
    })
}

fn shuffled(mut faults: Vec<Fault>, random: &mut Random) -> Vec<Fault> {
    for last in (1..faults.len()).rev() {
        let other = random.within(0, last as u64 + 1) as usize;
        faults.swap(last, other);
    }
    faults
}
