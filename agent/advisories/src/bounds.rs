//! How far each strategy lets a locked version go.
//!
//! | strategy | bound for X.Y.Z | for 0.Y.Z |
//! |---|---|---|
//! | conservative | `< X.(Y+1)` | `< 0.(Y+1)` |
//! | moderate | `< X+1` | `< 0.(Y+1)` |
//! | aggressive | none | none |
//! | security | exactly the smallest safe version | the same |
//!
//! None goes below the locked version. An epoch of Python's (`1!2.0`) is above all majors. Versions before a release
//! are let in only where the locked one is before a release too, and never those before the bound itself: `1.3rc1` is not
//! below `1.3` here, as in PEP 440. A label, such as `+cu118`, is let in where the locked version has one.

use serde::{Deserialize, Serialize};

use crate::Ecosystem;
use crate::version::{Leading, NotOrdered, Version};

/// How much an update may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Mends alone.
    Conservative,
    /// What should stay compatible.
    Moderate,
    /// Anything newer.
    Aggressive,
    /// As little as makes it safe.
    Security,
}

/// What a change of version is, by the same numbers as the strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// To a version before it.
    Downgrade,
    /// To one at the same place in the order.
    Same,
    /// What the conservative strategy allows.
    Patch,
    /// What the moderate strategy allows.
    Minor,
    /// What only the aggressive strategy allows.
    Major,
}

/// Why there is no bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbounded {
    /// The locked or the safe version has no order.
    #[error(transparent)]
    NotOrdered(#[from] NotOrdered),
    /// The strategy is security, and no version is known to be safe.
    #[error("no version at or above {0} is known to be safe")]
    NoSafeVersion(String),
    /// The safe version is below the locked one.
    #[error("the safe version {safe} is below {locked}")]
    Below {
        /// The version that was given as safe.
        safe: String,
        /// The version that is locked.
        locked: String,
    },
    /// There is no number after those of the locked version.
    #[error("there is no version number after that of {0}")]
    Largest(String),
}

/// How far a locked version may go.
#[derive(Debug, Clone)]
pub struct Bound {
    ecosystem: Ecosystem,
    locked: Version,
    end: End,
}

#[derive(Debug, Clone)]
enum End {
    Open,
    Below { first: Leading, text: String },
    Exactly(Version),
}

/// The bound that a strategy sets for a locked version. `safe` is what [`crate::finding::safe_version`] found; only the
/// security strategy looks at it.
///
/// # Errors
///
/// A version without an order, no safe version or one below the locked one where it is asked for, and numbers that have
/// no next one.
pub fn bound(
    ecosystem: &Ecosystem,
    locked: &str,
    strategy: Strategy,
    safe: Option<&str>,
) -> Result<Bound, Unbounded> {
    let version = Version::read(ecosystem, locked)?;
    let Leading { epoch, major, minor } = version.leading();
    let next =
        |number: u64| number.checked_add(1).ok_or_else(|| Unbounded::Largest(version.public()));
    let end = match strategy {
        Strategy::Aggressive => End::Open,
        Strategy::Moderate if major > 0 => {
            below(ecosystem, Leading { epoch, major: next(major)?, minor: 0 }, true)
        }
        Strategy::Conservative | Strategy::Moderate => {
            below(ecosystem, Leading { epoch, major, minor: next(minor)? }, false)
        }
        Strategy::Security => {
            let safe = safe.ok_or_else(|| Unbounded::NoSafeVersion(version.public()))?;
            let read = Version::read(ecosystem, safe)?;
            if read < version {
                return Err(Unbounded::Below {
                    safe: read.to_string(),
                    locked: version.to_string(),
                });
            }
            End::Exactly(read)
        }
    };
    Ok(Bound { ecosystem: ecosystem.clone(), locked: version, end })
}

fn below(ecosystem: &Ecosystem, first: Leading, of_major: bool) -> End {
    let Leading { epoch, major, minor } = first;
    let text = match (ecosystem, of_major) {
        (Ecosystem::PyPI, _) => {
            let epoch = if epoch > 0 { format!("{epoch}!") } else { String::new() };
            let minor = if of_major { String::new() } else { format!(".{minor}") };
            format!("{epoch}{major}{minor}")
        }
        _ => format!("{major}.{minor}.0"),
    };
    End::Below { first, text }
}

impl Bound {
    /// The first version that is out of bounds, if there is one.
    pub fn below(&self) -> Option<&str> {
        if let End::Below { text, .. } = &self.end { Some(text) } else { None }
    }

    /// The line of a constraints file, such as `requests>=2.31.0,<2.32`. A local label is left out of the lower bound,
    /// where PEP 440 does not allow one.
    pub fn constraint(&self, name: &str) -> String {
        let locked = self.locked.public();
        match &self.end {
            End::Open => format!("{name}>={locked}"),
            End::Below { text, .. } => format!("{name}>={locked},<{text}"),
            End::Exactly(version) => format!("{name}=={version}"),
        }
    }

