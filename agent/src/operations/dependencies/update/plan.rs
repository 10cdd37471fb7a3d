//! What is decided of updates. Pure.

use std::collections::{BTreeMap, BTreeSet};

use genesis_advisories::Ecosystem;
use genesis_advisories::bounds::{Bound, Change, Strategy, bound, change};
use genesis_advisories::finding::Kind;
use genesis_storage::{ChangeRecord, DependencyReleaseRecord, UpdateState, Verdict};

use super::super::locked::{Locked, Unjudged};
use super::super::scan::Found;

/// The safe version of each package that is vulnerable, by its normal name and its version; `None`: there is none.
pub type Safe = BTreeMap<(String, String), Option<String>>;

/// How far one package may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// As it is locked.
    pub name: String,
    /// In which version.
    pub locked: String,
    /// For which environments; `None`: all.
    pub marker: Option<String>,
    /// As a requirement, such as ">=1.2.3,<1.3".
    pub requirement: String,
}

/// The limits of one way to go.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One for each package.
    pub each: Vec<Limit>,
    /// The same, to hold a result against.
    bounds: Vec<(Ecosystem, String, String, Bound)>,
    /// Whether a tool is to go as far as it can.
    pub upgrade: bool,
    /// Whether what is younger than it may be stays as it is.
    pub keeps: bool,
    /// What has no order, and so no limit: it stays as it is, if the tool lets it.
    pub without: Vec<Unjudged>,
}

/// A package that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its name as written.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The ways by which a strategy may be followed, the one that changes least first. Only the security strategy has more
/// than one: what mends may need newer versions of what is not vulnerable.
pub fn ways(locked: &[Locked], strategy: Strategy, safe: &Safe) -> Vec<Limits> {
    match strategy {
        Strategy::Security => {
            let stay = limits(locked, safe, &|it| exactly(it, &it.version));
            let follow = limits(locked, safe, &|it| of(it, Strategy::Moderate));
            let beyond = mended(locked, safe, true, &|it| of(it, Strategy::Moderate));
            vec![stay, follow, beyond]
        }
        _ => vec![Limits { upgrade: true, ..gather(locked, &|it| of(it, strategy)) }],
    }
}

fn key(it: &Locked) -> (String, String) {
    (it.ecosystem.normalise(&it.name), it.version.clone())
}

fn of(it: &Locked, strategy: Strategy) -> Result<Bound, String> {
    bound(&it.ecosystem, &it.version, strategy, None).map_err(|error| error.to_string())
}

fn exactly(it: &Locked, version: &str) -> Result<Bound, String> {
    bound(&it.ecosystem, &it.version, Strategy::Security, Some(version))
        .map_err(|error| error.to_string())
}

fn limits(
    locked: &[Locked],
    safe: &Safe,
    others: &dyn Fn(&Locked) -> Result<Bound, String>,
) -> Limits {
    mended(locked, safe, false, others)
}

/// What is vulnerable goes to its safe version (`open`: or above it, as long as it should stay compatible), the others as
/// they are told.
fn mended(
    locked: &[Locked],
    safe: &Safe,
    open: bool,
    others: &dyn Fn(&Locked) -> Result<Bound, String>,
) -> Limits {
    gather(locked, &|it| match safe.get(&key(it)) {
        Some(Some(safe)) if open => {
            bound(&it.ecosystem, safe, Strategy::Moderate, None).map_err(|error| error.to_string())
        }
        Some(Some(safe)) => exactly(it, safe),
        // Nothing mends it: it stays.
        Some(None) => exactly(it, &it.version),
        None => others(it),
    })
}

