//! Faults that a test or a rehearsal wants: a list in a file that is read anew at every call.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::book::named;
use super::desk::Manner;
use super::quantity::Quantity;
use crate::outside::files;

/// More than any list of faults has, in bytes.
const LIMIT: usize = 1 << 20;
/// So many are taken.
const FAULTS: usize = 1_000;
/// A call is put off for an hour at most.
const DELAY: u64 = 3_600_000;

/// A call of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Call {
    /// Whichever; only in faults.
    #[serde(rename = "*", alias = "any")]
    Any,
    #[serde(alias = "critical-trades")]
    CriticalTrades,
    #[serde(alias = "halt")]
    Halt,
    #[serde(alias = "cancel-all")]
    CancelAll,
    #[serde(alias = "close-positions")]
    ClosePositions,
    #[serde(alias = "query-orders")]
    QueryOrders,
    #[serde(alias = "positions")]
    Positions,
    #[serde(alias = "resume")]
    Resume,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// It waits before it is done.
    Delay,
    /// Nothing is done, and that is said.
    Fail,
    /// Nothing is done, and nothing is ever said.
    Hang,
    /// It is done, and the answer makes no sense.
    Junk,
    /// It is done, and the answer is lost.
    LoseReply,
    /// Closing orders are not taken, others not cancelled.
    Reject,
    /// Half of each closing order is filled; every other one is cancelled.
    Half,
    /// Closing orders stay open.
    Rest,
    /// A position comes back once the venue was seen to be flat.
    Reappear,
}

/// How much of an order is filled that rests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Filled {
    #[default]
    Nothing,
    Half,
}

/// Until when an order rests, unless the fault is taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Until {
    #[default]
    Query,
    Removed,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    venue: Option<String>,
    call: Call,
    kind: Kind,
    times: Option<u64>,
    delay_ms: Option<u64>,
    filled: Option<Filled>,
    until: Option<Until>,
    symbol: Option<String>,
    quantity: Option<Quantity>,
}

/// What is wrong with one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// It waits so long.
    pub(super) delay: Duration,
    /// What becomes of closing orders.
    pub(super) manner: Manner,
    /// What decides the answer: failing, hanging, junk or a lost reply.
    pub(super) end: Option<Kind>,
    /// The fault that the record of the call names.
    pub(super) named: Option<Kind>,
}

/// A position that may come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comeback {
    fault: usize,
    reading: u64,
    /// Where.
    pub(super) venue: String,
    /// In what.
    pub(super) symbol: String,
    /// How much.
    pub(super) quantity: Quantity,
}

/// Where orders rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resting(Vec<Option<String>>);

impl Resting {
    /// Whether they do at this venue.
    pub(super) fn at(&self, venue: &str) -> bool {
        self.0.iter().any(|of| of.as_deref().is_none_or(|of| of == venue))
    }
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    used: u64,
    seen_flat: bool,
}

/// The faults in force, and how often each was used. Whoever writes the file anew starts the counts anew.
#[derive(Debug, Default)]
pub(super) struct Faults {
    path: Option<PathBuf>,
    /// What was read, from which file.
    read: Option<((u64, i64, i64), Vec<u8>)>,
    /// Counts how often that changed.
    reading: u64,
    armed: Vec<Armed>,
}

impl Faults {
    /// Those of a file that may be there; none without a path.
    pub(super) fn new(path: Option<&Path>) -> Self {
        Self { path: path.map(Path::to_owned), ..Self::default() }
    }

