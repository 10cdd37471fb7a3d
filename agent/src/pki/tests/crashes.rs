//! What a crash leaves, and what the next command makes of it.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::pki::folder::interrupt;

/// Lets `action` write so many files, then cuts it off. Whether it was cut off.
fn cut_off<T>(writes: usize, action: impl FnOnce() -> Result<T>) -> bool {
    interrupt::after(Some(writes));
    let outcome = action();
    interrupt::after(None);
    outcome.is_err()
}

/// What crl.pem revokes, with its number. It must be there and whole.
fn list(pki: &Pki) -> (u64, BTreeSet<Serial>) {
    let crl = pki.overview(now()).unwrap().crl.expect("crl.pem is there and whole");
    (crl.number, crl.revoked)
}

fn revoked(pki: &Pki) -> BTreeSet<Serial> {
    let entries = pki.list().unwrap();
    entries.iter().filter(|entry| entry.revoked.is_some()).map(|entry| entry.serial).collect()
}

#[test]
fn an_init_that_was_cut_off_anywhere_is_begun_again() {
    let mut cuts = 0;
    loop {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("pki");
        if !cut_off(cuts, || Pki::init(&dir, &init_request("prod"), now())) {
            break;
        }
        let wanted = if cuts == 0 { "PKI_MISSING" } else { "PKI_INCOMPLETE" };
        assert_eq!(code(Pki::open(&dir)), wanted, "after {cuts} writes");
        let pki = Pki::init(&dir, &init_request("prod"), now()).unwrap();
        let olga = pki.issue(&client("olga", Role::Viewer), now()).unwrap();
        as_client(&dir, &olga.certificate_pem, now()).unwrap();
        cuts += 1;
    }
    assert_eq!(cuts, 5, "register, key, certificate, list, register");
}

#[test]
fn a_certificate_is_on_record_before_anybody_has_it() {
    let (_home, pki) = pki();
    let mut cuts = 0;
    while cut_off(cuts, || pki.issue(&client("olga", Role::Viewer), now())) {
        cuts += 1;
    }
    assert_eq!(cuts, 1, "the register is the one write before the certificate is handed out");
    assert_eq!(pki.list().unwrap().len(), 1);
}

#[test]
fn a_revocation_that_was_cut_off_is_either_not_on_record_or_carried_out() {
    for next in 0..4 {
        let (_home, pki) = pki();
        let olga = pki.issue(&client("olga", Role::Viewer), now()).unwrap();
        let revoke = || pki.revoke("olga", Reason::KeyCompromise, 7, now());
        assert!(cut_off(0, revoke));
        assert_eq!((revoked(&pki).len(), list(&pki)), (0, (1, BTreeSet::new())));

        assert!(cut_off(1, revoke));
        let serial = BTreeSet::from([olga.entry.serial]);
        assert_eq!(revoked(&pki), serial, "on record");
        assert_eq!(list(&pki), (1, BTreeSet::new()), "the list lags");
        as_client(pki.dir(), &olga.certificate_pem, now()).unwrap();

        // Any command signs it.
        match next {
            0 => assert_eq!(pki.catch_up(now()).unwrap(), Some(2)),
            1 => drop(pki.issue(&client("paul", Role::Viewer), now()).unwrap()),
            2 => assert!(revoke().unwrap().revoked.is_empty()),
            _ => assert_eq!(pki.sign_crl(CRL_DAYS, now()).unwrap(), 3),
        }
        assert_eq!(list(&pki).1, serial, "command {next}");
        let result = as_client(pki.dir(), &olga.certificate_pem, now());
        assert_eq!(refused(result), CertificateError::Revoked, "command {next}");
        if next != 3 {
            let due = pki.overview(now()).unwrap().crl.unwrap().next_update;
            assert_eq!(due, at("2024-03-08T12:00:00Z"), "as the revocation asked for");
        }
        assert_eq!(pki.catch_up(now()).unwrap(), None);
    }
}

#[test]
fn a_list_that_is_gone_or_junk_is_signed_under_a_new_number() {
    let (_elsewhere, other) = pki();
    let foreign = bytes(&other, CRL);
    for junk in [None, Some(&b"junk"[..]), Some(&foreign)] {
        let (_home, pki) = pki();
        pki.issue(&client("olga", Role::Viewer), now()).unwrap();
        pki.revoke("olga", Reason::Unspecified, CRL_DAYS, now()).unwrap();
        let path = pki.dir().join(CRL);
        match junk {
            Some(junk) => fs::write(&path, junk).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        // Cut off in between, the number is used up, and never given twice.
        assert!(cut_off(1, || pki.catch_up(now())));
        assert_eq!(pki.catch_up(now()).unwrap(), Some(4));
        assert_eq!(list(&pki), (4, revoked(&pki)));
    }
}

#[test]
fn a_file_that_was_being_written_is_swept_up() {
    let (_home, pki) = pki();
    let left = pki.dir().join(".pki-Xy12Z");
    fs::write(&left, "half a key").unwrap();
    pki.list().unwrap();
    assert!(left.exists(), "looking changes nothing");
    pki.issue(&client("olga", Role::Viewer), now()).unwrap();
    assert!(!left.exists());

    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".pki-Xy12Z"), "half a register").unwrap();
    let pki = Pki::init(home.path(), &init_request("prod"), now()).unwrap();
    assert!(!pki.dir().join(".pki-Xy12Z").exists());
}