fn gather(locked: &[Locked], limit: &dyn Fn(&Locked) -> Result<Bound, String>) -> Limits {
    let mut all = Limits {
        each: Vec::new(),
        bounds: Vec::new(),
        upgrade: false,
        keeps: false,
        without: Vec::new(),
    };
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for it in locked {
        *lines.entry(it.ecosystem.normalise(&it.name)).or_default() += 1;
    }
    for it in locked {
        // Of several lines for several environments one can't tell which one a choice is for.
        let several = lines.get(&it.ecosystem.normalise(&it.name)).is_some_and(|lines| *lines > 1);
        let limit = match several && it.marker.is_some() {
            true => exactly(it, &it.version),
            false => limit(it),
        };
        match limit {
            Ok(bound) => {
                let name = it.ecosystem.normalise(&it.name);
                let requirement = bound.constraint("");
                all.each.push(Limit {
                    name: it.name.clone(),
                    locked: it.version.clone(),
                    marker: it.marker.clone(),
                    requirement,
                });
                all.bounds.push((it.ecosystem.clone(), name, it.version.clone(), bound));
            }
            Err(why) => {
                if it.ecosystem == Ecosystem::PyPI {
                    // What has no order stays as it is, to the letter.
                    all.each.push(Limit {
                        name: it.name.clone(),
                        locked: it.version.clone(),
                        marker: it.marker.clone(),
                        requirement: format!("==={}", it.version),
                    });
                }
                all.without.push(Unjudged {
                    what: format!("{} {}", it.name, it.version),
                    why,
                    file: it.file.clone(),
                    line: it.line,
                });
            }
        }
    }
    all
}

/// The safe versions of what use is made of.
pub fn only(safe: &Safe, before: &[Found]) -> Safe {
    let urgent = |name: &str| {
        before.iter().any(|it| it.finding.package == name && it.finding.exploited == Some(true))
    };
    safe.iter()
        .filter(|((name, _), _)| urgent(name))
        .map(|(key, safe)| (key.clone(), safe.clone()))
        .collect()
}

/// The same ways, with packages that are younger than they may be as they are: nobody could choose what is locked otherwise.
pub fn keeping(ways: &[Limits], young: &[String], ecosystem: &Ecosystem) -> Vec<Limits> {
    if young.is_empty() {
        return Vec::new();
    }
    let young: BTreeSet<String> = young.iter().map(|it| ecosystem.normalise(it)).collect();
    let keep = |way: &Limits| {
        let mut way = way.clone();
        way.keeps = true;
        for it in way.each.iter_mut().filter(|it| young.contains(&ecosystem.normalise(&it.name))) {
            it.requirement = format!("=={}", it.locked);
        }
        way
    };
    ways.iter().map(keep).collect()
}

impl Limits {
    /// Whether what is locked in a version may go to another.
    pub fn lets(&self, name: &str, locked: &str, to: &str) -> bool {
        self.bounds.iter().any(|(ecosystem, own, version, bound)| {
            ecosystem.normalise(name) == *own && version == locked && bound.allows(to)
        })
    }

    /// What of a result is out of its limits, in words. A package that was not locked before has none.
    pub fn broken(&self, chosen: &[Chosen]) -> Vec<String> {
        let mut broken = Vec::new();
        for it in chosen {
            let own = |(ecosystem, name, ..): &&(Ecosystem, String, String, Bound)| {
                ecosystem.normalise(&it.name) == *name
            };
            let mut bounds = self.bounds.iter().filter(own).peekable();
            if bounds.peek().is_none() {
                continue;
            }
            if !bounds.any(|(.., bound)| bound.allows(&it.version)) {
                let limit = self.bounds.iter().find(own);
                let limit = limit.map(|(.., bound)| bound.constraint(&it.name)).unwrap_or_default();
                broken.push(format!("{} {} is not within {limit}", it.name, it.version));
            }
        }
        broken
    }
}

