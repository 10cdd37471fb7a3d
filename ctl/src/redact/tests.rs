use proptest::prelude::*;

use super::names::COMMON;
use super::*;

fn redactor() -> Redactor {
    let mut redactor = Redactor::new().unwrap();
    redactor.know(What::Host, "web-1");
    redactor.know(What::Id, "3f9c2b7d-1111-4222-8333-444455556666");
    redactor.know(What::Contact, "PagerDuty: Trading Nights");
    redactor.learn("unix:uid=1000(ada) genesis://prod/operator/olga genesis://prod/agent/db-7");
    redactor
}

#[test]
fn each_shape_is_taken_out_and_the_rest_stays() {
    for (text, expected) in [
        ("nothing to see: 12 segments, 3.4 MB", "nothing to see: 12 segments, 3.4 MB"),
        (
            "web-1 is up, WEB-1 too, web-10 is another",
            "host-1 is up, host-1 too, web-10 is another",
        ),
        ("host 3f9c2b7d-1111-4222-8333-444455556666", "host id-1"),
        ("call PagerDuty: Trading Nights now", "call contact-1 now"),
        ("by unix:uid=1000(ada)", "by unix:uid=1000(user-1)"),
        ("by unix:uid=0(root)", "by unix:uid=0(root)"),
        ("genesis://prod/operator/olga", "genesis://prod/operator/user-2"),
        ("olga called db-7", "user-2 called host-2"),
        ("from 10.1.2.3:7443", "from ip-1:7443"),
        ("from [2001:db8::7]:7443", "from [ip-1]:7443"),
        ("from fe80::1: refused", "from ip-1: refused"),
        ("::ffff:192.0.2.1", "ip-1"),
        ("at2001:db8::1", "atip-1"),
        (
            "genesis_agent::emergency and storage::backend",
            "genesis_agent::emergency and storage::backend",
        ),
        ("agent::state::bad, server::fd", "agent::state::bad, server::fd"),
        ("on 127.0.0.1 and ::1 and 0.0.0.0", "on 127.0.0.1 and ::1 and 0.0.0.0"),
        ("at 12:30:45 and 2024-01-01T12:30:45.123Z", "at 12:30:45 and 2024-01-01T12:30:45.123Z"),
        ("02:42:ac:11:00:02", "mac-1"),
        ("ask grace.hopper+x@navy.example", "ask email-1"),
        ("/home/linus/.config and /home/linus", "/home/user-3/.config and /home/user-3"),
        ("https://sam:pa:ss@wiki.corp/x", "https://user-3:secret-1@host-3/x"),
        ("postgres://sam@db/x", "postgres://user-3@host-3/x"),
        ("db.prod.example.com and agent.toml", "host-3 and agent.toml"),
        ("broker7:9092 refused", "host-3:9092 refused"),
        ("agent/src/main.rs:120", "agent/src/main.rs:120"),
        ("server_name = \"anything\"", "server_name = \"host-3\""),
        ("password=hunter2 next", "password=secret-1 next"),
        ("DB_PASSWORD: 'hunter 2' next", "DB_PASSWORD: 'secret-1' next"),
        ("{\"api_key\":\"x\\\"y\",\"a\":1}", "{\"api_key\":\"secret-1\",\"a\":1}"),
        ("{\\\"token\\\":\\\"t0k\\\",\\\"a\\\":1}", "{\\\"token\\\":\\\"secret-1\\\",\\\"a\\\":1}"),
        ("key=abc", "key=secret-1"),
        ("key_file = \"/etc/genesis/key.pem\"", "key_file = \"/etc/genesis/key.pem\""),
        ("run --token abc -v", "run --token secret-1 -v"),
        ("--user bob --pass Tr0ub4dor", "--user bob --pass secret-1"),
        ("DB_PASS=hunter99 AUTH=abcdefgh", "DB_PASS=secret-1 AUTH=secret-2"),
        ("X-Auth: s3cr3tAuthVal", "X-Auth: secret-1"),
        ("get /x?sig=Zm9v&a=b", "get /x?sig=secret-1"),
        (
            "command = [\"curl\", \"--user\", \"bob:hunter2\", \"-HX: y\"], timeout = \"5s\"",
            "command = [\"curl\", \"secret-1\", \"secret-2\", \"secret-3\"], timeout = \"5s\"",
        ),
        ("command = [\"/usr/bin/true\"]", "command = [\"/usr/bin/true\"]"),
        ("[\"run\", \"--token\", \"abc\", \"-v\"]", "[\"run\", \"--token\", \"secret-1\", \"-v\"]"),
        ("run --token-file /etc/token", "run --token-file /etc/token"),
        (
            "https://10.1.2.3/x and http://127.0.0.1:7480",
            "https://ip-1/x and http://127.0.0.1:7480",
        ),
        ("web-1.prod.example.com and web-1.log", "host-1 and host-1.log"),
        ("get /x?X-Amz-Signature=ab12 done", "get /x?X-Amz-Signature=secret-1 done"),
        ("Authorization: Bearer abc.def", "Authorization: secret-1"),
        ("sent bearer abcdefgh", "sent bearer secret-1"),
        ("AKIAABCDEFGHIJKLMNOP", "secret-1"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def", "secret-1"),
        ("a\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\nb", "a\npem-1\nb"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\nBB", "pem-1"),
        ("subject CN=bea, O=x", "subject CN=user-3, O=x"),
        (
            "/var/lib/genesis/logs/archive/trading/2024/01/part",
            "/var/lib/genesis/logs/archive/trading/2024/01/part",
        ),
        ("run 01J0000000000000000000000A", "run 01J0000000000000000000000A"),
    ] {
        assert_eq!(redactor().text(text), expected, "{text:?}");
    }
}

#[test]
fn the_same_text_has_the_same_placeholder_and_others_have_others() {
    let mut redactor = redactor();
    assert_eq!(redactor.text("10.0.0.1 10.0.0.2 10.0.0.1"), "ip-1 ip-2 ip-1");
    assert_eq!(redactor.text("again 10.0.0.2"), "again ip-2");
    assert_eq!(redactor.text("x@y.example X@Y.EXAMPLE"), "email-1 email-1");
    assert_eq!(redactor.text("host-1 stays host-1"), "host-1 stays host-1");
}

#[test]
fn names_that_were_learned_are_known_where_they_stand_alone() {
    for (learned, text, expected) in [
        ("/home/linus/x", "linus left, Linus's key", "user-1 left, user-1's key"),
        ("https://sam:pw@x.example/", "sam failed", "user-1 failed"),
        ("mail ada.l@x.example", "ada.l asked security", "user-1 asked security"),
        ("https://wiki.acme.ai/x", "wiki.acme.ai is down", "host-1 is down"),
        ("s3://archive/x", "the archive is down", "the archive is down"),
        ("postgres://postgres@127.0.0.1/x", "postgres at 127.0.0.1", "postgres at 127.0.0.1"),
        ("kafka3:9092", "kafka3 is down", "host-1 is down"),
        ("genesis://prod/agent/db-7.corp", "db-7 and db-7.corp", "host-1 and host-1"),
        ("genesis://prod/agent/db-7", "db-7 and db-7.corp", "host-1 and host-1"),
        ("genesis://prod/agent/203.0.113.9", "exit 203", "exit 203"),
    ] {
        let mut redactor = Redactor::new().unwrap();
        redactor.learn(learned);
        assert_eq!(redactor.text(text), expected, "{learned:?}");
    }
    // Short ones are words, unless they are all that is said.
    let mut redactor = Redactor::new().unwrap();
    redactor.know(What::Host, "vm");
    let value = serde_json::json!({ "hostname": "vm", "message": "a vm is up" });
    let expected = serde_json::json!({ "hostname": "host-1", "message": "a vm is up" });
    assert_eq!(redactor.value(&value), expected);
    // Whichever name of a host is known first.
    for names in [["db-7", "db-7.corp"], ["db-7.corp", "db-7"]] {
        let mut redactor = Redactor::new().unwrap();
        for name in names {
            redactor.know(What::Host, name);
        }
        assert_eq!(redactor.text("db-7 db-7.corp DB-7"), "host-1 host-1 host-1");
    }
}

#[test]
fn hashes_of_the_chain_stay_and_others_go() {
    let (chain, other) = ("ab".repeat(32), "cd".repeat(32));
    let mut redactor = redactor();
    redactor.keep_hash(&chain);
    redactor.keep_hash("not a hash");
    assert_eq!(redactor.text(&format!("{chain} {other}")), format!("{chain} secret-1"));
}

#[test]
fn values_are_redacted_by_their_names_too() {
    let mut redactor = redactor();
    let value = serde_json::json!({
        "accessToken": ["x", { "deep": "y", "n": 12345 }],
        "token_file": "/etc/token",
        "web-1": { "note": "ada", "ok": true, "count": 3 },
        "password": "",
        "command": ["run", "--token", "x", "--token-file", "/etc/token"],
    });
    let expected = serde_json::json!({
        "accessToken": ["secret-1", { "deep": "secret-2", "n": "secret-3" }],
        "token_file": "/etc/token",
        "host-1": { "note": "user-1", "ok": true, "count": 3 },
        "password": "",
        "command": ["run", "secret-4", "secret-1", "secret-5", "secret-6"],
    });
    assert_eq!(redactor.value(&value), expected);
    let lines = "{\"password\":\"a\\nb\",\"x\":1}\nplain -----BEGIN X-----\nAAAA\nBB\n";
    let redacted = redactor.lines(lines);
    assert_eq!(redacted, "{\"password\":\"secret-7\",\"x\":1}\nplain pem-1");
}

/// A secret, and a text that holds it in a place where such secrets stand.
fn planted() -> impl Strategy<Value = (String, String)> {
    let around = ("[a-z ]{0,8}", "[a-z ]{0,8}");
    let secret = prop_oneof![
        ("[!-~&&[^\"'\\\\]]{8,20}").prop_map(|s| (s.clone(), format!("password={s}"))),
        ("[ -~&&[^\"'\\\\]]{8,20}").prop_map(|s| (s.clone(), format!("\"token\": \"{s}\""))),
        ("[A-Za-z0-9]{8,20}").prop_map(|s| (s.clone(), format!("https://bob:{s}@example.com/x"))),
        ("[0-9a-f]{40,64}").prop_map(|s| (s.clone(), format!("saw {s} there"))),
        ("[A-Za-z0-9+/]{40,90}")
            .prop_filter("a path is none", |s| !is_path(s))
            .prop_map(|s| (s.clone(), format!("saw {s}== there"))),
        ("[A-Za-z0-9+/]{16}\n[A-Za-z0-9+/]{16}").prop_map(|s| (
            s.clone(),
            format!("-----BEGIN EC PRIVATE KEY-----\n{s}\n-----END EC PRIVATE KEY-----")
        )),
        any::<[u8; 4]>()
            .prop_filter("everybody has those", |ip| {
                let ip = std::net::Ipv4Addr::from(*ip);
                !ip.is_loopback() && !ip.is_unspecified()
            })
            .prop_map(|ip| {
                let ip = std::net::Ipv4Addr::from(ip).to_string();
                (ip.clone(), format!("from {ip}:7443"))
            }),
        any::<[u16; 8]>()
            .prop_map(|ip| {
                let ip = std::net::Ipv6Addr::from(ip).to_string();
                (ip.clone(), format!("from [{ip}]:7443"))
            })
            .prop_filter("everybody has those", |(ip, _)| ip != "::" && ip != "::1"),
        ("[a-z]{6,10}@[a-z]{3,8}\\.(com|example)")
            .prop_map(|s| (s.clone(), format!("mail {s}, please"))),
        ("[a-z]{6,10}").prop_map(|s| (s.clone(), format!("unix:uid=1001({s})"))),
        ("[a-z]{6,10}").prop_map(|s| (s.clone(), format!("/home/{s}/x"))),
    ];
    (secret, around)
        .prop_map(|((secret, text), (before, after))| (secret, format!("{before} {text} {after}")))
}

proptest! {
    #[test]
    fn no_planted_secret_survives((secret, text) in planted()) {
        let mut redactor = redactor();
        // Some words are no secret even where one could stand.
        prop_assume!(!COMMON.contains(&secret.as_str()));
        let redacted = redactor.text(&text);
        prop_assert!(!redacted.contains(&secret), "{text:?} became {redacted:?}");
        let line = serde_json::json!({ "message": text, "n": 1 }).to_string();
        let lines = redactor.lines(&format!("{line}\n{line}\n"));
        prop_assert!(!lines.contains(&secret), "{line:?} became {lines:?}");
    }

    #[test]
    fn a_line_of_json_stays_one(text in any::<String>(), name in any::<String>()) {
        let line = serde_json::json!({ name: [text] }).to_string();
        let redacted = redactor().lines(&line);
        prop_assert_eq!(redacted.lines().count(), 1);
        let value: Value = serde_json::from_str(&redacted).unwrap();
        prop_assert_eq!(value.as_object().unwrap().len(), 1);
    }
}