/// One command of an operator, which may be cut off after so many writes.
#[derive(Debug, Clone)]
enum Step {
    Issue { name: u8, writes: Option<usize> },
    Revoke { name: u8, writes: Option<usize> },
    RevokeOne { index: usize, writes: Option<usize> },
    SignCrl { writes: Option<usize> },
    LoseCrl,
}

fn step() -> impl Strategy<Value = Step> {
    let writes = || prop_oneof![3 => Just(None), 1 => (0..3_usize).prop_map(Some)];
    prop_oneof![
        4 => (0..3_u8, writes()).prop_map(|(name, writes)| Step::Issue { name, writes }),
        2 => (0..3_u8, writes()).prop_map(|(name, writes)| Step::Revoke { name, writes }),
        2 => (0..20_usize, writes()).prop_map(|(index, writes)| Step::RevokeOne { index, writes }),
        1 => writes().prop_map(|writes| Step::SignCrl { writes }),
        1 => Just(Step::LoseCrl),
    ]
}

/// What a command says that it did: the certificates it issued, and those that are revoked.
#[derive(Default)]
struct Said {
    issued: Vec<Serial>,
    revoked: Vec<Serial>,
}

/// Carries out a step, cut off where it says; `None` when there is nothing to do it to.
fn carry_out(pki: &Pki, step: &Step) -> Option<(Option<usize>, Result<Said>)> {
    let revoke = |target: &str| {
        let done = pki.revoke(target, Reason::Unspecified, CRL_DAYS, now())?;
        let all = done.revoked.iter().chain(&done.already);
        Ok(Said { revoked: all.map(|entry| entry.serial).collect(), ..Said::default() })
    };
    let entries = pki.list().unwrap();
    let (Step::Issue { writes, .. }
    | Step::Revoke { writes, .. }
    | Step::RevokeOne { writes, .. }
    | Step::SignCrl { writes }) = step
    else {
        fs::remove_file(pki.dir().join(CRL)).ok();
        return None;
    };
    interrupt::after(*writes);
    let outcome = match step {
        Step::Issue { name, .. } => pki
            .issue(&client(&format!("n{name}"), Role::Viewer), now())
            .map(|issued| Said { issued: vec![issued.entry.serial], ..Said::default() }),
        Step::Revoke { name, .. } => revoke(&format!("n{name}")),
        Step::RevokeOne { index, .. } => match entries.get(*index) {
            Some(entry) => revoke(&entry.serial.to_string()),
            None => Ok(Said::default()),
        },
        Step::SignCrl { .. } | Step::LoseCrl => {
            pki.sign_crl(CRL_DAYS, now()).map(|_| Said::default())
        }
    };
    interrupt::after(None);
    Some((*writes, outcome))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is done and wherever it is cut off: a list that is there never says more than the register, and
    /// the next change makes them agree; a revocation that was acknowledged stays; no certificate that was
    /// handed out is missing from the register; the list's number never goes back.
    #[test]
    fn list_and_register_agree(steps in prop::collection::vec(step(), 1..20)) {
        let (_home, pki) = pki();
        let (mut handed_out, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
        let mut number = 1;
        for step in steps {
            let Some((writes, outcome)) = carry_out(&pki, &step) else { continue };
            let failed = outcome.as_ref().err().map(|error| error.code);
            if let Ok(said) = outcome {
                handed_out.extend(said.issued);
                acknowledged.extend(said.revoked);
            }
            let known: BTreeSet<Serial> =
                pki.list().unwrap().iter().map(|entry| entry.serial).collect();
            prop_assert!(handed_out.is_subset(&known));
            prop_assert!(acknowledged.is_subset(&revoked(&pki)));
            if let Some(crl) = pki.overview(now()).unwrap().crl {
                prop_assert!(crl.number >= number, "{} after {}", crl.number, number);
                number = crl.number;
                prop_assert!(crl.revoked.is_subset(&revoked(&pki)));
                prop_assert!(acknowledged.is_subset(&crl.revoked));
            }
            match failed {
                None | Some("PKI_NOT_FOUND") => {}
                Some(code) => prop_assert!(
                    writes.is_some() && code == "PKI_FILE_FAILED",
                    "only what was cut off fails, not with {}", code
                ),
            }
        }
        pki.catch_up(now()).unwrap();
        prop_assert_eq!(list(&pki).1, revoked(&pki));
        prop_assert!(list(&pki).0 >= number);
    }
}
