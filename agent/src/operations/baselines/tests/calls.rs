//! Single calls are found again, wherever they are kept.

use super::world::World;
use crate::operations::baselines::calls::{Asked, Found};
use crate::operations::baselines::prepare::Column;

/// What should be found.
fn expected(rows: &[(i64, u64)], asked: &Asked) -> Found {
    let mut within: Vec<(i64, u64)> = rows.to_vec();
    within.retain(|(time, _)| (asked.from..asked.until).contains(time));
    let in_range = within.len() as u64;
    within.retain(|(_, nanos)| asked.above.is_none_or(|above| *nanos > above));
    let matched = within.len() as u64;
    within.sort_by_key(|(time, nanos)| match asked.newest_first {
        true => std::cmp::Reverse((*time, *nanos)),
        false => std::cmp::Reverse((*nanos as i64, *time as u64)),
    });
    within.truncate(asked.limit);
    let kept_since = rows.iter().map(|(time, _)| *time).min();
    Found { calls: within, in_range, matched, kept_since }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slowest_and_the_newest_are_those_of_all_that_is_kept() {
    let mut world = World::new("").await;
    world.clock.advance(std::time::Duration::from_secs(86_400));
    let mut rows = Vec::new();
    for part in 0..30 {
        let from = world.now() - 5 * 3_600 + part * 590;
        for operation in ["a", "b"] {
            let column: Column = world.column(operation, from, 590, 100, 1.0);
            if operation == "a" {
                let nanos = column.seconds.iter().map(|it| (it * 1e9).round() as u64);
                rows.extend(column.times.iter().copied().zip(nanos));
            }
            world.send(vec![column]).await;
        }
        if part == 20 {
            // Most of it is packed by operation and hour, the rest lies as it came.
            let packed = world.own().keep_small(world.own().store().unwrap()).unwrap();
            assert!(packed.packed > 0);
        }
    }
    let now = world.now() * 1_000_000_000;
    let hour = 3_600_000_000_000;
    for (from, until) in [
        (i64::MIN, i64::MAX),
        (now - 2 * hour, i64::MAX),
        (now - 4 * hour - 7, now - 4 * hour + 500_000_000_000),
        (now + hour, now + 2 * hour),
    ] {
        for (above, newest_first, limit) in
            [(None, false, 7), (Some(30_000_000), true, 1_000), (Some(30_000_000), false, 3)]
        {
            let asked = Asked { from, until, above, newest_first, limit };
            let found = world.own().calls("a", asked.clone()).await.unwrap();
            assert_eq!(found, expected(&rows, &asked), "{asked:?}");
        }
    }
    let nobody = Asked { from: 0, until: 1, above: None, newest_first: false, limit: 1 };
    assert_eq!(
        world.own().calls("c", nobody.clone()).await.unwrap_err().code,
        "OPERATION_NOT_FOUND"
    );
    let empty = Asked { until: 0, ..nobody };
    assert_eq!(world.own().calls("a", empty).await.unwrap_err().code, "TIME_INVALID");
}
