//! From windows to episodes: one alert for what lasts, however many windows it has.

use super::Judgement;
use crate::Cusum;

/// An episode is over after so many calm windows in a row.
const CALM_WINDOWS: u32 = 3;
/// A window whose z-equivalent is below it is calm, and so is one that has hardly risen.
const CALM: f64 = 1.0;

/// What a window changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change<E> {
    /// There is no episode.
    None,
    /// One has begun.
    Opened(E),
    /// It goes on.
    Persisting(E),
    /// It is over.
    Closed(E),
}

/// A sustained deviation of one quantile. Windows from `since` on are no calibration for others, until it is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Episode {
    /// The window in which the CUSUM last left zero: where the change most likely was (Page 1954).
    pub since: u64,
    /// The window in which it tripped.
    pub opened: u64,
    /// Calm windows in a row so far.
    pub calm: u32,
    /// The largest z / sqrt(phi) of its windows.
    pub worst: f64,
}

/// One quantile of an operation. The fields are all of its state, for the caller to keep.
///
/// Times are starts of windows, in whatever unit the caller has; each window is observed once and in order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Watch {
    /// No episode: the sum of the CUSUM, and the window in which it left zero.
    Calm {
        /// S.
        sum: f64,
        /// `None` while S = 0.
        since: Option<u64>,
    },
    /// An episode is open. The CUSUM rests, and starts at zero afterwards.
    Open(Episode),
}

impl Default for Watch {
    fn default() -> Self {
        Self::Calm { sum: 0.0, since: None }
    }
}

impl Watch {
    /// Takes a window in: `phi` and the calibration of the judgement are those of its hour, `limit` is
    /// [`crate::alert_threshold`].
    pub fn observe(
        &mut self,
        at: u64,
        judgement: &Judgement,
        phi: f64,
        limit: f64,
    ) -> Change<Episode> {
        let out = judgement.z / phi.max(1.0).sqrt();
        match self {
            Self::Calm { sum, since } => {
                let mut cusum = Cusum::new(phi, limit).at(*sum);
                let tripped = cusum.observe(judgement.evidence(phi));
                *sum = cusum.sum();
                *since = if *sum > 0.0 { since.or(Some(at)) } else { None };
                if !tripped {
                    return Change::None;
                }
                let since = since.unwrap_or(at);
                let episode = Episode { since, opened: at, calm: 0, worst: out };
                *self = Self::Open(episode);
                Change::Opened(episode)
            }
            Self::Open(episode) => {
                episode.worst = episode.worst.max(out);
                let equivalent = judgement.verdict.map_or(out, |verdict| verdict.z_equivalent);
                let calm = equivalent < CALM || judgement.is_slight();
                episode.calm = if calm { episode.calm + 1 } else { 0 };
                let episode = *episode;
                if episode.calm < CALM_WINDOWS {
                    return Change::Persisting(episode);
                }
                *self = Self::default();
                Change::Closed(episode)
            }
        }
    }

    /// Its episode, if one is open.
    pub fn episode(&self) -> Option<Episode> {
        match self {
            Self::Calm { .. } => None,
            Self::Open(episode) => Some(*episode),
        }
    }
}

/// The quantiles that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantile {
    /// The median.
    P50,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
}

impl Quantile {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::P50, Self::P95, Self::P99];

    /// As a share.
    pub fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
        }
    }
}

/// A sustained deviation of an operation, whichever of its quantiles show it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperationEpisode {
    /// The earliest `since` of its quantiles' episodes.
    pub since: u64,
    /// The window in which the first of them opened.
    pub opened: u64,
    /// The quantile with the largest z / sqrt(phi).
    pub quantile: Quantile,
    /// That z / sqrt(phi).
    pub worst: f64,
}

/// An operation with its quantiles: one episode for all three. The fields are all of its state.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OperationWatch {
    /// In the order of [`Quantile::ALL`].
    pub quantiles: [Watch; 3],
    /// Open from the first quantile's episode until none has one.
    pub episode: Option<OperationEpisode>,
}

