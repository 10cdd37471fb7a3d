//! Hosts that are held together by a real etcd, and what becomes of them when it is gone, stands still, is full or was put
//! back.

use std::future::Future;
use std::time::Duration;

use genesis_client::{Client, Error, Options, v1};
use genesis_tests::clock::{wait_for, wait_until, wait_until_within};
use genesis_tests::etcd::{Etcd, EtcdCluster, EtcdOptions};
use genesis_tests::{TestAgent, http};

use genesis_tests::wall_clock::WallClock;

use v1::FleetStanding::{Connected, Lost, Stale};

/// Long enough for a lease of two seconds to end.
pub(crate) const LEASE: &str = "2s";

/// `[fleet]` of a host.
pub(crate) fn of_fleet(endpoints: &[String], lease: &str) -> String {
    format!(
        "[fleet]\nname = \"prod\"\nlease = \"{lease}\"\n[fleet.etcd]\nendpoints = {endpoints:?}\n"
    )
}

/// A host of the fleet, with a name of its own.
pub(crate) fn host(name: &str, endpoints: &[String]) -> TestAgent {
    let config = of_fleet(endpoints, LEASE);
    let mut agent = TestAgent::new(|_| config);
    agent.hostname(name);
    agent
}

fn started(name: &str, endpoints: &[String]) -> TestAgent {
    let mut agent = host(name, endpoints);
    agent.start();
    agent
}

/// Calls the agent on its socket, saying why.
pub(crate) fn call<T, F>(agent: &TestAgent, send: impl FnOnce(Client) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let node = agent.node().parse().unwrap();
    let options = Options {
        reason: "prices are wrong".into(),
        timeout: Duration::from_secs(20),
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { send(Client::connect(&node, options).await?).await })
}

pub(crate) fn status(agent: &TestAgent) -> v1::GetFleetStatusResponse {
    call(agent, |client| async move {
        let request = v1::GetFleetStatusRequest {};
        client.call(request, |c, r| async move { c.fleet().get_fleet_status(r).await }).await
    })
    .unwrap()
}

pub(crate) fn members(agent: &TestAgent) -> Result<Vec<v1::FleetMember>, Error> {
    call(agent, |client| async move {
        let request = v1::ListFleetMembersRequest {};
        let told =
            client.call(request, |c, r| async move { c.fleet().list_fleet_members(r).await });
        Ok(told.await?.members)
    })
}

pub(crate) fn wait_standing(agent: &TestAgent, standing: v1::FleetStanding) {
    wait_until(standing.as_str_name(), || status(agent).standing() == standing);
}

/// Declares an emergency in the whole fleet.
pub(crate) fn declare(agent: &TestAgent) -> v1::ActivateEmergencyResponse {
    call(agent, |client| async move {
        let request = v1::ActivateEmergencyRequest { fleet: true, ..Default::default() };
        client.call(request, |c, r| async move { c.recovery().activate_emergency(r).await }).await
    })
    .unwrap()
}

pub(crate) fn release(
    agent: &TestAgent,
    fleet: bool,
) -> Result<v1::ReleaseEmergencyResponse, Error> {
    call(agent, |client| async move {
        let request = v1::ReleaseEmergencyRequest { fleet, ..Default::default() };
        client.call(request, |c, r| async move { c.recovery().release_emergency(r).await }).await
    })
}

pub(crate) fn emergency(agent: &TestAgent) -> v1::Emergency {
    let told = call(agent, |client| async move {
        let request = v1::GetEmergencyRequest {};
        client.call(request, |c, r| async move { c.recovery().get_emergency(r).await }).await
    });
    told.unwrap().emergency.unwrap()
}

