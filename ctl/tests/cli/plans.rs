//! `--plan`, `--plan-hash` and `--request-id` on every command that changes something, and on those that
//! change nothing.

use std::os::unix::fs::PermissionsExt;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Backups, Certificates, Experiments, Fake, Health, REQUEST_ID, Script};
use crate::{Outcome, at, ctl, folder, well};

const RUN: &str = "01J0000000000000000000000A";

/// Every command that changes something, the rpc that it calls, and what the fake notes of the request before
/// the hash.
const CHANGES: [(&[&str], &str, &str); 71] = [
    (&["run", "cancel", RUN], "CancelRun", ""),
    (&["schedule", "run", "j"], "RunJob", "j"),
    (&["schedule", "pause", "j"], "PauseJob", "j"),
    (&["schedule", "resume", "j"], "ResumeJob", "j"),
    (&["oplog", "note", "x"], "AddNote", "x"),
    (&["oplog", "accept-head", "--reason", "restored", "--yes"], "AcceptHead", ""),
    (&["drill", "run", "emergency", "--detach"], "RunDrill", "emergency"),
    (&["incident", "open", "--title", "x"], "OpenIncident", "x high"),
    (&["incident", "note", "last", "x"], "NoteIncident", "last x"),
    (
        &["incident", "close", "last", "--resolution", "r", "--no-lesson", "--runbook", "storm"],
        "CloseIncident",
        "last r (no lesson) storm",
    ),
    (&["config", "reload"], "ReloadConfig", ""),
    (&["rollback", "--component", "config", "--to", "7"], "Rollback", "config 7"),
    (&["fleet", "forget", "gw-7"], "ForgetFleetMember", "gw-7"),
    (&["emergency", "activate"], "ActivateEmergency", ""),
    (&["emergency", "activate", "--fleet"], "ActivateEmergency", "fleet"),
    (&["emergency", "halt", "--no-wait"], "ActivateEmergency", ""),
    (&["emergency", "halt", "--fleet", "--no-wait"], "ActivateEmergency", "fleet"),
    (
        &["emergency", "activate", "--close-positions", "--no-wait", "--yes"],
        "CloseAllPositions",
        "",
    ),
    (&["emergency", "close-positions", "--no-wait", "--yes"], "CloseAllPositions", ""),
    (&["emergency", "approve", "--reason", "r"], "ApproveRelease", ""),
    (&["emergency", "release", "--reason", "r"], "ReleaseEmergency", ""),
    (&["emergency", "release", "--fleet", "--reason", "r"], "ReleaseEmergency", "fleet"),
    (&["logs", "rotate", "--log-type", "app"], "RotateLogs", "app"),
    (&["logs", "cleanup", "--older-than", "365d", "--yes"], "CleanupArchives", ""),
    (
        &[
            "logs",
            "cleanup",
            "--older-than",
            "1d",
            "--override-retention",
            "--reason",
            "r",
            "--yes",
        ],
        "CleanupArchivesEarly",
        "",
    ),
    (&["logs", "rebuild-catalog", "--log-type", "app"], "RebuildCatalog", "app"),
    (&["logs", "hold", "--log-type", "app", "--reason", "r"], "HoldLogs", "app"),
    (&["logs", "release", "01ABCD", "--reason", "r"], "ReleaseLogs", "01ABCD"),
    (&["health", "flag", "disk:/", "--reason", "r"], "FlagIssue", "disk:/"),
    (&["health", "ack", "disk:/"], "AckIssue", "disk:/"),
    (&["health", "resume", "disk:/"], "ResumeIssue", "disk:/"),
    (
        &["health", "run", "make-room", "--check", "disk:/", "--yes"],
        "RunAction",
        "make-room disk:/",
    ),
    (
        &["health", "run", "reset", "--despite-trades", "--reason", "r", "--yes"],
        "RunActionDespiteTrades",
        "reset",
    ),
    (
        &["health", "remediation", "disable", "--for", "2h", "--reason", "r"],
        "DisableRemediation",
        "2h",
    ),
    (&["health", "remediation", "enable"], "EnableRemediation", ""),
    (&["health", "brake", "release", "--reason", "r"], "ReleaseBrake", ""),
    (&["alerts", "ack", "last"], "AckAlert", "last 8h"),
    (
        &["alerts", "silence", "--subject", "disk:*", "--reason", "r"],
        "SilenceAlerts",
        "disk:* SEVERITY_HIGH 2h",
    ),
    (&["alerts", "unsilence", "01ABCD"], "EndSilence", "01ABCD"),
    (&["alerts", "test", "sms"], "TestChannel", "sms"),
    (&["breaker", "trip", "a", "--for", "2h", "--reason", "r"], "TripBreaker", "a 2h"),
    (&["breaker", "reset", "a", "--relearn", "--reason", "r"], "ResetBreaker", "a relearn"),
    (&["db", "optimize", "--force", "--database", "orders"], "OptimizeDatabase", "orders force"),
    (
        &["db", "optimize", "--override", "disk-free,trades", "--reason", "r"],
        "OptimizeDatabaseDespite",
        "disk-free+trades",
    ),
    (&["db", "kill", "4711", "--reason", "r", "--yes"], "KillSession", "4711"),
    (&["backup", "run", "orders"], "RunBackup", "orders"),
    (
        &["backup", "verify", "orders", "--level", "L2"],
        "VerifyBackup",
        "orders BACKUP_LEVEL_RESTORED",
    ),
    (
        &["backup", "restore", "orders", "--into", "/r", "--confirm", "orders", "--reason", "r"],
        "RestoreBackup",
        "orders /r",
    ),
    (&["cert", "renew", "--domain", "a.b", "--force"], "RenewCertificate", "a.b force"),
    (&["cert", "rollback", "--to", "3"], "RollbackCertificate", "3"),
    (
        &["cert", "install-backup", "--fullchain", "@chain.pem", "--key", "@key.pem"],
        "InstallBackupCertificate",
        "28+28",
    ),
    (&["cert", "import", "--from", "/etc/le"], "ImportCertificate", "/etc/le"),
    (&["cert", "pin", "--domain", "a.b"], "PinCertificate", "a.b"),
    (&["cert", "unpin"], "UnpinCertificate", ""),
    (
        &["cert", "mark", "--compromised", "--reason", "r", "--yes"],
        "MarkCertificateCompromised",
        "",
    ),
    (&["baseline", "recalculate", "--operation", "a"], "RecalculateBaselines", "a"),
    (&["baseline", "accept", "--operation", "a", "--reason", "r"], "AcceptBaseline", "a"),
    (
        &["experiment", "create", "--strategy", "s", "--param", "a:1", "--split", "80/20"],
        "CreateExperiment",
        "s a:1 2000",
    ),
    (
        &["experiment", "conclude", "--test-id", "T", "--action", "promote", "--reason", "r"],
        "ConcludeExperiment",
        "T PROMOTE",
    ),
    (&["param", "set", "--strategy", "s", "a=1", "--reason", "r"], "SetParameter", "s a 1"),
    (
        &["param", "rollback", "--strategy", "s", "a", "--to", "3", "--reason", "r"],
        "RollbackParameter",
        "s a v3",
    ),
    (&["matrix", "update", "--carry"], "UpdateMatrix", "carry"),
    (&["matrix", "rollback", "--to", "3", "--reason", "r"], "RollbackMatrix", "3"),
    (&["matrix", "rollout", "advance", "--reason", "r"], "AdvanceRollout", ""),
    (&["matrix", "rollout", "abort", "--reason", "r"], "AbortRollout", ""),
    (&["deps", "import-advisories"], "ImportAdvisories", ""),
    (
        &["deps", "update", "--project", "p", "--strategy", "moderate", "--yes"],
        "UpdateDependencies",
        "p MODERATE",
    ),
    (&["deps", "rollback", "--to", "3", "--yes"], "RollBackDependencies", "3"),
    (
        &["deps", "ignore", "CVE-1", "--project", "p", "--until", "2027-01-31", "--reason", "r"],
        "IgnoreFinding",
        "CVE-1 p 1801440000",
    ),
    (&["deps", "unignore", "CVE-1", "--project", "p"], "UnignoreFinding", "CVE-1 p"),
    (
        &["deps", "postmortem", "close", "CVE-1", "--project", "p", "--note", "n"],
        "ClosePostmortem",
        "CVE-1 p n",
    ),
];

