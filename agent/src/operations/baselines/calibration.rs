//! The windows that were judged in an hour of the week, and how they are kept: 16 bytes each.

use genesis_stats::Calibrated;

use super::plan::{WEEK, WINDOW};

/// So many windows of an hour of the week are kept: five weeks of twelve.
pub const KEPT: usize = 60;
const BYTES: usize = 16;
/// z is kept in 64ths, the logarithm of a value in thousandths.
const Z_UNIT: f64 = 64.0;
const LOG_UNIT: f64 = 1_000.0;
/// For a quantile that was not judged.
const NONE: i16 = i16::MIN;

/// A healthy window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// When it began, in seconds since 1970.
    pub start: i64,
    /// At each quantile.
    pub quantiles: [Option<Calibrated>; 3],
}

/// Reads what was written; what is cut off or has another length is left out.
pub fn decode(bytes: &[u8]) -> Vec<Past> {
    let number = |bytes: &[u8], at: usize| i16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let each = bytes.chunks_exact(BYTES).map(|bytes| {
        let start = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let mut quantiles = [None; 3];
        for (at, quantile) in quantiles.iter_mut().enumerate() {
            let (z, log) = (number(bytes, 4 + 4 * at), number(bytes, 6 + 4 * at));
            *quantile = (z != NONE).then(|| Calibrated {
                z: (f64::from(z) / Z_UNIT) as f32,
                log_value: (f64::from(log) / LOG_UNIT) as f32,
            });
        }
        Past { start: i64::from(start) * WINDOW, quantiles }
    });
    each.collect()
}

/// Adds a window, the oldest make room.
pub fn add(past: &mut Vec<Past>, window: Past) {
    past.retain(|it| it.start != window.start);
    past.push(window);
    past.sort_by_key(|it| it.start);
    let excess = past.len().saturating_sub(KEPT);
    past.drain(..excess);
}

/// As it is written.
pub fn encode(past: &[Past]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(past.len() * BYTES);
    for window in past {
        let start = u32::try_from(window.start / WINDOW).unwrap_or(0);
        bytes.extend_from_slice(&start.to_le_bytes());
        for quantile in &window.quantiles {
            let (z, log) = quantile.map_or((NONE, 0), |it| {
                (unit(f64::from(it.z) * Z_UNIT), unit(f64::from(it.log_value) * LOG_UNIT))
            });
            bytes.extend_from_slice(&z.to_le_bytes());
            bytes.extend_from_slice(&log.to_le_bytes());
        }
    }
    bytes
}

fn unit(value: f64) -> i16 {
    // Saturates, and is no number that stands for none.
    (value.round() as i16).max(i16::MIN + 1)
}

/// As it will be once it is written, so that equal windows are equal.
pub fn kept(calibrated: Calibrated) -> Calibrated {
    let z = f64::from(unit(f64::from(calibrated.z) * Z_UNIT)) / Z_UNIT;
    let log = f64::from(unit(f64::from(calibrated.log_value) * LOG_UNIT)) / LOG_UNIT;
    Calibrated { z: z as f32, log_value: log as f32 }
}

/// The hours of the week that say what is usual in this one: it and its neighbours.
pub fn neighbours(hour: u8) -> [u8; 3] {
    [back(hour, 1), hour, back(hour, WEEK as u16 - 1)]
}

/// Those of the day before, where the neighbours have too few windows: a young baseline.
pub fn day_before(hour: u8) -> impl Iterator<Item = u8> {
    (1..=24).map(move |hours| back(hour, hours))
}

/// The hour of the week so many hours before.
fn back(hour: u8, hours: u16) -> u8 {
    let week = WEEK as u16;
    ((u16::from(hour) + week - hours % week) % week) as u8
}
