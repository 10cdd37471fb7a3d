use std::path::Path;

use genesis_storage::{Options, Store};

use super::choose::{Trouble, versioned};
use super::*;
use crate::error::Kind;
use crate::outside::ManualClock;

/// A thing with a history of contents, that does as it is told.
#[derive(Default)]
struct Thing {
    /// The contents, the oldest first, and what each restores.
    past: Vec<(String, Option<usize>)>,
    /// How carrying a rollback out goes: "", "fails", "halfway", "slow".
    temper: &'static str,
}

#[derive(Clone)]
struct Component(Arc<Mutex<Thing>>, Care);

fn at(index: usize) -> Timestamp {
    Timestamp::from_second(3_600 * (1 + index as i64)).unwrap()
}

fn point(index: usize, (digest, restores): &(String, Option<usize>)) -> Point {
    Point {
        id: (index + 1).to_string(),
        at: at(index),
        by: "olga".into(),
        description: String::new(),
        digest: digest.clone(),
        stays: Vec::new(),
        restores: restores.map(|it| (it + 1).to_string()),
        unfit: String::new(),
    }
}

#[async_trait]
impl Rollback for Component {
    async fn points(&self) -> Result<Vec<Point>> {
        let thing = lock(&self.0);
        let each = thing.past.iter().enumerate().map(|(index, it)| point(index, it));
        let mut points: Vec<Point> = each.collect();
        points.reverse();
        versioned(&mut points);
        Ok(points)
    }

    async fn current(&self) -> Result<Option<Point>> {
        Ok(self.points().await?.into_iter().next())
    }

    async fn brief(&self) -> Result<Brief> {
        let (current, health) = (self.current().await?, Health::Good);
        Ok(Brief { current, health, why: "it says so".into(), ..Brief::default() })
    }

    async fn diff(&self, _: Way<'_>) -> Result<String> {
        Ok(String::new())
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        Ok(vec![PlanStep::new("go", way.to.id.clone(), "back")])
    }

    async fn apply(&self, to: &Point, _: &Order) -> Result<Applied> {
        let temper = lock(&self.0).temper;
        if temper == "staged" {
            return Ok(Applied { pending: "a restart".into(), ..Applied::default() });
        }
        if temper == "slow" {
            std::future::pending::<()>().await;
        }
        let digest = if temper == "halfway" { "half".to_owned() } else { to.digest.clone() };
        if temper == "refuses" {
            return Err(Error::refused("CONFIG_INVALID", "it is not valid any more", Vec::new()));
        }
        if temper == "fails" {
            return Err(Error::unavailable("DEPLOY_FAILED", "it does not work"));
        }
        let index = to.id.parse::<usize>().unwrap() - 1;
        lock(&self.0).past.push((digest, Some(index)));
        Ok(Applied::default())
    }

    async fn verify(&self, to: &Point) -> Result<String> {
        if lock(&self.0).temper == "unseen" {
            return Err(Error::internal("ROLLBACK_NOT_PROVEN", "nobody serves it"));
        }
        match self.current().await? {
            Some(now) if now.digest == to.digest => Ok("seen".into()),
            _ => Err(Error::internal("ROLLBACK_NOT_PROVEN", "it is something else")),
        }
    }

    fn care(&self) -> Care {
        self.1.clone()
    }
}

/// As many as are asked for; `None`: it can't tell.
struct Many(&'static str, Option<usize>, Component);

#[async_trait]
impl Family for Many {
    fn family(&self) -> &'static str {
        self.0
    }

    async fn names(&self) -> Result<Vec<String>> {
        match self.1 {
            Some(count) => Ok((0..count).map(|it| format!("n{it}")).collect()),
            None => Err(Error::unavailable("STORAGE_FAILED", "the disk is away")),
        }
    }

    fn member(&self, _: &str) -> Arc<dyn Rollback> {
        Arc::new(self.2.clone())
    }
}

#[derive(Default)]
struct Around {
    /// What each rollback that was looked after had come to.
    seen: Mutex<Vec<RollbackOutcome>>,
    /// How the last of them is undone.
    undo: Mutex<String>,
    /// What is told against the component.
    troubles: Mutex<Vec<Trouble>>,
    /// The host does well by now.
    well: Mutex<Option<()>>,
}

#[async_trait]
impl Surroundings for Around {
    fn checks(&self, component: &str) -> Option<(Health, String)> {
        (component == "many:n7").then(|| (Health::Bad, "a check fails".to_owned()))
    }

