use super::*;

fn places() -> Places {
    Places { state: "/srv/state".into(), socket: "/srv/state/agent.sock".into() }
}

fn problems(text: &str) -> Vec<String> {
    Config::parse(text, "test", &places()).problems.iter().map(ToString::to_string).collect()
}

const SOURCE: &str =
    "[[logs.source]]\ntype = \"trading\"\npaths = [\"/var/log/t/*.log\"]\nreopen = \"by-itself\"\n";

#[test]
fn no_text_at_all_is_the_procedures_numbers() {
    let config = Config::defaults(&places()).unwrap();
    let own = config.logs.source("agent").unwrap();
    assert_eq!(own.rotate_bytes, 10_000_000);
    assert_eq!(own.local_retention.as_secs(), 30 * 86_400);
    assert_eq!(own.archive_retention.as_secs(), 365 * 86_400);
    assert_eq!(config.logs.archive.url, "file:///srv/state/archive");
    assert!(config.listen.http.ip().is_loopback());
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let text = "[listen]\nhttp = \"0.0.0.0:1\"\nhtpt = 3\n\n[logs]\nrelease_grace = \"soon\"\n\n\
                [[logs.source]]\ntype = \"Trading!\"\npaths = [\"relative.log\"]\nrotate_size = \"1XB\"\n";
    let found = problems(text);
    let expected = [
        ("2:8", "listen.http", "loopback"),
        ("3:1", "listen.htpt", "did you mean \"http\"?"),
        ("6:17", "logs.release_grace", "\"30d\""),
        ("8:1", "logs.source[0].reopen", "by-itself"),
        ("9:8", "logs.source[0].type", "\"trading\""),
        ("10:9", "logs.source[0].paths", "absolute"),
        ("11:15", "logs.source[0].rotate_size", "\"10MB\""),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, (place, key, hint)) in found.iter().zip(expected) {
        assert!(
            line.starts_with(&format!("{place}: {key}: ")),
            "{line} should be at {place} about {key}"
        );
        assert!(line.contains(hint), "{line} should say {hint}");
    }
}

#[test]
fn text_that_is_no_toml_says_where() {
    let found = problems("[logs\nx = \n");
    assert!(!found.is_empty() && found[0].starts_with("1:"), "{found:?}");
}

#[test]
fn absurd_values_are_refused() {
    for (line, hint) in [
        ("rotate_size = \"1B\"", "outside"),
        ("rotate_size = \"99999999999999999999MB\"", "fits"),
        ("rotate_size = \"-1MB\"", "no size"),
        ("rotate_size = 10", "must be a string"),
        ("local_retention = \"400d\"\narchive_retention = \"365d\"", "outlive"),
        ("archive_retention = \"999999999999999d\"", "fits"),
        ("rotate_mode = \"sideways\"", "not one of"),
        ("rotate_mode = \"collapse\"", "of no use"),
        ("settle = \"2d\"", "outside"),
        ("hold = \"yes\"", "true or false"),
        ("timestamp = { regex = \"(\" }", "regex"),
        ("timestamp = { regex = \"^x\" }", "group"),
        ("timestamp = { json = \"a\", regex = \"(b)\" }", "exactly one"),
    ] {
        let found = problems(&format!("{SOURCE}{line}\n"));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains(hint), "{line}: {}", found[0]);
    }
}

