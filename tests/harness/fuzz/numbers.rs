//! What is read of numbers: sketches and columns on the wire and on disk, matrices, tallies, and what a fleet keeps.

use genesis_agent::operations::baselines::raw;
use genesis_agent::operations::experiments::fleet::record::{
    Defined, FleetParameter, Looked, Owner, Share, read, tally_of, written,
};
use genesis_agent::operations::experiments::tally::{Tally, day_from_bytes, day_to_bytes};
use genesis_agent::operations::matrices::columns::Day;
use genesis_agent::operations::matrices::hours::Hour;
use genesis_agent::operations::matrices::serving::digest;
use genesis_agent::operations::matrices::sharing::published::{
    KEPT, Pointer, Published, content, hash, verified,
};
use genesis_stats::column;
use genesis_stats::correlation::{Block, Candidate, Correlation, Definiteness, Estimate};
use genesis_stats::{Sketch, SketchError};
use genesis_storage::{ExperimentRecord, MatrixRecord, RulesRecord};

/// So many rows of columns are read: a few bytes may stand for a million.
const ROWS: usize = 65_536;
/// So many bytes of a matrix are read, whose check takes the cube of its size.
const MATRIX: usize = 16 << 10;
/// Versions of a matrix that are to be deleted: so many a fleet remembers.
const LEAVING: usize = 20;

/// The length of the first one in two bytes, then one or two sketches: each has these bytes alone, its quantiles ascend
/// between its extremes, and either may be merged into the other.
pub fn sketches(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (one, other) = rest.split_at(length);
    let read: Vec<Sketch> = [one, other].into_iter().filter_map(sketch).collect();
    if let [one, other] = &read[..] {
        let (mut left, mut right) = (one.clone(), other.clone());
        left.merge(other);
        right.merge(one);
        assert_eq!(left, right);
        assert_eq!(left.to_bytes(), right.to_bytes());
        assert_eq!(Sketch::from_bytes(&left.to_bytes()).as_ref(), Ok(&left));
        sound(&left);
    }
}

fn sketch(bytes: &[u8]) -> Option<Sketch> {
    let own = Sketch::from_own_bytes(bytes);
    let read = Sketch::from_bytes(bytes);
    if read == Err(SketchError::NotCanonical) {
        assert!(own.is_ok_and(|it| it.to_bytes() != bytes));
        return None;
    }
    assert_eq!(own, read);
    let sketch = read.ok()?;
    assert_eq!(sketch.to_bytes(), bytes);
    sound(&sketch);
    Some(sketch)
}

fn sound(sketch: &Sketch) {
    assert_eq!(Sketch::from_parts(sketch.to_parts()).as_ref(), Ok(sketch));
    let quantile = |q| sketch.quantile(q);
    let quantiles = [0.0, 0.25, 0.5, 0.9, 0.99, 1.0].map(quantile);
    assert_eq!(quantiles[0].is_none(), sketch.is_empty());
    let (Some(min), Some(max)) = (sketch.min(), sketch.max()) else { return };
    let quantiles = quantiles.map(|it| it.expect("it has values"));
    assert!(quantiles.is_sorted(), "{quantiles:?}");
    assert!(quantiles.iter().all(|it| (min..=max).contains(it)), "{quantiles:?} {min} {max}");
    assert_eq!(sketch.above(max), 0);
    let _ = (sketch.interval(0.95), sketch.deviation(), sketch.mean());
}

/// Chunks of columns: each has as many rows as it says, within the times that it says, else none; and what was read is
/// read again as it is written.
pub fn columns(data: &[u8]) {
    let (mut times, mut nanos) = (Vec::new(), Vec::new());
    for chunk in column::chunks(data) {
        let Ok(chunk) = chunk else { break };
        let before = times.len();
        if before + chunk.rows() > ROWS {
            return;
        }
        let read = chunk.decode_into(&mut times, &mut nanos);
        let after = if read.is_ok() { before + chunk.rows() } else { before };
        assert_eq!((times.len(), nanos.len()), (after, after));
        if read.is_err() {
            break;
        }
        let own = &times[before..];
        assert_eq!(chunk.span(), own.iter().min().copied().zip(own.iter().max().copied()));
    }
    let mut bytes = Vec::new();
    column::encode(&times, &nanos, &mut bytes).expect("there are as many times as durations");
    let (mut times_again, mut nanos_again) = (Vec::new(), Vec::new());
    raw::rows(&bytes, &mut times_again, &mut nanos_again);
    assert_eq!((&times_again, &nanos_again), (&times, &nanos));
    assert_eq!(raw::newest(&bytes), times.iter().max().copied());
    let mut row = Vec::new();
    raw::put(&mut row, 7, &bytes);
    raw::put(&mut row, 8, data);
    let parts: Vec<(u32, &[u8])> = raw::parts(&row).collect();
    assert_eq!(parts, [(7, &bytes[..]), (8, data)]);
    for (_, chunks) in raw::parts(data) {
        let _ = raw::newest(chunks);
    }
}

