//! `experiment show --merge`.

use genesis_client::v1::*;
use genesis_stats::experiment::{Moments, compare};
use genesisctl::Exit;

use crate::experiments::{definition, running, served};
use crate::fake::{Experiments, Fake};
use crate::{Outcome, ctl, squeezed};

/// What trades came to, as an agent tells it.
fn tally(moments: &Moments) -> ArmTally {
    let parts = moments.parts();
    ArmTally {
        n: parts.n,
        origin: parts.origin,
        mean_less_origin: parts.mean,
        m2: parts.m2,
        m3: parts.m3,
        mean: moments.mean(),
        deviation: moments.sd(),
        ..Default::default()
    }
}

/// So many trades that look like chance.
fn trades(seed: u64, count: u64, mean: f64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    (0..count).map(|_| mean + 10.0 * (next() + next() + next() - 1.5)).collect()
}

fn experiment(control: &[f64], variant: &[f64], owner: bool) -> Experiment {
    let moments = |values: &[f64]| values.iter().copied().collect::<Moments>();
    Experiment {
        control: Some(tally(&moments(control))),
        variant: Some(tally(&moments(variant))),
        look: running().look.filter(|_| owner),
        ..running()
    }
}

fn agent(experiments: Vec<Experiment>) -> (tempfile::TempDir, Fake) {
    let known = experiments.into_iter().map(|experiment| GetExperimentResponse {
        experiment: Some(experiment),
        ..Default::default()
    });
    served(Experiments { known: known.collect(), ..Default::default() })
}

fn merged(nodes: &[String], flags: &[&str]) -> Outcome {
    let nodes = nodes.join(",");
    ctl(&[&["experiment", "show", "TEST_3", "--merge", "-n", &nodes], flags].concat())
}

fn close(json: &serde_json::Value, number: f64) -> bool {
    let found = json.as_f64().unwrap();
    (found - number).abs() <= 1e-9 * number.abs().max(1.0)
}