/// What a metric of the agent says.
fn metric(agent: &TestAgent, name: &str) -> u64 {
    let (_, page) = http::get(agent.http(), "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)).expect("a metric");
    line.trim().parse().unwrap()
}

/// Works on this host alone, whatever becomes of the fleet.
fn works(agent: &TestAgent) {
    agent.ctl(&["schedule", "run", "storage.compact"]).ok();
}

#[test]
fn members_see_each_other_and_remember_who_is_gone() {
    let etcd = Etcd::start();
    let a = started("a", &etcd.endpoints());
    let mut b = started("b", &etcd.endpoints());
    wait_standing(&b, Connected);
    let shown = |agent: &TestAgent| -> Vec<(String, bool, bool)> {
        let members = members(agent).unwrap();
        members.into_iter().map(|it| (it.hostname, it.alive, it.self_)).collect()
    };
    let both = |own: bool| vec![("a".to_owned(), true, own), ("b".to_owned(), true, !own)];
    wait_until("two members", || shown(&a) == both(true));
    assert_eq!(shown(&b), both(false));
    assert_eq!(members(&a).unwrap()[1].node, b.node());
    // One that comes back at once is one still, also when nothing could be said before it went.
    b.kill();
    b.start();
    wait_standing(&b, Connected);
    assert_eq!(shown(&b), both(false));
    assert!(members(&b).unwrap().iter().all(|it| it.twins.is_empty()));
    // One that is asked to end says so itself; one that is gone is remembered, until it is forgotten.
    b.kill();
    wait_until("the end of a member", || !shown(&a)[1].1);
    a.ctl(&["fleet", "members"]).exits(3).says(&["b", "gone"]);
    a.ctl(&["fleet", "forget", "a", "--yes"]).exits(9).says(&["MEMBER_ALIVE"]);
    a.ctl(&["fleet", "forget", "c", "--yes"]).exits(1).says(&["MEMBER_NOT_FOUND"]);
    a.ctl(&["fleet", "forget", "b", "--yes", "--reason", "sold"]).ok();
    assert_eq!(shown(&a).len(), 1);
    b.start();
    wait_until("a member that comes back", || shown(&a) == both(true));
}

#[test]
fn an_emergency_of_the_fleet_is_that_of_each_until_the_fleet_releases_it() {
    let etcd = Etcd::start();
    let names = ["a", "b", "c"];
    let mut agents: Vec<TestAgent> =
        names.iter().map(|name| started(name, &etcd.endpoints())).collect();
    agents.iter().for_each(|agent| wait_standing(agent, Connected));
    let reach = declare(&agents[0]).fleet.unwrap();
    assert!(reach.told && reach.members.len() == 3, "{reach:?}");
    assert!(reach.members.iter().all(|it| it.alive && it.emergency), "{reach:?}");
    let first = emergency(&agents[0]);
    assert!(first.fleet_told && first.fleet_only);
    // Nobody is called for the moment that it took.
    let alerts = agents[0].ctl(&["alerts", "list"]).ok();
    assert!(!alerts.text().contains("has not been told"), "{}", alerts.text());
    for agent in &agents[1..] {
        let here = emergency(agent);
        assert!(here.active && here.fleet_only && here.fleet_epoch == first.fleet_epoch);
        assert!(here.activated_by.contains("from a"), "{here:?}");
        assert_eq!(here.reason, "prices are wrong");
        agent.ctl(&["schedule", "run", "storage.compact"]).exits(4).says(&["EMERGENCY"]);
        // Nobody leaves it alone.
        assert_eq!(release(agent, false).unwrap_err().reason, "FLEET_EMERGENCY");
    }
    // Over a crash, and for whoever comes later.
    agents[1].kill();
    agents[1].start();
    assert!(emergency(&agents[1]).active);
    let late = started("d", &etcd.endpoints());
    wait_until("the fleet's emergency", || emergency(&late).active);
    // Declaring it anew changes nothing of that.
    let own = call(&agents[2], |client| async move {
        let request = v1::ActivateEmergencyRequest::default();
        client.call(request, |c, r| async move { c.recovery().activate_emergency(r).await }).await
    });
    assert!(own.unwrap().was_active);
    let released = release(&agents[1], true).unwrap().fleet.unwrap();
    assert!(released.told && released.members.iter().all(|it| !it.emergency), "{released:?}");
    for agent in &agents {
        let over = emergency(agent);
        assert!(!over.active, "{over:?}");
        works(agent);
    }
    assert!(emergency(&agents[2]).released_by.contains("from b"));
    assert_eq!(release(&agents[0], true).unwrap_err().reason, "NO_EMERGENCY");
}

#[test]
fn an_emergency_of_one_host_stays_its_own_beside_the_fleets() {
    let etcd = Etcd::start();
    let [a, b] = ["a", "b"].map(|name| started(name, &etcd.endpoints()));
    [&a, &b].into_iter().for_each(|agent| wait_standing(agent, Connected));
    let own = call(&b, |client| async move {
        let request = v1::ActivateEmergencyRequest::default();
        client.call(request, |c, r| async move { c.recovery().activate_emergency(r).await }).await
    });
    assert_eq!(own.unwrap().emergency.unwrap().fleet_epoch, 0);
    assert!(!emergency(&a).active, "it was not declared for the fleet");
    declare(&a);
    wait_until("what b knows of the fleet's", || emergency(&b).fleet_told);
    let released = release(&a, true).unwrap().fleet.unwrap();
    let still: Vec<&str> =
        released.members.iter().filter(|it| it.emergency).map(|it| it.hostname.as_str()).collect();
    assert_eq!(still, ["b"], "{released:?}");
    assert!(emergency(&b).active && !emergency(&a).active);
    release(&b, false).unwrap();
    assert!(!emergency(&b).active);
    works(&b);
}

#[test]
fn without_etcd_an_agent_starts_and_says_what_waits_for_it() {
    let etcd = Etcd::start();
    let endpoints = etcd.endpoints();
    etcd.kill();
    let agent = started("a", &endpoints);
    works(&agent);
    wait_standing(&agent, Lost);
    let said = status(&agent);
    assert!(!said.trouble.is_empty() && said.revision == 0, "{said:?}");
    assert_eq!(members(&agent).unwrap_err().reason, "FLEET_UNREACHABLE");
    agent.ctl(&["status"]).exits(3).says(&["FLEET_LOST", "LOST in fleet prod"]);
    // An emergency of the fleet is one of this host at once, and of the fleet when there is one.
    let reach = declare(&agent).fleet.unwrap();
    assert!(!reach.told && !reach.trouble.is_empty(), "{reach:?}");
    assert!(emergency(&agent).active && status(&agent).emergency_untold);
    agent.ctl(&["status"]).exits(3).says(&["FLEET_UNTOLD"]);
    etcd.restart();
    wait_standing(&agent, Connected);
    wait_until("what the fleet is told", || emergency(&agent).fleet_told);
    let other = started("b", &endpoints);
    wait_until("the fleet's emergency", || emergency(&other).active);
}

/// Whatever happens to etcd: what is local goes on, it is known to be stale, and after that every change was seen once.
fn survives(etcd: &Etcd, agent: &TestAgent, what: &str, hurt: impl FnOnce(), mend: impl FnOnce()) {
    hurt();
    // It takes seconds; an etcd that does not answer is not found out by TCP's minutes.
    wait_until_within(Duration::from_secs(30), what, || {
        matches!(status(agent).standing(), Stale | Lost)
    });
    works(agent);
    mend();
    wait_standing(agent, Connected);
    assert!(etcd.revision() > 0, "{what}");
}

/// Sets keys that every member follows.
fn put(etcd: &Etcd, numbers: std::ops::Range<u32>) {
    for number in numbers {
        etcd.put(&format!("/genesis/prod/common/test/{number}"), "x");
    }
}

#[test]
fn no_change_is_lost_or_seen_twice_whatever_happens_to_etcd() {
    let etcd = Etcd::start();
    let agent = started("a", &etcd.endpoints());
    wait_standing(&agent, Connected);
    let seen = || metric(&agent, "genesis_fleet_changes_total");
    let all = |count: u64| wait_until("changes that are seen", || seen() >= count);
    put(&etcd, 0..200);
    all(200);
    // Many at once, while it is killed and comes back.
    put(&etcd, 200..300);
    survives(&etcd, &agent, "killed", || etcd.kill(), || etcd.restart());
    put(&etcd, 300..400);
    all(400);
    survives(&etcd, &agent, "frozen", || etcd.freeze(), || etcd.thaw());
    put(&etcd, 400..600);
    all(600);
    // What happened meanwhile is compacted away before the agent is back.
    agent.freeze();
    put(&etcd, 600..800);
    etcd.compact();
    etcd.kill();
    etcd.restart();
    agent.thaw();
    all(800);
    put(&etcd, 800..1_000);
    all(1_000);
    assert_eq!(seen(), 1_000, "each once");
    let revision = || status(&agent).revision;
    let now = etcd.revision();
    wait_until("everything that there is", || revision() >= now - 1 || revision() >= now);
    assert_eq!(seen(), 1_000);
}

#[test]
fn a_full_etcd_is_followed_still_and_told_when_it_has_room() {
    let etcd = Etcd::with(EtcdOptions::default().quota(8 << 20));
    let [a, b] = ["a", "b"].map(|name| started(name, &etcd.endpoints()));
    [&a, &b].into_iter().for_each(|agent| wait_standing(agent, Connected));
    etcd.fill();
    let reach = declare(&a).fleet.unwrap();
    assert!(!reach.told, "{reach:?}");
    assert!(emergency(&a).active && !emergency(&b).active);
    a.ctl(&["status"]).exits(3).says(&["FLEET_FULL", "FLEET_UNTOLD"]);
    // Who starts now is no member, and says why.
    let mut late = host("c", &etcd.endpoints());
    late.start();
    wait_standing(&late, Connected);
    wait_until("why it is none", || !status(&late).trouble.is_empty());
    late.ctl(&["status"]).says(&["FLEET_FULL"]);
    etcd.make_room();
    wait_until("the fleet's emergency", || emergency(&b).active && emergency(&late).active);
    wait_until("three members", || members(&a).unwrap().iter().filter(|it| it.alive).count() == 3);
    wait_until("no trouble", || status(&late).trouble.is_empty());
}

#[test]
fn an_etcd_that_has_forgotten_is_told_of_the_emergency_again() {
    let etcd = Etcd::start();
    let [a, b] = ["a", "b"].map(|name| started(name, &etcd.endpoints()));
    [&a, &b].into_iter().for_each(|agent| wait_standing(agent, Connected));
    let before = etcd.snapshot("before");
    declare(&a);
    wait_until("the fleet's emergency", || emergency(&b).active);
    let key = "/genesis/prod/common/emergency";
    // Taken away, gone with all else, put back to before it.
    etcd.delete(key);
    wait_until("the record", || etcd.get(key).is_some());
    etcd.wipe();
    wait_until("the record", || etcd.get(key).is_some());
    etcd.restore(&before);
    wait_until("the record", || etcd.get(key).is_some());
    assert!(emergency(&a).active && emergency(&b).active);
    wait_until("two members", || {
        members(&a).is_ok_and(|all| all.iter().filter(|it| it.alive).count() == 2)
    });
    release(&b, true).unwrap();
    wait_until("the release", || !emergency(&a).active);
    // What can't be read counts as one.
    etcd.put(key, "{");
    wait_until("what can't be read", || emergency(&a).active && emergency(&b).active);
    assert!(status(&a).emergency.unwrap().active);
    a.ctl(&["fleet", "status"]).exits(3).says(&["can't be read"]);
    // It is not released by accident, and there is a way out.
    let refused = release(&a, true).unwrap_err();
    assert!(refused.reason == "FLEET_CONFLICT" && refused.message.contains(key), "{refused:?}");
    etcd.delete(key);
    wait_until("the record", || etcd.get(key).is_some());
    release(&a, true).unwrap();
    wait_until("the release", || !emergency(&a).active && !emergency(&b).active);
}

#[test]
fn two_hosts_with_one_identity_are_noticed_by_both() {
    let etcd = Etcd::start();
    let mut a = started("a", &etcd.endpoints());
    wait_standing(&a, Connected);
    a.terminate();
    let mut copy = host("copy", &etcd.endpoints());
    std::fs::create_dir_all(copy.state()).unwrap();
    std::fs::copy(a.database(), copy.database()).unwrap();
    a.start();
    copy.start();
    for (agent, other) in [(&a, "copy"), (&copy, "a")] {
        wait_until("the other one", || status(agent).twins == [other]);
        agent.ctl(&["status"]).exits(3).says(&["IDENTITY_TWICE"]);
        agent.ctl(&["alerts", "list"]).says(&["have one identity"]);
    }
    copy.terminate();
    wait_until("one identity", || status(&a).twins.is_empty());
}

#[test]
fn clocks_that_are_hours_apart_matter_neither_to_members_nor_to_emergencies() {
    let etcd = Etcd::start();
    let agents = [("late", -7_200), ("right", 0), ("early", 7_200)].map(|(name, seconds)| {
        let mut agent = host(name, &etcd.endpoints());
        let clock = WallClock::of(&mut agent);
        clock.ahead(jiff::SignedDuration::from_secs(seconds));
        agent.start();
        wait_standing(&agent, Connected);
        agent
    });
    let [late, right, early] = &agents;
    assert!(agents.iter().all(|agent| status(agent).twins.is_empty()));
    // Whoever declares it, by whatever time, and whoever releases it: it is one for all, and over for all.
    for (declares, releases) in [(early, late), (late, early), (right, late), (late, right)] {
        declare(declares);
        wait_until("the emergency on each", || agents.iter().all(|it| emergency(it).active));
        release(releases, true).unwrap();
        wait_until("its end on each", || agents.iter().all(|it| !emergency(it).active));
    }
    // A clock that is set back in the middle changes nothing.
    declare(right);
    wait_until("the emergency on each", || agents.iter().all(|it| emergency(it).active));
    WallClock::at(late).ahead(jiff::SignedDuration::from_secs(-86_400));
    release(late, true).unwrap();
    wait_until("its end on each", || agents.iter().all(|it| !emergency(it).active));
    assert!(agents.iter().all(|agent| status(agent).standing() == Connected));
    late.ctl(&["fleet", "skew"]).says(&["clock"]);
}

#[test]
fn one_of_three_is_not_missed() {
    let cluster = EtcdCluster::start(3);
    // An election takes a second or two, where the machine is busy: no time in which a usual lease would end.
    let [a, b] = ["a", "b"].map(|name| {
        let mut agent = TestAgent::new(|_| of_fleet(&cluster.endpoints(), "6s"));
        agent.hostname(name);
        agent.start();
        agent
    });
    [&a, &b].into_iter().for_each(|agent| wait_standing(agent, Connected));
    let (leader, places) = (cluster.leader(), cluster.endpoints());
    let used = |agent: &TestAgent| {
        let endpoint =
            wait_for("an endpoint", || Some(status(agent).endpoint).filter(|it| !it.is_empty()));
        places.iter().position(|place| *place == endpoint).unwrap()
    };
    // The one that is used, and the leader; dead and frozen.
    for victim in [used(&a), leader] {
        let member = cluster.member(victim);
        for (hurt, mend) in
            [(Etcd::kill as fn(&Etcd), Etcd::restart as fn(&Etcd)), (Etcd::freeze, Etcd::thaw)]
        {
            hurt(member);
            // Nothing fails meanwhile, and nothing is said to be wrong.
            for _ in 0..20 {
                members(&a).unwrap();
                let standing = status(&b).standing();
                assert!(standing != Lost, "{standing:?}");
            }
            let reach = declare(&b).fleet.unwrap();
            assert!(reach.told, "{reach:?}");
            wait_until("the fleet's emergency", || emergency(&a).active);
            release(&a, true).unwrap();
            wait_until("its end", || !emergency(&b).active);
            mend(member);
            member.wait_healthy();
        }
    }
}

#[test]
fn etcd_is_reached_by_tls_and_as_a_user() {
    let etcd = Etcd::with(EtcdOptions::default().tls().auth("agent", "p:w d"));
    let tls = etcd.tls();
    let agent = TestAgent::new(|_| String::new());
    let password = agent.folder().join("etcd-password");
    std::fs::write(&password, "p:w d\n").unwrap();
    let chmod = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(0o640);
    let config = |user: &str, ca: bool| {
        let mut text = of_fleet(&etcd.endpoints(), LEASE);
        if ca {
            text += &format!("ca = {:?}\n", tls.ca);
        }
        text += &format!("certificate = {:?}\nkey = {:?}\n", tls.certificate, tls.key);
        text + &format!("user = {user:?}\npassword_file = {password:?}\n")
    };
    let mut agent = agent;
    agent.configure(&config("agent", true));
    let mut check = std::process::Command::new(genesis_tests::binaries::agent());
    let output = check.arg("check-config").arg(agent.config()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("fleet.etcd.password_file") && !said.contains("p:w d"), "{said}");
    assert_eq!(output.status.code(), Some(3));
    agent.start();
    // What others may read is not used, and is read anew once that is mended.
    wait_for("trouble", || Some(status(&agent).trouble).filter(|it| it.contains("chmod 600")));
    chmod(0o600);
    wait_standing(&agent, Connected);
    assert_eq!(members(&agent).unwrap().len(), 1);
    // What is wrong is said, and neither the password nor the key with it.
    for (text, why) in [(config("nobody", true), "refuses"), (config("agent", false), "ertificate")]
    {
        agent.configure(&text);
        agent.restart();
        let trouble =
            wait_for("trouble", || Some(status(&agent).trouble).filter(|it| it.contains(why)));
        assert!(!trouble.contains("p:w d"), "{trouble}");
        works(&agent);
    }
}