/// What changes from what is locked to what was chosen. What is locked for other environments only, and so was not chosen,
/// stays. A package in several versions changes by those that differ.
pub fn changes(locked: &[Locked], chosen: &[Chosen], ecosystem: &Ecosystem) -> Vec<ChangeRecord> {
    let mut old: BTreeMap<String, (String, BTreeSet<&str>, bool)> = BTreeMap::new();
    for it in locked {
        let entry = old
            .entry(it.ecosystem.normalise(&it.name))
            .or_insert_with(|| (it.name.clone(), BTreeSet::new(), true));
        entry.1.insert(&it.version);
        entry.2 &= it.marker.is_some();
    }
    let mut new: BTreeMap<String, (String, BTreeSet<&str>)> = BTreeMap::new();
    for it in chosen {
        let entry = new
            .entry(ecosystem.normalise(&it.name))
            .or_insert_with(|| (it.name.clone(), BTreeSet::new()));
        entry.1.insert(&it.version);
    }
    let mut found = Vec::new();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let none = BTreeSet::new();
        let (before, after) =
            (old.get(name).map_or(&none, |it| &it.1), new.get(name).map_or(&none, |it| &it.1));
        if after.is_empty() && old.get(name).is_some_and(|it| it.2) {
            continue;
        }
        // Of several lines, each for other environments, one stands here.
        if old.get(name).is_some_and(|it| it.2) && !after.is_empty() && after.is_subset(before) {
            continue;
        }
        let shown = old.get(name).map(|it| &it.0).or_else(|| new.get(name).map(|it| &it.0));
        let gone: Vec<&&str> = before.difference(after).collect();
        // A version that one marker had and another one has now is none that came.
        let come: Vec<&&str> = after.difference(before).collect();
        for at in 0..gone.len().max(come.len()) {
            found.push(ChangeRecord {
                package: shown.cloned().unwrap_or_default(),
                from: gone.get(at).map(|it| (**it).to_owned()),
                to: come.get(at).map(|it| (**it).to_owned()),
                fixes: Vec::new(),
            });
        }
    }
    found
}

/// What stays vulnerable, in words that go on a sentence.
pub fn staying(after: &[Found]) -> String {
    let left: Vec<String> = after
        .iter()
        .filter(vulnerable)
        .take(10)
        .map(|it| {
            let mended = it.finding.fixed_in.as_ref();
            let mended = mended.map_or_else(
                || "no version mends it".to_owned(),
                |version| format!("mended in {version}"),
            );
            format!(
                "{} {} has {} ({mended})",
                it.finding.package, it.finding.version, it.finding.id
            )
        })
        .collect();
    match left.is_empty() {
        true => String::new(),
        false => format!("; what stays vulnerable: {}", left.join(", ")),
    }
}

/// What a change is.
pub fn kind(ecosystem: &Ecosystem, record: &ChangeRecord) -> Option<Change> {
    let (from, to) = (record.from.as_deref()?, record.to.as_deref()?);
    change(ecosystem, from, to).ok()
}

fn vulnerable(it: &&Found) -> bool {
    it.finding.kind == Kind::Vulnerability && it.ignored.is_none()
}

/// The vulnerabilities of what was chosen that what is locked does not have. Another name of the same one is no new one.
pub fn brought<'a>(before: &[Found], after: &'a [Found]) -> Vec<&'a Found> {
    let known = |it: &Found| {
        before.iter().filter(vulnerable).any(|old| {
            old.finding.package == it.finding.package
                && old.finding.ids.iter().any(|id| it.finding.ids.contains(id))
        })
    };
    after.iter().filter(vulnerable).filter(|it| !known(it)).collect()
}

/// Notes with each change what it mends.
pub fn note_fixes(
    changes: &mut [ChangeRecord],
    ecosystem: &Ecosystem,
    before: &[Found],
    after: &[Found],
) {
    for it in changes {
        let name = ecosystem.normalise(&it.package);
        let of = |found: &&Found| found.finding.package == name;
        let stays = |id: &String| {
            after.iter().filter(of).any(|found| found.finding.ids.iter().any(|other| other == id))
        };
        let mut fixes: Vec<String> = before
            .iter()
            .filter(of)
            .filter(|found| found.finding.kind == Kind::Vulnerability)
            .filter(|found| it.from.as_deref() == Some(found.finding.version.as_str()))
            .map(|found| found.finding.id.clone())
            .filter(|id| !stays(id))
            .collect();
        fixes.dedup();
        it.fixes = fixes;
    }
}