#[test]
fn a_store_is_asked_to_encrypt_only_in_ways_that_there_are() {
    use crate::outside::archive::{Encryption, Place};

    let bucket = "[logs.archive]\nurl = 's3://logs'\n";
    for (lines, way, key) in [
        ("", None, None),
        ("encryption = 'AES256'", Some("AES256"), None),
        ("encryption = 'aws:kms'", Some("aws:kms"), None),
        (
            "encryption = 'aws:kms:dsse'\nkms_key = 'alias/logs'",
            Some("aws:kms:dsse"),
            Some("alias/logs"),
        ),
    ] {
        let checked = Config::parse(&format!("{bucket}{lines}\n"), "", &places());
        let config = checked.config.unwrap_or_else(|| panic!("{lines}: {:?}", checked.problems));
        let Place::Bucket(found) = config.logs.archive.place else { panic!("{lines}") };
        let wanted = way.map(|way| Encryption { way, kms_key: key.map(str::to_owned) });
        assert_eq!(found.encryption, wanted, "{lines}");
    }
    for (lines, hint) in [
        ("encryption = 'aes256'", "none of"),
        ("encryption = 'sse-c'", "none of"),
        ("kms_key = 'alias/logs'", "needs encryption"),
        ("encryption = 'AES256'\nkms_key = 'alias/logs'", "needs encryption"),
        ("encryption = 'aws:kms'\nkms_key = 'a key'", "no id, ARN or alias"),
    ] {
        let found = problems(&format!("{bucket}{lines}\n"));
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(found[0].contains(hint), "{lines}: {}", found[0]);
    }
    let found = problems("[logs.archive]\nurl = 'file:///srv/a'\nencryption = 'AES256'\n");
    assert!(found.len() == 1 && found[0].contains("s3:// addresses"), "{found:?}");
}

#[test]
fn globs_that_reach_the_archive_are_refused() {
    for (pattern, refused) in [
        ("/srv/state/archive/trading/2026/01/01/*.gz", true),
        ("/srv/**/*.gz", true),
        ("/srv/state/logs/sealed/**", true),
        ("/srv/*/*.gz", false),
        ("/var/log/../log/x.log", true),
        ("/var/log/[", true),
        ("/var/log/*.log", false),
    ] {
        let text = format!(
            "[[logs.source]]\ntype = \"t\"\npaths = [\"{pattern}\"]\nreopen = \"by-itself\"\n"
        );
        assert_eq!(!problems(&text).is_empty(), refused, "{pattern}: {:?}", problems(&text));
    }
}

#[test]
fn a_type_is_used_once_and_never_the_agents_own() {
    assert!(problems(&format!("{SOURCE}{SOURCE}"))[0].contains("used by another source"));
    assert!(problems(&SOURCE.replace("trading", "agent"))[0].contains("agent's own log"));
}

#[test]
fn each_way_of_reopening() {
    use crate::operations::logs::{Mode, Reopen};

    for (value, ok) in [
        ("\"by-itself\"", true),
        ("{ signal = \"USR1\", pidfile = \"/run/x.pid\" }", true),
        ("{ signal = \"SIGHUP\", pidfile = \"/run/x.pid\" }", true),
        ("{ command = [\"systemctl\", \"reload\", \"x\"], timeout = \"5s\" }", true),
        ("\"somehow\"", false),
        ("{ signal = \"KILL\", pidfile = \"/run/x.pid\" }", false),
        ("{ signal = \"HUP\" }", false),
        ("{ signal = \"HUP\", pidfile = \"x.pid\" }", false),
        ("{ command = [] }", false),
        ("{ command = [\"x\"], timeout = \"0s\" }", false),
        ("{ command = [\"x\"], timout = \"1s\" }", false),
    ] {
        let text = SOURCE.replace("\"by-itself\"", value);
        let checked = Config::parse(&text, "test", &places());
        assert_eq!(checked.config.is_some(), ok, "{value}: {:?}", checked.problems);
    }
    let config =
        Config::parse(&SOURCE.replace("\"by-itself\"", "{ command = [\"x\"] }"), "", &places())
            .config
            .unwrap();
    assert!(
        matches!(&config.logs.source("trading").unwrap().mode, Mode::Reopen(Reopen::Command(hook)) if hook.timeout.as_secs() == 30)
    );
}

