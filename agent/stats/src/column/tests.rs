use proptest::prelude::*;

use super::*;

type Rows = (Vec<i64>, Vec<u64>);

fn encoded((times, nanos): &Rows) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(times, nanos, &mut bytes).unwrap();
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Rows, ColumnError> {
    let mut rows = Rows::default();
    for chunk in chunks(bytes) {
        chunk?.decode_into(&mut rows.0, &mut rows.1)?;
    }
    Ok(rows)
}

/// Some data that look like observations, from SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// Between 0 and 1, neither of them.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Of any length in bits, and one in eight all ones.
    fn any(&mut self) -> u64 {
        let bits = if self.next().is_multiple_of(8) { u64::MAX } else { self.next() };
        bits >> (self.next() % 64)
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Exponential gaps of 3.6 ms, and lognormal durations around 20 ms in a clock of `unit` ns.
    fn observations(&mut self, rows: usize, sigma: f64, unit: u64) -> Rows {
        let mut time = 1_790_000_000_000_000_000;
        (0..rows)
            .map(|_| {
                time += (-self.uniform().ln() * 3.6e6) as i64;
                (time, (20e6 * (self.normal() * sigma).exp()) as u64 / unit * unit)
            })
            .unzip()
    }
}

/// Against the entropy of these gaps and durations: 23.2 bits, and 25.3 or 26.3 in whole nanoseconds, 10 less in whole
/// microseconds; together 6.07 and 6.19 bytes, 4.82 and 4.95.
#[test]
fn sizes_are_near_the_entropy() {
    for (rows, sigma, unit, most) in [
        (10_000, 0.5, 1, 6.14),
        (10_000, 1.0, 1, 6.25),
        (10_000, 0.5, 1_000, 4.89),
        (10_000, 1.0, 1_000, 5.0),
        (10_000, 0.5, 1_000_000, 3.65),
        (200, 0.5, 1, 6.27),
        (200, 1.0, 1, 6.38),
    ] {
        let mut random = Random(7);
        let bytes: usize = (0..20_000 / rows)
            .map(|_| encoded(&random.observations(rows, sigma, unit)).len())
            .sum();
        let each = bytes as f64 / 20_000.0;
        assert!(each <= most, "{rows} rows, sigma {sigma}, unit {unit}: {each}");
    }
}

#[test]
fn known_bytes() {
    let rows = (vec![1_000, 1_010, 1_020], vec![5_000, 7_000, 6_000]);
    let bytes = [0xa3, 3, 9, 0xd0, 15, 20, 0, 20, 0x80, 10, 0x82, 0b01_10_00];
    assert_eq!(encoded(&rows), bytes);
    assert_eq!(decoded(&bytes), Ok(rows));
    assert_eq!(encoded(&Rows::default()), [0xb3, 0, 0]);
}

#[test]
fn extremes_come_back() {
    let times = [i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MAX, i64::MIN, i64::MIN, 1];
    let nanos = [0, u64::MAX, 1, 1 << 63, u64::MAX, 10_u64.pow(19), i64::MAX as u64, 0, 2];
    for from in 0..times.len() {
        for to in from..=times.len() {
            let rows = (times[from..to].to_vec(), nanos[from..to].to_vec());
            assert_eq!(decoded(&encoded(&rows)), Ok(rows), "{from}..{to}");
        }
    }
}

#[test]
fn the_header_tells_rows_and_span() {
    let header = |rows| {
        let bytes = encoded(&rows);
        let chunk = chunks(&bytes).next().unwrap().unwrap();
        (chunk.rows(), chunk.span())
    };
    assert_eq!(header(Rows::default()), (0, None));
    assert_eq!(header((vec![-7], vec![0])), (1, Some((-7, -7))));
    assert_eq!(header((vec![5, -2, 9, 3], vec![0; 4])), (4, Some((-2, 9))));
    let extremes = (vec![0, i64::MAX, i64::MIN], vec![u64::MAX; 3]);
    assert_eq!(header(extremes), (3, Some((i64::MIN, i64::MAX))));
}

