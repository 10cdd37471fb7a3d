//! Archives are plain gzip for everybody, and bytes stay as they were.

use genesis_tests::binaries::tool;
use genesis_tests::{TestAgent, Writer, lines, source};

#[test]
fn gzip_and_python_read_every_archive_and_zcat_gives_the_writers_lines() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "256KiB"));
    let writer = Writer::start(&agent.log("t.log"), 30_000);
    writer.wait_for_more(60_000);
    let count = writer.stop();
    agent.rotate("trading");
    let segments = agent.wait_verified("trading", 3);
    let paths: Vec<String> = segments
        .iter()
        .map(|segment| segment.file(&agent.archive()).display().to_string())
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    tool("gzip", &[&["-t"], &paths[..]].concat());
    lines::assert_exactly(&tool("zcat", &paths), 0..count);
    let script = "import gzip, sys\nfor path in sys.argv[1:]:\n    \
                  sys.stdout.buffer.write(gzip.open(path).read())";
    let python = tool("python3", &[&["-c", script], &paths[..]].concat());
    lines::assert_exactly(&python, 0..count);
    // The manifest beside each is JSON with what it says on the tin.
    for segment in &segments {
        let bytes = std::fs::read(segment.manifest(&agent.archive())).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(manifest["lines"], segment.lines, "{manifest}");
        let sum = tool("sha256sum", &[&segment.file(&agent.archive()).display().to_string()]);
        let sum = String::from_utf8(sum).unwrap();
        assert!(sum.starts_with(manifest["sha256"].as_str().unwrap()), "{sum}");
    }
}

#[test]
fn bytes_stay_as_they_were() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    let mut odd = b"no time at all\n".to_vec();
    odd.extend_from_slice(b"2024-03-01T00:00:00Z nul \0 and bad utf-8 \xff\xfe and \x1b[31m\n");
    odd.extend_from_slice(b"\r\n\n\n   \t\n");
    odd.extend_from_slice(b"2024-03-01T00:00:01Z a line longer than a member ");
    odd.extend(std::iter::repeat_n(b'x', 3 << 20));
    odd.extend_from_slice(b"\n2024-03-01T00:00:02Z no end of line");
    std::fs::write(agent.log("t.log"), &odd).unwrap();
    agent.rotate("trading");
    let output = agent.retrieve("trading", lines::DAY).ok();
    assert!(output.stdout == odd, "{} bytes instead of {}", output.stdout.len(), odd.len());

    // A line that was cut off before its end goes on where it was, and nothing is put in between.
    std::fs::write(agent.log("t.log"), b"2024-03-01T00:00:03Z next\n").unwrap();
    agent.rotate("trading");
    let output = agent.retrieve("trading", lines::DAY).ok();
    let expected = [&odd[..], b"2024-03-01T00:00:03Z next\n"].concat();
    assert!(output.stdout == expected, "{:?}", &output.stdout[odd.len() - 40..]);
}

#[test]
fn times_are_read_where_the_source_says() {
    let agent = TestAgent::started(|log| {
        let of = |name: &str, timestamp: &str| {
            format!("{}timestamp = {timestamp}\n", source(name, &log.join(name), "1GB"))
        };
        of("json", "{ json = \"ts\" }") + &of("regex", r"{ regex = '^\w+ \[([^]]+)\]' }")
    });
    let json = [
        r#"{"msg":"one","ts":"2024-03-01T00:00:00.000Z"}"#,
        r#"{"ts":"2024-03-01T12:00:00.000Z","msg":"two"}"#,
    ];
    let regex = ["INFO [2024-03-01T00:00:00.000Z] one", "INFO [2024-03-01T12:00:00.000Z] two"];
    for (name, lines) in [("json", json), ("regex", regex)] {
        std::fs::write(agent.log(name), format!("{}\n{}\n", lines[0], lines[1])).unwrap();
        agent.rotate(name);
        let range = "2024-03-01T11:00:00Z..2024-03-01T13:00:00Z";
        assert_eq!(agent.retrieve(name, range).ok().text(), format!("{}\n", lines[1]), "{name}");
    }
}
