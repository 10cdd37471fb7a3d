//! All of an agent in use at once: calls of every rpc without a pause, two thousand readers, ten thousand connections of which
//! nobody wants anything, and callers who write a byte each second.
//!
//! With `GENESIS_LONG=1` it takes twenty minutes, figures are held to their goals, and written to the folder that
//! `GENESIS_RELIABILITY_LOAD` names. Else it takes some seconds, and no time is held against anything. The agent is that of
//! `GENESIS_PROGRAMS`, where that names a folder.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use genesis_proto::v1::agent_service_client::AgentServiceClient;
use genesis_proto::v1::oplog_service_client::OplogServiceClient;
use genesis_proto::v1::recovery_service_client::RecoveryServiceClient;
use genesis_proto::v1::{self, Role};
use genesis_tests::clock::{Watch, wait_until, wait_until_within};
use genesis_tests::crowd::{Crowd, address, raise_file_limit, resident};
use genesis_tests::random::Random;
use genesis_tests::rpcs::{self, Rpc};
use genesis_tests::{TestAgent, binaries};
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Request;
use prost::Message;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use crate::every_rpc::{Judge, PATIENCE, admin, runtime};

/// Who is shed comes back sooner than it was told, so that there is always too much to do.
const BACK: Duration = Duration::from_millis(50);
/// So many calls of one caller are worked on at a time.
const SHARE: usize = 64;
/// Milliseconds within which an emergency is declared, and released, 99 times of 100.
const GOAL: f64 = 200.0;
/// How much larger the agent's memory may be at one time than at another.
const FLAT: f64 = 1.1;

/// So many write those.
const WRITERS: usize = 40;

/// How much of everything there is.
struct Scale {
    long: bool,
    /// For so long every rpc is called, and before memory is looked at: its caches fill first.
    calls: (Duration, Duration),
    /// So many entries the operation log has before.
    notes: usize,
    /// How often memory is looked at.
    look: Duration,
    /// Callers who only look, from so many addresses, and those who may do everything.
    callers: (usize, usize, usize),
    readers: usize,
    emergencies: usize,
    idle: usize,
    /// Callers who write slowly, and how many calls each has.
    slow: (usize, usize),
}

impl Scale {
    fn of_this_run() -> Self {
        let seconds = Duration::from_secs;
        match is_long() {
            true => Self {
                long: true,
                calls: (seconds(780), seconds(180)),
                notes: 40_000,
                look: seconds(5),
                callers: (768, 16, 96),
                readers: 2_000,
                emergencies: 200,
                idle: 10_000,
                slow: (3, 100),
            },
            false => Self {
                long: false,
                calls: (seconds(4), seconds(1)),
                notes: 200,
                look: seconds(1),
                callers: (96, 4, 16),
                readers: 100,
                emergencies: 5,
                idle: 500,
                slow: (1, 100),
            },
        }
    }
}

pub(crate) fn is_long() -> bool {
    std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1")
}

fn agent() -> TestAgent {
    let listen = "[listen]\nhttp = \"127.0.0.1:0\"\nplaintext_grpc = \"127.0.0.1:0\"\n";
    let mut agent = TestAgent::new(|_| format!("{listen}max_connections = \"16384\"\n"));
    agent.program(binaries::measured_agent());
    agent.start();
    agent
}

/// A connection of somebody who only looks, from an address of this host.
async fn viewer(agent: SocketAddr, from: IpAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{agent}")).unwrap();
    let endpoint = endpoint.connect_timeout(PATIENCE).local_address(Some(from));
    endpoint.connect().await.unwrap()
}

/// Rpcs, each with its request where that is known.
type Calls = Vec<(Rpc, Option<Bytes>)>;

/// Calls one rpc after the other until it is told to stop.
async fn keep_calling(
    (judge, stop): (Arc<Judge>, Arc<AtomicBool>),
    (channel, rpcs): (Channel, Arc<Calls>),
    first: usize,
) {
    let mut random = Random::new(first as u64);
    for at in first.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (rpc, message) = &rpcs[at % rpcs.len()];
        let message = match message {
            Some(message) => message.clone(),
            None if random.within(0, 2) == 0 => Bytes::new(),
            None => rpc.filled(&mut random),
        };
        let watch = Watch::start();
        let answer = rpc.call(&channel, message, PATIENCE).await;
        judge.called(&rpc.path);
        let called = || format!("caller {first}, {} after {:?}", rpc.path, watch.elapsed());
        if let Some(delay) = judge.count(called, answer.map(drop)) {
            tokio::time::sleep(delay.min(BACK)).await;
        }
    }
}