/// Commands that change nothing.
const READS: [&[&str]; 80] = [
    &["alerts", "list"],
    &["alerts", "show", "last"],
    &["alerts", "history"],
    &["status"],
    &["version"],
    &["whoami"],
    &["run", "list"],
    &["run", "show", "last"],
    &["run", "watch", "last"],
    &["schedule", "list"],
    &["oplog", "list"],
    &["oplog", "tail"],
    &["oplog", "verify"],
    &["oplog", "export"],
    &["config", "show"],
    &["config", "check"],
    &["rollback", "components"],
    &["emergency", "status"],
    &["fleet", "status"],
    &["fleet", "members"],
    &["fleet", "locks"],
    &["fleet", "skew"],
    &["logs", "status"],
    &["logs", "list"],
    &["logs", "holds"],
    &["pki", "list"],
    &["health", "check"],
    &["health", "check", "--level", "diagnostic"],
    &["health", "dashboard"],
    &["health", "explain", "disk:/"],
    &["health", "history"],
    &["health", "remediation", "status"],
    &["health", "brake", "status"],
    &["breaker", "list"],
    &["breaker", "show", "a"],
    &["breaker", "watch"],
    &["db", "list"],
    &["db", "preflight"],
    &["db", "health"],
    &["db", "indexes"],
    &["db", "blockers"],
    &["db", "verify"],
    &["db", "history"],
    &["backup", "list"],
    &["cert", "list"],
    &["cert", "show", "a.b"],
    &["cert", "verify"],
    &["cert", "history"],
    &["cert", "budget"],
    &["incident", "list"],
    &["incident", "show", "last"],
    &["baseline", "list"],
    &["baseline", "show"],
    &["baseline", "show", "a", "--merge"],
    &["baseline", "history"],
    &["baseline", "anomalies"],
    &["baseline", "export", "--format", "prometheus"],
    &["observe", "--file", "x"],
    &["experiment", "list"],
    &["experiment", "show", "T"],
    &["experiment", "show", "--merge"],
    &["experiment", "history"],
    &["experiment", "watch"],
    &["experiment", "assign", "--test-id", "T", "--unit", "u"],
    &["param", "list"],
    &["param", "get", "--strategy", "s"],
    &["param", "history"],
    &["param", "watch", "--strategy", "s"],
    &["trades", "push", "--file", "x"],
    &["matrix", "show"],
    &["matrix", "show", "--merge"],
    &["matrix", "history"],
    &["matrix", "rollout", "status"],
    &["matrix", "watch"],
    &["deps", "scan"],
    &["deps", "scan", "--format", "sarif"],
    &["deps", "status"],
    &["deps", "check"],
    &["deps", "history"],
    &["deps", "postmortem", "list"],
];

