//! Which points are known to be good, and which one a rollback goes to where nobody names one. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_storage::{RollbackOutcome, RollbackRecord};
use jiff::{SignedDuration, Timestamp};

use super::{Point, Stay};

/// Whether a point is known to have been good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It was in force for long enough, did well, and nobody went back from it since.
    Good(String),
    /// Somebody went back from it, it did not do well at its end, or it can't be gone back to.
    Bad(String),
    /// It was never in force, or not for long enough while it was known to do well.
    Unknown(String),
}

impl Known {
    /// In words.
    pub fn why(&self) -> &str {
        let (Self::Good(why) | Self::Bad(why) | Self::Unknown(why)) = self;
        why
    }
}

/// A time in which a component did not do well, or nobody could tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// From when.
    pub from: Timestamp,
    /// Until when; `None`: it goes on.
    pub until: Option<Timestamp>,
    /// It was ill; otherwise it could not be told.
    pub ill: bool,
    /// What said so.
    pub what: String,
}

/// What is known of a component beside when its points were in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// When the agent is known to have run: at other times nobody looked.
    pub ran: Vec<(Timestamp, Timestamp)>,
    /// When it did not do well.
    pub troubles: Vec<Trouble>,
    /// Digests that a rollback went back from, and when.
    pub left: Vec<(String, Timestamp)>,
}

/// What is known of a point, by all times in which what it holds was in force: content that was rolled back from is not
/// good because an earlier generation had it too. It is good by a time of `settled` in which the agent ran and the
/// component did well, where it did not end ill since.
pub fn known(
    points: &[Point],
    point: &Point,
    (now, settled): (Timestamp, Duration),
    evidence: &Evidence,
) -> Known {
    if !point.unfit.is_empty() {
        return Known::Bad(point.unfit.clone());
    }
    let same = points.iter().filter(|it| it.digest == point.digest);
    let stays: Vec<&Stay> = same.flat_map(|it| &it.stays).collect();
    let by_stay = stays.iter().filter(|it| it.left).filter_map(|it| it.until);
    let by_ledger = evidence.left.iter().filter(|(left, _)| *left == point.digest);
    let left = by_stay.chain(by_ledger.map(|(_, at)| *at)).max();
    let ill = stays.iter().filter_map(|stay| {
        let until = stay.until.unwrap_or(now);
        let ends_in =
            |it: &&Trouble| it.ill && it.from < until && it.until.is_none_or(|over| over >= until);
        evidence.troubles.iter().find(ends_in).map(|trouble| (until, trouble))
    });
    let ill = ill.max_by_key(|(until, _)| *until);
    let settled = SignedDuration::try_from(settled).unwrap_or(SignedDuration::MAX);
    // What it did before somebody went back from it, or before it ended ill, is no proof any more.
    let counts = |stay: &&&Stay| {
        left.is_none_or(|left| stay.from >= left && !stay.left)
            && ill.is_none_or(|(until, _)| stay.from >= until)
    };
    let since: Vec<&Stay> = stays.iter().filter(counts).copied().collect();
    let well = since.iter().filter_map(|stay| well(stay, now, evidence)).max();
    let lasted = since.iter().max_by_key(|stay| length(stay, now)).copied();
    match (well, lasted, left, ill) {
        (Some(well), ..) if well >= settled => Known::Good(format!("in force for {}", words(well))),
        (_, _, Some(left), _) => Known::Bad(format!("it was rolled back from at {left:.0}")),
        (_, _, None, Some((until, trouble))) => {
            Known::Bad(format!("it did not do well at {until:.0}: {}", trouble.what))
        }
        (_, Some(stay), None, None) => {
            let (lasted, wanted) = (length(stay, now), words(settled));
            Known::Unknown(match lasted >= settled {
                false => {
                    format!("in force for {} only; good is what stays for {wanted}", words(lasted))
                }
                true => format!(
                    "in force for {}; good is what does well for {wanted}, and {}",
                    words(lasted),
                    in_the_way(stay, now, evidence)
                ),
            })
        }
        (_, None, None, None) => Known::Unknown("it is not known to have been in force".to_owned()),
    }
}