#[test]
fn trades_of_all_nodes_are_added_up_whatever_the_order() {
    let (control, variant) = (trades(1, 900, 12.0), trades(2, 240, 14.0));
    let parts = [
        (&control[..300], &variant[..100]),
        (&control[300..350], &variant[100..100]),
        (&control[350..], &variant[100..]),
    ];
    let agents: Vec<_> = parts
        .iter()
        .enumerate()
        .map(|(index, (control, variant))| agent(vec![experiment(control, variant, index == 1)]))
        .collect();
    let mut nodes: Vec<_> = agents.iter().map(|(_, fake)| fake.node()).collect();
    let outcome = merged(&nodes, &["-o", "json"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let json = outcome.json();
    assert_eq!(json.as_array().unwrap().len(), 4);
    let all = &json[3]["merged"];
    assert_eq!((&all["nodes"], &all["unanswered"]), (&3.into(), &0.into()));
    let one = &all["experiments"][0];
    assert_eq!((&one["id"], &one["hash"]), (&"TEST_3".into(), &"d3adbeef".into()));
    assert_eq!(one["nodes"].as_array().unwrap().len(), 3);
    let wanted: (Moments, Moments) =
        (control.iter().copied().collect(), variant.iter().copied().collect());
    assert_eq!((&one["control"]["n"], &one["variant"]["n"]), (&"900".into(), &"240".into()));
    assert!(close(&one["control"]["mean"], wanted.0.mean()));
    assert!(close(&one["variant"]["deviation"], wanted.1.sd().unwrap()));
    assert!(close(&one["control"]["m3"], wanted.0.parts().m3));
    let compared = compare(&wanted.0, &wanted.1).unwrap();
    let found = &one["comparison"];
    for (name, number) in [
        ("p", compared.p),
        ("t", compared.t),
        ("d", compared.d),
        ("zStar", compared.z_star),
        ("lift", compared.difference / wanted.0.mean()),
    ] {
        assert!(close(&found[name], number), "{name}: {found}, {number}");
    }
    assert!(found["liftLow"].as_f64() < found["lift"].as_f64());
    for looked in ["pSequential", "decision", "at", "stage"] {
        assert!(found.get(looked).is_none(), "{looked} is the owner's");
    }
    let owner = &one["owner"];
    assert_eq!(
        (&owner["node"], &owner["look"]["pSequential"]),
        (&nodes[1].clone().into(), &0.081.into())
    );

    nodes.reverse();
    let other = merged(&nodes, &["-o", "json"]);
    assert_eq!(other.json()[3], json[3], "to the last bit");

    let text = merged(&nodes, &[]);
    assert_eq!(text.exit, Exit::Ok, "{}", text.stderr);
    let lines = squeezed(text.out());
    assert!(lines[0].starts_with("NODE EXPERIMENT STATE STRATEGY TRIES SPLIT N"), "{lines:#?}");
    assert!(
        lines[4].starts_with("merged TEST_3 - spread_capture") && lines[4].contains("900 / 240")
    );
    assert!(lines.iter().any(|line| line == "TEST_3: arms of all nodes"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("control 900 ")), "{lines:#?}");
    assert!(text.out().contains("p_seq = 0.0810 at 1970-01-01T01:00:00Z, by the looks of unix:"));
    // Only those that answer.
    let gone = [nodes[0].clone(), "unix:/nowhere.sock".into()];
    let some = merged(&gone, &["-o", "json"]);
    assert_eq!(some.exit, Exit::SomeFailed);
    assert_eq!(some.json()[2]["merged"]["unanswered"], 1);
}

#[test]
fn what_is_not_the_same_experiment_is_a_conflict() {
    let (control, variant) = (trades(1, 20, 12.0), trades(2, 20, 14.0));
    let one = experiment(&control, &variant, true);
    let mut other = one.clone();
    let mut unlike = definition();
    unlike.hash = "0dd".into();
    unlike.parameters[0].variant = "0.004".into();
    other.definition = Some(unlike);
    let (a, b) = (agent(vec![one]), agent(vec![other]));
    let nodes = [a.1.node(), b.1.node()];
    for flags in [&[][..], &["-o", "json"]] {
        let outcome = merged(&nodes, flags);
        assert_eq!(outcome.exit, Exit::Conflict, "{}", outcome.stderr);
        for told in [
            "error[DEFINITIONS_DIFFER]",
            "TEST_3 is not the same experiment on all nodes",
            "d3adbeef (threshold 0.002 -> 0.003)",
            "0dd (threshold 0.002 -> 0.004)",
        ] {
            assert!(outcome.stderr.contains(told), "lacks {told}: {}", outcome.stderr);
        }
    }
    let json = merged(&nodes, &["-o", "json"]).json();
    assert_eq!(json.as_array().unwrap().len(), 2, "what each has is printed all the same");
    let apart = ctl(&["experiment", "show", "TEST_3", "-n", &nodes.join(",")]);
    assert_eq!(apart.exit, Exit::Ok);
}

#[test]
fn few_trades_and_impossible_sums_say_so() {
    let none = Experiment { control: None, variant: None, look: None, ..running() };
    let (a, b) = (agent(vec![none.clone()]), agent(vec![none]));
    let nodes = [a.1.node(), b.1.node()];
    let text = merged(&nodes, &[]);
    assert_eq!(text.exit, Exit::Ok, "{}", text.stderr);
    for told in ["lift undefined: the control has fewer than two trades", "there is no p_seq"] {
        assert!(text.out().contains(told), "lacks {told}: {}", text.out());
    }
    let mut odd = experiment(&[1.0, 2.0], &[1.0, 2.0], true);
    odd.control.as_mut().unwrap().m2 = -1.0;
    let odd = agent(vec![odd]);
    let outcome = merged(&[nodes[0].clone(), odd.1.node()], &[]);
    assert_eq!(outcome.exit, Exit::SomeFailed, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("can't be added up"), "{}", outcome.stderr);
    // Of one node alone it is shown as it is.
    let alone = ctl(&["experiment", "show", "TEST_3", "-n", &odd.1.node()]);
    assert_eq!(alone.exit, Exit::Ok);
}
