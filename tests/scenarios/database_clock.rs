//! A clock that is set while a database is cared for: the care ends as it would, and what is known of it stays in order.

use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::health::word;
use genesis_tests::postgres::Postgres;
use genesis_tests::wall_clock::WallClock;
use jiff::SignedDuration;
use serde_json::Value;
use tempfile::TempDir;

use crate::database::{back_up, codes, config, fill, last, optimize};

/// An agent whose clock can be set, and whose care is held after its first table until the other one is gone.
struct Told {
    folder: TempDir,
    agent: TestAgent,
    server: Postgres,
    clock: WallClock,
}

impl Told {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Postgres::start("");
        fill(&server);
        let text = config(&server, "window = \"40s\"");
        let mut agent = TestAgent::new(move |_| text);
        let pause = folder.path().join("pause");
        let clock = WallClock::of(&mut agent);
        agent.environment("GENESIS_PAUSE", &format!("database.after-vacuum:{}", pause.display()));
        agent.start();
        back_up(&agent);
        Self { folder, agent, server, clock }
    }

    /// Cares for it, and sets the clock in the middle.
    fn set_during_care(&self, days: i64) -> (Option<i32>, Value) {
        let pause = self.folder.path().join("pause");
        std::fs::write(&pause, "").unwrap();
        let watch = Watch::start();
        let run = self.agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
        let reached = self.folder.path().join("pause.reached");
        wait_until("its first table to be done", || reached.exists());
        self.clock.ahead(SignedDuration::from_hours(24 * days));
        std::fs::remove_file(&pause).unwrap();
        let code = run.wait_with_output().unwrap().status.code();
        assert!(watch.elapsed() < Duration::from_secs(30), "{:?}", watch.elapsed());
        let care = last(&self.agent);
        assert!(care["steps"].to_string().contains("reindex"), "{care:#}");
        let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
        assert_eq!(self.server.sql("trades", invalid), "0");
        (code, care)
    }

    /// The next care: nothing rests less long, and it is the newest whatever the clock says.
    fn next_care_rebuilds_nothing(&self, before: &Value) {
        optimize(&self.agent, &[]).ok();
        let care = last(&self.agent);
        assert_ne!(care["runId"], before["runId"], "{care:#}");
        assert_eq!(care["outcome"], "CARE_OUTCOME_DONE", "{care:#}");
        assert!(!care["steps"].to_string().contains("reindex"), "{care:#}");
    }
}

#[test]
fn a_clock_that_jumps_ahead_a_day_cuts_nothing_off() {
    let mut told = Told::new();
    let (code, care) = told.set_during_care(1);
    assert_eq!((code, word(&care, "outcome").as_str()), (Some(0), "CARE_OUTCOME_DONE"), "{care:#}");
    told.agent.restart();
    told.next_care_rebuilds_nothing(&care);
}

#[test]
fn with_a_clock_that_went_back_a_day_nobody_says_that_a_backup_is_young() {
    let mut told = Told::new();
    let (code, care) = told.set_during_care(-1);
    assert_eq!((code, word(&care, "outcome").as_str()), (Some(1), "CARE_OUTCOME_DEGRADED"));
    assert_eq!(codes(&care), ["VERIFICATION_UNKNOWN"], "{care:#}");
    assert!(care["findings"].to_string().contains("look at the clock"), "{care:#}");
    optimize(&told.agent, &[]).exits(4).says(&["look at the clock"]);
    told.agent.restart();
    told.agent.ctl(&["db", "preflight"]).exits(5).says(&["look at the clock"]);
    told.clock.ahead(SignedDuration::ZERO);
    told.next_care_rebuilds_nothing(&care);
}
