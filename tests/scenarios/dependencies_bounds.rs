//! Conservative updates over many random indexes: nothing ever leaves X.Y, packages that others bring too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use genesis_tests::TestAgent;
use genesis_tests::binaries::foreign;
use genesis_tests::clock::now;
use genesis_tests::package_index::{Listed, PackageIndex};
use genesis_tests::random::Random;
use genesis_tests::updates::advisories;
use genesis_tests::wheels::Wheel;
use jiff::SignedDuration;
use serde_json::Value;

/// So many packages has an index.
const PACKAGES: u64 = 6;

/// A version: major, minor, patch.
type Version = (u64, u64, u64);

fn text((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

/// One random index, as one project sees it: what each package is locked in, and what the project asks for.
struct Case {
    locked: BTreeMap<String, Version>,
    wanted: Vec<String>,
}

/// Publishes the packages of a case. Each requires some of those after it, in the versions that are locked and often only in
/// those of another minor one: what is newest drags others over their bounds.
fn publish(index: &PackageIndex, number: u64, random: &mut Random) -> Case {
    let name = |package: u64| format!("p{number}-{package}");
    let mut case = Case { locked: BTreeMap::new(), wanted: Vec::new() };
    let mut locked: Vec<Version> = Vec::new();
    for _ in 0..PACKAGES {
        locked.push((random.within(0, 3), random.within(0, 3), random.within(0, 3)));
    }
    for package in 0..PACKAGES {
        let (major, minor, patch) = locked[package as usize];
        let mut versions = vec![(major, minor, patch)];
        for _ in 0..random.within(2, 6) {
            versions.push(match random.within(0, 3) {
                0 => (major, minor, patch + random.within(1, 9)),
                1 => (major, minor + random.within(1, 3), random.within(0, 4)),
                _ => (major + random.within(1, 2), random.within(0, 4), random.within(0, 4)),
            });
        }
        versions.sort_unstable();
        versions.dedup();
        for version in versions {
            let mut wheel = Wheel::new(&name(package), &text(version)).source("");
            for other in package + 1..PACKAGES {
                let (major, minor, patch) = locked[other as usize];
                let is_locked = version == locked[package as usize];
                match random.within(0, 5) {
                    0 => {
                        wheel = wheel.requires(&format!("{}>={major}.{minor}.{patch}", name(other)))
                    }
                    // Only the locked ones have to go together.
                    1 if !is_locked => {
                        wheel = wheel.requires(&format!("{}>={major}.{}", name(other), minor + 1));
                    }
                    2 => wheel = wheel.requires(&format!("{}<{}", name(other), major + 1)),
                    _ => {}
                }
            }
            index.publish(&wheel, Listed::at(now() - SignedDuration::from_hours(1_000)));
        }
        case.locked.insert(name(package), locked[package as usize]);
        if package < 3 {
            case.wanted.push(name(package));
        }
    }
    case
}

#[test]
fn conservative_updates_of_random_indexes_stay_within_their_bounds() {
    let index = PackageIndex::start();
    let mut random = Random::new(2_026);
    // `GENESIS_LONG=1` looks at a thousand.
    let long = std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1");
    let (mut moved, mut seen) = (0, 0);
    for round in 0..if long { 10 } else { 1 } {
        let size = if long { 100 } else { 12 };
        let cases: Vec<Case> =
            (0..size).map(|it| publish(&index, round * size + it, &mut random)).collect();
        let mut agent = TestAgent::new(|folder| {
            let tools = foreign("python/bin");
            let path = std::env::var("PATH").unwrap_or_default();
            let environment = format!("PATH={}:{path}", tools.display());
            let mut config = "[health]\ndefaults = false\n".to_owned();
            for (number, case) in cases.iter().enumerate() {
                let root = folder.join(format!("app-{number}"));
                fs::create_dir_all(&root).unwrap();
                fs::write(root.join("uv.toml"), index.uv_toml()).unwrap();
                let pins: String = case
                    .locked
                    .iter()
                    .map(|(name, it)| format!("{name}=={}\n", text(*it)))
                    .collect();
                fs::write(root.join("requirements.txt"), pins).unwrap();
                // Half of them are compiled from what is asked for, so that most packages come through others.
                if number % 2 == 0 {
                    fs::write(root.join("requirements.in"), case.wanted.join("\n")).unwrap();
                }
                let _ = write!(
                    config,
                    "[[dependencies.project]]\nname = \"app-{number}\"\nroot = \"{}\"\nmanifests = [\"requirements.txt\"]\n\
                     environment = [{environment:?}]\n",
                    root.display()
                );
            }
            config
        });
        agent.start();
        let known = agent.folder().join("advisories.zip");
        advisories(&known, &[]);
        agent.ctl(&["deps", "import-advisories", known.to_str().unwrap()]).ok();
        for (number, case) in cases.iter().enumerate() {
            let project = format!("app-{number}");
            let check = [
                "deps",
                "check",
                "--project",
                &project,
                "--strategy",
                "conservative",
                "-o",
                "json",
            ];
            let answer = agent.ctl(&check).response();
            let check = &answer["projects"][0];
            let error = check["errorCode"].as_str().unwrap_or_default();
            // That nothing goes together is an answer; that something is out of bounds would be a defect of ours.
            assert!(["", "RESOLUTION_FAILED"].contains(&error), "{check}");
            for change in check["changes"].as_array().unwrap() {
                let (Some(from), Some(to)) = (version(&change["from"]), version(&change["to"]))
                else {
                    continue;
                };
                let name = change["package"].as_str().unwrap();
                assert_eq!(case.locked.get(name), Some(&from), "{check}");
                assert_eq!((from.0, from.1), (to.0, to.1), "{name} leaves X.Y: {check}");
                assert!(to.2 > from.2, "{name} goes back: {check}");
                moved += 1;
            }
            seen += 1;
        }
        agent.terminate();
    }
    assert!(moved > seen / 2, "only {moved} of {seen} moved: the indexes show nothing");
}

fn version(text: &Value) -> Option<Version> {
    let mut parts = text.as_str()?.split('.').map(|it| it.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}