fn length(stay: &Stay, now: Timestamp) -> SignedDuration {
    stay.until.unwrap_or(now).duration_since(stay.from)
}

/// The longest time of a stay in which the agent ran and nothing was told against the component; `None`: there is none.
fn well(stay: &Stay, now: Timestamp, evidence: &Evidence) -> Option<SignedDuration> {
    let (from, until) = (stay.from, stay.until.unwrap_or(now));
    let ran = evidence.ran.iter().map(|(began, ended)| (from.max(*began), until.min(*ended)));
    let mut parts: Vec<(Timestamp, Timestamp)> =
        ran.filter(|(from, until)| from <= until).collect();
    for trouble in &evidence.troubles {
        let (begins, over) = (trouble.from, trouble.until.unwrap_or(Timestamp::MAX));
        let around = |(from, until): (Timestamp, Timestamp)| {
            let before = (from, until.min(begins));
            let after = (from.max(over), until);
            // A trouble that only touches it takes nothing away.
            let kept = if begins >= until || over <= from {
                [Some((from, until)), None]
            } else {
                [Some(before), Some(after)]
            };
            kept.into_iter().flatten().filter(move |it| it.0 < it.1 || it == &(from, until))
        };
        parts = parts.into_iter().flat_map(around).collect();
    }
    parts.into_iter().map(|(from, until)| until.duration_since(from)).max()
}

/// What kept a stay that was long enough from being good.
fn in_the_way(stay: &Stay, now: Timestamp, evidence: &Evidence) -> String {
    let (from, until) = (stay.from, stay.until.unwrap_or(now));
    let meets = |it: &&Trouble| it.from < until && it.until.is_none_or(|over| over > from);
    match evidence.troubles.iter().find(meets) {
        Some(trouble) => trouble.what.clone(),
        None => "the agent is not known to have run for so long meanwhile".to_owned(),
    }
}

/// What the ledger's rollbacks went back from: to go forth again says nothing against the point that it leaves.
pub fn left_by(past: &[RollbackRecord], points: &[Point]) -> Vec<(String, Timestamp)> {
    let gone_back = |it: &&RollbackRecord| {
        let happened = matches!(it.outcome, RollbackOutcome::Done | RollbackOutcome::Unknown);
        let back = match (position(points, &it.from), position(points, &it.to)) {
            (Some(from), Some(to)) => to > from,
            // The oldest are forgotten first.
            (Some(_), None) => true,
            (None, _) => false,
        };
        happened && back && it.from_digest != it.to_digest
    };
    past.iter().filter(gone_back).map(|it| (it.from_digest.clone(), it.at)).collect()
}

fn words(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Where a point stands in `points`, the newest first: one that a rollback made stands where that went to, and behind all
/// of them where that is forgotten.
pub fn position(points: &[Point], id: &str) -> Option<usize> {
    let of = |id: &str| points.iter().position(|it| it.id == id);
    let mut at = of(id)?;
    // Each step leads to an older one, so it ends.
    while let Some(restores) = points[at].restores.as_deref() {
        match of(restores) {
            Some(older) if older > at => at = older,
            Some(_) => break,
            None => return Some(points.len()),
        }
    }
    Some(at)
}

/// The last good point before what is in force that differs from it: never what somebody has just gone back from. `Err`:
/// there is none; the nearest ones, each with the reason against it.
pub fn default_target<'a>(
    points: &'a [Point],
    current: &Point,
    (now, settled): (Timestamp, Duration),
    evidence: &Evidence,
) -> Result<&'a Point, Vec<(String, String)>> {
    let from = position(points, &current.id).map_or(0, |at| at + 1);
    let mut against = Vec::new();
    for point in &points[from.min(points.len())..] {
        if point.digest == current.digest || point.id == current.id {
            continue;
        }
        // What is no use any more may have a twin that is: a later point of the same content.
        let twin = |it: &&Point| it.digest == point.digest && it.unfit.is_empty();
        let fit =
            if point.unfit.is_empty() { point } else { points.iter().find(twin).unwrap_or(point) };
        match known(points, fit, (now, settled), evidence) {
            Known::Good(_) => return Ok(fit),
            Known::Bad(why) | Known::Unknown(why) => against.push((point.id.clone(), why)),
        }
    }
    Err(against)
}

