//! Stages of rollouts, over many that a seed makes: how often a matrix without harm is taken for one with, and how soon
//! harm is seen.

use genesis_stats::correlation::in_canary;
use genesis_stats::experiment::Arm;
use genesis_storage::{MatrixRecord, RolloutRecord, StageRecord};

use crate::operations::matrices::plan;
use crate::operations::matrices::stage::{Stage, Verdict};

const PERCENTS: [u32; 4] = [10, 25, 50, 100];

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        genesis_stats::normal_quantile(self.next().clamp(1e-12, 1.0 - 1e-12)).unwrap()
    }
}

fn record(outcomes: u64) -> MatrixRecord {
    MatrixRecord {
        version: 8,
        control: 7,
        state: plan::CANARY.to_owned(),
        rollout: RolloutRecord { percents: PERCENTS.to_vec(), outcomes, alpha: 0.05 },
        stages: vec![StageRecord { percent: 10, ..StageRecord::default() }],
        ..MatrixRecord::default()
    }
}

/// Runs a whole rollout, a look after each ten outcomes: how it ended, and after how many outcomes of the new matrix.
fn rollout(
    random: &mut Random,
    outcomes: u64,
    of: &dyn Fn(Arm, &mut Random) -> f64,
) -> (Verdict, u64) {
    let (mut record, mut total) = (record(outcomes), 0);
    loop {
        let mut stage = Stage::of(&record).unwrap();
        let share = f64::from(stage.percent) / 100.0;
        // Three hundred consumers, who are split as they are.
        (0..300).for_each(|at| stage.new_consumer(&format!("c-{at}")));
        let mut since = 0;
        while stage.decided.is_none() {
            let arm = if random.next() < share { Arm::Variant } else { Arm::Control };
            let value = of(arm, random);
            if stage.record(arm, value) {
                total += u64::from(arm == Arm::Variant);
                since += 1;
            }
            if since >= 10 {
                stage.look(0);
                since = 0;
            }
        }
        let verdict = stage.decided.as_ref().unwrap().verdict;
        let next = plan::next_percent(&record);
        if verdict == Verdict::Harmful || next.is_none() {
            return (verdict, total);
        }
        let ended = record.stages.last_mut().unwrap();
        ended.tally = stage.to_text();
        record.stages.push(StageRecord { percent: next.unwrap(), ..StageRecord::default() });
    }
}

fn harmful(rollouts: usize, of: &dyn Fn(Arm, &mut Random) -> f64) -> (f64, f64) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut count, mut total) = (0, 0);
    for _ in 0..rollouts {
        let (verdict, outcomes) = rollout(&mut random, 300, of);
        count += usize::from(verdict == Verdict::Harmful);
        total += outcomes;
    }
    (count as f64 / rollouts as f64, total as f64 / rollouts as f64)
}

#[test]
fn a_matrix_without_harm_is_hardly_ever_taken_for_one_with() {
    // Outcomes that scatter as they do about any mean, and such with rare large losses.
    let (share, _) = harmful(400, &|_, random| 1.0 + random.normal());
    assert!(share <= 0.05, "{share}");
    let rare = |_: Arm, random: &mut Random| match random.next() < 0.02 {
        true => -20.0,
        false => 0.5 + 0.2 * random.normal(),
    };
    let (share, _) = harmful(400, &rare);
    assert!(share <= 0.06, "{share}");
    // And rare large gains, which the small arm mostly has not seen yet.
    let gains = |_: Arm, random: &mut Random| match random.next() < 0.02 {
        true => 20.0,
        false => 0.2 * random.normal() - 0.5,
    };
    let (share, _) = harmful(400, &gains);
    assert!(share <= 0.06, "{share}");
}

#[test]
fn harm_is_seen_early() {
    let worse = |by: f64| {
        move |arm: Arm, random: &mut Random| match arm {
            Arm::Variant => 1.0 - by + random.normal(),
            Arm::Control => 1.0 + random.normal(),
        }
    };
    let (share, outcomes) = harmful(100, &worse(2.0));
    assert!(share == 1.0 && outcomes < 40.0, "far worse: {share} {outcomes}");
    let (share, outcomes) = harmful(100, &worse(0.5));
    assert!(share >= 0.98 && outcomes < 300.0, "worse: {share} {outcomes}");
}

