//! Stories of whole operations.

use std::sync::Arc;

use genesis_storage::{Intent, Producer};
use jiff::SignedDuration;

use super::world::World;
use crate::batches::Stream;
use crate::events::Source;
use crate::operations::baselines::calculate::Calculated;
use crate::operations::baselines::calibration;
use crate::operations::baselines::plan::{HOUR, hour_of};
use crate::operations::baselines::prepare::{Batch, Column};
use crate::operations::baselines::verbs::State;
use crate::operations::baselines::writer;
use crate::outside::Clock;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_commit_left_is_found_and_nothing_behind_it_counts() {
    let mut world = World::new("").await;
    let column = world.column("a", world.now() - 600, 600, 500, 1.0);
    world.send(vec![column.clone()]).await;
    // Nothing is in memory any more, and what is on the disk is damaged.
    world.restart().await;
    let own = world.own();
    let (store, number) = (own.store().unwrap(), own.number("a").unwrap());
    let hour = hour_of(world.now() - 600);
    let put = |bytes: &[u8]| {
        let hours = std::iter::once((number, hour, bytes));
        store.write(|it| it.put_hours(hours)).unwrap();
    };
    let good = store.read(|it| it.hour(number, hour)).unwrap();
    let good = good.unwrap();
    put(b"damaged");
    let stream = Stream::default();
    let take = async |sequence: u64, stream: &Stream| {
        let batch = Batch { producer: "p".to_owned(), sequence, columns: vec![column.clone()] };
        own.take(batch, stream).await.unwrap().await.unwrap()
    };
    let failed = take(2, &stream).await.unwrap_err();
    assert_eq!(failed.code, "STORAGE_RECORD_UNREADABLE");
    let told = own.conditions().await.unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].details[0].contains("can't be read"), "{:?}", told[0].details);
    put(&good);
    // As where the disk had it, and said otherwise.
    let landed = Producer { sequence: 2, at_millis: own.now().as_millisecond() };
    store.write(|it| it.put_producer("p", landed)).unwrap();
    assert_eq!(take(3, &stream).await.unwrap_err().code, "STREAM_BROKEN");
    assert_eq!(own.conditions().await.unwrap().len(), 1, "nothing was kept since then");
    let next = Stream::default();
    assert!(take(2, &next).await.unwrap().duplicate);
    assert_eq!(own.conditions().await.unwrap(), []);
    assert_eq!(take(3, &next).await.unwrap().counted, 500);
    assert_eq!(count(&world), (1_000, 1_000));
}

/// Two days of history, a baseline, and healthy windows enough to judge by.
async fn watched(text: &str) -> World {
    let mut world = World::new(text).await;
    world.history("a", 48, 2_000, 1.0).await;
    assert_eq!(world.calculate("a").await, Calculated::Generation(1));
    for _ in 0..12 {
        world.window(600, 1.0).await;
    }
    world
}