#[test]
fn what_is_no_chunk_of_rows() {
    let mut out = vec![1];
    assert_eq!(encode(&[1], &[], &mut out), Err(ColumnError::Uneven { times: 1, nanos: 0 }));
    let (times, nanos) = (vec![0; MOST_ROWS + 1], vec![0; MOST_ROWS + 1]);
    let rows = MOST_ROWS + 1;
    assert_eq!(encode(&times, &nanos, &mut out), Err(ColumnError::TooLong { rows }));
    assert_eq!(out, [1]);
    let most = encoded(&(times[1..].to_vec(), nanos[1..].to_vec()));
    assert_eq!(decoded(&most).unwrap().0.len(), MOST_ROWS);
}

#[test]
fn what_contradicts_itself_is_an_error() {
    use ColumnError::{Corrupt, Foreign, Truncated};
    let good = [0xa3, 3, 9, 0xd0, 15, 20, 0, 20, 0x80, 10, 0x82, 0b01_10_00];
    for (at, byte, error) in [
        (0, 0x23, Foreign),
        (0, 0xb4, Foreign),
        // One row more or less, a block's byte more or less.
        (1, 4, Corrupt),
        (1, 2, Corrupt),
        (1, 0, Corrupt),
        (2, 8, Corrupt),
        (2, 10, Truncated),
        // A span that is not that of the times, and a first that is outside of it.
        (5, 21, Corrupt),
        (5, 19, Corrupt),
        (6, 1, Corrupt),
        (6, 21, Corrupt),
        (7, 22, Corrupt),
        // Another width.
        (9, 0x81, Corrupt),
        (10, 0x89, Corrupt),
    ] {
        let mut bytes = good;
        bytes[at] = byte;
        assert_eq!(decoded(&bytes), Err(error), "byte {at} as {byte}");
    }
    for bytes in [
        // A byte too many, a span that begins too early.
        &[0xa3, 3, 10, 0xd0, 15, 20, 0, 20, 0x80, 10, 0x82, 0b01_10_00, 0][..],
        &[0xa3, 3, 9, 0xce, 15, 21, 1, 20, 0x80, 10, 0x82, 0b01_10_00],
        // A body without rows, a time after the last, a duration above the greatest.
        &[0xa0, 0, 1, 0],
        &[0xa0, 1, 14, 254, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1, 0, 0, 0x80],
        &[0xb3, 1, 5, 0, 0, 0, 4, 0x80],
    ] {
        assert_eq!(decoded(bytes), Err(Corrupt), "{bytes:?}");
    }
    assert_eq!(decoded(&[0xb3, 1, 5, 0, 0, 0, 2, 0x80]).unwrap().1, [10_u64.pow(19)]);
}

/// Before room is made for them.
#[test]
fn more_rows_than_there_can_be_are_an_error() {
    let most_blocks = MOST_ROWS / block::ROWS;
    for (rows, blocks, good) in [
        (MOST_ROWS, 2 * most_blocks, true),
        (MOST_ROWS, 2 * most_blocks - 1, false),
        (MOST_ROWS + 1, 2 * most_blocks + 1, false),
        (1, 1, true),
        (2, 1, false),
    ] {
        let mut bytes = vec![FORMAT];
        bits::put(rows as u64, &mut bytes);
        bits::put(3 + 2 * blocks as u64, &mut bytes);
        bytes.extend([0; 3]);
        bytes.extend([0, 0x80].repeat(blocks));
        let chunk = chunks(&bytes).next().unwrap();
        assert_eq!(chunk.is_ok(), good, "{rows} rows in {blocks} blocks");
        assert_eq!(decoded(&bytes).is_ok(), good);
    }
}