/// The sums of a day, or a matrix: either has these bytes alone, and correlations are the same both ways round and never
/// beyond 1.
pub fn correlations(data: &[u8]) {
    if data.len() > MATRIX {
        return;
    }
    if let Ok(block) = Block::from_bytes(data) {
        assert_eq!(block.to_bytes(), data);
        let all: Vec<usize> = (0..block.series()).collect();
        assert_eq!(block.select(&all).as_ref(), Ok(&block));
        let estimate = Estimate::of(&block);
        for (i, j) in all.iter().flat_map(|i| all.iter().map(move |j| (*i, *j))) {
            let value = estimate.get(i, j);
            assert_eq!(value, estimate.get(j, i));
            assert!(value.is_none_or(|it| (-1.0..=1.0).contains(&it)), "{value:?}");
        }
    }
    if let Ok(matrix) = Correlation::from_bytes(data) {
        assert_eq!(matrix.to_bytes(), data);
        let square = Candidate::square(matrix.series().to_vec(), matrix.to_square());
        let square = square.expect("it is a square");
        assert_eq!(square.accept().as_ref(), Ok(&matrix));
        assert_ne!(square.definiteness(), Definiteness::Unknown);
        published(&matrix, square.definiteness() == Definiteness::Definite);
    }
}

/// What a fleet is given of a matrix is used where it is definite, and never where a byte of it has changed.
fn published(matrix: &Correlation, definite: bool) {
    let digest = digest(matrix);
    let record = MatrixRecord { version: 3, digest: digest.clone(), ..MatrixRecord::default() };
    let mut bytes = content(&record, matrix).expect("it is short");
    let published =
        Published { digest, hash: hash(&bytes), bytes: bytes.len() as u64, ..Published::default() };
    let read = verified(&published, &bytes);
    assert_eq!(read.is_ok(), definite, "{read:?}");
    if let Ok(read) = read {
        assert_eq!(read, (record, matrix.clone()));
    }
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(verified(&published, &bytes).is_err());
}

/// A byte that says which, then the values of an hour, the moments of a day, or a tally: what is read is written as it was.
pub fn stored_values(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 3 {
        0 => hour(bytes),
        1 => {
            let Some(day) = day_from_bytes(bytes) else { return };
            let written = day_to_bytes(&day);
            let again = day_from_bytes(&written).expect("a day reads as it is written");
            assert_eq!(day_to_bytes(&again), written);
        }
        _ => {
            let record = experiment();
            let _ = Tally::identity_of(bytes);
            let Ok(tally) = Tally::from_bytes(&record, bytes) else { return };
            let written = tally.to_bytes();
            let again = Tally::from_bytes(&record, &written).expect("it reads as it is written");
            assert_eq!(again.to_bytes(), written);
        }
    }
}

fn hour(bytes: &[u8]) {
    let Some(hour) = Hour::from_bytes(bytes) else { return };
    assert_eq!(hour.to_bytes(), bytes);
    let (mut same, mut thin) = (hour.clone(), hour.clone());
    for (time, value) in hour.values() {
        assert!(same.put(*time, *value, 1), "it is the last of its nanosecond");
        thin.put(*time, *value, 60_000_000_000);
    }
    assert_eq!(same, hour);
    assert_eq!(Hour::from_bytes(&thin.to_bytes()), Some(thin));
    let mut day = Day::new(60);
    day.take_before(&hour);
    day.take(23, &hour);
    assert_eq!((day.values().len(), day.returns().len()), (1_440, 1_440));
}

/// An experiment by the procedures' numbers.
fn experiment() -> ExperimentRecord {
    ExperimentRecord {
        number: 1,
        variant_basis_points: 5_000,
        design: "sequential".to_owned(),
        rules: RulesRecord {
            least: 100,
            planned: 500,
            most: 1_000,
            promote_lift: 0.1,
            rollback_lift: -0.1,
            least_effect: 0.2,
            alpha: 0.05,
            guarded: false,
        },
        ..ExperimentRecord::default()
    }
}

/// An entry of this type, which reads as it is written.
macro_rules! same {
    ($data:expr, $entry:ty) => {
        read::<$entry>($data).ok().inspect(|entry| {
            let bytes = written(entry);
            let again: $entry = read(&bytes).expect("it reads as it is written");
            assert_eq!(written(&again), bytes);
        })
    };
}

/// What a fleet keeps of experiments, parameters and matrices: it is written as it was read, and what can't be begun as it
/// was meant is known by that.
pub fn fleet_entries(data: &[u8]) {
    let _ = (same!(data, Owner), same!(data, FleetParameter));
    if let Some(share) = same!(data, Share) {
        let _ = share.moments();
    }
    if let Some(looked) = same!(data, Looked) {
        let _ = tally_of(&experiment(), &looked.tally);
    }
    if let Some(defined) = same!(data, Defined)
        && defined.fault().is_none()
    {
        let record = defined.record();
        assert!(defined.is(&record), "it is not what it says");
        Tally::new(&record).expect("there is no fault");
    }
    let raw = Published { bytes: data.len() as u64, hash: hash(data), ..Published::default() };
    let _ = verified(&raw, data);
    if let Ok(pointer) = Pointer::read(data) {
        let again = Pointer::read(&written(&pointer)).expect("it reads as it is written");
        assert_eq!(again, pointer);
        let after = Pointer::after(Some(again), pointer.current, pointer.members);
        assert!(after.earlier.len() < KEPT && after.leaving.len() <= LEAVING);
    }
}