    async fn evidence(&self, _: &str, _: Vec<Stay>, _: Duration) -> Evidence {
        let ran = vec![(Timestamp::MIN, Timestamp::MAX)];
        Evidence { ran, troubles: lock(&self.troubles).clone(), left: Vec::new() }
    }

    async fn rolled_back(&self, what: &RollbackRecord, _: &str, undo: &str) -> Aftermath {
        lock(&self.seen).push(what.outcome);
        undo.clone_into(&mut lock(&self.undo));
        let staged = what.outcome == RollbackOutcome::Staged;
        let health = (!staged).then_some(Health::Bad);
        Aftermath { health, details: Vec::new(), incident: "01I".into(), over: false }
    }

    async fn is_over(&self, _: &RollbackRecord) -> Result<bool> {
        Ok(lock(&self.well).is_some())
    }
}

struct World {
    thing: Component,
    around: Arc<Around>,
    dispatcher: Dispatcher,
    state: State,
}

fn world(folder: &Path, contents: &str, care: Care) -> World {
    let store = Store::open(&folder.join("state.redb"), Options::default()).unwrap();
    let state = State::new(Arc::new(store), watch::channel(0).1);
    let past = contents.split_whitespace().map(|it| (it.to_owned(), None)).collect();
    let thing = Component(Arc::new(Mutex::new(Thing { past, temper: "" })), care);
    let families: Vec<Arc<dyn Family>> = vec![
        Arc::new(Single("thing", Arc::new(thing.clone()))),
        Arc::new(Many("many", Some(10_000), thing.clone())),
        Arc::new(Many("broken", None, thing.clone())),
    ];
    let around = Arc::new(Around::default());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(at(1_000)));
    let settled = Box::new(|| Duration::from_secs(60));
    let surroundings = Arc::clone(&around) as Arc<dyn Surroundings>;
    let dispatcher = Dispatcher::new(families, (state.clone(), clock), settled, surroundings);
    World { thing, around, dispatcher, state }
}

impl World {
    async fn back(&self, to: &str) -> Result<RolledBack> {
        let wish = Wish { to: to.to_owned(), ..Wish::of("thing") };
        self.dispatcher.roll_back(&wish, ("olga", "worse")).await
    }

    fn last(&self) -> RollbackRecord {
        self.dispatcher.past(Some("thing"), 1).unwrap().remove(0)
    }
}

#[tokio::test]
async fn a_rollback_is_announced_read_back_and_looked_after() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), "a b", Care::default());
    let done = world.back("").await.unwrap();
    assert_eq!((done.seen.as_str(), done.record.made.as_str()), ("seen", "3"));
    assert_eq!(done.aftermath.unwrap().incident, "01I");
    let record = world.last();
    assert_eq!((record.outcome, record.health.as_str()), (RollbackOutcome::Done, "bad"));
    assert_eq!((record.from.as_str(), record.to.as_str(), record.by.as_str()), ("2", "1", "olga"));
    let actions: Vec<String> = world
        .state
        .read(|it| Ok(it.oplog().range(1, 10)?))
        .unwrap()
        .into_iter()
        .map(|it| format!("{} {}", it.entry.action, it.entry.outcome))
        .collect();
    assert_eq!(actions, ["rollback intent", "rollback ok", "rollback.looked-after bad"]);
    assert_eq!(world.back("").await.unwrap_err().code, "NO_EARLIER_POINT");
    world.back("2").await.unwrap();
    assert_eq!(lock(&world.thing.0).past.last().unwrap().0, "b", "undone");
}

#[tokio::test]
async fn what_fails_is_told_by_what_the_component_is_at() {
    for (temper, code, expected) in [
        ("fails", "DEPLOY_FAILED", RollbackOutcome::Failed),
        ("halfway", "ROLLBACK_NOT_PROVEN", RollbackOutcome::Unknown),
        // It is recorded to be there, and can't be seen to be.
        ("unseen", "ROLLBACK_NOT_PROVEN", RollbackOutcome::Unknown),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let world = world(folder.path(), "a b", Care::default());
        lock(&world.thing.0).temper = temper;
        assert_eq!(world.back("").await.unwrap_err().code, code);
        assert_eq!(world.last().outcome, expected, "{temper}");
        assert_eq!(*lock(&world.around.seen), [expected], "{temper}: it is documented, too");
    }
}

