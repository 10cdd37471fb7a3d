//! Several things that fail at once: what they have in common is acted on, or nothing is, and people are called once
//! for one cause.

use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use genesis_tests::health::{Check, Patient, config, word};

/// So many patients, not yet looked at.
fn patients(agent: &TestAgent, count: usize) -> Vec<Patient> {
    (0..count).map(|number| Patient::new(agent.folder(), &format!("c{number:02}"))).collect()
}

/// Looked at less often, where there are many of them.
fn calm(check: Check) -> Check {
    check.text("interval", "400ms").text("timeout", "390ms")
}

/// How often all of these were treated.
fn treated(patients: &[Patient]) -> usize {
    patients.iter().map(|patient| patient.treatments().len()).sum()
}

#[test]
fn of_what_depends_on_each_other_the_root_alone_is_treated_and_people_are_called_once() {
    let mut agent = TestAgent::new(|_| String::new());
    let [db, api, ui] = ["db", "api", "ui"].map(|id| Patient::new(agent.folder(), id));
    let all_well = "for who in db api ui; do echo 0 > \"../patient-$who/value\"; done";
    let wait = "i=0; while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done";
    let checks = [
        db.check().set("action", db.treatment(&format!("{wait}; {all_well}"))),
        api.check().set("depends_on", "[\"db\"]").set("action", api.treatment("exit 0")),
        ui.check().set("depends_on", "[\"api\"]").set("action", ui.treatment("exit 0")),
    ];
    agent.configure(&config("", &checks));
    agent.start();
    for patient in [&db, &api, &ui] {
        patient.is(1);
    }
    wait_until("the treatment", || db.treatments() == [1]);
    for check in ["api", "ui"] {
        agent.wait_denial(check, "DEPENDENCY_ROOT");
        let issue = agent.issue(check);
        assert_eq!(word(&issue, "suppressedBy"), "db", "{issue}");
        agent.ctl(&["health", "explain", check]).ok().says(&["waits for db"]);
    }
    wait_until("the call", || agent.triggers() == ["CASCADE"]);
    let incident = &agent.incidents()[0];
    for part in ["api", "ui", "db fails"] {
        assert!(word(incident, "title").contains(part), "{incident}");
    }
    ui.wait_for_looks(8);
    std::fs::write(db.file("go"), "").unwrap();
    for check in ["db", "api", "ui"] {
        agent.wait_state(check, "RESOLVED");
    }
    agent.wait_outcomes("db", &["SUCCEEDED"]);
    assert_eq!((treated(&[api, ui]), agent.attempts("").len()), (0, 1));
    wait_until("the incident's end", || agent.open_incidents().is_empty());
    assert_eq!(agent.triggers(), ["CASCADE"]);
}

#[test]
fn nothing_is_done_about_what_depends_on_something_that_is_only_suspected() {
    let mut agent = TestAgent::new(|_| String::new());
    let [db, api] = ["db", "api"].map(|id| Patient::new(agent.folder(), id));
    let checks = [
        db.check().text("for", "1h"),
        api.check().set("depends_on", "[\"db\"]").set("action", api.treatment("echo 0 > value")),
    ];
    agent.configure(&config("", &checks));
    agent.start();
    db.is(1);
    agent.wait_state("db", "SUSPECT");
    api.is(1);
    agent.wait_denial("api", "DEPENDENCY_ROOT");
    api.wait_for_looks(5);
    assert!(api.treatments().is_empty() && agent.incidents().is_empty());
    // It was none, after all.
    db.is(0);
    agent.wait_state("api", "RESOLVED");
    assert_eq!(api.treatments(), [1]);
}