/// Rpcs that change nothing and that this role may call.
fn looking(role: Role) -> Calls {
    let reads = |rpc: &Rpc| {
        let may = rpc.policy.role.is_some_and(|needs| needs as i32 <= role as i32);
        may && !rpc.policy.mutating && !rpc.policy.takes_stream
    };
    rpcs::all().into_iter().filter(reads).map(|rpc| (rpc, None)).collect()
}

/// Rpcs that change something: some of them the same again and again, and each of them with whatever may mean something.
fn changing() -> Calls {
    let name = || "storage.compact".to_owned();
    let parameter = v1::SetParameterRequest {
        strategy: "mm".to_owned(),
        name: "threshold".to_owned(),
        value: "0.002".to_owned(),
        ..Default::default()
    };
    let note = v1::AddNoteRequest { text: "under load".to_owned(), ..Default::default() };
    let pause = v1::PauseJobRequest { name: name(), ..Default::default() };
    let resume = v1::ResumeJobRequest { name: name(), ..Default::default() };
    let each = [
        ("AgentService/ReloadConfig", Vec::new()),
        ("ParameterService/SetParameter", parameter.encode_to_vec()),
        ("ScheduleService/PauseJob", pause.encode_to_vec()),
        ("OplogService/AddNote", note.encode_to_vec()),
        ("ScheduleService/ResumeJob", resume.encode_to_vec()),
    ];
    let named = |rpc: &str| rpcs::named(&format!("/genesis.v1.{rpc}"));
    let each = each.map(|(rpc, message)| (named(rpc), Some(Bytes::from(message))));
    let all = rpcs::all().into_iter().filter(|rpc| rpc.policy.mutating || rpc.policy.takes_stream);
    all.map(|rpc| (rpc, None)).chain(each).collect()
}

/// The agent has been in use for a while: what is listed and read grows no more by as much as would be seen.
fn used(agent: &TestAgent, runtime: &Runtime, notes: usize) {
    let note = v1::AddNoteRequest { text: "before the load".to_owned(), ..Default::default() };
    let socket = agent.node();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let mut client = OplogServiceClient::new(admin(&socket).await);
            let (note, notes) = (note.clone(), notes / WRITERS);
            tasks.spawn(async move {
                for number in 0..notes {
                    let added = client.add_note(reasoned(note.clone())).await;
                    added.unwrap_or_else(|error| panic!("note {number} of {writer}: {error}"));
                }
            });
        }
        tasks.join_all().await;
    });
}

/// Every rpc is called without a pause: the agent's memory stays what it is, and whoever is shed is told when to come back.
fn calls(scale: &Scale) -> Value {
    let (agent, runtime, judge) = (agent(), runtime(), Judge::new());
    let stop = Arc::new(AtomicBool::new(false));
    let (viewers, addresses, admins) = scale.callers;
    let (looks, all) = (Arc::new(looking(Role::Viewer)), Arc::new(looking(Role::Admin)));
    let changes = Arc::new(changing());
    let (plaintext, socket) = (agent.plaintext(), agent.node());
    used(&agent, &runtime, scale.notes);
    let mut tasks = JoinSet::new();
    runtime.block_on(async {
        let mut channels = Vec::new();
        for number in 0..addresses {
            channels.push(viewer(plaintext, address(number)).await);
        }
        let local = admin(&socket).await;
        for number in 0..viewers + admins + 4 {
            let (channel, rpcs) = if number < viewers {
                (channels[number % addresses].clone(), &looks)
            } else if number < viewers + admins {
                (local.clone(), &all)
            } else {
                (admin(&socket).await, &changes)
            };
            let shared = (Arc::clone(&judge), Arc::clone(&stop));
            // Not all begin with the same.
            tasks.spawn(keep_calling(shared, (channel, Arc::clone(rpcs)), number * 7));
        }
    });
    let paths = all.iter().chain(&*changes).map(|(rpc, _)| rpc.path.as_str());
    let known = paths.collect::<BTreeSet<_>>().len();
    assert_eq!(known, rpcs::all().len(), "not every rpc is to be called");
    let (began, mut memory) = (Watch::start(), Vec::new());
    while began.elapsed() < scale.calls.0 {
        std::thread::sleep(scale.look);
        if began.elapsed() > scale.calls.1 {
            memory.push(resident(agent.pid()));
        }
    }
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    judge.is_content();
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    // What a minute takes at most: at each minute's end the agent gives back what it can.
    let looks = usize::try_from(60 / scale.look.as_secs()).unwrap();
    let peaks = memory.chunks_exact(looks.min(memory.len()));
    let peaks: Vec<u64> = peaks.filter_map(|minute| minute.iter().max().copied()).collect();
    let (least, most) = (peaks.iter().min().unwrap(), peaks.iter().max().unwrap());
    let ratio = *most as f64 / *least as f64;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (shed, untaken) = (of(&judge.shed), of(&judge.untaken));
    assert!(untaken * 10_000 <= of(&judge.answered), "{untaken} calls were looked at by nobody");
    if scale.long {
        assert_eq!(judge.ever_called(), known, "some rpcs were never called");
        assert!(shed > 0, "nothing is shed, so that it was never too much");
        assert!(ratio <= FLAT, "its memory was between {least} and {most} bytes: {memory:?}");
    }
    json!({
        "seconds": began.elapsed().as_secs(),
        "callers": viewers + admins + 4,
        "rpcs": judge.ever_called(),
        "answered": of(&judge.answered),
        "refused": of(&judge.refused),
        "shed": shed,
        "untaken": untaken,
        "resident_least": least,
        "resident_most": most,
        "resident_ratio": ratio,
    })
}