    /// Reads the file where it has changed.
    ///
    /// # Errors
    /// What is wrong with it: then none are in force until it is mended.
    pub(super) fn refresh(&mut self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let (bytes, facts) = match files::read_small(path, LIMIT) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (self.read, self.armed) = (None, Vec::new());
                return Ok(());
            }
            Err(error) => return Err(format!("can't read {}: {error}", path.display())),
        };
        let found = ((facts.ino(), facts.mtime(), facts.mtime_nsec()), bytes);
        if self.read.as_ref() == Some(&found) {
            return Ok(());
        }
        let faults = parse(&found.1).map_err(|why| format!("{}: {why}", path.display()));
        let armed = |fault| Armed { fault, used: 0, seen_flat: false };
        self.reading += 1;
        self.armed = faults
            .as_ref()
            .map_or_else(|_| Vec::new(), |faults| faults.iter().cloned().map(armed).collect());
        // A bad file is complained of at every call.
        self.read = faults.is_ok().then_some(found);
        faults.map(drop)
    }

    /// What is wrong with a call, which uses the faults up. They count in the order of the file, up to the first that
    /// decides the answer. `general`: those count too that name no venue.
    pub(super) fn meet(&mut self, call: Call, venue: &str, general: bool) -> Effects {
        let mut effects = Effects::default();
        for armed in &mut self.armed {
            let Fault { kind, times, delay_ms, filled, until, .. } = armed.fault;
            let here = armed.fault.venue.as_deref().map_or(general, |of| of == venue);
            let meant = armed.fault.call == Call::Any || armed.fault.call == call;
            if !here || !meant || times.is_some_and(|times| armed.used >= times) {
                continue;
            }
            effects.delay += match kind {
                Kind::Delay | Kind::Fail | Kind::Junk | Kind::LoseReply => {
                    Duration::from_millis(delay_ms.unwrap_or(0))
                }
                _ => Duration::ZERO,
            };
            let manner = match kind {
                Kind::Reappear => continue,
                Kind::Delay => None,
                Kind::Reject => Some(Manner::Rejected),
                Kind::Half => Some(Manner::Half),
                Kind::Rest => Some(Manner::Rests {
                    half: filled == Some(Filled::Half),
                    until_query: until.unwrap_or_default() == Until::Query,
                }),
                Kind::Fail | Kind::Hang | Kind::Junk | Kind::LoseReply => {
                    armed.used += 1;
                    (effects.end, effects.named) = (Some(kind), Some(kind));
                    break;
                }
            };
            match manner {
                // Orders can fare in one way only.
                Some(_) if effects.manner != Manner::Depth => continue,
                Some(manner) => effects.manner = manner,
                None => {}
            }
            armed.used += 1;
            effects.named = Some(kind);
        }
        effects
    }

    /// Where orders rest as long as the file says so, whether or not the fault is used up.
    pub(super) fn resting(&self) -> Resting {
        let rests = self.armed.iter().filter(|armed| armed.fault.kind == Kind::Rest);
        Resting(rests.map(|armed| armed.fault.venue.clone()).collect())
    }

    /// The positions that come back now to venues that were seen to be flat.
    pub(super) fn comebacks(&self) -> Vec<Comeback> {
        let comeback = |(index, armed): (usize, &Armed)| {
            let due = armed.seen_flat && armed.used < armed.fault.times.unwrap_or(1);
            let Fault { kind: Kind::Reappear, venue, symbol, quantity, .. } = &armed.fault else {
                return None;
            };
            due.then_some(())?;
            Some(Comeback {
                fault: index,
                reading: self.reading,
                venue: venue.clone()?,
                symbol: symbol.clone()?,
                quantity: (*quantity)?,
            })
        };
        self.armed.iter().enumerate().filter_map(comeback).collect()
    }

    /// It came back.
    pub(super) fn came_back(&mut self, comeback: &Comeback) {
        if comeback.reading == self.reading
            && let Some(armed) = self.armed.get_mut(comeback.fault)
        {
            armed.used += 1;
            armed.seen_flat = false;
        }
    }

    /// Somebody was told that these venues are flat.
    pub(super) fn told_flat(&mut self, venues: &[String]) {
        for armed in &mut self.armed {
            armed.seen_flat |= armed.fault.venue.as_ref().is_some_and(|of| venues.contains(of));
        }
    }
}