#[test]
fn after_an_error_there_are_no_more() {
    let mut bytes = encoded(&(vec![1], vec![2]));
    bytes.extend([0xff, 0xa0, 0, 0]);
    let mut chunks = chunks(&bytes);
    assert_eq!(chunks.next().unwrap().unwrap().rows(), 1);
    assert_eq!(chunks.next().unwrap().unwrap_err(), ColumnError::Foreign);
    assert!(chunks.next().is_none());
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, text) in [
        (ColumnError::Uneven { times: 1, nanos: 2 }, "1 times for 2 durations"),
        (ColumnError::TooLong { rows: 2_000_000 }, "2000000 rows, but a chunk has 1048576 at most"),
        (ColumnError::Foreign, "no chunk of columns of this version"),
        (ColumnError::Truncated, "the chunk is cut off"),
        (ColumnError::Corrupt, "the chunk contradicts itself"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn seconds_are_rounded_to_nanoseconds() {
    for (seconds, nanos) in [
        (0.0, 0),
        (1.5, 1_500_000_000),
        (0.020_000_000_6, 20_000_001),
        (0.020_000_000_4, 20_000_000),
        (0.000_123, 123_000),
        (4.9e-10, 0),
        (5.1e-10, 1),
        (-1.0, 0),
        (f64::NAN, 0),
        (f64::NEG_INFINITY, 0),
        (f64::INFINITY, u64::MAX),
        (1e300, u64::MAX),
    ] {
        assert_eq!(nanos_of(seconds), nanos, "{seconds}");
    }
}

/// Up to three blocks of rows: any, in order, with the same gaps, or with the same durations.
fn rows() -> impl Strategy<Value = Rows> {
    let lengths = prop_oneof![
        0..4_usize,
        0..3 * block::ROWS,
        (1..=3_usize).prop_map(|blocks| blocks * block::ROWS),
        (1..=2_usize).prop_map(|blocks| blocks * block::ROWS + 1),
    ];
    (any::<u64>(), lengths, 0..20_u32, 0..4).prop_map(|(seed, length, exponent, kind)| {
        let mut random = Random(seed);
        let unit = 10_u64.pow(exponent);
        let mut times: Vec<_> = (0..length).map(|_| bits::unzigzag(random.any())).collect();
        let mut nanos: Vec<_> = (0..length).map(|_| random.any() / unit * unit).collect();
        match kind {
            0 => times.sort(),
            1 => times = (0..length as i64).map(|i| i << 20).collect(),
            2 => nanos.fill(random.any() / unit * unit),
            _ => {}
        }
        (times, nanos)
    })
}

/// Whatever the bytes are: no panic, errors leave the columns as they were, and room only for what there may be.
fn decodes_safely(bytes: &[u8]) {
    let (mut times, mut nanos) = (vec![1], vec![2]);
    for chunk in chunks(bytes).flatten() {
        let before = times.len();
        let rows = if chunk.decode_into(&mut times, &mut nanos).is_ok() { chunk.rows() } else { 0 };
        assert_eq!((times.len(), nanos.len()), (before + rows, before + rows));
        assert!(chunk.rows() <= (bytes.len() / 4 + 1) * block::ROWS);
    }
    assert_eq!((times[0], nanos[0]), (1, 2));
}

proptest! {
    #[test]
    fn rows_come_back(rows in rows()) {
        let bytes = encoded(&rows);
        let chunk = chunks(&bytes).next().unwrap().unwrap();
        prop_assert_eq!(chunk.rows(), rows.0.len());
        let span = rows.0.iter().min().zip(rows.0.iter().max());
        prop_assert_eq!(chunk.span(), span.map(|(min, max)| (*min, *max)));
        prop_assert_eq!(decoded(&bytes), Ok(rows));
    }

    #[test]
    fn chunks_stand_one_behind_the_other(parts in proptest::collection::vec(rows(), 0..4)) {
        let mut bytes = Vec::new();
        for (times, nanos) in &parts {
            encode(times, nanos, &mut bytes).unwrap();
        }
        prop_assert_eq!(chunks(&bytes).count(), parts.len());
        let (times, nanos): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        prop_assert_eq!(decoded(&bytes), Ok((times.concat(), nanos.concat())));
    }

    #[test]
    fn a_chunk_cut_off_is_an_error(rows in rows(), cut in any::<proptest::sample::Index>()) {
        let bytes = encoded(&rows);
        let end = 1 + cut.index(bytes.len() - 1);
        prop_assert_eq!(decoded(&bytes[..end]), Err(ColumnError::Truncated));
    }

    #[test]
    fn changed_bytes_are_safe(rows in rows(), changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = encoded(&rows);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decodes_safely(&bytes);
    }

    #[test]
    fn any_bytes_are_safe(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), rows in 1..1_200_usize, power in 0..20_u8, raw in any::<bool>()) {
        if !raw {
            // With a header that is right, so that the blocks are reached.
            let body = std::mem::take(&mut bytes);
            bytes.push(FORMAT | power);
            bits::put(rows as u64, &mut bytes);
            bits::put(body.len() as u64, &mut bytes);
            bytes.extend(body);
        }
        decodes_safely(&bytes);
    }
}
