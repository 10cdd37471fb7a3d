//! Which points are known to be good, and which one a rollback goes to where nobody names one. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Point, Stay};

/// Whether a point is known to have been good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It was in force for long enough, and nobody went back from it since.
    Good(String),
    /// Somebody went back from it, or it can't be gone back to.
    Bad(String),
    /// It was never in force, or not for long enough.
    Unknown(String),
}

impl Known {
    /// In words.
    pub fn why(&self) -> &str {
        let (Self::Good(why) | Self::Bad(why) | Self::Unknown(why)) = self;
        why
    }
}

/// What is known of a point, by all times in which what it holds was in force: content that was rolled back from is not
/// good because an earlier generation had it too.
pub fn known(points: &[Point], point: &Point, now: Timestamp, settled: Duration) -> Known {
    if !point.unfit.is_empty() {
        return Known::Bad(point.unfit.clone());
    }
    let same = points.iter().filter(|it| it.digest == point.digest);
    let stays: Vec<&Stay> = same.flat_map(|it| &it.stays).collect();
    let left = stays.iter().filter(|it| it.left).filter_map(|it| it.until).max();
    let settled = SignedDuration::try_from(settled).unwrap_or(SignedDuration::MAX);
    // What it did before somebody went back from it is no proof any more.
    let since = stays.iter().filter(|it| left.is_none_or(|left| it.from >= left && !it.left));
    let lasted = since.map(|it| it.until.unwrap_or(now).duration_since(it.from)).max();
    match (lasted, left) {
        (Some(lasted), _) if lasted >= settled => {
            Known::Good(format!("in force for {}", words(lasted)))
        }
        (_, Some(left)) => Known::Bad(format!("it was rolled back from at {left:.0}")),
        (Some(lasted), None) => Known::Unknown(format!(
            "in force for {} only; good is what stays for {}",
            words(lasted),
            words(settled)
        )),
        (None, None) => Known::Unknown("it is not known to have been in force".to_owned()),
    }
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

/// Where a point stands in `points`, the newest first: one that a rollback made stands where that went to.
pub fn position(points: &[Point], id: &str) -> Option<usize> {
    let of = |id: &str| points.iter().position(|it| it.id == id);
    let mut at = of(id)?;
    // Each step leads to an older one, so it ends.
    while let Some(older) = points[at].restores.as_deref().and_then(of).filter(|older| *older > at)
    {
        at = older;
    }
    Some(at)
}

/// The last good point before what is in force that differs from it: never what somebody has just gone back from. `Err`:
/// there is none; the nearest ones, each with the reason against it.
pub fn default_target<'a>(
    points: &'a [Point],
    current: &Point,
    now: Timestamp,
    settled: Duration,
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
        match known(points, fit, now, settled) {
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
        let back = made.restores.is_some() && position(points, &made.id) > place;
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
        ] {
            let points = history(words);
            let now = hour(100);
            let found = default_target(&points, &points[0], now, SETTLED);
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
            let found = match known(&points, &points[0], hour(100), SETTLED) {
                Known::Good(_) => "good",
                Known::Bad(_) => "bad",
                Known::Unknown(_) => "unknown",
            };
            assert_eq!(found, expected, "{stays:?}");
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
