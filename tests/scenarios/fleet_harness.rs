//! What the scenarios of fleets stand on: that what goes wrong there does go wrong.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::binaries::tool;
use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::etcd::{Etcd, EtcdCluster, EtcdOptions};
use genesis_tests::netns::{Namespace, Network};

/// Whether it answers within a moment; otherwise it says nothing at all.
fn answers(etcd: &Etcd) -> bool {
    match etcd.try_ctl(&["--command-timeout=300ms", "get", "k"]) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.contains("deadline exceeded"), "{error}");
            false
        }
    }
}

#[test]
fn fleet_harness_an_etcd_freezes_dies_and_comes_back_with_what_it_had() {
    let etcd = Etcd::start();
    etcd.put("k", "kept");
    etcd.put("-odd key", "");
    assert_eq!(etcd.get("-odd key").as_deref(), Some(""));
    assert_eq!((etcd.get("other"), etcd.keys("k")), (None, vec!["k".to_owned()]));
    assert!(etcd.delete("-odd key") && !etcd.delete("-odd key"));

    etcd.freeze();
    assert!(!answers(&etcd));
    etcd.thaw();
    assert!(answers(&etcd));
    for end in [Etcd::kill, Etcd::stop] {
        end(&etcd);
        let port = etcd.endpoint().rsplit(':').next().unwrap().parse().unwrap();
        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        etcd.restart();
        assert_eq!(etcd.get("k").as_deref(), Some("kept"));
    }

    let before = etcd.revision();
    let snapshot = etcd.snapshot("before");
    etcd.put("k", "changed");
    etcd.compact();
    etcd.compact();
    let old = etcd.try_ctl(&["get", "--rev", &before.to_string(), "k"]).unwrap_err();
    assert!(old.contains("required revision has been compacted"), "{old}");
    etcd.restore(&snapshot);
    assert_eq!((etcd.get("k").as_deref(), etcd.revision()), (Some("kept"), before));
    etcd.wipe();
    assert_eq!((etcd.keys(""), etcd.revision()), (vec![], 1));
}

#[test]
fn fleet_harness_a_full_etcd_refuses_until_there_is_room() {
    let etcd = Etcd::with(EtcdOptions::default().quota(4 << 20));
    etcd.put("k", "kept");
    etcd.fill();
    for write in [&["put", "k", "small"][..], &["lease", "grant", "60"]] {
        let refused = etcd.try_ctl(write).unwrap_err();
        assert!(refused.contains("database space exceeded"), "{refused}");
    }
    assert_eq!(etcd.get("k").as_deref(), Some("kept"));
    etcd.restart();
    assert!(etcd.is_full(), "a restart makes no room");
    etcd.make_room();
    etcd.put("k", "changed");
    assert_eq!(etcd.keys(""), ["k"]);
}

#[test]
fn fleet_harness_certificates_and_logins_are_demanded() {
    let etcd = Etcd::with(EtcdOptions::default().tls().auth("agent", "p:w d"));
    let tls = etcd.tls();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (url, ca) = (etcd.endpoint(), text(&tls.ca));
    let shown = [text(&tls.certificate), text(&tls.key)];
    let etcdctl = |identity: bool, user: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/etcdctl");
        command.env_clear().env("ETCDCTL_API", "3");
        command.args(["--command-timeout=2s", "--endpoints", &url, "--cacert", &ca]);
        if identity {
            command.args(["--cert", &shown[0], "--key", &shown[1]]);
        }
        command.args(user.map(|user| format!("--user={user}")));
        let output = command.args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(said)
    };
    let agent = Some("agent:p:w d");
    let within = ["put", "/genesis/prod/k", "v"];
    etcdctl(true, agent, &within).unwrap();
    let unshown = etcdctl(false, agent, &within).unwrap_err();
    assert!(unshown.contains("bad certificate") || unshown.contains("deadline"), "{unshown}");
    for (user, key, why) in [
        (Some("agent:wrong"), "/genesis/prod/k", "authentication failed"),
        // Its certificate names one whom etcd does not know.
        (None, "/genesis/prod/k", "permission denied"),
        (agent, "/other/k", "permission denied"),
        (agent, "/genesis/other/k", "permission denied"),
    ] {
        let refused = etcdctl(true, user, &["put", key, "v"]).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(etcd.keys(""), ["/genesis/prod/k"]);
    // It is as strict after that.
    etcd.wipe();
    etcdctl(true, None, &within).unwrap_err();
    etcdctl(true, agent, &within).unwrap();
}