#[test]
fn people_are_called_about_the_root_and_not_about_what_hangs_on_it() {
    let mut agent = TestAgent::new(|_| String::new());
    let [db, api] = ["db", "api"].map(|id| Patient::new(agent.folder(), id));
    let checks = [
        db.check(),
        api.check().set("depends_on", "[\"db\"]").set("action", api.treatment("exit 1")),
    ];
    let config = config("", &checks).replace("[health]", "[health]\nescalate_after = \"1s\"");
    agent.configure(&config);
    agent.start();
    db.is(1);
    agent.wait_state("db", "FAILING");
    api.is(1);
    agent.wait_state("db", "ESCALATED");
    agent.wait_denial("api", "DEPENDENCY_ROOT");
    api.wait_for_looks(12);
    assert_eq!(agent.triggers(), ["CRITICAL_TOO_LONG"]);
    assert_eq!(agent.incidents()[0]["issues"], serde_json::json!(["db#1"]));
    // Once the root is well, it is about itself.
    db.is(0);
    agent.wait_state("api", "ESCALATED");
    wait_until("the second call", || agent.triggers().len() == 2);
    assert_eq!(agent.incidents()[1]["issues"], serde_json::json!(["api#1"]));
}

#[test]
fn more_than_five_actions_set_the_brake_which_only_a_person_releases() {
    let mut agent = TestAgent::new(|_| String::new());
    let all = patients(&agent, 14);
    let checks: Vec<Check> = all
        .iter()
        .map(|patient| calm(patient.check().set("action", patient.treatment("echo 0 > value"))))
        .collect();
    agent.configure(&config("", &checks));
    agent.start();
    agent.ctl(&["health", "brake", "status"]).ok();
    for patient in &all[..6] {
        patient.is(1);
    }
    wait_until("the brake", || agent.ctl(&["health", "brake", "status"]).code == 3);
    wait_until("five that are well", || {
        all.iter().filter(|patient| agent.issue_state(&patient.id) == "RESOLVED").count() == 5
    });
    assert_eq!(treated(&all), 5);
    let sixth = all[..6].iter().find(|patient| patient.treatments().is_empty()).unwrap();
    for _ in 0..2 {
        agent.wait_denial(&sixth.id, "STORM");
        sixth.wait_for_looks(5);
        assert_eq!((treated(&all), agent.holds()), (5, vec!["STORM".to_owned()]));
        agent.ctl(&["health", "brake", "status"]).exits(3).says(&["more than 5 actions"]);
        agent.kill();
        agent.start();
    }
    let storms = || agent.triggers().iter().filter(|trigger| *trigger == "STORM").count();
    assert_eq!(storms(), 1, "{:?}", agent.triggers());
    agent.ctl(&["health", "remediation", "enable"]).ok();
    agent.ctl(&["health", "brake", "release"]).exits(2).says(&["--reason"]);
    assert_eq!(agent.holds(), ["STORM"]);
    agent.ctl(&["health", "brake", "release", "--reason", "a bad deploy, rolled back"]).ok();
    agent.wait_state(&sixth.id, "RESOLVED");
    agent.wait_outcomes(&sixth.id, &["SUCCEEDED"]);
    agent.ctl(&["health", "brake", "status"]).ok();
    agent
        .ctl(&["health", "brake", "release", "--reason", "again"])
        .exits(9)
        .says(&["BRAKE_NOT_SET"]);
    wait_until("the incidents' end", || agent.open_incidents().is_empty());
    assert_eq!((treated(&all), storms()), (6, 1));
    let log = agent.ctl(&["oplog", "list", "--action", "health.brake"]).ok();
    log.says(&["health.brake.set", "health.brake.released", "a bad deploy, rolled back"]);
}