fn plan() -> Option<Plan> {
    let step = |action: &str, target: &str| PlanStep {
        action: action.into(),
        target: target.into(),
        reason: "because it is due".into(),
    };
    Some(Plan {
        hash: "c0ffee".into(),
        steps: vec![step("do-this", "one"), step("do-that", "two")],
    })
}

fn agent() -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let emergency = Emergency { active: true, epoch: 1, since: at(0), ..Default::default() };
    let ended = Run { id: RUN.into(), state: RunState::Succeeded.into(), ..Default::default() };
    let issue = Some(Issue { id: "disk:/#3".into(), ..Default::default() });
    let hold = RemediationHold { code: "STORM".into(), ..Default::default() };
    let incident = Incident { id: RUN.into(), ..Default::default() };
    let health = Health {
        incidents: vec![incident],
        explained: ExplainIssueResponse { issue: issue.clone(), ..Default::default() },
        flagged: FlagIssueResponse { issue, ..Default::default() },
        disabled: DisableRemediationResponse { hold: Some(hold.clone()), ..Default::default() },
        remediation: GetRemediationResponse { holds: vec![hold], ..Default::default() },
        ..Default::default()
    };
    let listed = ListBackupsResponse {
        sources: vec![BackupSource { name: "orders".into(), ..Default::default() }],
        ..Default::default()
    };
    let known = Experiment { id: "T".into(), ..Default::default() };
    let known = GetExperimentResponse { experiment: Some(known), ..Default::default() };
    let script = Script {
        experiments: Experiments { known: vec![known], ..Default::default() },
        health,
        backups: Backups { listed, ..Default::default() },
        certificates: Certificates { served: Truth::Pass, ..Default::default() },
        breakers: vec![Breaker { name: "a".into(), ..Default::default() }],
        status: well(),
        any_plan: PlanResponse { plan: plan() },
        plan: PlanCleanupArchivesResponse {
            plan: plan(),
            segments: 2,
            compressed_bytes: 9,
            held_segments: 1,
        },
        holds: vec![Hold { id: RUN.into(), ..Default::default() }],
        rollback_plan: PlanRollbackResponse { plan: plan(), ..Default::default() },
        emergency: GetEmergencyResponse {
            emergency: Some(emergency),
            course: Some(EmergencyCourse::default()),
            ..Default::default()
        },
        watches: vec![vec![Ok(ended)]],
        jobs: vec![Job { name: "j".into(), ..Default::default() }],
        ..Default::default()
    };
    for (name, text) in [
        ("chain.pem", "-----BEGIN CERTIFICATE-----\n"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\n"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let owners = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.path().join("key.pem"), owners).unwrap();
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

/// A command whose files are in the folder of `fake`.
fn spelled(fake: &Fake, command: &[&str]) -> Vec<String> {
    let node = fake.node();
    let folder = node.strip_prefix("unix:").and_then(|path| path.strip_suffix("agent.sock"));
    let word = |word: &&str| match word.strip_prefix('@') {
        Some(file) => format!("{}{file}", folder.unwrap()),
        None => (*word).to_owned(),
    };
    command.iter().map(word).collect()
}

fn on(fake: &Fake, command: &[&str], flags: &[&str]) -> Outcome {
    on_nodes(&fake.node(), fake, command, flags)
}

fn on_nodes(nodes: &str, fake: &Fake, command: &[&str], flags: &[&str]) -> Outcome {
    let command = spelled(fake, command);
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    ctl(&[&command, flags, &["-n", nodes]].concat())
}

/// The first calls to methods that are neither `WatchRun`, by which a run is followed to its end, nor `ListBackups`,
/// by which a backup's source is known, nor `ListCertificates`, by which it is known whether anybody looks, nor
/// `ListDependencyUpdates`, by which it is told what an update changed.
fn sent(fake: &Fake) -> Vec<String> {
    let others = ["WatchRun", "ListBackups", "ListCertificates", "ListDependencyUpdates"];
    let calls = fake.calls().into_iter();
    calls.filter(|call| !others.iter().any(|other| call.starts_with(other))).collect()
}

#[test]
fn every_changing_rpc_of_the_contract_has_its_command() {
    let mut commands: Vec<_> = CHANGES.iter().map(|(_, method, _)| (*method).to_owned()).collect();
    let mut contract: Vec<_> = genesis_proto::method_policies()
        .into_iter()
        .filter(|(_, policy)| policy.mutating)
        .map(|(path, _)| path.rsplit('/').next().unwrap().to_owned())
        .collect();
    commands.sort();
    // Two commands may be ways to one rpc.
    commands.dedup();
    contract.sort();
    assert_eq!(commands, contract);
}

#[test]
fn a_plan_is_shown_and_nothing_else_is_sent() {
    for (command, method, _) in CHANGES {
        // Even what needs a reason or a yes needs none for its plan.
        let command = match command {
            ["emergency", "release", "--fleet", ..] => &["emergency", "release", "--fleet"][..],
            ["emergency", "release", ..] => &["emergency", "release"],
            ["logs", "cleanup", _, "1d", ..] => {
                &["logs", "cleanup", "--older-than", "1d", "--override-retention"]
            }
            ["logs", "hold", ..] => &["logs", "hold", "--log-type", "app"],
            ["logs", "release", ..] => &["logs", "release", "01ABCD"],
            ["logs", "cleanup", ..] => &["logs", "cleanup", "--older-than", "365d"],
            ["health", "flag", ..] => &["health", "flag", "disk:/"],
            ["health", "run", "reset", ..] => &["health", "run", "reset", "--despite-trades"],
            ["health", "run", ..] => &["health", "run", "make-room"],
            ["health", "remediation", "disable", ..] => &["health", "remediation", "disable"],
            ["health", "brake", "release", ..] => &["health", "brake", "release"],
            ["alerts", "silence", ..] => &["alerts", "silence", "--subject", "disk:*"],
            ["breaker", verb, ..] => &["breaker", verb, "a"],
            ["db", "kill", ..] => &["db", "kill", "4711"],
            ["db", "optimize", "--override", ..] => &["db", "optimize", "--override", "trades"],
            ["baseline", "accept", ..] => &["baseline", "accept", "--operation", "a"],
            ["experiment", "conclude", ..] => {
                &["experiment", "conclude", "--test-id", "T", "--action", "rollback"]
            }
            ["matrix", "rollback", ..] => &["matrix", "rollback"],
            ["matrix", "rollout", verb, ..] => &["matrix", "rollout", verb],
            ["param", "set", ..] => &["param", "set", "--strategy", "s", "a=1"],
            ["param", "rollback", ..] => &["param", "rollback", "--strategy", "s", "a"],
            ["cert", "mark", ..] => &["cert", "mark", "--compromised"],
            ["backup", "restore", ..] => &["backup", "restore", "orders", "--into", "/r"],
            ["deps", "update", ..] => &["deps", "update"],
            ["deps", "rollback", ..] => &["deps", "rollback"],
            ["deps", "ignore", id, ..] => {
                &["deps", "ignore", id, "--project", "p", "--until", "2027-01-31"]
            }
            command => command,
        };
        let (_folder, fake) = agent();
        let table = on(&fake, command, &["--plan"]);
        assert_eq!(table.exit, Exit::Ok, "{command:?}: {}", table.stderr);
        for shown in
            ["ACTION", "do-this", "do-that", "one", "two", "because it is due", "plan hash: c0ffee"]
        {
            assert!(table.out().contains(shown), "{command:?} lacks {shown}: {}", table.out());
        }
        let json = on(&fake, command, &["--plan", "-o", "json"]);
        assert_eq!(json.exit, Exit::Ok, "{command:?}: {}", json.stderr);
        let json = json.json();
        assert_eq!(json[0]["response"]["plan"]["hash"], "c0ffee", "{command:?}");
        assert_eq!(json[0]["response"]["plan"]["steps"][1]["action"], "do-that", "{command:?}");
        let calls = fake.calls();
        assert_eq!(calls.len(), 2, "{calls:?}");
        for call in &calls {
            assert_eq!(call.split(' ').next().unwrap(), format!("Plan{method}"), "{command:?}");
        }
    }
}

#[test]
fn plans_of_several_nodes_need_no_consent() {
    for (command, method, _) in CHANGES {
        let ((_a, one), (_b, two)) = (agent(), agent());
        let command: Vec<_> = command.iter().copied().filter(|word| *word != "--yes").collect();
        let nodes = format!("{},{}", one.node(), two.node());
        let outcome = on_nodes(&nodes, &one, &command, &["--plan"]);
        assert_eq!(outcome.exit, Exit::Ok, "{command:?}: {}", outcome.stderr);
        assert_eq!(outcome.out().matches("plan hash: c0ffee").count(), 2, "{}", outcome.out());
        for fake in [&one, &two] {
            let calls = fake.calls();
            assert!(
                calls.len() == 1 && calls[0].starts_with(&format!("Plan{method}")),
                "{calls:?}"
            );
        }
    }
}

/// How it ends: how far an emergency of the fleet has got nobody tells here.
fn done(command: &[&str]) -> Exit {
    match command {
        ["emergency", _, "--fleet", ..] => Exit::Unknown,
        _ => Exit::Ok,
    }
}

#[test]
fn a_hash_is_sent_with_every_change() {
    for (command, method, noted) in CHANGES {
        let (_folder, fake) = agent();
        let outcome = on(&fake, command, &["--plan-hash", "c0ffee"]);
        assert_eq!(outcome.exit, done(command), "{command:?}: {}", outcome.stderr);
        let sent = sent(&fake);
        assert_eq!(sent.len(), 1, "{sent:?}");
        let wanted = [method, noted, "c0ffee"].join(" ").replace("  ", " ");
        let found = sent[0].split(" because ").next().unwrap();
        assert_eq!(found, wanted, "{command:?}");
    }
}

#[test]
fn another_plan_than_the_one_named_is_a_conflict() {
    for (command, _, _) in CHANGES {
        let (_folder, fake) = agent();
        let outcome = on(&fake, command, &["--plan-hash", "old"]);
        assert_eq!(outcome.exit, Exit::Conflict, "{command:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("error[PLAN_CHANGED]"), "{}", outcome.stderr);
        let json = on(&fake, command, &["--plan-hash", "old", "-o", "json"]);
        assert_eq!(json.exit, Exit::Conflict, "{command:?}");
        assert_eq!(json.json()[0]["error"]["reason"], "PLAN_CHANGED");
    }
}

#[test]
fn a_hash_is_for_one_node() {
    for (command, _, _) in CHANGES {
        let ((_a, one), (_b, two)) = (agent(), agent());
        let nodes = format!("{},{}", one.node(), two.node());
        let command: Vec<_> = command.iter().copied().filter(|word| *word != "--yes").collect();
        for yes in [&[][..], &["--yes"]] {
            let flags = [&["--plan-hash", "c0ffee"][..], yes].concat();
            let outcome = on_nodes(&nodes, &one, &command, &flags);
            assert_eq!(outcome.exit, Exit::Usage, "{command:?}");
            assert!(outcome.stderr.contains("of one node"), "{command:?}: {}", outcome.stderr);
        }
        assert!(one.calls().is_empty() && two.calls().is_empty(), "{command:?}");
    }
}

#[test]
fn what_changes_nothing_takes_none_of_these_flags() {
    let (folder, fake) = agent();
    let archive = folder.path().join("x.tar.gz");
    let bundle = ["support", "bundle", "--out", archive.to_str().unwrap()];
    let more: [&[&str]; 7] = [
        &bundle,
        &["context", "list"],
        &["completions", "bash"],
        &["man"],
        &["runbook", "list"],
        &["runbook", "show", "health"],
        &["oplog", "verify", "--file", "x"],
    ];
    for command in READS.iter().copied().chain(more) {
        for flag in [&["--plan"][..], &["--plan-hash", "c0ffee"], &["--request-id", REQUEST_ID]] {
            let outcome = on(&fake, command, flag);
            assert_eq!(outcome.exit, Exit::Usage, "{command:?} {flag:?}");
            assert!(
                outcome.stderr.contains(flag[0]) && outcome.stderr.contains("changes nothing"),
                "{command:?}: {}",
                outcome.stderr
            );
            assert!(outcome.stdout.is_empty(), "{command:?} {flag:?}");
        }
    }
    // Of the lines it would fetch, this one shows how much.
    let retrieve =
        ["logs", "retrieve", "--log-type", "app", "--date-range", "2024-01-01:2024-01-02"];
    for flag in [&["--plan-hash", "c0ffee"][..], &["--request-id", REQUEST_ID]] {
        assert_eq!(on(&fake, &retrieve, flag).exit, Exit::Usage, "{flag:?}");
    }
    assert!(fake.calls().is_empty() && !archive.exists());
}

#[test]
fn flags_that_contradict_each_other_are_wrong_usage() {
    let (_folder, fake) = agent();
    for flags in [
        &["--plan", "--plan-hash", "c0ffee"][..],
        &["--plan", "--request-id", REQUEST_ID],
        &["--plan-hash", ""],
    ] {
        assert_eq!(on(&fake, &["config", "reload"], flags).exit, Exit::Usage, "{flags:?}");
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn a_request_id_arrives_with_every_change() {
    for (command, method, _) in CHANGES {
        let (_folder, fake) = agent();
        let outcome = on(&fake, command, &["--request-id", REQUEST_ID]);
        assert_eq!(outcome.exit, done(command), "{command:?}: {}", outcome.stderr);
        let sent = sent(&fake);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].starts_with(method), "{sent:?}");
        assert!(sent[0].ends_with(&format!(" as {REQUEST_ID}")), "{sent:?}");
    }
    let (_folder, fake) = agent();
    for junk in ["", "1", "not-an-id", &REQUEST_ID[1..], "UUUUUUUUUUUUUUUUUUUUUUUUUU"] {
        let outcome = on(&fake, &["config", "reload"], &["--request-id", junk]);
        assert_eq!(outcome.exit, Exit::Usage, "{junk:?}");
        assert!(outcome.stderr.contains("ULID"), "{}", outcome.stderr);
    }
    assert!(fake.calls().is_empty());
}
