use proptest::prelude::*;

use super::super::SketchError;
use super::{Random, Sketch, of, samples};

fn hour(random: &mut Random, sigma: f64, count: usize) -> Sketch {
    of(&(0..count).map(|_| random.lognormal(0.05, sigma)).collect::<Vec<_>>())
}

#[test]
fn bytes_are_the_sketch() {
    let mut random = Random(9);
    let mut sketches: Vec<_> = samples().iter().map(|(_, values)| of(values)).collect();
    sketches.extend((0..40).map(|count| hour(&mut random, 2.0, count * count)));
    sketches.push(Sketch::new());
    sketches.push(of(&[0.0, -1.0]));
    sketches.push(of(&[-1.0]));
    sketches.push(of(&[1e-9, 4_294_967_296.0]));
    let mut coarse = of(&[0.3]);
    coarse.add_range(0.1, 0.2, 1_000_000);
    coarse.insert_count(7.0, u64::MAX);
    coarse.insert_count(7.5, 1 << 40);
    sketches.push(coarse);
    for sketch in &sketches {
        for level in [0, 1, 4, 10] {
            let mut sketch = sketch.clone();
            sketch.collapse_to(level);
            let bytes = sketch.to_bytes();
            assert_eq!(Sketch::from_bytes(&bytes), Ok(sketch.clone()));
            // What is read goes on as what was written.
            let mut read = Sketch::from_bytes(&bytes).unwrap();
            for value in [1e-8, 0.2, 1e8] {
                read.insert(value);
                sketch.insert(value);
            }
            assert_eq!(read, sketch);
        }
    }
}

/// An hour of 200,000 a day, and of a million a day.
#[test]
fn an_hour_is_small() {
    let mut random = Random(10);
    for (count, most) in [(8_333, 350), (40_000, 480)] {
        for sigma in [0.5, 0.6, 0.75, 1.0] {
            let size = hour(&mut random, sigma, count).to_bytes().len();
            assert!(size <= most, "{count} of {sigma}: {size} bytes");
        }
    }
    assert_eq!(Sketch::new().to_bytes().len(), 4);
    // A gap costs next to nothing.
    assert!(of(&[1e-9, 4e9]).to_bytes().len() < 45);
}

#[test]
fn the_format_stays() {
    let mut sketch = of(&[0.0, 0.5, 0.5, 0.51, 2.0, -1.0]);
    sketch.collapse();
    // Version, values and level 1, one zero, one rejected, 3.51 s, 0.0, 2.0, bucket -32, 65 buckets. Of the counts
    // 2 1 0 .. 0 1, in bits: 1 010 (none empty, 2), 1 (as expected), 010 (one less), 00000111110 1 (61 empty, 1).
    let expected = [
        &[1, 0x81, 1, 1][..],
        &[0x80, 0xb3, 0xd9, 0x89, 0x0d],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0x40],
        &[63, 65],
        &[0b1010_1010, 0b0000_0111, 0b1101_0000],
    ]
    .concat();
    assert_eq!(sketch.to_bytes(), expected);
    assert_eq!(Sketch::new().to_bytes(), [1, 0, 0, 0]);
    // FNV-1a of many counts of all sizes, without a logarithm.
    let mut random = Random(12);
    let values: Vec<_> = (0..5_000).map(|_| random.share() * random.share()).collect();
    let hash = of(&values).to_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(hash, 0xe404_a9c2_7bc3_ed18);
}

#[test]
fn what_is_not_canonical_is_refused() {
    let bytes = of(&[0.1, 0.1, 0.7, 0.0]).to_bytes();
    assert!(Sketch::from_bytes(&bytes).is_ok());
    for length in 0..bytes.len() {
        assert!(Sketch::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Sketch::from_bytes(&longer), Err(SketchError::NotCanonical));
    assert_eq!(Sketch::from_bytes(&[]), Err(SketchError::Truncated));
    assert_eq!(Sketch::from_bytes(&[2, 0, 0, 0]), Err(SketchError::Version(2)));
    assert_eq!(Sketch::from_bytes(&[1, 15, 0, 0]), Err(SketchError::Level(15)));
    // Flags that are none, a coarse source of nothing, a longer zero.
    for other in [&[1, 0x20, 0, 0][..], &[1, 0x10, 0, 0], &[1, 0x40, 0, 0], &[1, 0, 0x80, 0, 0]] {
        assert_eq!(Sketch::from_bytes(other), Err(SketchError::NotCanonical), "{other:?}");
    }
    // More buckets than there are, or a number that is too large, allocate nothing.
    let claimed = [&bytes[..bytes.len() - 12], &[0xff; 40]].concat();
    assert!(Sketch::from_bytes(&claimed).is_err());
    for zeros in [7, 8, 9, 16, 17, 40] {
        let mut endless = of(&[0.1]).to_bytes();
        endless.pop();
        endless.resize(endless.len() + zeros, 0);
        endless.extend([0xff; 40]);
        assert!(Sketch::from_bytes(&endless).is_err(), "{zeros}");
    }
    // The bits of the last byte that are left over.
    let mut spare = of(&[0.1]).to_bytes();
    *spare.last_mut().unwrap() |= 1;
    assert_eq!(Sketch::from_bytes(&spare), Err(SketchError::NotCanonical));
}

/// What is read from these can only be written as these.
fn canonical(bytes: &[u8]) -> bool {
    Sketch::from_bytes(bytes).is_ok_and(|sketch| {
        assert_eq!(sketch.to_bytes(), bytes);
        assert!(sketch.buckets().count() <= Sketch::LIMIT);
        assert!(sketch.quantile(0.5).is_none_or(f64::is_finite));
        true
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), flags in 0..11_u8) {
        canonical(&bytes);
        // As far as the counts, more often.
        if bytes.len() > 4 {
            bytes[..4].copy_from_slice(&[1, 0x80 | flags, 0, 0]);
            canonical(&bytes);
        }
    }

    /// One byte is another, at each place, or gone, or twice there.
    #[test]
    fn changed_bytes_are_read(seed in any::<u64>(), count in 0..400_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut random = Random(seed);
        let bytes = hour(&mut random, 0.5, count).to_bytes();
        prop_assert!(canonical(&bytes));
        let at = at.index(bytes.len());
        for (gone, new) in [(1, vec![byte]), (1, vec![]), (0, vec![byte])] {
            let mut changed = bytes.clone();
            changed.splice(at..at + gone, new);
            canonical(&changed);
        }
    }

    /// Counts of all sizes in any order, gaps among them.
    #[test]
    fn any_counts_are_kept(runs in proptest::collection::vec((0..64_u32, any::<u64>(), 0..40_i32), 1..40)) {
        let mut sketch = Sketch::new();
        let mut index = 0;
        for (size, bits, gap) in runs {
            index += 1 + gap;
            sketch.insert_count(2_f64.powf((f64::from(index) - 0.5) / 64.0 - 20.0), bits >> size);
        }
        let bytes = sketch.to_bytes();
        prop_assert_eq!(Sketch::from_bytes(&bytes), Ok(sketch));
    }
}
