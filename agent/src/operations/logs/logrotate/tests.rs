use super::*;
use crate::config::{Config, Places};
use crate::operations::logs::{Mode, Reopen};

fn places() -> Places {
    Places { state: "/srv/state".into(), socket: "/srv/state/agent.sock".into() }
}

fn one(text: &str) -> Conversion {
    convert(&[("conf".to_owned(), text.to_owned())])
}

/// The sources of a conversion, which must be a valid configuration.
fn sources(conversion: &Conversion) -> Vec<crate::operations::logs::Source> {
    let checked = Config::parse(&conversion.toml, "test", &places());
    assert!(checked.problems.is_empty(), "{:?}\n{}", checked.problems, conversion.toml);
    let sources = checked.config.unwrap().logs.sources;
    sources.into_iter().filter(|source| source.log_type != "agent").collect()
}

#[test]
fn a_web_servers_configuration() {
    let conversion = one(
        "/var/log/web/*.log {\n\tdaily\n\tmissingok\n\trotate 14\n\tcompress\n\tdelaycompress\n\
        \tnotifempty\n\tcreate 0640 www-data adm\n\tsharedscripts\n\tprerotate\n\t\tif [ -d /etc/x ]; then run-parts /etc/x; fi\n\
        \tendscript\n\tpostrotate\n\t\tif [ -f /run/web.pid ]; then kill -USR1 `cat /run/web.pid`; fi\n\tendscript\n}\n",
    );
    let [source] = sources(&conversion).try_into().unwrap();
    assert_eq!((source.log_type.as_str(), source.rotate_bytes), ("web", 10_000_000));
    assert_eq!(source.paths, ["/var/log/web/*.log"]);
    assert_eq!(source.local_retention.as_secs(), 14 * 86_400);
    assert_eq!(source.archive_retention.as_secs(), 365 * 86_400);
    assert!(
        matches!(&source.mode, Mode::Reopen(Reopen::Signal { pidfile, .. }) if pidfile.to_str() == Some("/run/web.pid")),
        "{:?}",
        source.mode
    );
    let left = conversion.left_out.join("\n");
    for word in
        ["daily: a log is cut by its size", "create 0640", "run-parts /etc/x", "sharedscripts"]
    {
        assert!(left.contains(word), "{word} in {left}");
        assert!(conversion.toml.contains(word), "{word} stands beside its source, too");
    }
    assert_eq!(conversion.left_out.len(), 4, "{left}");
}

#[test]
fn a_writer_that_never_reopens_loses_nothing_any_more() {
    let conversion = one(
        "/opt/app/app.log /opt/app/\"audit log\"\n{\n  copytruncate\n  size 100k\n  rotate 5\n}\n",
    );
    let [source] = sources(&conversion).try_into().unwrap();
    assert_eq!(source.mode, Mode::Collapse { assume_append: false });
    assert_eq!(source.rotate_bytes, 102_400);
    assert_eq!(source.paths, ["/opt/app/app.log", "/opt/app/audit log"]);
    assert!(conversion.left_out[0].contains("rotate 5"), "{:?}", conversion.left_out);
}

#[test]
fn what_is_said_for_all_goes_for_each_block_behind_it() {
    let conversion =
        one("# comment\nweekly\nrotate 4\nsize=1M\ninclude /etc/logrotate.d\n\n/var/log/a { \n}\n\
        /var/log/b {\n monthly\n rotate 12\n maxage 100\n size 2G\n}\n/var/log/other/a.log {\n}\n");
    let found = sources(&conversion);
    let seen: Vec<_> = found
        .iter()
        .map(|source| {
            let days = source.local_retention.as_secs() / 86_400;
            (source.log_type.as_str(), source.rotate_bytes, days)
        })
        .collect();
    assert_eq!(seen, [("a", 1 << 20, 28), ("b", 2 << 30, 100), ("a-2", 1 << 20, 28)]);
    let included = |note: &&String| note.contains("include");
    assert_eq!(conversion.left_out.iter().filter(included).count(), 1, "named once");
}

#[test]
fn scripts_are_understood_where_they_are_plain_and_taken_over_where_not() {
    let script = |script: &str| {
        let conversion =
            one(&format!("/var/log/x.log {{\n postrotate\n{script}\n endscript\n}}\n"));
        let [source] = sources(&conversion).try_into().unwrap();
        match source.mode {
            Mode::Reopen(Reopen::Signal { signal, pidfile }) => {
                format!("{signal:?} {}", pidfile.display())
            }
            Mode::Reopen(Reopen::Command(hook)) => hook.command.join(" "),
            other => format!("{other:?}"),
        }
    };
    for (text, expected) in [
        ("kill -HUP $(cat /run/x.pid)", "Hup /run/x.pid"),
        ("[ -s /run/x.pid ] && kill -USR1 `cat /run/x.pid`", "Usr1 /run/x.pid"),
        ("test -e /run/x.pid && kill -12 \"$(cat /run/x.pid)\" || true", "Usr2 /run/x.pid"),
        ("/bin/kill -SIGHUP `cat /run/x.pid 2> /dev/null` 2>/dev/null || true", "Hup /run/x.pid"),
        ("systemctl reload x.service > /dev/null", "systemctl reload x.service"),
        ("systemctl kill -s HUP x", "systemctl kill -s HUP x"),
        ("service x reload\n", "service x reload"),
        // Not one that we send, and not one statement: as they are.
        ("kill -TERM `cat /run/x.pid`", "/bin/sh -c kill -TERM `cat /run/x.pid`"),
        ("one\ntwo \"three\"", "/bin/sh -c one\ntwo \"three\""),
        (
            "for p in a b; do systemctl reload $p; done",
            "/bin/sh -c for p in a b; do systemctl reload $p; done",
        ),
    ] {
        assert_eq!(script(text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_said_or_is_not_known_is_named() {
    let conversion = one(
        "relative.log {\n}\n/var/log/{a,b}.log {\n shred\n su root adm\n frobnicate 7\n size 12Q\n size 10\n}\n\
        /var/log/open.log {\n daily\n",
    );
    let left = conversion.left_out.join("\n");
    for word in [
        "/var/log/{a,b}.log",
        "shred",
        "su root adm",
        "frobnicate 7: is not known",
        "12Q: is no size",
        "not closed",
    ] {
        assert!(left.contains(word), "{word} in {left}");
    }
    sources(&conversion);
    // Nothing at all is nothing at all.
    assert_eq!(one("# nothing\n"), Conversion::default());
}

proptest::proptest! {
    #[test]
    fn any_text_gives_a_configuration_that_reads_or_none(text in "([a-z/*.{}\"' =0-9`$#-]{0,40}\n){0,12}") {
        let conversion = one(&text);
        let checked = Config::parse(&conversion.toml, "test", &places());
        // A glob may be none; everything else reads.
        for problem in &checked.problems {
            proptest::prop_assert!(problem.key.ends_with("paths"), "{problem:?}\n{}", conversion.toml);
        }
    }
}
