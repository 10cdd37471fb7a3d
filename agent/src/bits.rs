//! How the sums of a test and what its looks have shown are kept: by the bits of their numbers, so that what is read is
//! what was written. Experiments and the rollouts of matrices have it in common.

use genesis_stats::experiment::{
    AlwaysValid, FixedLook, LanDemets, Looks, MomentParts, Moments, State, TakenLook,
};
use serde::{Deserialize, Serialize};

/// n, and the bits of origin, mean, M2 and M3.
pub type MomentBits = (u64, [u64; 4]);

/// As moments are kept.
pub fn bits_of(moments: &Moments) -> MomentBits {
    let MomentParts { n, origin, mean, m2, m3 } = moments.parts();
    (n, [origin, mean, m2, m3].map(f64::to_bits))
}

/// What was kept; `None` for what no values have.
pub fn moments_of(bits: &MomentBits) -> Option<Moments> {
    let (n, [origin, mean, m2, m3]) = (bits.0, bits.1.map(f64::from_bits));
    Moments::from_parts(MomentParts { n, origin, mean, m2, m3 })
}

/// What the looks have shown, by bits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // Each is what the statistics call it.
pub enum StateBits {
    Sequential { up: u64, down: u64, information: u64, count: u64 },
    Fixed(Option<(u64, u64)>),
    LanDemets { looks: Vec<(u64, u64)>, up: u64, down: u64, done: bool },
    AlwaysValid { up: u64, down: u64, count: u64 },
}

impl StateBits {
    /// Of what was found.
    pub fn of(state: &State) -> Self {
        match state {
            State::Sequential(it) => Self::Sequential {
                up: it.up.to_bits(),
                down: it.down.to_bits(),
                information: it.information.to_bits(),
                count: it.count,
            },
            State::Fixed(FixedLook { taken }) => {
                Self::Fixed(taken.map(|(t, p)| (t.to_bits(), p.to_bits())))
            }
            State::LanDemets(it) => Self::LanDemets {
                looks: it
                    .looks
                    .iter()
                    .map(|look| (look.information.to_bits(), look.z.to_bits()))
                    .collect(),
                up: it.up.to_bits(),
                down: it.down.to_bits(),
                done: it.done,
            },
            State::AlwaysValid(it) => {
                Self::AlwaysValid { up: it.up.to_bits(), down: it.down.to_bits(), count: it.count }
            }
        }
    }

    /// What was found.
    pub fn state(&self) -> State {
        let float = f64::from_bits;
        match self {
            Self::Sequential { up, down, information, count } => State::Sequential(Looks {
                up: float(*up),
                down: float(*down),
                information: float(*information),
                count: *count,
            }),
            Self::Fixed(taken) => {
                State::Fixed(FixedLook { taken: taken.map(|(t, p)| (float(t), float(p))) })
            }
            Self::LanDemets { looks, up, down, done } => State::LanDemets(LanDemets {
                looks: looks
                    .iter()
                    .map(|(information, z)| TakenLook {
                        information: float(*information),
                        z: float(*z),
                    })
                    .collect(),
                up: float(*up),
                down: float(*down),
                done: *done,
            }),
            Self::AlwaysValid { up, down, count } => State::AlwaysValid(AlwaysValid {
                up: float(*up),
                down: float(*down),
                count: *count,
            }),
        }
    }
}