fn reasoned<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("genesis-reason", "it is drowning".parse().unwrap());
    request
}

/// Declares emergencies and releases them, each from a connection of its own; what each took, in milliseconds, sorted.
fn emergencies(socket: &str, times: usize) -> Vec<f64> {
    // What an operator's own laptop would do is not slowed down by the work of the others here.
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut taken = own.block_on(async {
        let mut client = RecoveryServiceClient::new(admin(socket).await);
        let mut taken = Vec::new();
        for _ in 0..times {
            let watch = Watch::start();
            let on = reasoned(v1::ActivateEmergencyRequest::default());
            client.activate_emergency(on).await.unwrap();
            taken.push(watch.elapsed().as_secs_f64() * 1e3);
            let watch = Watch::start();
            let off = reasoned(v1::ReleaseEmergencyRequest::default());
            client.release_emergency(off).await.unwrap();
            taken.push(watch.elapsed().as_secs_f64() * 1e3);
        }
        taken
    });
    taken.sort_by(f64::total_cmp);
    taken
}

fn figures(taken: &[f64]) -> Value {
    let at = |part: usize| taken[(taken.len() * part / 100).min(taken.len() - 1)];
    json!({ "calls": taken.len(), "p50_ms": at(50), "p99_ms": at(99), "most_ms": at(100) })
}

#[track_caller]
fn are_fast(figures: &Value, beside: &str) {
    let p99 = figures["p99_ms"].as_f64().unwrap();
    assert!(p99 <= GOAL, "an emergency beside {beside} takes {p99:.1} ms: {figures}");
}

/// So many ask for the status without a pause, each on a connection of its own.
fn readers(scale: &Scale) -> Value {
    let (agent, runtime) = (agent(), runtime());
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ready = Arc::new(AtomicUsize::new(0));
    let plaintext = agent.plaintext();
    let mut tasks = JoinSet::new();
    for number in 0..scale.readers {
        let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
        let ready = Arc::clone(&ready);
        let reading = async move {
            let mut client =
                AgentServiceClient::new(viewer(plaintext, address(number % 100)).await);
            ready.fetch_add(1, Ordering::SeqCst);
            while !stop.load(Ordering::Relaxed) {
                match client.get_status(v1::GetStatusRequest {}).await {
                    Ok(_) => {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(status) => {
                        let details = status.get_error_details();
                        let delay = details.retry_info().and_then(|info| info.retry_delay);
                        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                        tokio::time::sleep(delay.expect("when to come back")).await;
                    }
                }
            }
        };
        tasks.spawn_on(reading, runtime.handle());
    }
    wait_until_within(4 * PATIENCE, "all readers", || {
        ready.load(Ordering::SeqCst) == scale.readers
    });
    let (began, before) = (Watch::start(), asked.load(Ordering::Relaxed));
    let taken = figures(&emergencies(&agent.node(), scale.emergencies));
    let rate = (asked.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    if scale.long {
        are_fast(&taken, "readers");
    }
    json!({ "readers": scale.readers, "reads_per_second": rate, "emergency": taken })
}

/// One call whose message comes a byte each second; what it ends with.
async fn write_slowly(answer: ResponseFuture, mut message: SendStream<Bytes>) -> Option<Code> {
    // It would have a thousand bytes.
    let _ = message.send_data(Bytes::from_static(&[0, 0, 0, 3, 0xe8]), false);
    let mut answer = std::pin::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => {
                let answer = answer.ok()?;
                let code = answer.headers().get("grpc-status")?.to_str().ok()?.parse().ok()?;
                return Some(Code::from_i32(code));
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                let _ = message.send_data(Bytes::from_static(b"a"), false);
            }
        }
    }
}

