//! What befalls a fleet, as a seed decides it.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::link::{Cut, ENDPOINTS};
use super::world::World;

impl World {
    fn any_host(&self) -> usize {
        usize::try_from(self.sim.within(0, self.hosts.len() as u64)).unwrap()
    }

    /// Has something done after a while, by nobody's host.
    fn later(self: &Arc<Self>, wait: Duration, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let world = Arc::clone(self);
        self.sim.begin_for(None, async move {
            world.sim.sleep(wait).await;
            work(&world);
        });
    }

    /// One thing after the other befalls it, until an instant.
    pub(super) async fn befall(self: Arc<Self>, until: Duration) {
        let mut number = 0;
        // In most of all fleets nobody touches etcd's keys, or puts an earlier state of it back.
        let careless = self.sim.chance(15);
        self.book().forgetful = careless;
        let mut backup = self.etcd.backup();
        loop {
            self.sim.sleep(self.sim.millis(50, 2_200)).await;
            if self.sim.now() >= until {
                return;
            }
            number += 1;
            match self.sim.within(0, 100) {
                0..42 => self.somebody_acts(number),
                42..96 => self.something_fails(),
                _ if !careless => {}
                96 => backup = self.etcd.backup(),
                97 => {
                    let wiped = self.sim.chance(30);
                    self.sim.note(&format!("etcd is put back; to nothing: {wiped}"));
                    self.etcd.restore((!wiped).then(|| backup.clone()));
                    self.hosts.iter().for_each(|host| host.network.reset_all());
                }
                98 => self.etcd.delete(&self.keys.emergency()),
                _ => self.etcd.put(&self.keys.emergency(), b"{"),
            }
        }
    }

    fn somebody_acts(self: &Arc<Self>, number: u64) {
        let host = self.any_host();
        match self.sim.within(0, 42) {
            0..9 => self.declare_in_fleet(host, number),
            9..17 => self.release_in_fleet(host, number),
            17..20 => self.declare(host, number),
            20..24 => self.release(host, number),
            24 => self.declare_by_hand(host),
            25..32 => self.work(host, number),
            32..37 => self.set(host, number),
            _ => self.calculate(usize::try_from(number % 2).unwrap(), number),
        }
    }

    fn something_fails(self: &Arc<Self>) {
        let host = self.any_host();
        match self.sim.within(0, 54) {
            0..14 => self.cut_off(host),
            14..20 => {
                let at = usize::try_from(self.sim.within(0, ENDPOINTS.len() as u64)).unwrap();
                self.cut(host, at, self.sim.millis(200, 12_000));
            }
            20..25 => {
                let lost = u32::try_from(self.sim.within(1, 4)).unwrap();
                self.sim.note(&format!("{lost} answers to host {host} are lost"));
                self.hosts[host].network.lose_answers(lost);
            }
            25..28 => self.hosts[host].network.reset_all(),
            28..32 => {
                let slow = self.sim.millis(200, 3_000);
                self.sim.note(&format!("host {host} is slow by {slow:?}"));
                self.hosts[host].network.slow_down(slow);
                let over = self.sim.millis(500, 8_000);
                self.later(over, move |it| it.hosts[host].network.slow_down(Duration::ZERO));
            }
            32..38 => {
                self.kill(host);
                let away = self.sim.millis(100, 9_000);
                self.later(away, move |world| world.start(host));
            }
            38..43 => self.stand_still(host),
            43..47 => {
                let by = i64::try_from(self.sim.within(0, 7_200)).unwrap() - 3_600;
                self.sim.note(&format!("the clock of host {host} is set by {by} s"));
                self.hosts[host].clock.set(SignedDuration::from_secs(by));
            }
            47..49 => self.etcd.compact(),
            49..51 => {
                self.sim.note("another member of etcd leads");
                self.etcd.lead();
                self.hosts.iter().for_each(|host| host.network.reset_all());
            }
            51 => {
                self.sim.note("etcd is full");
                self.etcd.fill(true);
                let over = self.sim.millis(500, 9_000);
                self.later(over, |world| world.etcd.fill(false));
            }
            _ => {
                self.sim.note("etcd is away");
                let long = self.sim.millis(500, 9_000);
                for host in 0..self.hosts.len() {
                    (0..ENDPOINTS.len()).for_each(|at| self.cut_so(host, at, Cut::Both, long));
                }
            }
        }
    }

    /// Cuts a host off from etcd, in one direction or both.
    fn cut_off(self: &Arc<Self>, host: usize) {
        let cut = self.any_cut();
        let long = self.sim.millis(200, 15_000);
        self.sim.note(&format!("host {host} is cut off ({cut:?}) for {long:?}"));
        (0..ENDPOINTS.len()).for_each(|at| self.cut_so(host, at, cut, long));
    }

    /// Cuts a host off from one member.
    fn cut(self: &Arc<Self>, host: usize, at: usize, long: Duration) {
        let cut = self.any_cut();
        self.sim.note(&format!("host {host} is cut off from member {at} ({cut:?}) for {long:?}"));
        self.cut_so(host, at, cut, long);
    }

    fn any_cut(&self) -> Cut {
        match self.sim.within(0, 4) {
            0 => Cut::There,
            1 => Cut::Back,
            _ => Cut::Both,
        }
    }

    fn cut_so(self: &Arc<Self>, host: usize, at: usize, cut: Cut, long: Duration) {
        self.hosts[host].network.cut(at, cut);
        // A connection that nothing comes through is given up, sooner or later.
        let noticed = self.sim.millis(1_000, 9_000);
        self.later(noticed, move |world| world.hosts[host].network.notice(at));
        self.later(long, move |world| world.hosts[host].network.cut(at, Cut::No));
    }

    /// A host is stopped for a while, and does not know it when it goes on.
    fn stand_still(self: &Arc<Self>, host: usize) {
        if self.sim.alive(host).is_none() {
            return;
        }
        let long = self.sim.millis(500, 14_000);
        self.sim.note(&format!("host {host} stands still for {long:?}"));
        self.sim.freeze(host, true);
        self.later(long, move |world| world.sim.freeze(host, false));
    }

    /// All is well from now on: everything gets through, and every host is up.
    pub(super) fn heal(self: &Arc<Self>) {
        self.sim.note("all is well");
        self.etcd.fill(false);
        let broken = self.etcd.under(&self.keys.emergency()).iter().any(|it| it.value == b"{");
        if broken {
            // As the runbook says.
            self.etcd.delete(&self.keys.emergency());
        }
        for (number, host) in self.hosts.iter().enumerate() {
            host.network.mend();
            self.sim.freeze(number, false);
            self.start(number);
        }
    }
}