#[test]
fn harm_that_begins_late_in_a_stage_is_seen() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut stage = Stage::of(&record(300)).unwrap();
    (0..300).for_each(|at| stage.new_consumer(&format!("c-{at}")));
    for outcome in 0..300 {
        // Nine of ten still use the old one.
        for _ in 0..9 {
            let value = random.normal();
            stage.record(Arm::Control, value);
        }
        let worse = if outcome < 180 { 0.0 } else { 3.0 };
        let value = random.normal() - worse;
        stage.record(Arm::Variant, value);
        if stage.look(0) {
            break;
        }
    }
    assert_eq!(stage.decided.unwrap().verdict, Verdict::Harmful);
}

fn fill(stage: &mut Stage, arm: Arm, count: usize, mean: f64) {
    for at in 0..count {
        let sign = if at % 2 == 0 { 1.0 } else { -1.0 };
        stage.record(arm, mean + sign);
    }
}

#[test]
fn a_stage_waits_for_outcomes_of_both_arms() {
    let mut stage = Stage::of(&record(100)).unwrap();
    fill(&mut stage, Arm::Control, 5_000, 1.0);
    fill(&mut stage, Arm::Variant, 99, 1.0);
    assert!(!stage.look(1));
    let (_, verdict, why) = stage.view();
    assert_eq!(
        (verdict, why.as_str()),
        (Verdict::Waiting, "99 of 100 outcomes in the smaller arm")
    );
    stage.record(Arm::Variant, 1.0);
    assert!(stage.look(2));
    let decided = stage.decided.clone().unwrap();
    assert_eq!((decided.verdict, decided.at), (Verdict::Passed, 2));
}

#[test]
fn a_stage_whose_consumers_are_not_split_as_they_should_be_is_held() {
    let mut stage = Stage::of(&record(100)).unwrap();
    fill(&mut stage, Arm::Control, 200, 1.0);
    fill(&mut stage, Arm::Variant, 200, 1.0);
    // Of some two hundred consumers one reports that is to use the new matrix: the others have fallen silent.
    let canary = |name: &String| in_canary("matrix-8", name, 10);
    let names: Vec<String> = (0..220).map(|at| format!("c-{at}")).collect();
    names.iter().filter(|name| !canary(name)).for_each(|name| stage.new_consumer(name));
    stage.new_consumer(names.iter().find(|name| canary(name)).unwrap());
    assert!(!stage.look(1));
    let (_, verdict, why) = stage.view();
    assert_eq!(verdict, Verdict::Held);
    let told = format!(
        "1 of {} consumers report of the new matrix, which 10 % should",
        stage.consumers[0] + 1
    );
    assert!(why.starts_with(&told), "{why}");
    // What is harmful is so all the same.
    fill(&mut stage, Arm::Variant, 200, -2.0);
    assert!(stage.look(2));
    assert_eq!(stage.decided.unwrap().verdict, Verdict::Harmful);
}

#[test]
fn at_the_end_what_was_reported_of_the_control_before_stands_for_it() {
    let mut record = record(100);
    let mut before = Stage::of(&record).unwrap();
    fill(&mut before, Arm::Control, 300, 1.0);
    fill(&mut before, Arm::Variant, 100, 1.0);
    record.stages[0].tally = before.to_text();
    record.stages.push(StageRecord { percent: 100, ..StageRecord::default() });
    let mut stage = Stage::of(&record).unwrap();
    assert!(stage.is_frozen());
    assert_eq!(stage.arm(7), None, "who still uses it is not like the others");
    let (look, ..) = stage.view();
    assert_eq!((look.control.n, look.variant.n), (300, 0));
    fill(&mut stage, Arm::Variant, 100, 1.0);
    assert!(stage.look(1));
    assert_eq!(stage.decided.unwrap().verdict, Verdict::Passed);
    // Where nothing is known of it, it waits for ever, or for somebody.
    record.stages[0].tally = String::new();
    let mut stage = Stage::of(&record).unwrap();
    fill(&mut stage, Arm::Variant, 1_000, 1.0);
    assert!(!stage.look(1));
}

#[test]
fn a_stage_is_read_back_to_the_bit_and_only_by_its_own() {
    let record = record(100);
    let mut stage = Stage::of(&record).unwrap();
    fill(&mut stage, Arm::Control, 150, 0.1);
    fill(&mut stage, Arm::Variant, 50, 0.3);
    stage.new_consumer("c-1");
    stage.counts.late = 3;
    stage.look(9);
    let mut read = Stage::of(&record).unwrap();
    assert_eq!(read.take_over(stage.to_text().as_bytes()), Ok(true));
    assert_eq!(read, stage);
    let mut other = record;
    other.stages[0].percent = 25;
    let mut other = Stage::of(&other).unwrap();
    assert_eq!(other.take_over(stage.to_text().as_bytes()), Ok(false));
    assert!(other.take_over(b"{}").is_err());
}