#[test]
fn each_way_of_cutting() {
    use crate::operations::logs::Mode;

    let source = SOURCE.replace("reopen = \"by-itself\"\n", "");
    for (lines, mode) in [
        ("rotate_mode = \"collapse\"", Ok(Mode::Collapse { assume_append: false })),
        (
            "rotate_mode = \"collapse\"\nassume_append = true",
            Ok(Mode::Collapse { assume_append: true }),
        ),
        (
            "rotate_mode = \"direct\"\nsettle = \"5s\"",
            Ok(Mode::Direct { settle: std::time::Duration::from_secs(5) }),
        ),
        ("rotate_mode = \"copytruncate\"\nallow_lossy = true", Ok(Mode::CopyTruncate)),
        ("rotate_mode = \"copytruncate\"", Err("allow_lossy = true")),
        ("", Err("reopen")),
    ] {
        let checked = Config::parse(&format!("{source}{lines}\n"), "test", &places());
        match mode {
            Ok(mode) => {
                assert!(checked.problems.is_empty(), "{lines}: {:?}", checked.problems);
                let config = checked.config.unwrap();
                assert_eq!(config.logs.source("trading").unwrap().mode, mode, "{lines}");
                let again = Config::parse(&config.effective, "test", &places());
                assert_eq!(again.config.unwrap().effective, config.effective, "{lines}");
            }
            Err(hint) => {
                let problems = problems(&format!("{source}{lines}\n"));
                assert_eq!(problems.len(), 1, "{lines}: {problems:?}");
                assert!(problems[0].contains(hint), "{lines}: {problems:?}");
            }
        }
    }
}

#[test]
fn the_text_in_force_reads_as_itself() {
    let channel = |name: &str| {
        format!("[alerts.channel.{name}]\nkind = \"webhook\"\nurl = \"https://{name}.test\"\n")
    };
    let channels = channel("a") + &channel("b");
    let text = format!("{SOURCE}timestamp = {{ json = \"ts\" }}\n{channels}");
    let checked = Config::parse(&text, "test", &places());
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    let config = checked.config.unwrap();
    let again = Config::parse(&config.effective, "test", &places());
    assert!(again.problems.is_empty(), "{:?}\n{}", again.problems, config.effective);
    let again = again.config.unwrap();
    assert_eq!(again.effective, config.effective);
    assert_eq!(again.alerts, config.alerts);
}

#[test]
fn the_text_in_force_reads_as_itself_where_a_default_would_be_wrong_if_asked_for() {
    let managed = "[tls]\nmanaged = \"own\"\nclient_ca = \"/ca.pem\"\n\
        [[certificates.certificate]]\nname = \"own\"\ndomains = [\"a.test\"]\n";
    let sqlite = "[[database.instance]]\nname = \"orders\"\nurl = \"sqlite:/srv/orders.db\"\n";
    let walg = "[[database.instance]]\nname = \"orders\"\nurl = \"postgres:///orders\"\n\
        [[backup.source]]\nname = \"orders\"\ntool = \"wal-g\"\ncommand = [\"wal-g\"]\n";
    let nothing = "[[backup.source]]\nname = \"agent\"\nenabled = false\n";
    let command =
        "[alerts.channel.desk]\nkind = \"command\"\ncommand = { command = [\"/bin/tell\"] }\n";
    for text in [managed, sqlite, walg, nothing, command] {
        let checked = Config::parse(text, "test", &places());
        assert!(checked.problems.is_empty(), "{text}: {:?}", checked.problems);
        let config = checked.config.unwrap();
        let again = Config::parse(&config.effective, "test", &places());
        assert!(again.problems.is_empty(), "{:?}\n{}", again.problems, config.effective);
        let again = again.config.unwrap();
        assert_eq!(again.effective, config.effective);
        assert_eq!(config.restart_needed(&again), Vec::<String>::new());
    }
}

#[test]
fn the_example_is_valid_as_it_is_and_with_every_default_uncommented() {
    let example = reference::example(&Config::keys(&places()));
    assert!(problems(&example).is_empty());
    let section = |line: &str| line.starts_with("# [");
    let active: String = example
        .lines()
        .take_while(|line| !section(line))
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.split(" = ").next().is_some_and(|key| !key.contains(' '))
                    && rest.contains(" = ") =>
            {
                rest
            }
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(problems(&active).is_empty(), "{:?}\n{active}", problems(&active));
}

#[test]
fn sizes_and_spans() {
    use units::{parse_duration, parse_size};

    assert_eq!(parse_size("10MB"), Ok(10_000_000));
    assert_eq!(parse_size("16MiB"), Ok(16 << 20));
    assert_eq!(parse_duration("250ms").unwrap().as_millis(), 250);
    assert_eq!(parse_duration("2w").unwrap().as_secs(), 14 * 86_400);
    for text in ["", "10", "MB", "1.5MB", "10 mb", "٣MB"] {
        assert!(parse_size(text).is_err(), "{text:?}");
    }
    for text in ["", "10", "d", "-1d", "1y", "1e3s"] {
        assert!(parse_duration(text).is_err(), "{text:?}");
    }
}