/// The releases that are over: all but the newest `keep` that have proven themselves, and those in use.
pub fn expired<'a>(
    releases: &'a [DependencyReleaseRecord],
    keep: usize,
    in_use: &[u64],
) -> Vec<&'a DependencyReleaseRecord> {
    let mut newest: Vec<&DependencyReleaseRecord> = releases.iter().collect();
    newest.sort_by_key(|it| std::cmp::Reverse(it.generation));
    let (proven, not): (Vec<_>, Vec<_>) =
        newest.into_iter().filter(|it| !in_use.contains(&it.generation)).partition(|it| it.proven);
    proven.into_iter().skip(keep.saturating_sub(in_use.len())).chain(not).collect()
}

/// Where the link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// To what was in service before.
    Old,
    /// To the new release.
    New,
    /// To neither.
    Elsewhere,
}

/// What is done about an update that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// What was made goes; the old release is in service.
    Discard,
    /// The same, and the service is to be restarted, since it may run the new one.
    DiscardAndRestart,
    /// The link goes back, and the service is to be restarted.
    BackAndRestart,
    /// The manifests are written; the new release is in service.
    Finish,
    /// Somebody else moved the link: nothing is touched.
    Hold,
}

/// A row of [`AFTER_CRASH`]: the states, whether it was being undone, where the link leads; what is done, and in words.
type Row = (&'static [UpdateState], Option<bool>, At, Fate, Verdict, &'static str);

const BEFORE: &[UpdateState] = &[
    UpdateState::Backup,
    UpdateState::Resolve,
    UpdateState::Scan,
    UpdateState::Build,
    UpdateState::Test,
];
const STARTED: &[UpdateState] = &[UpdateState::Restart, UpdateState::Health];

/// What becomes of an update that was cut off, by its state, whether it was being undone, and where the link leads.
pub const AFTER_CRASH: [Row; 9] = [
    (
        BEFORE,
        None,
        At::Old,
        Fate::Discard,
        Verdict::Undone,
        "nothing was in service yet: the old release is, and what was made is removed",
    ),
    (
        BEFORE,
        None,
        At::Elsewhere,
        Fate::Discard,
        Verdict::Undone,
        "nothing was in service yet, and what was made is removed; somebody else moved the link",
    ),
    (
        &[UpdateState::Deploy],
        None,
        At::Old,
        Fate::Discard,
        Verdict::Undone,
        "the link was not moved: the old release is in service, and the new one is removed",
    ),
    (
        &[UpdateState::Deploy],
        None,
        At::New,
        Fate::BackAndRestart,
        Verdict::Undone,
        "the link is moved back, and the service is restarted with the old one: it may have been started with the new one",
    ),
    (
        STARTED,
        None,
        At::Old,
        Fate::DiscardAndRestart,
        Verdict::Undone,
        "the link was moved back; the service is restarted with the old release, and the new one is removed",
    ),
    (
        STARTED,
        None,
        At::New,
        Fate::BackAndRestart,
        Verdict::Undone,
        "the new release had not proven itself: the link is moved back, and the service is restarted with the old one",
    ),
    (
        &[UpdateState::Commit],
        Some(false),
        At::New,
        Fate::Finish,
        Verdict::Finished,
        "the new release had proven itself and is in service; its manifests are written",
    ),
    (
        &[UpdateState::Commit],
        Some(true),
        At::New,
        Fate::BackAndRestart,
        Verdict::Undone,
        "it was being undone: the link is moved back, and the service is restarted with the old one",
    ),
    (
        &[UpdateState::Commit],
        Some(true),
        At::Old,
        Fate::DiscardAndRestart,
        Verdict::Undone,
        "it was being undone: the link was moved back, and the service is restarted with the old one",
    ),
];

/// The row of [`AFTER_CRASH`] for a situation; one that no row foresees is held.
pub fn after_crash(state: UpdateState, undoing: bool, at: At) -> (Fate, Verdict, &'static str) {
    let row = AFTER_CRASH.iter().find(|(states, wanted, link, ..)| {
        states.contains(&state) && wanted.is_none_or(|it| it == undoing) && *link == at
    });
    row.map_or(
        (
            Fate::Hold,
            Verdict::Held,
            "somebody else moved the link: look what is in service, and move it by hand",
        ),
        |(.., fate, verdict, what)| (*fate, *verdict, *what),
    )
}