#[tokio::test]
async fn what_refuses_in_the_end_is_as_before_and_there_is_nothing_to_look_after() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), "a b", Care::default());
    lock(&world.thing.0).temper = "refuses";
    assert_eq!(world.back("").await.unwrap_err().code, "CONFIG_INVALID");
    assert_eq!((world.last().outcome, world.last().owed), (RollbackOutcome::Failed, false));
    assert!(lock(&world.around.seen).is_empty());
}

#[tokio::test]
async fn what_takes_long_goes_on_and_is_not_begun_twice() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), "a b", Care::default());
    lock(&world.thing.0).temper = "slow";
    let done = world.back("").await.unwrap();
    assert!(done.pending.contains("goes on") && done.aftermath.is_none(), "{done:?}");
    assert_eq!(world.back("").await.unwrap_err().code, "ROLLBACK_HELD");
    assert_eq!(world.last().outcome, RollbackOutcome::Begun);
}

#[tokio::test]
async fn what_was_cut_off_is_settled_by_what_is_there() {
    for (now, expected) in [
        ("a", RollbackOutcome::Done),
        ("b", RollbackOutcome::Failed),
        ("c", RollbackOutcome::Unknown),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let world = world(folder.path(), "a b", Care::default());
        let record = RollbackRecord {
            id: "01A".into(),
            component: "thing".into(),
            from: "2".into(),
            from_digest: "b".into(),
            to: "1".into(),
            to_digest: "a".into(),
            ..RollbackRecord::default()
        };
        world.dispatcher.put(&record, "intent").await.unwrap();
        if now != "b" {
            lock(&world.thing.0).past.push((now.to_owned(), None));
        }
        world.dispatcher.settle().await.unwrap();
        let record = world.last();
        assert_eq!(record.outcome, expected, "{now}");
        assert_eq!(record.made, if now == "a" { "3" } else { "" }, "{now}");
        assert!(record.ended_at.is_some() && record.detail.contains("cut off"), "{record:?}");
        assert!(lock(&world.around.seen).is_empty(), "nobody can be asked yet");
        world.dispatcher.look_after_all().await.unwrap();
        assert_eq!(*lock(&world.around.seen), [expected], "it is documented, too");
    }
}

#[tokio::test]
async fn a_component_that_asks_for_more_is_not_touched_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let care = Care { typed: "orders".into(), admin: true, named: true, reason: true, into: false };
    let world = world(folder.path(), "a b", care);
    let to = |to: &str| Wish { to: to.into(), admin: true, ..Wish::of("thing") };
    let confirmed = |point: &str| Wish { confirm: "orders".into(), ..to(point) };
    for (wish, reason, code) in [
        (confirmed(""), "r", "POINT_NOT_NAMED"),
        (Wish { admin: false, ..confirmed("1") }, "r", "ROLE_MISSING"),
        (confirmed("1"), " ", "REASON_MISSING"),
        (to("1"), "r", "NAME_NOT_CONFIRMED"),
        (Wish { confirm: "order".into(), ..to("1") }, "r", "NAME_NOT_CONFIRMED"),
        (Wish { plan_hash: "0".into(), ..confirmed("1") }, "r", "PLAN_CHANGED"),
        (Wish { into: "/srv/x".into(), ..confirmed("1") }, "r", "ARGUMENT_NOT_TAKEN"),
        (confirmed("9"), "r", "POINT_NOT_FOUND"),
    ] {
        let refused = world.dispatcher.roll_back(&wish, ("olga", reason)).await.unwrap_err();
        assert_eq!(refused.code, code, "{wish:?}");
    }
    assert!(world.dispatcher.past(None, 1).unwrap().is_empty(), "nothing was announced");
    assert_eq!(lock(&world.thing.0).past.len(), 2);
    world.dispatcher.roll_back(&confirmed("1"), ("olga", "r")).await.unwrap();
}

#[tokio::test]
async fn what_is_in_force_already_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), "a b a", Care::default());
    for to in ["3", "1"] {
        let done = world.back(to).await.unwrap();
        assert!(done.plan.already && done.plan.plan.steps.is_empty(), "{to}: {done:?}");
        assert!(done.undo.is_empty() && done.aftermath.is_none(), "{to}: {done:?}");
    }
    assert!(world.dispatcher.past(None, 1).unwrap().is_empty(), "nothing was announced");
    assert!(lock(&world.around.seen).is_empty(), "and there is nothing to document");
    assert_eq!(lock(&world.thing.0).past.len(), 3);
    let confirmed = Wish { confirm: "x".into(), to: "2".into(), ..Wish::of("thing") };
    let refused = world.dispatcher.roll_back(&confirmed, ("olga", "r")).await.unwrap_err();
    assert_eq!((refused.code, refused.kind), ("ARGUMENT_NOT_TAKEN", Kind::Invalid));
}

