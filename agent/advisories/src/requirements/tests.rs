use proptest::prelude::*;

use super::Item::{Include, Problem, Setting, Unmanaged as Outside, Unpinned};
use super::{Entry, Included, Item, Move, NotRewritten, Pin, Unmanaged, read, rewrite};

fn one(text: &str) -> Item {
    let mut entries = read(text);
    assert_eq!(entries.len(), 1, "{text}: {entries:?}");
    entries.remove(0).item
}

fn pin(text: &str) -> Pin {
    match one(text) {
        Item::Pin(pin) => pin,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn pins() {
    for (text, name, extras, version, marker) in [
        ("requests==2.31.0", "requests", &[][..], "2.31.0", None),
        ("  Flask_A.b == 1.0rc1  # via x", "Flask_A.b", &[], "1.0rc1", None),
        (
            "a[b, c-d]==1 ; python_version < '3.9' and extra == \"a;b\"",
            "a",
            &["b", "c-d"],
            "1",
            Some("python_version < '3.9' and extra == \"a;b\""),
        ),
        ("a[]==1;os_name=='nt'", "a", &[], "1", Some("os_name=='nt'")),
        ("a (==1.0)", "a", &[], "1.0", None),
        ("a===1.0-odd_one", "a", &[], "1.0-odd_one", None),
        ("torch==2.0.0+cu118", "torch", &[], "2.0.0+cu118", None),
        ("a==1!2.0.post1", "a", &[], "1!2.0.post1", None),
        ("a\\\n==1.0", "a", &[], "1.0", None),
        ("a==1.0 --config-settings \"--a=b c\"", "a", &[], "1.0", None),
        ("\u{feff}a==1.0", "a", &[], "1.0", None),
    ] {
        let pin = pin(text);
        assert_eq!((pin.name.as_str(), pin.version.as_str()), (name, version), "{text}");
        assert_eq!(
            (pin.extras.as_slice(), pin.marker.as_deref()),
            (&extras.iter().map(|extra| (*extra).to_owned()).collect::<Vec<_>>()[..], marker),
            "{text}"
        );
        assert!(pin.hashes.is_empty());
    }
    let hashed =
        pin("a==1 \\\r\n    --hash=sha256:ab \\\r\n    --hash sha512:cd\r\n    # via b\r\n");
    assert_eq!(hashed.hashes, ["sha256:ab", "sha512:cd"]);
}

#[test]
fn all_other_lines() {
    let text = |text: &str| text.to_owned();
    for (line, expected) in [
        ("a", Unpinned { name: text("a"), specifier: text(""), marker: None }),
        (
            "a>=1,<2; os_name == 'x'",
            Unpinned {
                name: text("a"),
                specifier: text(">=1,<2"),
                marker: Some(text("os_name == 'x'")),
            },
        ),
        ("a==1.*", Unpinned { name: text("a"), specifier: text("==1.*"), marker: None }),
        ("a==1,!=2", Unpinned { name: text("a"), specifier: text("==1,!=2"), marker: None }),
        ("a ~= 1.4", Unpinned { name: text("a"), specifier: text("~= 1.4"), marker: None }),
        ("-r other.txt", Include { kind: Included::Requirements, path: text("other.txt") }),
        (
            "--requirement=\"a b.txt\"",
            Include { kind: Included::Requirements, path: text("a b.txt") },
        ),
        ("-rother.txt", Include { kind: Included::Requirements, path: text("other.txt") }),
        ("-c bounds.txt # x", Include { kind: Included::Constraints, path: text("bounds.txt") }),
        (
            "--constraint bounds.txt",
            Include { kind: Included::Constraints, path: text("bounds.txt") },
        ),
        (
            "-r https://u:p@h/r.txt",
            Outside { what: text("https://h/r.txt"), why: Unmanaged::RemoteFile },
        ),
        ("-e ./x", Outside { what: text("./x"), why: Unmanaged::Editable }),
        (
            "-e git+ssh://git@h/x#egg=x",
            Outside { what: text("git+ssh://h/x#egg=x"), why: Unmanaged::Editable },
        ),
        (
            "a @ https://u:p@h/a.whl?k=s",
            Outside { what: text("a @ https://h/a.whl"), why: Unmanaged::Url },
        ),
        (
            "a[b] @ git+https://t@h/a@v1 ; m",
            Outside { what: text("a @ git+https://h/a@v1 ; m"), why: Unmanaged::Repository },
        ),
        (
            "https://u:p@h/a.whl --hash=sha256:ab",
            Outside { what: text("https://h/a.whl"), why: Unmanaged::Url },
        ),
        ("./a", Outside { what: text("./a"), why: Unmanaged::Path }),
        ("file:///a/b.whl", Outside { what: text("file:///a/b.whl"), why: Unmanaged::Path }),
        (
            "a-1.0-py3-none-any.whl",
            Outside { what: text("a-1.0-py3-none-any.whl"), why: Unmanaged::Path },
        ),
        ("C:\\a\\b", Outside { what: text("C:\\a\\b"), why: Unmanaged::Path }),
        ("-i https://u:p@h/simple", Setting { name: text("--index-url") }),
        ("--extra-index-url=https://u:p@h/simple", Setting { name: text("--extra-index-url") }),
        ("--require-hashes", Setting { name: text("--require-hashes") }),
        ("-r", Problem { problem: text("`--requirement` has no value") }),
        (
            "--token=s3cret",
            Problem { problem: text("`--token` is no option of a requirements file") },
        ),
        ("a=1", Problem { problem: text("`a=1` is no requirement") }),
        ("a==", Problem { problem: text("`a==` is no requirement") }),
        ("a==x y", Problem { problem: text("`a==x y` is no requirement") }),
        ("a==1,", Problem { problem: text("`a==1,` is no requirement") }),
        ("a==1;", Problem { problem: text("`a==1;` is no requirement") }),
        ("a[b==1", Problem { problem: text("`a[b==1` is no requirement") }),
        ("a>=1.*", Problem { problem: text("`a>=1.*` is no requirement") }),
        ("a>=1+x", Problem { problem: text("`a>=1+x` is no requirement") }),
        (
            "a==1; os_name == 'x' \\\nb==2",
            Problem { problem: text("`a==1; os_name == 'x' b==2` is no requirement") },
        ),
        ("a~=1", Problem { problem: text("`a~=1` is no requirement") }),
        ("-a-==1", Problem { problem: text("`-a-` is no option of a requirements file") }),
        ("a==1 --hash=md5:ab", Problem { problem: text("`md5:ab` is no hash") }),
        ("a==1 --hash", Problem { problem: text("`--hash` has no value") }),
        (
            "a==1 --token=s3cret",
            Problem { problem: text("`--token` is no option of a requirement") },
        ),
    ] {
        assert_eq!(one(line), expected, "{line}");
    }
    let several = read("--no-index -f https://u:p@h/ --pre");
    assert_eq!(several.len(), 3, "{several:?}");
    assert!(read("# a\n\n   \n \\\n").is_empty());
}

const FILE: &str = "# made by hand\r\n--index-url https://u:p@h/simple\r\n\r\nDjango==3.2.1 ; python_version < '3' \\\r\n    \
    --hash=sha256:aa \\\r\n    --hash=sha256:bb\r\n    # via a\r\nnumpy[x] == 1.24.0  # why\nbroken==\n\
    b==1 --hash=sha256:cc --global-option=\"--x y\" --hash=sha256:dd # end";

#[test]
fn lines_have_their_numbers() {
    let lines: Vec<usize> = read(FILE).iter().map(|entry| entry.line).collect();
    assert_eq!(lines, [2, 4, 8, 9, 10]);
}

#[test]
fn rewrites_a_version_and_nothing_else() {
    let moves = [(10, "1.1"), (4, "3.2.25"), (8, "1.24.4+x")];
    let moves =
        moves.map(|(line, version)| Move { line, version: version.to_owned(), hashes: Vec::new() });
    let expected = "# made by hand\r\n--index-url https://u:p@h/simple\r\n\r\nDjango==3.2.25 ; python_version < '3'\r\n    # via a\r\n\
        numpy[x] == 1.24.4+x  # why\nbroken==\nb==1.1 --global-option=\"--x y\" # end";
    assert_eq!(rewrite(FILE, &moves).as_deref(), Ok(expected));
    assert_eq!(rewrite(FILE, &[]).as_deref(), Ok(FILE));
    let continued = "a==1 --hash=sha256:aa \\\n    # via b\n\\\nc==1\n";
    let moves = [Move { line: 1, version: "2".to_owned(), hashes: Vec::new() }];
    assert_eq!(rewrite(continued, &moves).as_deref(), Ok("a==2 \\\n    # via b\n\\\nc==1\n"));
}

#[test]
fn new_hashes_are_written_as_the_old_ones_were() {
    let text = "a==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via b\nb==1\n";
    let moved = |line, hashes: &[&str]| {
        let hashes = hashes.iter().map(|it| (*it).to_owned()).collect();
        rewrite(text, &[Move { line, version: "2".to_owned(), hashes }]).unwrap()
    };
    let three = "a==2 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd \\\n    --hash=sha256:ee\n    # via b\nb==1\n";
    assert_eq!(moved(1, &["sha256:cc", "sha256:dd", "sha256:ee"]), three);
    let one = "a==2 \\\n    --hash=sha256:cc\n    # via b\nb==1\n";
    assert_eq!(moved(1, &["sha256:cc"]), one);
    // Where there was none, none is wanted.
    assert!(moved(5, &["sha256:cc"]).ends_with("\nb==2\n"));
}

#[test]
fn what_is_not_rewritten() {
    for (moves, expected) in [
        (&[(2, "1")][..], NotRewritten::NoPin(2)),
        (&[(5, "1")], NotRewritten::NoPin(5)),
        (&[(9, "1")], NotRewritten::NoPin(9)),
        (&[(99, "1")], NotRewritten::NoPin(99)),
        (&[(4, "1"), (4, "2")], NotRewritten::Twice(4)),
        (&[(4, "1 --index-url x")], NotRewritten::NoVersion("1 --index-url x".to_owned())),
        (&[(4, " 1")], NotRewritten::NoVersion(" 1".to_owned())),
    ] {
        let moves: Vec<Move> = moves
            .iter()
            .map(|(line, version)| Move {
                line: *line,
                version: (*version).to_owned(),
                hashes: Vec::new(),
            })
            .collect();
        assert_eq!(rewrite(FILE, &moves), Err(expected), "{moves:?}");
    }
    let parted = [Move { line: 1, version: "2".to_owned(), hashes: Vec::new() }];
    assert_eq!(rewrite("a==1.\\\n0", &parted), Err(NotRewritten::Parted(1)));
}

fn block() -> impl Strategy<Value = String> {
    prop_oneof![
        (
            "[a-z]{1,4}",
            "[0-9]\\.[0-9]{1,2}",
            prop_oneof![Just(""), Just(" ; os_name == 'x'"), Just(";extra=='x'")],
            proptest::collection::vec("[0-9a-f]{4}", 0..3),
            prop_oneof![Just(""), Just("  # via é"), Just("N    # via b")]
        )
            .prop_map(|(name, version, marker, hashes, comment)| {
                let hashes: String =
                    hashes.iter().map(|hash| format!(" \\N    --hash=sha256:{hash}")).collect();
                format!("{name}=={version}{marker}{hashes}{comment}")
            }),
        Just(String::new()),
        "# [a-zé=]{0,9}\\\\?",
        "[a-z]{1,3}>=[0-9]",
        Just("-r other.txt".to_owned()),
        "[a-z]{1,3}[=é@ ]{1,3}",
    ]
}

proptest! {
    #[test]
    fn all_other_lines_stay(
        blocks in proptest::collection::vec(block(), 0..8),
        ending in prop_oneof![Just("\n"), Just("\r\n")],
        last in any::<bool>(),
        chosen in any::<u8>(),
    ) {
        // `N` stands for the line ending.
        let blocks: Vec<String> = blocks.iter().map(|block| block.replace('N', ending)).collect();
        let text = blocks.join(ending) + if last { ending } else { "" };
        let before = read(&text);
        let pins: Vec<&Entry> = before.iter().filter(|entry| matches!(entry.item, Item::Pin(_))).collect();
        let moved: Vec<&Entry> = pins.into_iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, pin)| pin).collect();
        let moves: Vec<Move> = moved.iter().map(|pin| Move { line: pin.line, version: "77.7".to_owned(), hashes: Vec::new() }).collect();
        let written = rewrite(&text, &moves).unwrap();

        // What is expected, by lines: a moved pin is one line, without its hashes.
        let mut expected = String::new();
        let mut number = 1;
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        while let Some(line) = lines.get(number - 1) {
            let entry = moved.iter().find(|pin| pin.line == number);
            let Some(Entry { item: Item::Pin(pin), .. }) = entry else {
                expected.push_str(line);
                number += 1;
                continue;
            };
            let first = line.replacen(&format!("=={}", pin.version), "==77.7", 1);
            if pin.hashes.is_empty() {
                expected.push_str(&first);
            } else {
                expected.push_str(first.trim_end().strip_suffix(" \\").unwrap());
                let end = lines[number - 1 + pin.hashes.len()];
                expected.push_str(end.trim_start().split_once(pin.hashes.last().unwrap()).unwrap().1);
            }
            number += 1 + pin.hashes.len();
        }
        prop_assert_eq!(&written, &expected);
        prop_assert_eq!(read(&written).len(), before.len());
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,60}|([a-z=<>;@\\[\\]()!,.#\\\\ \n\r'\"é:/-]|==1|--hash|sha256:a){0,40}", line in 0..5_usize) {
        for entry in read(&text) {
            let moved = rewrite(&text, &[Move { line: entry.line, version: "9".to_owned(), hashes: Vec::new() }]);
            prop_assert!(moved.is_ok() || !matches!(entry.item, Item::Pin(_)) || moved == Err(NotRewritten::Parted(entry.line)));
        }
        let _ = rewrite(&text, &[Move { line, version: text.clone(), hashes: Vec::new() }]);
    }
}