#[test]
fn drills_and_their_sandbox_are_checked() {
    let control = "[trading]\ncontrol = { grpc = \"unix:/run/t.sock\" }\n";
    let orders = "[[database.instance]]\nname = \"orders\"\nurl = \"postgres:///orders\"\n";
    let walg = format!(
        "{orders}[[backup.source]]\nname = \"orders\"\ntool = \"wal-g\"\ncommand = [\"wal-g\"]\n"
    );
    let nothing = "[[backup.source]]\nname = \"agent\"\nenabled = false\n";
    for (text, expected) in [
        ("[agent]\nenvironment = \"test\"\n".to_owned(), "is neither \"production\" nor"),
        (format!("[agent]\nenvironment = \"staging\"\n{control}"), "is missing: in staging"),
        (format!("{control}sandbox = {{ grpc = \"unix:/run/t.sock\" }}\n"), "real positions"),
        ("[trading]\nsandbox = {}\n".to_owned(), "needs grpc or command"),
        ("[recovery]\ndrills = [\"fire\"]\n".to_owned(), "there is no drill \"fire\""),
        ("[recovery]\ndrills = [\"rollback\"]\n".to_owned(), "there is no drill \"rollback\""),
        ("[recovery]\ndrills = [\"emergency:x\"]\n".to_owned(), "there is no drill"),
        ("[recovery]\ndrills = [\"restore\", \"restore\"]\n".to_owned(), "names a drill twice"),
        (
            "[recovery]\ndrills = [\"restore:orders\"]\n".to_owned(),
            "recovery.drills: \"restore:orders\": there is no such source of backups; write \"restore:agent\"",
        ),
        ("[recovery]\ndrills = [\"rollback:matrix\"]\n".to_owned(), "write \"rollback:config\" or"),
        ("[recovery]\ndrills = [\"rollback:certificate:api\"]\n".to_owned(), "only be planned"),
        ("[recovery]\ndrills = [\"rollback:database:x\"]\n".to_owned(), "write \"restore:x\""),
        (
            format!("[recovery]\ndrills = [\"restore\"]\n{walg}"),
            "no backup of orders (WAL-G) into a scratch instance; write \"restore:agent\"",
        ),
        (format!("[recovery]\ndrills = [\"restore:orders\"]\n{walg}"), "can't pass"),
        (format!("[recovery]\ndrills = [\"restore\"]\n{nothing}"), "nothing is backed up"),
        (format!("[recovery]\ndrills = [\"restore:agent\"]\n{nothing}"), "leave it out"),
        ("[recovery]\ndrill_every = \"1h\"\n".to_owned(), "is outside"),
        ("[recovery]\ndrill_schedule = \"never\"\n".to_owned(), "is no schedule"),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|it| it.contains(expected)), "{text}: {found:?}");
    }
    for text in [
        "[agent]\nenvironment = \"staging\"\n".to_owned(),
        format!(
            "[agent]\nenvironment = \"staging\"\n{control}sandbox = {{ command = [\"/bin/desk\"] }}\n"
        ),
        format!("[recovery]\ndrills = [\"restore:orders\", \"rollback:state\"]\n{orders}"),
        format!("[recovery]\ndrills = [\"restore:agent\"]\n{walg}"),
        "[recovery]\ndrills = []\n".to_owned(),
        // What nobody has asked for is no mistake.
        walg,
        nothing.to_owned(),
    ] {
        assert_eq!(problems(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_waits_for_a_restart_is_named_by_its_key() {
    let parsed = |text: &str| Config::parse(text, "", &places()).config.unwrap();
    let before = parsed("");
    for (text, keys) in [
        ("", vec![]),
        ("[agent]\nenvironment = \"staging\"\n", vec!["agent.environment"]),
        ("[recovery]\nrelease_approvals = \"2\"\n", vec!["trading or recovery"]),
        ("[recovery]\nknown_good_after = \"20m\"\n", vec![]),
        ("[trading]\nclose_within = \"30s\"\n", vec!["trading or recovery"]),
    ] {
        assert_eq!(before.restart_needed(&parsed(text)), keys, "{text}");
    }
}