    /// Whether a version is within the bound. One without an order is not.
    pub fn allows(&self, candidate: &str) -> bool {
        Version::read(&self.ecosystem, candidate).is_ok_and(|version| self.holds(&version))
    }

    /// The highest of some versions that is within the bound. Of equal ones, the first.
    pub fn highest<'a>(&self, candidates: &[&'a str]) -> Option<&'a str> {
        let mut highest: Option<(Version, &'a str)> = None;
        for text in candidates {
            let Ok(version) = Version::read(&self.ecosystem, text) else { continue };
            let higher = highest.as_ref().is_none_or(|(so_far, _)| version > *so_far);
            if higher && self.holds(&version) {
                highest = Some((version, text));
            }
        }
        highest.map(|(_, text)| text)
    }

    fn holds(&self, version: &Version) -> bool {
        *version >= self.locked
            && version.fits(&self.locked)
            && match &self.end {
                End::Open => true,
                End::Below { first, .. } => version.leading() < *first,
                End::Exactly(exact) => version == exact,
            }
    }
}

/// What a change from one version to another is.
///
/// # Errors
///
/// A version without an order.
pub fn change(ecosystem: &Ecosystem, from: &str, to: &str) -> Result<Change, NotOrdered> {
    let (from, to) = (Version::read(ecosystem, from)?, Version::read(ecosystem, to)?);
    let (old, new) = (from.leading(), to.leading());
    Ok(match to.cmp(&from) {
        std::cmp::Ordering::Less => Change::Downgrade,
        std::cmp::Ordering::Equal => Change::Same,
        _ if (old.epoch, old.major) != (new.epoch, new.major) => Change::Major,
        _ if old.minor == new.minor => Change::Patch,
        _ if old.major == 0 => Change::Major,
        _ => Change::Minor,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Change, Strategy, Unbounded, bound, change};
    use crate::Ecosystem::{self, CratesIo, PyPI};

    use Strategy::{Aggressive, Conservative, Moderate, Security};

    #[test]
    fn constraints() {
        for (ecosystem, locked, strategy, expected) in [
            (PyPI, "1.2.3", Conservative, "a>=1.2.3,<1.3"),
            (PyPI, "1.2.3", Moderate, "a>=1.2.3,<2"),
            (PyPI, "1.2.3", Aggressive, "a>=1.2.3"),
            (PyPI, "1.2.3", Security, "a==1.4"),
            (PyPI, "0.4.1", Conservative, "a>=0.4.1,<0.5"),
            (PyPI, "0.4.1", Moderate, "a>=0.4.1,<0.5"),
            (PyPI, "2024.2.2", Conservative, "a>=2024.2.2,<2024.3"),
            (PyPI, "5", Conservative, "a>=5,<5.1"),
            (PyPI, "1!2.3", Conservative, "a>=1!2.3,<1!2.4"),
            (PyPI, "1!2.3", Moderate, "a>=1!2.3,<1!3"),
            (PyPI, "2.0.0+cu118", Conservative, "a>=2.0.0,<2.1"),
            (PyPI, "1.3rc1", Conservative, "a>=1.3rc1,<1.4"),
            (CratesIo, "1.2.3", Conservative, "a>=1.2.3,<1.3.0"),
            (CratesIo, "1.2.3+x", Moderate, "a>=1.2.3,<2.0.0"),
            (CratesIo, "0.4.1", Moderate, "a>=0.4.1,<0.5.0"),
            (CratesIo, "0.0.3", Moderate, "a>=0.0.3,<0.1.0"),
        ] {
            let bound = bound(&ecosystem, locked, strategy, Some("1.4")).unwrap();
            assert_eq!(bound.constraint("a"), expected, "{locked} {strategy:?}");
        }
    }

    #[test]
    fn the_highest_within() {
        let python = [
            "1.2.3",
            "1.2.9",
            "1.2.10",
            "1.2.11rc1",
            "1.3a1",
            "1.3",
            "1.10",
            "2.0rc1",
            "2.0",
            "1!0.1",
            "odd",
        ];
        let rust = ["1.2.3", "1.2.10", "1.2.11-rc.1", "1.3.0-rc.1", "1.3.0", "2.0.0", "2.0.1-a"];
        for (ecosystem, all, locked, strategy, expected) in [
            (PyPI, &python[..], "1.2.3", Conservative, Some("1.2.10")),
            (PyPI, &python, "1.2.3", Moderate, Some("1.10")),
            (PyPI, &python, "1.2.3", Aggressive, Some("1!0.1")),
            (PyPI, &python, "1.2.11.dev1", Conservative, Some("1.2.11rc1")),
            (PyPI, &python, "1.3a0", Moderate, Some("1.10")),
            (PyPI, &python, "1.2.3", Security, Some("1.3")),
            (PyPI, &python, "2!1", Conservative, None),
            (PyPI, &["2.0.0+cu118", "2.0.1+cu118"], "2.0.0", Conservative, None),
            (
                PyPI,
                &["2.0.0+cu118", "2.0.1+cu118"],
                "2.0.0+cu118",
                Conservative,
                Some("2.0.1+cu118"),
            ),
            (CratesIo, &rust, "1.2.3", Conservative, Some("1.2.10")),
            (CratesIo, &rust, "1.2.3", Moderate, Some("1.3.0")),
            (CratesIo, &rust, "1.2.3", Aggressive, Some("2.0.0")),
            (CratesIo, &rust, "1.2.11-rc.0", Conservative, Some("1.2.11-rc.1")),
        ] {
            let safe = if ecosystem == PyPI { "1.3" } else { "1.3.0" };
            let bound = bound(&ecosystem, locked, strategy, Some(safe)).unwrap();
            assert_eq!(bound.highest(all), expected, "{locked} {strategy:?}");
        }
    }

    #[test]
    fn what_has_no_bound() {
        let most = format!("1.{}", u64::MAX);
        assert_eq!(bound(&PyPI, &most, Conservative, None).unwrap_err(), Unbounded::Largest(most));
        assert!(matches!(bound(&PyPI, "odd", Conservative, None), Err(Unbounded::NotOrdered(_))));
        let none = bound(&PyPI, "1.0", Security, None).unwrap_err();
        assert_eq!(none, Unbounded::NoSafeVersion("1.0".to_owned()));
        let below = bound(&PyPI, "1.0", Security, Some("0.9")).unwrap_err();
        assert_eq!(below.to_string(), "the safe version 0.9 is below 1.0");
    }

    #[test]
    fn changes() {
        for (ecosystem, from, to, expected) in [
            (PyPI, "1.2.3", "1.2.4", Change::Patch),
            (PyPI, "1.2.3", "1.2.3.post1", Change::Patch),
            (PyPI, "1.2.3", "1.3", Change::Minor),
            (PyPI, "1.2.3", "2", Change::Major),
            (PyPI, "2.0", "1!1.0", Change::Major),
            (PyPI, "0.4.1", "0.4.2", Change::Patch),
            (PyPI, "0.4.1", "0.5", Change::Major),
            (PyPI, "1.2.3", "1.2", Change::Downgrade),
            (PyPI, "1.0", "1.0.0", Change::Same),
            (CratesIo, "1.2.3", "1.2.3+x", Change::Same),
            (CratesIo, "1.2.3-a", "1.2.3", Change::Patch),
            (CratesIo, "1.2.3", "1.4.0", Change::Minor),
            (CratesIo, "0.1.0", "0.2.0", Change::Major),
        ] {
            assert_eq!(change(&ecosystem, from, to), Ok(expected), "{from} to {to}");
        }
    }

    fn number() -> impl Strategy2<Value = u64> {
        prop_oneof![0..4_u64, Just(u64::MAX)]
    }
    use proptest::strategy::Strategy as Strategy2;

    proptest! {
        /// A bound and the name of a change say the same.
        #[test]
        fn bounds_are_changes(old in [number(), number(), number()], new in [number(), number(), number()], rust in any::<bool>()) {
            let ecosystem = if rust { CratesIo } else { PyPI };
            let [from, to] = [old, new].map(|[a, b, c]| format!("{a}.{b}.{c}"));
            let change = change(&ecosystem, &from, &to).unwrap();
            for (strategy, most) in [(Conservative, Change::Patch), (Moderate, Change::Minor), (Aggressive, Change::Major)] {
                if let Ok(bound) = bound(&ecosystem, &from, strategy, None) {
                    let within = change > Change::Downgrade && change <= most;
                    prop_assert_eq!(bound.allows(&to), within, "{} to {}: {:?}", from, to, change);
                }
            }
        }

        #[test]
        fn nothing_panics(from in "\\PC{0,20}|[0-9.!+a-z-]{0,12}", to in "[0-9.!+a-z-]{0,12}", rust in any::<bool>()) {
            let ecosystem: Ecosystem = if rust { CratesIo } else { PyPI };
            let _ = change(&ecosystem, &from, &to);
            for strategy in [Conservative, Moderate, Aggressive, Security] {
                if let Ok(bound) = bound(&ecosystem, &from, strategy, Some(&to)) {
                    let _ = (bound.allows(&to), bound.highest(&[&from, &to]), bound.constraint("a"));
                }
            }
        }
    }
}