#[tokio::test]
async fn no_point_is_refused_as_a_condition_that_is_not_met() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), "a b", Care::default());
    *lock(&world.around.troubles) =
        vec![Trouble { from: at(0), until: Some(at(1)), ill: true, what: "queue CRIT".into() }];
    let refused = world.back("").await.unwrap_err();
    assert_eq!((refused.code, refused.kind), ("NO_EARLIER_POINT", Kind::Refused));
    assert_eq!(refused.unmet.len(), 1);
    assert!(refused.message.contains("queue CRIT"), "{}", refused.message);
    // Who knows better names it.
    world.back("1").await.unwrap();
}

#[tokio::test]
async fn what_a_rollback_owes_is_made_up_for_and_its_incident_ends_when_the_host_does_well() {
    use RollbackOutcome::{Done, Staged};
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), "a b", Care::default());
    lock(&world.thing.0).temper = "staged";
    let done = world.back("1").await.unwrap();
    assert_eq!(done.aftermath.unwrap().health, None, "nothing has changed yet");
    // What waits for a start is not looked after before.
    assert!(!world.dispatcher.look_after_all().await.unwrap());
    assert_eq!(*lock(&world.around.seen), [Staged]);
    let mut record = world.last();
    record.outcome = Done;
    world.dispatcher.put(&record, "ok").await.unwrap();
    assert!(world.dispatcher.look_after_all().await.unwrap(), "it is bad, so it goes on");
    assert_eq!(*lock(&world.around.seen), [Staged, Done]);
    assert_eq!(*lock(&world.around.undo), "genesisctl rollback --component thing --to 2");
    assert_eq!((world.last().health.as_str(), world.last().owed), ("bad", true));
    assert!(world.dispatcher.look_after_all().await.unwrap());
    assert_eq!(lock(&world.around.seen).len(), 2, "the deep check is made once");
    *lock(&world.around.well) = Some(());
    assert!(!world.dispatcher.look_after_all().await.unwrap());
    assert_eq!((world.last().health.as_str(), world.last().owed), ("bad", false));
}

#[tokio::test]
async fn the_command_that_undoes_it_has_all_that_is_demanded() {
    let folder = tempfile::tempdir().unwrap();
    let care = Care { typed: "a thing".into(), reason: true, ..Care::default() };
    let world = world(folder.path(), "a b", care);
    let wish = Wish { confirm: "a thing".into(), ..Wish::of("thing") };
    let done = world.dispatcher.roll_back(&wish, ("olga", "r")).await.unwrap();
    let id = &done.record.id;
    assert_eq!(
        done.undo,
        format!(
            "genesisctl rollback --component thing --to 2 --confirm 'a thing' --reason 'undo {id}'"
        )
    );
}

#[tokio::test]
async fn all_are_listed_and_whoever_can_not_tell_keeps_nobody_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), "a b", Care::default());
    let all = world.dispatcher.list("", 50).await.unwrap();
    assert_eq!(all.len(), 10_002);
    let of = |name: &str| all.iter().find(|it| it.name == name).unwrap();
    assert_eq!(of("thing").brief.health, Health::Good);
    assert_eq!((of("many:n7").brief.health, of("many:n7").points.len()), (Health::Bad, 0));
    assert_eq!(of("broken").brief.health, Health::Unknown);
    assert!(of("broken").brief.why.contains("the disk is away"));
    let one = world.dispatcher.list("many:n7", 1).await.unwrap();
    assert_eq!((one.len(), one[0].points.len()), (1, 1));
    let none = world.dispatcher.list("thin", 1).await.unwrap_err();
    assert!(none.message.contains("did you mean thing?"), "{}", none.message);
    let none = world.dispatcher.plan(&Wish::of("many:n10000")).await.unwrap_err();
    assert_eq!(none.code, "COMPONENT_NOT_FOUND");
    assert!(none.message.len() < 1_000, "{}", none.message);
}