impl OperationWatch {
    /// Takes a window in: for each quantile its judgement and phi, `None` for one that could not be judged, which
    /// changes nothing of that quantile.
    pub fn observe(
        &mut self,
        at: u64,
        judged: [Option<(&Judgement, f64)>; 3],
        limit: f64,
    ) -> Change<OperationEpisode> {
        for (watch, judged) in self.quantiles.iter_mut().zip(judged) {
            if let Some((judgement, phi)) = judged {
                watch.observe(at, judgement, phi, limit);
            }
        }
        let before = self.episode;
        let mut open = false;
        for (quantile, watch) in Quantile::ALL.into_iter().zip(&self.quantiles) {
            let Some(of_quantile) = watch.episode() else { continue };
            open = true;
            let episode = self.episode.get_or_insert(OperationEpisode {
                since: of_quantile.since,
                opened: at,
                quantile,
                worst: of_quantile.worst,
            });
            episode.since = episode.since.min(of_quantile.since);
            if of_quantile.worst > episode.worst {
                (episode.quantile, episode.worst) = (quantile, of_quantile.worst);
            }
        }
        match (before, self.episode) {
            (Some(_), Some(episode)) if !open => {
                self.episode = None;
                Change::Closed(episode)
            }
            (Some(_), Some(episode)) => Change::Persisting(episode),
            (None, Some(episode)) => Change::Opened(episode),
            (_, None) => Change::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, Verdict};

    fn judged(z: f64, z_equivalent: Option<f64>) -> Judgement {
        let verdict = z_equivalent.map(|z_equivalent| Verdict {
            method: Method::Conformal,
            p: 0.5,
            z_equivalent,
            candidate: false,
        });
        Judgement { z, slack: 0.0, rise: 0.5, least_rise: 0.05, verdict }
    }

    #[test]
    fn an_episode_from_start_to_end() {
        let mut watch = Watch::default();
        let (none, open) =
            (Change::None, |calm, worst| Episode { since: 20, opened: 40, calm, worst });
        // phi = 4 and h = 5: S = max(0, S + z/2 - 1).
        for (at, z, z_equivalent, expected) in [
            (0, 4.0, None, none),  // S = 1.
            (10, 0.0, None, none), // 0.
            (20, 6.0, None, none), // 2.
            (30, 8.0, None, none), // 5, which is not above 5.
            (40, 3.0, None, Change::Opened(open(0, 1.5))),
            (50, 9.0, Some(0.9), Change::Persisting(open(1, 4.5))),
            (60, 1.0, Some(0.9), Change::Persisting(open(2, 4.5))),
            (70, 1.0, Some(1.0), Change::Persisting(open(0, 4.5))),
            // Without a verdict z / sqrt(phi) serves.
            (80, 1.9, None, Change::Persisting(open(1, 4.5))),
            (90, 2.0, None, Change::Persisting(open(0, 4.5))),
            (100, -9.0, None, Change::Persisting(open(1, 4.5))),
            (110, 1.9, None, Change::Persisting(open(2, 4.5))),
            (120, 1.9, Some(-1.0), Change::Closed(open(3, 4.5))),
            // From zero again.
            (130, 11.9, None, none), // 4.95.
            (140, -99.0, None, none),
        ] {
            assert_eq!(watch.observe(at, &judged(z, z_equivalent), 4.0, 5.0), expected, "{at}");
        }
        assert_eq!(watch, Watch::default());
        assert_eq!(watch.episode(), None);
    }

    #[test]
    fn a_young_baseline_is_given_slack() {
        // z/2 - 0.5 - 1 = 5 with a slack of 0.5, whatever phi is; a hair more trips.
        for (z, trips) in [(13.0, false), (13.01, true)] {
            let mut watch = Watch::default();
            let found = watch.observe(7, &Judgement { slack: 0.5, ..judged(z, None) }, 4.0, 5.0);
            assert_eq!(
                matches!(found, Change::Opened(Episode { since: 7, .. })),
                trips,
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_slight_rise_begins_no_episode_and_ends_one() {
        let of = |z: f64, rise: f64| Judgement { rise, ..judged(z, Some(2.4)) };
        let mut watch = Watch::default();
        for at in 0..100 {
            assert_eq!(watch.observe(at, &of(30.0, 0.03), 1.0, 5.0), Change::None);
        }
        assert_eq!(watch, Watch::default());
        // What has added up stays, and a window that is not out takes from it.
        watch.observe(100, &of(4.0, 0.06), 1.0, 5.0);
        watch.observe(101, &of(30.0, 0.03), 1.0, 5.0);
        assert_eq!(watch, Watch::Calm { sum: 3.0, since: Some(100) });
        watch.observe(102, &of(0.0, 0.03), 1.0, 5.0);
        assert_eq!(watch, Watch::Calm { sum: 2.0, since: Some(100) });
        assert!(matches!(watch.observe(103, &of(9.0, 0.06), 1.0, 5.0), Change::Opened(_)));
        // Half of what begins one goes on.
        for (at, rise, calm) in [(104, 0.024, 1), (105, 0.025, 0), (106, 0.02, 1), (107, 0.02, 2)] {
            watch.observe(at, &of(30.0, rise), 1.0, 5.0);
            assert_eq!(watch.episode().unwrap().calm, calm, "{at}");
        }
        assert!(matches!(watch.observe(108, &of(30.0, -0.1), 1.0, 5.0), Change::Closed(_)));
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        let mut watch = Watch::Calm { sum: 4.0, since: Some(3) };
        assert_eq!(watch.observe(9, &judged(f64::NAN, None), 1.0, 5.0), Change::None);
        assert_eq!(watch, Watch::Calm { sum: 4.0, since: Some(3) });
        let episode = Episode { since: 1, opened: 1, calm: 0, worst: 9.0 };
        let mut watch = Watch::Open(episode);
        let found = watch.observe(9, &judged(f64::NAN, None), 1.0, 5.0);
        assert_eq!(found, Change::Persisting(episode));
        // A state that was kept without its start.
        let mut watch = Watch::Calm { sum: 4.0, since: None };
        let found = watch.observe(9, &judged(3.0, None), 1.0, 5.0);
        assert!(matches!(found, Change::Opened(Episode { since: 9, .. })), "{found:?}");
    }

    #[test]
    fn three_quantiles_make_one_episode() {
        let (calm, bad, worse) = (judged(0.0, None), judged(9.0, None), judged(20.0, None));
        let quiet = judged(3.0, None);
        let mut watch = OperationWatch::default();
        let episode = |quantile, worst| OperationEpisode { since: 1, opened: 2, quantile, worst };
        let (p95, p99) = (Quantile::P95, Quantile::P99);
        for (at, judged, expected) in [
            (0, [Some(&calm), Some(&calm), None], Change::None),
            (1, [Some(&calm), Some(&quiet), Some(&calm)], Change::None),
            (2, [Some(&calm), Some(&bad), Some(&calm)], Change::Opened(episode(p95, 9.0))),
            (3, [Some(&calm), Some(&calm), Some(&worse)], Change::Persisting(episode(p99, 20.0))),
            (4, [Some(&calm), Some(&calm), Some(&bad)], Change::Persisting(episode(p99, 20.0))),
            // The 95 % are calm for the third time, and open again: it is one episode nevertheless.
            (5, [None, Some(&calm), None], Change::Persisting(episode(p99, 20.0))),
            (6, [None, Some(&worse), None], Change::Persisting(episode(p99, 20.0))),
            (7, [None, None, None], Change::Persisting(episode(p99, 20.0))),
            (8, [None, Some(&calm), Some(&calm)], Change::Persisting(episode(p99, 20.0))),
            (9, [None, Some(&calm), Some(&calm)], Change::Persisting(episode(p99, 20.0))),
            (10, [None, Some(&calm), Some(&calm)], Change::Closed(episode(p99, 20.0))),
            (11, [None, Some(&calm), Some(&calm)], Change::None),
        ] {
            let judged = judged.map(|judged| judged.map(|judged| (judged, 1.0)));
            assert_eq!(watch.observe(at, judged, 5.0), expected, "{at}");
        }
        assert_eq!(watch, OperationWatch::default());
    }

    #[test]
    fn it_began_with_the_first_of_them() {
        let (calm, slow, fast) = (judged(0.0, None), judged(2.5, None), judged(9.0, None));
        let mut watch = OperationWatch::default();
        let look = |judgement| Some((judgement, 1.0));
        watch.observe(1, [look(&slow), None, None], 5.0);
        watch.observe(2, [look(&slow), look(&fast), None], 5.0);
        assert_eq!(watch.episode.map(|episode| episode.since), Some(2));
        watch.observe(3, [look(&slow), look(&calm), None], 5.0);
        // The median trips last, and has risen for longest.
        let found = watch.observe(4, [look(&slow), look(&calm), None], 5.0);
        let (since, opened, quantile, worst) = (1, 2, Quantile::P95, 9.0);
        let episode = OperationEpisode { since, opened, quantile, worst };
        assert_eq!(found, Change::Persisting(episode));
    }

    #[test]
    fn the_shares() {
        assert_eq!(Quantile::ALL.map(Quantile::share), [0.5, 0.95, 0.99]);
    }
}
