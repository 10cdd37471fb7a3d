//! What is read of dependencies: advisories, what is known of their exploitation, locks, versions.

use genesis_advisories::affected::{Ranges, Verdict, evaluate};
use genesis_advisories::cargo_lock::Source;
use genesis_advisories::finding::{Known, Package, findings};
use genesis_advisories::osv::Advisory;
use genesis_advisories::requirements::{Item, Move, NotRewritten, Pin, rewrite};
use genesis_advisories::severity::{Scheme, Vector, rate};
use genesis_advisories::version::Version;
use genesis_advisories::{Ecosystem, epss, kev, osv};
use genesis_agent::config::reader::quoted;
use genesis_agent::error::Kind;
use genesis_agent::operations::dependencies::records_in;
use jiff::Timestamp;

use super::text;

/// So many bytes of an upload are read, which may be packed.
const UPLOAD: usize = 64 << 10;

/// Versions to hold advisories against: of both ecosystems, with labels, before a release, and none.
const VERSIONS: [&str; 9] =
    ["0", "0.0.1", "1.0", "1.0.0", "1.2.3-alpha.1", "2.0rc1", "2.0+cu118", "9!1", "none"];

/// An advisory is kept as it was read and then says the same of every version; where it names a fix, it does not affect
/// that; a withdrawn one affects nothing.
pub fn osv_record(data: &[u8]) {
    let Ok(record) = osv::read("any.json", data) else { return };
    for advisory in &record.advisories {
        let kept = serde_json::to_vec(advisory).expect("it can be written");
        let kept: Advisory = serde_json::from_slice(&kept).expect("it reads as it is written");
        assert_eq!(&kept, advisory);
        let ranges = Ranges::of(&kept);
        for version in VERSIONS {
            let verdict = evaluate(advisory, version);
            assert_eq!(ranges.evaluate(version), verdict, "{version}");
            if advisory.withdrawn.is_some() {
                assert_eq!(verdict, Verdict::NotAffected, "{version}");
            }
            if let Verdict::Affected { fixed: Some(fixed), .. } = verdict {
                assert_eq!(evaluate(advisory, &fixed), Verdict::NotAffected, "{version}");
            }
            let (ecosystem, name) = (&advisory.ecosystem, advisory.name.as_str());
            let package = Package { ecosystem, name, version };
            for finding in findings(package, &record.advisories, Known::default()) {
                assert_eq!(finding.ids.first(), Some(&finding.id));
                assert!(finding.severity.score.is_none_or(|it| (0.0..=10.0).contains(&it)));
            }
        }
    }
}

/// The catalogue of what is exploited is never empty, and is kept as it was read.
pub fn exploited_catalogue(data: &[u8]) {
    let Ok(catalogue) = kev::read(data) else { return };
    assert!(!catalogue.exploited.is_empty());
    let kept = serde_json::to_vec(&catalogue).expect("it can be written");
    let kept: kev::Kev = serde_json::from_slice(&kept).expect("it reads as it is written");
    assert_eq!(kept, catalogue);
}

/// Each score of a day is found by its id, and the same scores come of a file with nothing but them.
pub fn likelihoods(data: &[u8]) {
    let Ok(scores) = epss::read(&text(data)) else { return };
    assert!(!scores.is_empty());
    let day = Timestamp::from_second(scores.date).expect("it is a time");
    let mut file = format!("#model_version:v1,score_date:{day}\ncve,epss,percentile\n");
    for (id, score) in scores.iter() {
        assert_eq!(scores.get(&id), Some(score), "{id}");
        file.push_str(&format!("{id},{},{}\n", score.probability, score.percentile));
    }
    let again = epss::read(&file).expect("it is such a file");
    assert_eq!((again.date, again.len()), (scores.date, scores.len()));
    assert!(again.iter().eq(scores.iter()));
}

/// Vectors, one in each line: a score is from 0 to 10, and does not depend on their order.
pub fn cvss_vectors(data: &[u8]) {
    let text = text(data);
    let read = |line: &str| Scheme::of(line).map(|scheme| Vector::new(scheme, line));
    let mut vectors: Vec<Vector> = text.lines().filter_map(read).take(64).collect();
    let severity = rate(&vectors);
    assert!(severity.score.is_none_or(|score| (0.0..=10.0).contains(&score)), "{severity:?}");
    vectors.reverse();
    assert_eq!(rate(&vectors), severity);
}