fn count(world: &World) -> (u64, u64) {
    let (own, mut sketches, mut rows) = (world.own(), 0, 0);
    let number = own.number("a").unwrap();
    let store = own.store().unwrap();
    store
        .read(|reading| {
            reading.hours(number, 0, u32::MAX, |_, bytes| {
                sketches += writer::read(Some(bytes.to_vec()))?.count();
                Ok::<_, crate::error::Error>(())
            })?;
            let (mut times, mut nanos) = (Vec::new(), Vec::new());
            reading.raw(0, |_, row| {
                for (_, chunks) in super::super::raw::parts(row) {
                    super::super::raw::rows(chunks, &mut times, &mut nanos);
                }
                Ok::<_, crate::error::Error>(true)
            })?;
            for (number, hour, _) in reading.column_hours()? {
                let bytes = reading.columns(number, hour)?.concat();
                super::super::raw::rows(&bytes, &mut times, &mut nanos);
            }
            rows = times.len() as u64;
            Ok::<_, crate::error::Error>(())
        })
        .unwrap();
    (sketches, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_is_there_once_also_after_a_crash() {
    let mut world = World::new("").await;
    let column = world.column("a", world.now() - 600, 600, 500, 1.0);
    let first = world.send(vec![column.clone()]).await;
    assert_eq!((first.counted, first.duplicate), (500, false));
    assert!(world.send_as(1, vec![column.clone()]).await.duplicate);
    world.restart().await;
    let again = world.send_as(1, vec![column.clone()]).await;
    assert!(again.duplicate && again.counted == 0, "{again:?}");
    assert_eq!(count(&world), (500, 500));
    // A gap is no mistake; what is sent again behind it is.
    assert_eq!(world.send_as(9, vec![column.clone()]).await.counted, 500);
    assert!(world.send_as(5, vec![column]).await.duplicate);
    assert_eq!(count(&world), (1_000, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_beyond_the_limit_are_counted_and_left_out() {
    let mut world = World::new("[baselines]\nmax_operations = \"2\"").await;
    let now = world.now();
    let columns = ["a", "b", "c", "d"].map(|name| world.column(name, now - 60, 60, 10, 1.0));
    let answer = world.send(columns.to_vec()).await;
    assert_eq!((answer.counted, answer.crowded_out), (20, 20));
    assert_eq!(world.own().list().len(), 2);
    assert!(world.own().number("c").is_err());
    let more = world.column("b", now - 60, 60, 5, 1.0);
    assert_eq!(world.send(vec![more]).await.counted, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubled_latency_is_one_episode_that_is_told_within_two_windows() {
    let mut world = watched("").await;
    let intent =
        Intent::new(jiff::Timestamp::from_second(world.now()).unwrap(), "ada", "config.applied")
            .target("agent.toml")
            .reason("larger batches");
    world.state.note(intent).await.unwrap();
    for _ in 0..2 {
        world.window(600, 2.0).await;
    }
    let told = world.own().conditions().await.unwrap();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].subject.as_str(), told[0].key.as_str()), ("a", "baselines/episode/a"));
    let details = told[0].details.join("\n");
    for word in
        ["config.applied by ada: agent.toml (larger batches)", "load ok", "slow query: trades"]
    {
        assert!(details.contains(word), "{word}: {details}");
    }
    // It lasts over restarts, offers the way back after half an hour, and stays one.
    world.restart().await;
    for _ in 0..8 {
        world.window(600, 2.0).await;
    }
    let told = world.own().conditions().await.unwrap();
    assert!(told[0].details.join("\n").contains("roll back: config"), "{told:#?}");
    assert_eq!(world.own().episodes("a", 0).unwrap().len(), 1);
    assert_eq!(world.own().get("a").unwrap().state, State::Degraded);
    // Back to what is usual for three windows: it is over.
    for _ in 0..4 {
        world.window(600, 1.0).await;
    }
    assert_eq!(world.own().conditions().await.unwrap().len(), 0);
    let past = world.own().episodes("a", 0).unwrap();
    assert_eq!((past.len(), past[0].ended.as_str()), (1, "cleared"), "{past:#?}");
    assert_eq!(world.own().get("a").unwrap().state, State::Usual);
    let events = world.actions("baselines.episode");
    let heads: Vec<&str> = events.iter().filter_map(|it| it.split(':').next()).collect();
    assert_eq!(heads, ["began", "persists", "cleared"], "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speed_up_raises_nothing() {
    let mut world = watched("").await;
    for _ in 0..6 {
        world.window(600, 0.5).await;
    }
    assert_eq!(world.own().conditions().await.unwrap().len(), 0);
    assert_eq!(world.own().candidates("", 0).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_neither_usual_nor_left() {
    let mut world = World::new("").await;
    world.window(600, 1.0).await;
    let view = world.own().get("a").unwrap();
    assert_eq!(
        (view.state, view.windows[0].not_judged.as_str()),
        (State::Learning, "there is no baseline yet")
    );
    world.history("a", 3, 500, 1.0).await;
    world.calculate("a").await;
    // A monstrous window, while nobody knows how far healthy ones scatter.
    world.window(600, 50.0).await;
    let view = world.own().get("a").unwrap();
    assert_eq!(view.windows[0].not_judged, "too few healthy windows are known yet");
    assert_eq!(world.own().conditions().await.unwrap().len(), 0);
    // With few calls windows are taken together until there are enough.
    world.window(3, 1.0).await;
    let view = world.own().get("a").unwrap();
    assert_eq!(view.windows[0].not_judged, "too few calls");
    world.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(world.own().get("a").unwrap().state, State::Silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thirty_first_day_knows_nothing_of_the_first() {
    let (mut one, mut other) = (World::new("").await, World::new("").await);
    let start = one.now();
    for (world, scale) in [(&mut one, 1.0), (&mut other, 9.0)] {
        // Day 1 differs, the others are the same.
        for day in 0..31 {
            let from = start + day * 86_400;
            world.clock.set(jiff::Timestamp::from_second(from + 86_399).unwrap());
            let (mut columns, scale) = (Vec::new(), if day == 0 { scale } else { 1.0 });
            for hour in 0..24 {
                let times =
                    (0..50).map(|i| (from + hour * HOUR + i * 70) * 1_000_000_000).collect();
                let seconds = (0..50).map(|i| scale * (0.01 + f64::from(i) * 1e-4)).collect();
                columns.push(Column { operation: "a".into(), times, seconds });
            }
            world.send(columns).await;
        }
        world.calculate("a").await;
    }
    let get = |world: &World| world.own().get("a").unwrap().current.unwrap();
    let (one, other) = (get(&one), get(&other));
    assert_eq!(one.sketch.count(), 30 * 24 * 50);
    assert_eq!(one.record.sketch, other.record.sketch);
    assert_eq!(one.references, other.references);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_episode_is_no_part_of_a_later_baseline_unless_it_is_accepted() {
    let mut world = watched("").await;
    for _ in 0..14 {
        world.window(600, 3.0).await;
    }
    let usual = |world: &World| {
        world.own().get("a").unwrap().current.unwrap().sketch.quantile(0.5).unwrap()
    };
    let before = usual(&world);
    world.calculate("a").await;
    let view = world.own().get("a").unwrap().current.unwrap();
    assert!((usual(&world) / before - 1.0).abs() < 0.03 && view.record.left_out >= 1, "{view:?}");
    let refused = world.own().accept("a", None, "", ("ada", "")).await.unwrap_err();
    assert_eq!(refused.code, "REASON_MISSING");
    let plan = world.own().plan_accept("a", None).unwrap();
    assert_eq!(plan.steps.len(), 2);
    let accepted =
        world.own().accept("a", None, &plan.hash, ("ada", "new hardware")).await.unwrap();
    assert!(accepted.sketch.quantile(0.5).unwrap() > 2.0 * before);
    let past = world.own().episodes("a", 0).unwrap();
    assert_eq!((past.len(), past[0].ended.as_str()), (1, "accepted"));
    // What came before is not looked at any more, and what is now raises nothing.
    for _ in 0..12 {
        world.window(600, 3.0).await;
    }
    world.calculate("a").await;
    assert!(usual(&world) > 2.0 * before);
    assert_eq!(world.own().conditions().await.unwrap().len(), 0);
    let none = world.own().accept("a", None, "", ("ada", "x")).await.unwrap_err();
    assert_eq!(none.code, "EPISODE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn care_packs_raw_rows_and_loses_none_until_their_time_is_over() {
    let mut world = World::new("").await;
    world.history("a", 5, 4_000, 1.0).await;
    let before = count(&world);
    assert_eq!(before, (20_000, 20_000));
    let own = Arc::clone(world.own());
    let kept = own.keep_small(own.store().unwrap()).unwrap();
    assert!(kept.packed >= 4, "{kept:?}");
    assert_eq!(count(&world), before);
    let raw =
        own.store().unwrap().read(|it| Ok::<_, crate::error::Error>(it.raw_bytes()?)).unwrap();
    // Calls nearly a second apart cost more bits than busy ones.
    assert!(raw < 20_000 * 15 / 2, "{raw}");
    // Again, with more of the same hours.
    world.history("a", 5, 100, 1.0).await;
    own.keep_small(own.store().unwrap()).unwrap();
    assert_eq!(count(&world), (20_500, 20_500));
    // A day later raw rows go; what baselines are made of stays.
    world.clock.advance(std::time::Duration::from_secs(86_400));
    own.keep_small(own.store().unwrap()).unwrap();
    assert_eq!(count(&world).0, 20_500);
    assert!(count(&world).1 < 9_000);
    // And after the window that goes too.
    world.clock.advance(std::time::Duration::from_secs(40 * 86_400));
    let kept = own.keep_small(own.store().unwrap()).unwrap();
    assert!(kept.expired >= 5);
    assert_eq!(count(&world), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_rows_stay_within_their_quota() {
    let mut world = World::new("[baselines]\nraw_quota = \"100KB\"").await;
    for _ in 0..20 {
        world.history("a", 2, 2_000, 1.0).await;
        let own = world.own();
        let raw = own.store().unwrap().read(|it| Ok::<_, crate::error::Error>(it.raw_bytes()?));
        assert!(raw.unwrap() <= 100_000);
    }
    let (sketches, rows) = count(&world);
    assert_eq!(sketches, 80_000);
    assert!(rows > 5_000 && rows < 16_000, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_hears_of_each_minute_and_of_a_gross_shift_at_once() {
    let mut world = watched("").await;
    let heard = std::mem::take(&mut *world.around.0.lock().unwrap());
    assert!(heard.len() > 10 && heard.iter().all(|(name, left)| name == "a" && !left), "{heard:?}");
    world.window(600, 3.0).await;
    let heard = std::mem::take(&mut *world.around.0.lock().unwrap());
    assert!(heard.iter().filter(|(_, left)| *left).count() >= 3, "{heard:?}");
    assert_eq!(heard.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_judges_no_window_twice_and_does_not_stand_still() {
    let mut world = watched("").await;
    let judged = world.own().get("a").unwrap().windows.len();
    // A day ahead, for a moment, and back.
    let now = world.clock.now();
    world.clock.set(now + SignedDuration::from_hours(24));
    world.look().await;
    world.clock.set(now);
    world.look().await;
    assert_eq!(world.own().get("a").unwrap().windows.len(), judged);
    world.window(600, 1.0).await;
    world.window(600, 1.0).await;
    let windows = world.own().get("a").unwrap().windows;
    assert!(windows.len() > judged, "{windows:?}");
    let mut starts: Vec<i64> = windows.iter().map(|it| it.start).collect();
    starts.dedup();
    assert_eq!(starts.len(), windows.len());
    assert_eq!(hour_of(starts[0]), hour_of(world.now() - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_an_episode_say_nothing_of_what_is_healthy() {
    let mut world = watched("").await;
    let known = |world: &World| {
        let (own, number) = (world.own(), world.own().number("a").unwrap());
        let store = own.store().unwrap();
        let mut windows = 0;
        for hour in 0..168 {
            let kept = store.read(|it| it.calibration(number, hour)).unwrap();
            windows += kept.map_or(0, |it| calibration::decode(&it).len());
        }
        windows
    };
    let before = known(&world);
    world.window(600, 1.0).await;
    assert_eq!(known(&world), before + 1);
    for _ in 0..3 {
        world.window(600, 3.0).await;
    }
    assert!(world.own().get("a").unwrap().episode.is_some());
    assert_eq!(known(&world), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_was_open_at_a_crash_is_judged_as_a_whole() {
    let mut world = watched("").await;
    let from = world.now();
    let first = world.column("a", from, 150, 300, 1.0);
    let second = world.column("a", from + 150, 150, 300, 1.0);
    world.clock.advance(std::time::Duration::from_secs(150));
    world.send(vec![first]).await;
    world.restart().await;
    world.clock.advance(std::time::Duration::from_secs(150));
    world.send(vec![second]).await;
    world.look().await;
    let view = world.own().get("a").unwrap();
    assert_eq!((view.windows[0].start, view.windows[0].count), (from, 600));
}
