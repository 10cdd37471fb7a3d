//! Nothing that differs from the manifest passes for whole.

use super::*;

fn small() -> (Vec<u8>, Manifest) {
    let text: String =
        (0..60).map(|at| format!("2024-01-31T12:00:{at:02}Z order {at}\n")).collect();
    let (file, manifest) = sealed(text.as_bytes(), &request(700));
    assert_eq!(manifest.members.len(), 3);
    (file, manifest)
}

fn named_member(damage: &Damage) -> u64 {
    match damage {
        Damage::Member { offset, .. } => *offset,
        other => panic!("no member is named by {other}"),
    }
}

#[test]
fn every_flipped_byte_is_found_and_its_member_named() {
    let (mut file, manifest) = small();
    for at in 0..file.len() {
        let member = manifest
            .members
            .iter()
            .find(|member| (at as u64) < member.offset + member.compressed_bytes)
            .unwrap();
        for flip in [0x01, 0x80, 0xff] {
            file[at] ^= flip;
            let damage = read_back(&mut file.as_slice(), &manifest).unwrap_err();
            assert_eq!(named_member(&damage), member.offset, "byte {at}");
            let damage = inflate_member(slice_of(&file, member), member).unwrap_err();
            assert_eq!(named_member(&damage), member.offset, "byte {at}");
            file[at] ^= flip;
        }
    }
    read_back(&mut file.as_slice(), &manifest).unwrap();
}

#[test]
fn a_cut_or_longer_file_is_found() {
    let (mut file, manifest) = small();
    for length in 0..file.len() {
        let damage = read_back(&mut &file[..length], &manifest).unwrap_err();
        assert!(
            matches!(damage, Damage::Member { fault: MemberFault::Length { .. }, .. }),
            "{damage}"
        );
    }
    let whole = file.len() as u64;
    file.push(0);
    let damage = read_back(&mut file.as_slice(), &manifest).unwrap_err();
    assert!(matches!(damage, Damage::Trailing { offset } if offset == whole), "{damage}");
}

#[test]
fn a_reader_that_fails_is_not_damage_of_a_member() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no"))
        }
    }
    let (_, manifest) = small();
    let damage = read_back(&mut Failing, &manifest).unwrap_err();
    assert!(matches!(damage, Damage::Read { offset: 0, .. }), "{damage}");
}

/// A compressor that is wrong in some way, which reading back has to notice: the hashes of the
/// compressed bytes are then right.
struct Wrong(fn(Vec<u8>) -> Vec<u8>);

impl Codec for Wrong {
    fn compress_member(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
        LibdeflateCodec::standard()?.compress_member(plain, out)?;
        *out = self.0(std::mem::take(out));
        Ok(())
    }
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    LibdeflateCodec::standard().unwrap().compress_member(plain, &mut out).unwrap();
    out
}

#[test]
fn a_wrong_compressor_is_caught_by_reading_back() {
    type Case = (&'static str, fn(Vec<u8>) -> Vec<u8>, fn(&MemberFault) -> bool);
    let cases: [Case; 6] = [
        (
            "another text",
            |_| compressed(b"other\n"),
            |fault| matches!(fault, MemberFault::PlainLength { .. }),
        ),
        (
            "a longer text",
            |_| compressed(&[b'a'; 100]),
            |fault| matches!(fault, MemberFault::PlainLength { .. } | MemberFault::Gzip),
        ),
        (
            "two members in one",
            |out| [out, compressed(b"")].concat(),
            |fault| matches!(fault, MemberFault::Gzip),
        ),
        (
            "no checksum",
            |out| out[..out.len() - 8].to_vec(),
            |fault| matches!(fault, MemberFault::Gzip),
        ),
        (
            "a wrong checksum",
            |mut out| {
                let at = out.len() - 8;
                out[at] ^= 1;
                out
            },
            |fault| matches!(fault, MemberFault::Gzip),
        ),
        (
            "no gzip",
            |out| out.iter().map(|byte| !byte).collect(),
            |fault| matches!(fault, MemberFault::Gzip),
        ),
    ];
    for (what, wrong, expected) in cases {
        let mut file = Vec::new();
        let mut source = b"some line\n".as_slice();
        let manifest = seal(&mut source, &mut file, &request(64), &mut Wrong(wrong)).unwrap();
        match read_back(&mut file.as_slice(), &manifest) {
            Err(Damage::Member { offset: 0, fault }) if expected(&fault) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    // The same length, and a valid gzip: only the hash of the plain bytes tells.
    let mut file = Vec::new();
    let mut wrong = Wrong(|_| compressed(b"same size\n"));
    let manifest =
        seal(&mut b"some line\n".as_slice(), &mut file, &request(64), &mut wrong).unwrap();
    let damage = read_back(&mut file.as_slice(), &manifest).unwrap_err();
    assert!(matches!(damage, Damage::Whole { what: "blake3", .. }), "{damage}");
}

#[test]
fn a_manifest_that_tells_another_story_is_found() {
    let (file, manifest) = small();
    type Edit = (&'static str, fn(&mut Manifest));
    let edits: [Edit; 8] = [
        ("sha256", |manifest| manifest.sha256.0[0] ^= 1),
        ("blake3", |manifest| manifest.blake3.0[31] ^= 1),
        ("ends_with_newline", |manifest| manifest.ends_with_newline ^= true),
        ("lines", |manifest| manifest.lines += 1),
        ("member lines", |manifest| {
            manifest.members[1].lines += 1;
            manifest.lines += 1;
        }),
        ("member start", |manifest| {
            manifest.members[1].starts_mid_line = true;
            manifest.members[1].lines -= 1;
            manifest.lines -= 1;
        }),
        ("member size", |manifest| manifest.members[2].plain_bytes = u64::MAX),
        ("member length", |manifest| manifest.members[0].compressed_bytes = u64::MAX),
    ];
    for (what, edit) in edits {
        let mut edited = manifest.clone();
        edit(&mut edited);
        assert!(read_back(&mut file.as_slice(), &edited).is_err(), "{what}");
    }
    let mut swapped = manifest;
    swapped.members.swap(0, 1);
    assert!(read_back(&mut file.as_slice(), &swapped).is_err());
}