/// Entries come in the order of their lines, by any line ends, and pins that are moved leave all else as it was.
pub fn requirements(data: &[u8]) {
    use genesis_advisories::requirements::read;

    let text = text(data);
    let entries = read(&text);
    assert!(entries.is_sorted_by_key(|entry| entry.line));
    let unix = text.replace("\r\n", "\n");
    if !unix.contains('\r') {
        assert_eq!(read(&unix), entries);
    }
    let pins = entries.iter().filter_map(|entry| match &entry.item {
        Item::Pin(pin) => Some((entry.line, pin)),
        _ => None,
    });
    // What is arbitrary (`===`) may hold a quote, which then parts the line in another way.
    let plain = |pin: &Pin| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".!+-_*".contains(&byte);
        pin.version.bytes().all(known)
    };
    let pins: Vec<(usize, &Pin)> = pins.filter(|(_, pin)| plain(pin)).collect();
    let moved = |(line, pin): &(usize, &Pin)| Move {
        line: *line,
        version: "9.9".to_owned(),
        hashes: pin.hashes.clone(),
    };
    let moves: Vec<Move> = pins.iter().map(moved).collect();
    let written = match rewrite(&text, &moves) {
        Ok(written) => written,
        Err(NotRewritten::Parted(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let expected = entries.iter().map(|entry| match &entry.item {
        Item::Pin(pin) if plain(pin) => Item::Pin(Pin { version: "9.9".to_owned(), ..pin.clone() }),
        item => item.clone(),
    });
    let found = read(&written).into_iter().map(|entry| entry.item);
    assert!(found.eq(expected), "{text:?} became {written:?}");
}

/// The packages of a lock come of one that has nothing but them, too.
pub fn cargo_lock(data: &[u8]) {
    use genesis_advisories::cargo_lock::read;

    const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let Ok(packages) = read(&text(data)) else { return };
    assert!(!packages.is_empty());
    let known = |source: &Source| matches!(source, Source::CratesIo | Source::Path);
    let known: Vec<_> = packages.into_iter().filter(|package| known(&package.source)).collect();
    if known.is_empty() {
        return;
    }
    let mut lock = "version = 4\n".to_owned();
    for package in &known {
        let (name, version) = (quoted(&package.name), quoted(&package.version));
        lock.push_str(&format!("\n[[package]]\nname = {name}\nversion = {version}\n"));
        if package.source == Source::CratesIo {
            lock.push_str(&format!("source = \"{INDEX}\"\n"));
        }
        if let Some(checksum) = &package.checksum {
            lock.push_str(&format!("checksum = {}\n", quoted(checksum)));
        }
    }
    assert_eq!(read(&lock), Ok(known));
}

/// Up to three versions, one in each line: they have an order, and a version is the one that it is shown as.
pub fn versions(data: &[u8]) {
    let text = text(data);
    for ecosystem in [Ecosystem::PyPI, Ecosystem::CratesIo] {
        let read = |line: &str| Version::read(&ecosystem, line).ok();
        let versions: Vec<Version> = text.lines().take(3).filter_map(read).collect();
        for one in &versions {
            assert_eq!(read(&one.to_string()).as_ref(), Some(one), "{one}");
            for other in &versions {
                assert_eq!(one.cmp(other), other.cmp(one).reverse(), "{one} and {other}");
            }
        }
        if let [one, two, three] = &versions[..] {
            if one <= two && two <= three {
                assert!(one <= three, "{one}, {two}, {three}");
            }
            if one >= two && two >= three {
                assert!(one >= three, "{one}, {two}, {three}");
            }
        }
    }
}

/// An upload, packed or not: what is no advisory is refused for what it is.
pub fn advisory_file(data: &[u8]) {
    if data.len() > UPLOAD {
        return;
    }
    if let Err(error) = records_in(data) {
        assert_ne!(error.kind, Kind::Internal, "{}", error.chain());
    }
}
