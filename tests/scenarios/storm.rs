//! A load of every domain at once, while everything goes wrong: nothing that was acknowledged is lost, nothing is done
//! twice, nothing is left behind. `GENESIS_SEED` gives the same schedule again, `GENESIS_LONG=1` everything that there is
//! for half an hour (`GENESIS_STORM_MINUTES`); docs/reliability.md has what came of it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use genesis_tests::clock::{Watch, now, wait_until};
use genesis_tests::storm::faults::{Fault, Moment, schedule};
use genesis_tests::storm::ledger::{Became, Count, Fact, Ledger};
use genesis_tests::storm::proxy::{Mode, Proxy};
use genesis_tests::storm::report::Report;
use genesis_tests::storm::world::Service;
use genesis_tests::storm::{long, short};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The seed that was asked for, or another one each time.
fn seed() -> u64 {
    variable("GENESIS_SEED").unwrap_or_else(|| now().as_microsecond().cast_unsigned() % 1_000_000)
}

/// Nothing did not hold.
fn calm(report: &Report) {
    assert!(report.acknowledged > 100, "there was a load: {}", report.json());
    assert!(report.violations().is_empty(), "seed {}: {:#}", report.seed, report.json());
    for (name, kind) in report.kinds() {
        assert_eq!((kind.losses, kind.duplicates), (0, 0), "{name}");
    }
}

#[test]
fn a_storm_over_everything_loses_nothing_and_does_nothing_twice() {
    let seed = seed();
    println!("GENESIS_SEED={seed}");
    let is_long = std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1");
    let report = if is_long {
        let minutes = variable("GENESIS_STORM_MINUTES").unwrap_or(30);
        long(seed, Duration::from_secs(minutes * 60))
    } else {
        short(seed)
    };
    println!("{}", report.table());
    calm(&report);
    let services = if is_long { &Service::ALL[..] } else { &Service::QUICK[..] };
    let had: BTreeSet<&str> = report.kinds().keys().copied().collect();
    let wanted: BTreeSet<&str> = Fault::all(services).into_iter().map(Fault::kind).collect();
    assert_eq!(had, wanted);
}

#[test]
fn the_schedule_of_a_storm_is_its_seeds() {
    let faults = Fault::all(&Service::ALL);
    let of = |seed: u64| schedule(seed, &faults).take(3 * faults.len()).collect::<Vec<Moment>>();
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
    for round in of(7).chunks(faults.len()) {
        let in_order = faults.iter().all(|fault| round.iter().any(|it| it.fault == *fault));
        assert!(in_order, "each comes once in each round: {round:?}");
        assert!(round.iter().all(|moment| (2..20).contains(&moment.steps)), "{round:?}");
    }
    let none = &Service::ALL[..0];
    for (services, kinds) in [(&Service::ALL[..], 12), (&Service::QUICK[..], 12), (none, 6)] {
        for seed in 0..20 {
            let each = Fault::of_each_kind(services, seed);
            let names: BTreeSet<&str> = each.iter().map(|fault| fault.kind()).collect();
            assert_eq!((each.len(), names.len()), (kinds, kinds), "{services:?} {seed}");
        }
    }
}

#[test]
fn the_ledger_tells_what_must_be_there_from_what_may_be() {
    let ledger = Ledger::default();
    for (fact, became) in [
        (Fact::Trades(20), Became::Acknowledged),
        (Fact::Trades(7), Became::Doubtful),
        (Fact::Note("one".into()), Became::Acknowledged),
        (Fact::Note("two".into()), Became::Doubtful),
        (Fact::Trades(3), Became::Acknowledged),
    ] {
        ledger.note(fact, became);
    }
    let trades = |fact: &Fact| match fact {
        Fact::Trades(count) => Some(*count),
        _ => None,
    };
    assert_eq!(ledger.count(trades), Count { acknowledged: 23, doubtful: 7 });
    let two = Count { acknowledged: 0, doubtful: 1 };
    assert_eq!(ledger.times(&Fact::Note("two".into())), two);
    assert_eq!(ledger.newest(2, trades), [(3, Became::Acknowledged), (7, Became::Doubtful)]);
    assert_eq!(ledger.acknowledged(), 3);
}

/// A server that answers each line with itself, and how many it has had.
fn echo() -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, lines) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&lines);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let ends = buffer[..length].iter().filter(|byte| **byte == b'\n').count();
                    counted.fetch_add(ends as u64, Ordering::SeqCst);
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, lines)
}

fn said(stream: &mut TcpStream, limit: Duration) -> std::io::Result<String> {
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"hello\n")?;
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn the_proxy_goes_wrong_in_each_way_while_it_runs() {
    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);
    let (server, lines) = echo();
    let proxy = Proxy::start(server);
    let connect = || TcpStream::connect(proxy.address());
    let mut open = connect().unwrap();
    assert_eq!(said(&mut open, LONG).unwrap(), "hello\n");

    // Nothing gets through, and then all of it does.
    proxy.turn(Mode::Drop);
    assert!(said(&mut open, SHORT).is_err());
    assert_eq!(lines.load(Ordering::SeqCst), 1);
    proxy.turn(Mode::Pass);
    let mut buffer = [0; 64];
    open.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(open.read(&mut buffer).unwrap(), 6);

    proxy.turn(Mode::Delay(SHORT));
    let watch = Watch::start();
    assert_eq!(said(&mut open, LONG).unwrap(), "hello\n");
    assert!(watch.elapsed() >= SHORT, "{:?}", watch.elapsed());

    // It was carried out, and the answer is the end of the connection.
    proxy.turn(Mode::HalfClose);
    let before = lines.load(Ordering::SeqCst);
    assert_eq!(said(&mut open, LONG).unwrap(), "");
    assert_eq!(lines.load(Ordering::SeqCst), before + 1);

    proxy.turn(Mode::Repeat);
    let mut open = connect().unwrap();
    let before = lines.load(Ordering::SeqCst);
    assert_eq!(said(&mut open, LONG).unwrap(), "hello\n");
    wait_until("it to arrive again", || lines.load(Ordering::SeqCst) == before + 2);
    wait_until("it to be counted", || proxy.repeated() == 1);

    proxy.turn(Mode::Refuse);
    wait_until("nobody to listen", || connect().is_err());
    assert!(!matches!(said(&mut open, LONG), Ok(text) if !text.is_empty()), "it has ended");
    proxy.turn(Mode::Pass);
    wait_until("somebody to listen again", || connect().is_ok());
    assert_eq!(said(&mut connect().unwrap(), LONG).unwrap(), "hello\n");
}