#[test]
fn fleet_harness_a_cluster_goes_on_without_its_leader_but_not_without_most() {
    let cluster = EtcdCluster::start(3);
    let first = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|index| *index != first).collect();
    cluster.member(first).freeze();
    let second = wait_for("another leader", || Some(cluster.leader()).filter(|it| *it != first));
    cluster.member(second).put("k", "of two");
    let third = others.into_iter().find(|index| *index != second).unwrap();
    cluster.member(second).kill();
    assert!(!answers(cluster.member(third)), "one of three");
    cluster.member(first).thaw();
    cluster.member(first).wait_healthy();
    assert_eq!(cluster.member(first).get("k").as_deref(), Some("of two"));
    cluster.member(second).restart();
    cluster.wipe();
    assert!(cluster.members().iter().all(|member| member.get("k").is_none()));
}

#[test]
fn fleet_harness_a_partition_is_silent_and_heals() {
    let network = Network::new(&["a", "b", "c"]);
    let [a, b, c] = ["a", "b", "c"].map(|name| network.host(name));
    let address = SocketAddr::from((b.address(), 7_000));
    let _listener = b.within(|| TcpListener::bind(address).unwrap());
    let kind = |from: &Namespace| {
        let wait = Duration::from_millis(300);
        let made = from.within(|| TcpStream::connect_timeout(&address, wait));
        made.err().map(|error| error.kind())
    };
    let silent = Some(std::io::ErrorKind::TimedOut);
    let reaches = || [kind(a), kind(c)];
    assert_eq!(reaches(), [None, None]);
    assert_eq!(kind(b), None);
    network.partition("b");
    assert_eq!((reaches(), kind(b)), ([silent, silent], None));
    network.heal("b");
    assert_eq!(reaches(), [None, None]);
    for (from, to) in [("a", "b"), ("b", "a")] {
        network.cut(from, to);
        assert_eq!(reaches(), [silent, None], "{from} to {to}");
        network.mend(from, to);
        assert_eq!(reaches(), [None, None]);
    }
}

#[test]
fn fleet_harness_an_agent_and_an_etcd_have_networks_of_their_own() {
    let network = Network::new(&["etcd", "agent"]);
    let (server, host) = (network.host("etcd"), network.host("agent"));
    let etcd = Etcd::with(EtcdOptions::default().in_namespace(server));
    let mut agent = TestAgent::new(|_| String::new());
    agent.in_namespace(host);
    agent.start();

    // Its socket is seen from here, its port on its own host alone.
    agent.ctl(&["version"]).ok();
    TcpStream::connect(agent.http()).unwrap_err();
    host.within(|| TcpStream::connect(agent.http())).unwrap();
    let mut ctl = host.command("/usr/bin/etcdctl");
    ctl.env_clear().env("ETCDCTL_API", "3");
    ctl.args(["--command-timeout=500ms", "--endpoints", &etcd.endpoint(), "put", "k", "v"]);
    assert!(ctl.output().unwrap().status.success());
    network.partition("etcd");
    assert!(!ctl.output().unwrap().status.success());
    // Who asks it where it runs still gets an answer.
    assert_eq!(etcd.get("k").as_deref(), Some("v"));
    network.heal("etcd");
    wait_until("a way to etcd", || ctl.output().unwrap().status.success());
}

#[test]
fn fleet_harness_a_frozen_agent_does_nothing() {
    let agent = TestAgent::started(|_| String::new());
    let answers = || {
        let mut stream = TcpStream::connect(agent.http()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            .unwrap();
        std::io::Read::read(&mut stream, &mut [0]).is_ok()
    };
    wait_until("an answer", answers);
    agent.freeze();
    assert!(!answers());
    agent.thaw();
    wait_until("an answer", answers);
}

#[test]
fn fleet_harness_networks_go_with_their_tests() {
    let sleep = || {
        let mut sleep = Command::new("sleep");
        sleep.arg("600").spawn().unwrap()
    };
    // As if this were the process of a test.
    let mut killed = sleep();
    let prefixes = [killed.id(), std::process::id()].map(|owner| format!("genesis-{owner}-"));
    let left = || {
        let all = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let all = all.map(|entry| entry.file_name().into_string().unwrap());
        all.filter(|name| prefixes.iter().any(|own| name.starts_with(own))).count()
    };
    let old = format!("{}0-a", prefixes[0]);
    tool("ip", &["netns", "add", &old]);
    let mut orphan = Command::new("nsenter");
    orphan.arg(format!("--net=/run/netns/{old}")).args(["sleep", "600"]);
    let mut orphan = orphan.spawn().unwrap();
    wait_until("a process in the namespace", || {
        String::from_utf8(tool("ip", &["netns", "pids", &old])).unwrap().trim()
            == orphan.id().to_string()
    });

    let first = Network::new(&["a"]);
    assert_eq!(left(), 3, "whose test runs stays");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let second = Network::new(&["a"]);
    assert_eq!(left(), 4, "two networks of a switch and a host");
    assert!(!orphan.wait().unwrap().success());

    let mut forgotten = second.host("a").command("sleep").arg("600").spawn().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _networks = (first, second);
        panic!("as a test that fails");
    }));
    assert!(panicked.is_err());
    assert_eq!(left(), 0);
    assert!(!forgotten.wait().unwrap().success());
}