/// A kind as the file writes it.
pub(super) fn name(kind: Kind) -> String {
    serde_json::to_value(kind)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn parse(json: &[u8]) -> Result<Vec<Fault>, String> {
    let faults: Vec<Fault> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if faults.len() > FAULTS {
        return Err(format!("there are {} faults, and at most {FAULTS} are taken", faults.len()));
    }
    for (index, fault) in faults.iter().enumerate() {
        check(fault).map_err(|why| format!("fault {}: {why}", index + 1))?;
    }
    Ok(faults)
}

fn check(fault: &Fault) -> Result<(), String> {
    let Fault { venue, call, kind, delay_ms, filled, until, symbol, quantity, .. } = fault;
    let kind_name = name(*kind);
    let only = |calls: &[Call]| match calls.contains(call) {
        true => Ok(()),
        false => Err(format!("{kind_name} makes no sense for {call:?}, but for {calls:?}")),
    };
    match kind {
        Kind::Reject | Kind::Half => only(&[Call::ClosePositions, Call::CancelAll])?,
        Kind::Rest => only(&[Call::ClosePositions])?,
        Kind::Reappear => only(&[Call::Positions])?,
        Kind::Delay | Kind::Fail | Kind::Hang | Kind::Junk | Kind::LoseReply => {}
    }
    if *kind == Kind::Delay && delay_ms.is_none() {
        return Err("delay needs delay_ms".to_owned());
    }
    if delay_ms.is_some_and(|delay| delay > DELAY) {
        return Err(format!("delay_ms is over {DELAY}"));
    }
    let delayed = [Kind::Delay, Kind::Fail, Kind::Junk, Kind::LoseReply].contains(kind);
    if delay_ms.is_some() && !delayed {
        return Err(format!("{kind_name} has no delay_ms; put a fault of kind delay before it"));
    }
    if *kind != Kind::Rest && (filled.is_some() || until.is_some()) {
        return Err(format!("filled and until are of rest, not of {kind_name}"));
    }
    if *kind == Kind::Reappear {
        let (Some(_), Some(symbol), Some(quantity)) = (venue, symbol, quantity) else {
            return Err("reappear needs venue, symbol and quantity".to_owned());
        };
        named("a symbol", symbol)?;
        if quantity.is_zero() {
            return Err("a position of nothing can't come back".to_owned());
        }
    } else if symbol.is_some() || quantity.is_some() {
        return Err(format!("symbol and quantity are of reappear, not of {kind_name}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(folder: &Path, json: &str) -> Faults {
        let path = folder.join("faults.json");
        std::fs::write(&path, json).unwrap();
        let mut faults = Faults::new(Some(&path));
        faults.refresh().unwrap();
        faults
    }

    #[test]
    fn a_file_with_a_mistake_says_which() {
        for (json, why) in [
            ("", "EOF"),
            ("{}", "expected a sequence"),
            (r#"[{"call": "Halt"}]"#, "missing field `kind`"),
            (r#"[{"call": "Halt", "kind": "fail", "often": 2}]"#, "unknown field `often`"),
            (r#"[{"call": "Hold", "kind": "fail"}]"#, "unknown variant `Hold`"),
            (r#"[{"call": "Halt", "kind": "half"}]"#, "fault 1: half makes no sense for Halt"),
            (r#"[{"call": "*", "kind": "delay"}]"#, "delay needs delay_ms"),
            (r#"[{"call": "*", "kind": "hang", "delay_ms": 1}]"#, "has no delay_ms"),
            (r#"[{"call": "*", "kind": "delay", "delay_ms": 3600001}]"#, "is over"),
            (r#"[{"call": "Positions", "kind": "fail", "until": "query"}]"#, "are of rest"),
            (r#"[{"call": "Positions", "kind": "fail", "symbol": "A"}]"#, "are of reappear"),
            (r#"[{"call": "Positions", "kind": "reappear"}]"#, "needs venue, symbol and quantity"),
            (
                r#"[{"call": "Positions", "kind": "reappear", "venue": "x", "symbol": "A", "quantity": "0"}]"#,
                "of nothing",
            ),
        ] {
            let said = parse(json.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{json}: {said}");
        }
    }

    #[test]
    fn faults_count_in_the_order_of_the_file_up_to_the_one_that_decides() {
        let folder = tempfile::tempdir().unwrap();
        let mut faults = faults(
            folder.path(),
            r#"[{"call": "*", "kind": "delay", "delay_ms": 5, "times": 3},
                {"call": "halt", "kind": "fail", "times": 1},
                {"call": "Halt", "kind": "lose-reply", "times": 1},
                {"call": "ClosePositions", "venue": "b", "kind": "half"},
                {"call": "ClosePositions", "kind": "rest", "filled": "half", "times": 1},
                {"call": "ClosePositions", "kind": "junk", "delay_ms": 7, "times": 1}]"#,
        );
        let rests = Manner::Rests { half: true, until_query: true };
        for (call, venue, delay, manner, end, named) in [
            (Call::Halt, "", 5, Manner::Depth, Some(Kind::Fail), Some(Kind::Fail)),
            (Call::Halt, "", 5, Manner::Depth, Some(Kind::LoseReply), Some(Kind::LoseReply)),
            // The half comes first there, and leaves the rest unused.
            (Call::ClosePositions, "b", 12, Manner::Half, Some(Kind::Junk), Some(Kind::Junk)),
            (Call::ClosePositions, "a", 0, rests, None, Some(Kind::Rest)),
            (Call::ClosePositions, "a", 0, Manner::Depth, None, None),
            (Call::Halt, "", 0, Manner::Depth, None, None),
        ] {
            let delay = Duration::from_millis(delay);
            assert_eq!(faults.meet(call, venue, true), Effects { delay, manner, end, named });
        }
        // Used up, it still says that orders rest.
        assert!(faults.resting().at("a"));
    }

    #[test]
    fn who_asks_about_all_venues_meets_those_of_each_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut faults = faults(
            folder.path(),
            r#"[{"call": "Positions", "venue": "a", "kind": "fail"},
                {"call": "Positions", "kind": "junk"}]"#,
        );
        assert_eq!(faults.meet(Call::Positions, "", true).end, Some(Kind::Junk));
        assert_eq!(faults.meet(Call::Positions, "a", false).end, Some(Kind::Fail));
        assert_eq!(faults.meet(Call::Positions, "b", false).end, None);
        assert_eq!(faults.meet(Call::Positions, "a", true).end, Some(Kind::Fail));
    }

    #[test]
    fn counts_begin_anew_with_the_file_and_a_bad_one_is_told_at_every_call() {
        let folder = tempfile::tempdir().unwrap();
        let once = r#"[{"call": "Halt", "kind": "fail", "times": 1}]"#;
        let mut faults = faults(folder.path(), once);
        let path = folder.path().join("faults.json");
        assert!(faults.meet(Call::Halt, "", true).end.is_some());
        faults.refresh().unwrap();
        assert!(faults.meet(Call::Halt, "", true).end.is_none(), "the file is the same");
        let again = folder.path().join("again");
        std::fs::write(&again, once).unwrap();
        std::fs::rename(&again, &path).unwrap();
        faults.refresh().unwrap();
        assert!(faults.meet(Call::Halt, "", true).end.is_some());
        std::fs::write(&path, "[").unwrap();
        for _ in 0..2 {
            assert!(faults.refresh().unwrap_err().contains("faults.json"));
        }
        std::fs::remove_file(&path).unwrap();
        faults.refresh().unwrap();
        assert!(faults.meet(Call::Halt, "", true).end.is_none());
    }

    #[test]
    fn a_position_comes_back_once_and_only_where_somebody_was_told_that_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut faults = faults(
            folder.path(),
            r#"[{"call": "Positions", "venue": "a", "kind": "reappear", "symbol": "X", "quantity": "2"}]"#,
        );
        assert!(faults.comebacks().is_empty());
        faults.told_flat(&["b".to_owned()]);
        assert!(faults.comebacks().is_empty());
        faults.told_flat(&["a".to_owned()]);
        let due = faults.comebacks();
        assert_eq!(due.len(), 1);
        faults.came_back(&due[0]);
        faults.told_flat(&["a".to_owned()]);
        assert!(faults.comebacks().is_empty());
    }
}