/// All that one caller writes slowly, on several connections; the codes with which that ends.
async fn slow_caller(
    (agent, from, calls): (SocketAddr, IpAddr, usize),
    shed: Arc<AtomicUsize>,
) -> Vec<Option<Code>> {
    let mut tasks = JoinSet::new();
    for _ in 0..calls.div_ceil(25) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let stream = socket.connect(agent).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..25 {
            let request = Request::post("http://agent/genesis.v1.AgentService/GetStatus")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .unwrap();
            let mut ready = requests.clone().ready().await.unwrap();
            let (answer, message) = ready.send_request(request, false).unwrap();
            let shed = Arc::clone(&shed);
            tasks.spawn(async move {
                let code = write_slowly(answer, message).await;
                if code == Some(Code::ResourceExhausted) {
                    shed.fetch_add(1, Ordering::SeqCst);
                }
                code
            });
        }
    }
    tasks.join_all().await
}

/// Many are connected and want nothing, and some write a byte each second: nobody else notices.
fn crowd(scale: &Scale) -> Value {
    let open = usize::try_from(raise_file_limit()).unwrap_or(usize::MAX);
    let (agent, runtime) = (agent(), runtime());
    let plaintext = agent.plaintext();
    // The agent may open as many files as this process, and lets half of them be connections, of which some are others'.
    let places = (open.saturating_sub(64) / 2).saturating_sub(64);
    let room = scale.idle.min(open.saturating_sub(2_000)).min(places);
    let mut early = AgentServiceClient::new(runtime.block_on(viewer(plaintext, address(9_999))));
    let mut answers = || {
        let asked = async {
            // Who is shed for a moment comes back when it is told to.
            while let Err(status) = early.get_status(v1::GetStatusRequest {}).await {
                let details = status.get_error_details();
                let delay = details.retry_info().and_then(|info| info.retry_delay);
                tokio::time::sleep(delay.unwrap_or_else(|| panic!("{status}"))).await;
            }
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.unwrap() });
        agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    };
    (0..20).for_each(|_| answers());
    let before = resident(agent.pid());
    let idle = runtime.block_on(Crowd::gather(plaintext, room));
    wait_until("the crowd is in", || idle.alive() * 100 >= room * 95);
    answers();
    let beside_idle = figures(&emergencies(&agent.node(), scale.emergencies));
    let with = resident(agent.pid());
    let (callers, calls) = scale.slow;
    let shed = Arc::new(AtomicUsize::new(0));
    let slow: Vec<_> = (0..callers)
        .map(|number| {
            let who = (plaintext, address(20_000 + number), calls);
            runtime.spawn(slow_caller(who, Arc::clone(&shed)))
        })
        .collect();
    wait_until_within(4 * PATIENCE, "slow callers have their share", || {
        shed.load(Ordering::SeqCst) >= callers * (calls - SHARE)
    });
    let beside_slow = figures(&emergencies(&agent.node(), scale.emergencies.min(20)));
    assert!(!scale.long || slow.iter().any(|caller| !caller.is_finished()), "nobody was slow");
    answers();
    let mut given_up = 0;
    for caller in slow {
        let codes = runtime.block_on(caller).unwrap();
        let of = |wanted: Code| codes.iter().filter(|code| **code == Some(wanted)).count();
        let (late, turned_away) = (of(Code::DeadlineExceeded), of(Code::ResourceExhausted));
        assert!(late <= SHARE, "{late} calls of one caller were worked on at a time");
        assert_eq!(late + turned_away, codes.len(), "{codes:?}");
        given_up += late;
    }
    let alive = idle.alive();
    runtime.block_on(idle.disperse());
    answers();
    let mut after = resident(agent.pid());
    if scale.long {
        are_fast(&beside_idle, "idle connections");
        are_fast(&beside_slow, "slow writers");
        wait_until_within(Duration::from_secs(240), "its memory comes back", || {
            after = resident(agent.pid());
            after < before + before / 4 + (16 << 20)
        });
    }
    json!({
        "idle": room,
        "idle_at_the_end": alive,
        "emergency_beside_idle": beside_idle,
        "slow_calls": callers * calls,
        "slow_shed": shed.load(Ordering::SeqCst),
        "slow_given_up": given_up,
        "emergency_beside_slow": beside_slow,
        "resident_before": before,
        "resident_with": with,
        "resident_after": after,
    })
}