/// Fills in when each point was in force, where every change makes a new point: until the next came. One that gave way
/// to an older content was left.
pub fn versioned(points: &mut [Point]) {
    let mut ends: Vec<(Option<Timestamp>, bool)> = vec![(None, false)];
    for newer in 0..points.len().saturating_sub(1) {
        let (made, place) = (&points[newer], position(points, &points[newer + 1].id));
        let stands = position(points, &made.id);
        // What goes back to one that is forgotten goes back further than to any that is known.
        let back = made.restores.is_some() && (stands > place || stands == Some(points.len()));
        ends.push((Some(made.at), back));
    }
    for (point, (until, left)) in points.iter_mut().zip(ends) {
        point.stays = vec![Stay { from: point.at, until, left }];
    }
}

/// That a generation came into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// When.
    pub at: Timestamp,
    /// Which one.
    pub to: u64,
    /// Somebody went back to it.
    pub back: bool,
}

/// When each generation was in force, where what is in force is chosen among generations; the moves are the oldest first.
pub fn selected(moves: &[Move]) -> BTreeMap<u64, Vec<Stay>> {
    let mut stays: BTreeMap<u64, Vec<Stay>> = BTreeMap::new();
    for (at, one) in moves.iter().enumerate() {
        let next = moves.get(at + 1);
        // To go forth again says nothing against what was gone back to.
        let left = next.is_some_and(|next| next.back && next.to < one.to);
        let until = next.map(|next| next.at);
        stays.entry(one.to).or_default().push(Stay { from: one.at, until, left });
    }
    stays
}

/// The name that is nearest to one that there isn't, if it is near.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.chars().take(128).collect();
    let near = names.map(|name| (distance(&wanted, name), name)).min()?;
    (near.0 <= 1 + wanted.len() / 5).then_some(near.1)
}

