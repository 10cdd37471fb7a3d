//! Manifests come back as they were, and hostile ones are refused.

use serde_json::{Value, json};

use super::*;

fn example() -> Manifest {
    let text: String =
        (0..60).map(|at| format!("2024-01-31T12:00:{at:02}Z order {at}\n")).collect();
    sealed(text.as_bytes(), &request(700)).1
}

#[test]
fn it_is_written_for_diffs() {
    let manifest = example();
    let bytes = manifest.to_bytes();
    assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
    let text = String::from_utf8(bytes.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(text.ends_with("}\n") && !text.ends_with("\n\n"));
    let members = lines.iter().filter(|line| line.starts_with("    {\"offset\": ")).count();
    assert_eq!(members, manifest.members.len());
    assert!(lines.contains(&r#"  "first_at": "2024-01-31T12:00:00.000000000Z","#), "{text}");
    assert!(lines.contains(&r#"  "sequence": 7,"#), "{text}");
    assert_eq!(Manifest::sha256_of(&bytes), Digest::sha256(&bytes));
    assert_eq!(
        Manifest::sha256_of(b"").to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

/// Replaces what a JSON pointer leads to, and reads the manifest again.
fn with(pointer: &str, value: Value) -> Result<Manifest, ManifestError> {
    let mut document: Value = serde_json::from_slice(&example().to_bytes()).unwrap();
    *document.pointer_mut(pointer).unwrap() = value;
    Manifest::from_bytes(document.to_string().as_bytes())
}

#[test]
fn what_contradicts_itself_is_refused() {
    assert!(with("/sequence", json!(8)).is_ok());
    let hash = "0".repeat(64);
    let cases = [
        ("/format_version", json!(2)),
        ("/format_version", json!(-1)),
        ("/host_id", json!("")),
        ("/host_id", json!("x".repeat(256))),
        ("/log_type", json!("../../etc")),
        ("/log_type", json!("a/b")),
        ("/log_type", json!("a\0b")),
        ("/hostname", json!(".")),
        ("/source_path", json!("x".repeat(5000))),
        ("/chain_index", json!(0)),
        ("/previous", json!(null)),
        ("/previous", json!("abc")),
        ("/initial_at", json!("2024-01-31T12:00:01.000000000Z")),
        ("/initial_at", json!(null)),
        ("/first_at", json!("2024-01-31T12:00:01.000000000Z")),
        ("/first_at", json!("2024-01-31")),
        ("/first_at", json!(null)),
        ("/last_at", json!("9999-01-31T12:00:01.000000000Z")),
        ("/ended_at", json!("2024-01-31T13:00:00.000000000Z")),
        ("/sealed_at", json!("2024-02-30T12:00:00.000000000Z")),
        ("/lines", json!(61)),
        ("/plain_bytes", json!(u64::MAX)),
        ("/plain_bytes", json!(0)),
        ("/compressed_bytes", json!(1)),
        ("/compressed_bytes", json!(1e300)),
        ("/sha256", json!(&hash[1..])),
        ("/sha256", json!(format!("{hash}0"))),
        ("/sha256", json!("A".repeat(64))),
        ("/sha256", json!("g".repeat(64))),
        ("/blake3", json!("\u{e9}".repeat(32))),
        ("/members", json!([])),
        ("/members", json!({})),
        ("/members/0/offset", json!(1)),
        ("/members/1/offset", json!(u64::MAX)),
        ("/members/1/plain_offset", json!(0)),
        ("/members/1/plain_bytes", json!(0)),
        ("/members/1/plain_bytes", json!(u64::MAX)),
        ("/members/2/plain_bytes", json!(MEMBER_BYTES + 1)),
        ("/members/1/compressed_bytes", json!(u64::MAX)),
        ("/members/1/compressed_bytes", json!(0)),
        ("/members/1/compressed_bytes", json!(-1)),
        ("/members/1/lines", json!(u64::MAX)),
        ("/members/1/lines", json!(0)),
        ("/members/1/first_at", json!("2025-01-31T12:00:01.000000000Z")),
        ("/members/1/starts_mid_line", json!(true)),
        ("/members/1/starts_mid_line", json!("no")),
        ("/members/1/blake3", json!("00")),
        ("/members/1", json!(null)),
    ];
    for (pointer, value) in cases {
        let shown = value.to_string();
        assert!(with(pointer, value).is_err(), "{pointer} = {shown} passed");
    }
}

#[test]
fn errors_name_the_field_and_the_member() {
    let error = with("/members/1/offset", json!(5)).unwrap_err();
    assert!(matches!(error, ManifestError::Member { index: 1, field: "offset", .. }), "{error}");
    let error = with("/lines", json!(5)).unwrap_err();
    assert!(matches!(error, ManifestError::Field { field: "lines", .. }), "{error}");
    // A later format is told apart from damage even where its shape is another.
    let later = br#"{"format_version": 2, "pieces": {}}"#;
    assert!(matches!(Manifest::from_bytes(later).unwrap_err(), ManifestError::Version(2)));
}

#[test]
fn what_is_no_manifest_is_refused() {
    let whole = example().to_bytes();
    let mut unknown: Value = serde_json::from_slice(&whole).unwrap();
    unknown["comment"] = json!("more");
    let doubled =
        String::from_utf8(whole.clone()).unwrap().replacen("{", "{\"format_version\": 1,", 1);
    let cases = [
        Vec::new(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        [whole.as_slice(), b"{}"].concat(),
        unknown.to_string().into_bytes(),
        doubled.into_bytes(),
        vec![b'['; 1 << 20],
        b"\xff\xfe".to_vec(),
    ];
    for case in cases {
        let start = String::from_utf8_lossy(&case[..case.len().min(40)]).into_owned();
        assert!(matches!(Manifest::from_bytes(&case), Err(ManifestError::Json(_))), "{start}");
    }
    let large = vec![b' '; MAX_MANIFEST_BYTES + 1];
    assert!(matches!(Manifest::from_bytes(&large), Err(ManifestError::TooLarge(_))));
}

proptest! {
    #[test]
    fn no_edit_of_a_byte_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = example().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(manifest) = Manifest::from_bytes(&bytes) {
            // What is accepted is a manifest to every other function too.
            let range = DateRange { from: i64::MIN, until: i64::MAX };
            prop_assert!(members_for(&manifest, range).len() <= manifest.members.len());
            prop_assert!(read_back(&mut [].as_slice(), &manifest).is_err());
        }
    }
}