/// Keeps what came of a part in the folder that the environment names: as JSON, and as rows of the table in
/// docs/reliability.md, of what was measured and its goal.
fn keep(part: &str, found: &Value, rows: &[[String; 3]]) {
    let Some(folder) = std::env::var_os("GENESIS_RELIABILITY_LOAD").map(PathBuf::from) else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    let text = serde_json::to_string_pretty(found).unwrap();
    std::fs::write(folder.join(part).with_extension("json"), text + "\n").unwrap();
    let rows: String = rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
    std::fs::write(folder.join(part).with_extension("md"), rows).unwrap();
}

fn megabytes(bytes: &Value) -> String {
    format!("{:.1} MB", bytes.as_f64().unwrap() / 1e6)
}

/// How long emergencies took beside others.
fn row_of(taken: &Value, beside: &str) -> [String; 3] {
    let of = |name: &str| taken[name].as_f64().unwrap();
    let calls = &taken["calls"];
    [
        format!("an emergency beside {beside}: median, 99th percentile, slowest of {calls} calls"),
        format!("{:.1}, {:.1}, {:.1} ms", of("p50_ms"), of("p99_ms"), of("most_ms")),
        format!("99th percentile {GOAL} ms"),
    ]
}

/// The parts of the load, one at a time: what each measures is an agent that has the host to itself.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn memory_stays_what_it_is_and_who_is_shed_is_told_when_to_come_back() {
    let _alone = alone();
    raise_file_limit();
    let found = calls(&Scale::of_this_run());
    let of = |name: &str| &found[name];
    let rows = [
        [
            format!("{} rpcs called without a pause by {} callers", of("rpcs"), of("callers")),
            format!("{} s", of("seconds")),
            "600 s".to_owned(),
        ],
        [
            "calls answered, refused for what they asked, shed, turned away by HTTP/2 unseen"
                .to_owned(),
            format!("{}, {}, {}, {}", of("answered"), of("refused"), of("shed"), of("untaken")),
            "all that are shed know when to come back".to_owned(),
        ],
        [
            "resident memory, the highest of each minute".to_owned(),
            format!(
                "{} to {}: {:.3} times",
                megabytes(of("resident_least")),
                megabytes(of("resident_most")),
                of("resident_ratio").as_f64().unwrap()
            ),
            format!("{FLAT} times"),
        ],
    ];
    keep("calls", &found, &rows);
}

#[test]
fn emergencies_are_fast_beside_readers() {
    let _alone = alone();
    raise_file_limit();
    let found = readers(&Scale::of_this_run());
    let rate = found["reads_per_second"].as_f64().unwrap();
    let readers = format!("{} readers, {rate:.0} reads a second", found["readers"]);
    keep("readers", &found, &[row_of(&found["emergency"], &readers)]);
}

#[test]
fn who_is_idle_or_slow_hurts_nobody() {
    let _alone = alone();
    let found = crowd(&Scale::of_this_run());
    let (idle, slow) = (&found["idle"], &found["slow_calls"]);
    let rows = [
        row_of(&found["emergency_beside_idle"], &format!("{idle} idle connections")),
        row_of(&found["emergency_beside_slow"], &format!("these and {slow} slow writers")),
        [
            "slow writers shed at once, given up after their time".to_owned(),
            format!("{}, {}", found["slow_shed"], found["slow_given_up"]),
            "all".to_owned(),
        ],
        [
            "resident memory before these, with the idle ones, after all".to_owned(),
            ["resident_before", "resident_with", "resident_after"]
                .map(|at| megabytes(&found[at]))
                .join(", "),
            "after all: 1.25 times what was before, and 17 MB".to_owned(),
        ],
    ];
    keep("crowd", &found, &rows);
}