fn distance(one: &[char], other: &str) -> usize {
    let other: Vec<char> = other.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (column, theirs) in other.iter().enumerate() {
            let changed = before + usize::from(letter != theirs);
            before = row[column + 1];
            row[column + 1] = changed.min(before + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).unwrap()
    }

    const SETTLED: Duration = Duration::from_secs(600);

    /// The agent ran all the time, and nothing was told.
    fn nothing() -> Evidence {
        Evidence { ran: vec![(Timestamp::MIN, Timestamp::MAX)], ..Evidence::default() }
    }

    fn point(id: usize, digest: &str, restores: Option<usize>) -> Point {
        Point {
            id: id.to_string(),
            at: hour(id as i64),
            by: String::new(),
            description: String::new(),
            digest: digest.into(),
            stays: Vec::new(),
            restores: restores.map(|it| it.to_string()),
            unfit: String::new(),
        }
    }

    /// Points from words, the oldest first, an hour each: "a" is a content, "a<1" one that a rollback to point 1 made,
    /// "!" behind it that it can't be gone back to.
    fn history(words: &str) -> Vec<Point> {
        let each = words.split_whitespace().enumerate().map(|(at, word)| {
            let (word, unfit) = (word.trim_end_matches('!'), word.ends_with('!'));
            let (digest, restores) = match word.split_once('<') {
                Some((digest, to)) => (digest, Some(to.parse().unwrap())),
                None => (word, None),
            };
            let unfit = if unfit { "it can't be used" } else { "" };
            Point { unfit: unfit.to_owned(), ..point(at + 1, digest, restores) }
        });
        let mut points: Vec<Point> = each.collect();
        points.reverse();
        versioned(&mut points);
        points
    }

    #[test]
    fn the_default_target_is_the_last_good_point_before_it_that_differs() {
        for (words, expected) in [
            ("a", None),
            ("a b", Some("1")),
            ("a a b", Some("2")),
            ("a b b", Some("1")),
            // The second in a row goes further back, and not forth to what was just left.
            ("a b c b<2", Some("1")),
            ("a b c b<2 a<1", None),
            ("a b a<1", None),
            // Who jumps over one leaves it behind, too.
            ("x a b c a<2", Some("1")),
            ("x a b c a<2 x<1", None),
            // To undo it says nothing against what was gone back to.
            ("a b a<1 b<2", Some("1")),
            ("a b a<1 b<2 a<1", None),
            // What somebody sets anew counts anew, once it has stayed.
            ("a b a<1 b c", Some("4")),
            // The same content as one that was left.
            ("b a b a<2 c", Some("4")),
            ("a! b", None),
            ("x a! b", Some("1")),
            // The same content is kept elsewhere.
            ("a! b a<1 b<2", Some("3")),
            // What it went back to is forgotten: it was older than all that is known.
            ("b a<0", None),
            ("b c b<0", None),
            ("b a<0 d", Some("2")),
            ("c b<0 a<0", None),
        ] {
            let points = history(words);
            let now = hour(100);
            let found = default_target(&points, &points[0], (now, SETTLED), &nothing());
            assert_eq!(found.ok().map(|it| it.id.as_str()), expected, "{words}");
        }
    }

    #[test]
    fn good_is_what_stayed_in_force_for_long_enough() {
        let stay = |from: i64, minutes: Option<i64>, left: bool| Stay {
            from: hour(from),
            until: minutes.map(|it| hour(from) + SignedDuration::from_mins(it)),
            left,
        };
        for (stays, expected) in [
            (vec![], "unknown"),
            (vec![stay(1, Some(9), false)], "unknown"),
            (vec![stay(1, Some(10), false)], "good"),
            (vec![stay(1, Some(300), true)], "bad"),
            (vec![stay(1, Some(300), false), stay(9, Some(1), true)], "bad"),
            (vec![stay(1, Some(30), true), stay(9, Some(30), false)], "good"),
            (vec![stay(1, Some(30), true), stay(9, Some(3), false)], "bad"),
            (vec![stay(1, Some(1), false), stay(9, None, false)], "good"),
            // The clock was set back.
            (vec![stay(200, None, false)], "unknown"),
        ] {
            let points = [Point { stays: stays.clone(), ..point(1, "a", None) }];
            let found = match known(&points, &points[0], (hour(100), SETTLED), &nothing()) {
                Known::Good(_) => "good",
                Known::Bad(_) => "bad",
                Known::Unknown(_) => "unknown",
            };
            assert_eq!(found, expected, "{stays:?}");
        }
    }

    #[test]
    fn good_is_what_did_well_meanwhile_and_unknown_is_never_good() {
        let minute = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let trouble = |from: i64, until: Option<i64>, ill: bool| Trouble {
            from: minute(from),
            until: until.map(minute),
            ill,
            what: "queue CRIT".into(),
        };
        let (ill, untold) = (
            |from, until| trouble(from, Some(until), true),
            |from, until| trouble(from, Some(until), false),
        );
        let always = [(0, 1_000)];
        // In force from minute 100 to minute 130, and good after ten of them.
        for (ran, troubles, expected, why) in [
            (&always[..], vec![], "good", "in force for 30 min"),
            // What was over before it, or began after it, is another one's.
            (&always, vec![ill(50, 100), ill(130, 150)], "good", "30 min"),
            (&always, vec![ill(105, 112)], "good", "18 min"),
            (&always, vec![ill(105, 121)], "unknown", "queue CRIT"),
            // Healthy for long, and ill when something else took its place.
            (&always, vec![ill(125, 140)], "bad", "queue CRIT"),
            (&always, vec![trouble(125, None, true)], "bad", "queue CRIT"),
            (&always, vec![ill(100, 130)], "bad", "queue CRIT"),
            (&always, vec![untold(100, 130)], "unknown", "queue CRIT"),
            (&always, vec![untold(109, 121)], "unknown", "queue CRIT"),
            (&always, vec![untold(115, 140)], "good", "15 min"),
            (&[(0, 104), (121, 1_000)], vec![], "unknown", "the agent is not known to have run"),
            (&[(0, 104), (115, 1_000)], vec![], "good", "15 min"),
            (&[(0, 104), (115, 1_000)], vec![untold(122, 125)], "unknown", "queue CRIT"),
            (&[], vec![], "unknown", "the agent is not known to have run"),
        ] {
            let stay = Stay { from: minute(100), until: Some(minute(130)), left: false };
            let points = [Point { stays: vec![stay], ..point(1, "a", None) }];
            let ran = ran.iter().map(|(from, until)| (minute(*from), minute(*until))).collect();
            let evidence = Evidence { ran, troubles: troubles.clone(), left: Vec::new() };
            let found = known(&points, &points[0], (minute(500), SETTLED), &evidence);
            let word = match found {
                Known::Good(_) => "good",
                Known::Bad(_) => "bad",
                Known::Unknown(_) => "unknown",
            };
            assert_eq!(word, expected, "{troubles:?} {found:?}");
            assert!(found.why().contains(why), "{troubles:?} {found:?}");
        }
    }

    #[test]
    fn the_ledger_says_what_was_gone_back_from_also_where_its_end_is_unknown() {
        use RollbackOutcome::{Begun, Done, Failed, Staged, Unknown};
        let points = history("a b c");
        // Of each: from, to, what came of it; and where the next one goes from "c".
        for (from, to, outcome, expected) in [
            ("2", "1", Done, Some("1")),
            ("2", "1", Unknown, Some("1")),
            ("2", "1", Failed, Some("2")),
            ("2", "1", Staged, Some("2")),
            ("2", "1", Begun, Some("2")),
            // To go forth again says nothing.
            ("2", "3", Done, Some("2")),
            // Whatever it went to is forgotten.
            ("2", "0", Unknown, Some("1")),
            ("0", "1", Done, Some("2")),
        ] {
            let digest = |id: &str| {
                points.iter().find(|it| it.id == id).map_or("?".into(), |it| it.digest.clone())
            };
            let record = RollbackRecord {
                from: from.into(),
                from_digest: digest(from),
                to: to.into(),
                to_digest: digest(to),
                at: hour(50),
                outcome,
                ..RollbackRecord::default()
            };
            let evidence = Evidence { left: left_by(&[record], &points), ..nothing() };
            let found = default_target(&points, &points[0], (hour(100), SETTLED), &evidence);
            let found = found.ok().map(|it| it.id.as_str());
            assert_eq!(found, expected, "{from} {to} {outcome:?}");
        }
    }

    #[test]
    fn what_is_chosen_among_generations_was_in_force_from_move_to_move() {
        let to = |at: i64, to: u64, back: bool| Move { at: hour(at), to, back };
        let stays = selected(&[to(1, 1, false), to(2, 2, false), to(5, 1, true), to(6, 2, true)]);
        let stay = |from: i64, until: Option<i64>, left: bool| Stay {
            from: hour(from),
            until: until.map(hour),
            left,
        };
        assert_eq!(stays[&1], [stay(1, Some(2), false), stay(5, Some(6), false)]);
        assert_eq!(stays[&2], [stay(2, Some(5), true), stay(6, None, false)]);
    }

    #[test]
    fn a_near_miss_is_suggested_and_nothing_far() {
        let names = ["config", "certificate:api", "database:main"];
        let near = |wanted: &str| nearest(wanted, names.into_iter());
        assert_eq!(near("confg"), Some("config"));
        assert_eq!(near("certificates:api"), Some("certificate:api"));
        assert_eq!(near("nope"), None);
    }
}