/// Six of seven fail at once, with actions or without; those without are looked at some more often than others.
fn all_fail_at_once(treat: bool) {
    let mut agent = TestAgent::new(|_| String::new());
    let all = patients(&agent, 7);
    let checks: Vec<Check> = all
        .iter()
        .enumerate()
        .map(|(number, patient)| {
            let action = patient.treatment("echo 0 > value");
            match (treat, number) {
                (true, _) => calm(patient.check()).set("action", action),
                (false, 0..4) => patient.check(),
                (false, _) => patient.check().text("interval", "1s").text("timeout", "990ms"),
            }
        })
        .collect();
    agent.configure(&config("", &checks));
    agent.start();
    for patient in &all {
        patient.wait_for_looks(1);
    }
    for patient in &all[1..] {
        patient.is(1);
    }
    wait_until("doubt", || agent.holds() == ["CHECKER_SUSPECT"]);
    // Over a restart, too.
    for _ in 0..2 {
        for patient in &all[1..] {
            agent.wait_denial(&patient.id, if treat { "CHECKER_SUSPECT" } else { "NO_ACTION" });
        }
        all[1].wait_for_looks(6);
        assert_eq!((treated(&all), agent.holds()), (0, vec!["CHECKER_SUSPECT".to_owned()]));
        assert_eq!(agent.triggers(), ["CHECKER_SUSPECT"]);
        agent.restart();
    }
    for patient in &all {
        patient.is(0);
    }
    wait_until("no doubt", || agent.holds().is_empty());
    for patient in &all[1..] {
        agent.wait_state(&patient.id, "RESOLVED");
    }
    wait_until("the incident's end", || agent.open_incidents().is_empty());
    assert_eq!((agent.triggers(), treated(&all)), (vec!["CHECKER_SUSPECT".to_owned()], 0));
}

#[test]
fn when_nearly_all_fails_at_once_the_checks_are_doubted_and_nothing_is_done() {
    all_fail_at_once(true);
}

#[test]
fn when_nearly_all_fails_at_once_people_are_called_once_also_where_nothing_can_be_done() {
    all_fail_at_once(false);
}

#[test]
fn a_check_that_hangs_delays_no_other_and_is_not_taken_for_good_or_bad() {
    let mut agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    let hung = Check::new("hung", "queue-command").set("command", "[\"sleep\", \"60\"]");
    let hung = hung.text("crit", "0").set("action", db.treatment("exit 0"));
    // Nobody accepts, and the kernel does it for them: there is no answer.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", mute.local_addr().unwrap());
    let mute_check = Check::new("mute", "http").text("target", url).set("depends_on", "[\"db\"]");
    agent.configure(&config("", [&db.check(), &hung]));
    agent.start();
    wait_until("three times", || agent.seen("hung")["unknownStreak"].as_u64() >= Some(3));
    let watch = genesis_tests::clock::Watch::start();
    db.wait_for_looks(10);
    assert!(watch.elapsed().as_secs() < 10, "{:?} for ten looks", watch.elapsed());
    assert_eq!(word(&agent.seen("hung"), "condition"), "UNKNOWN");
    agent.ctl(&["status"]).exits(5).says(&["CHECK_CANT_TELL", "hung"]);
    agent.ctl(&["health", "check"]).exits(5);
    agent.ctl(&["health", "explain", "hung"]).exits(1).says(&["ISSUE_NOT_FOUND"]);
    assert!(db.treatments().is_empty() && agent.attempts("").is_empty());
    agent.ctl(&["oplog", "list", "--action", "health.unknown"]).ok().says(&["hung", "began"]);
    // A service that does not answer is down, which is known.
    agent.configure(&config("", [&db.check(), &mute_check]));
    agent.ctl(&["config", "reload"]).ok();
    agent.wait_denial("mute", "NO_ACTION");
    agent.ctl(&["status"]).exits(3).says(&["CHECK_FAILS", "mute#1"]);
}

#[test]
fn a_dependency_that_there_is_not_is_refused_or_at_least_said() {
    let mut agent = TestAgent::new(|_| String::new());
    let on = |id: &str| {
        let check = Check::new("api", "load").text("crit", "1000");
        let config = config("", [&check.set("depends_on", format!("[{id:?}]"))]);
        config.replace("defaults = false", "defaults = true")
    };
    agent.configure(&on("memory"));
    agent.start();
    assert!(!agent.ctl(&["status"]).text().contains("DEPENDENCY_UNKNOWN"));
    agent.configure(&on("meory"));
    agent.ctl(&["config", "reload"]).exits(4).says(&["there is no check", "meory"]);
    // Which file systems there are only the host knows.
    agent.configure(&on("disk:/no/such/place"));
    agent.ctl(&["config", "reload"]).ok();
    agent.ctl(&["status"]).exits(3).says(&["DEPENDENCY_UNKNOWN", "api", "disk:/no/such/place"]);
}
