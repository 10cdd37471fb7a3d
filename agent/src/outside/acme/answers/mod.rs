//! What shows a CA that a name is this host's, and that it is taken away again, whatever becomes of the order.

mod dns;
pub(super) mod dns_hook;
mod http;
mod listeners;
mod tls_alpn;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use instant_acme::ChallengeType;
use rustls::sign::CertifiedKey;
use tokio::task::JoinHandle;

use self::listeners::{Listeners, Seen};
use super::client::Files;
use super::trouble::local;
use super::{Answer, Trouble};
use crate::outside::Clock;
use crate::outside::hooks::Hook;

/// Taking one answer away takes no longer, whatever time a hook has.
const REMOVAL: Duration = Duration::from_secs(120);
/// All of an order are waited for no longer; those that take longer are taken away in the background.
const REMOVALS: Duration = Duration::from_secs(60);
/// A token is no longer than this.
const TOKEN: usize = 256;

/// What a CA wants to see.
pub(super) struct Proof {
    /// The name or address, without "*.".
    pub(super) identifier: String,
    /// As it was ordered.
    pub(super) shown: String,
    /// By which it asks.
    pub(super) token: String,
    /// What it is answered with over HTTP.
    pub(super) authorization: String,
    /// Its hash, in certificates.
    pub(super) digest: [u8; 32],
    /// Its hash in base64url, in DNS.
    pub(super) value: String,
}

/// How many orders need a value in one place. Locked while it is set or removed.
type Need = Arc<tokio::sync::Mutex<usize>>;

/// The answers of all orders.
pub(super) struct Answers {
    http: Listeners<Bytes>,
    tls: Listeners<Arc<CertifiedKey>>,
    /// By place and value: two orders may have the same authorization, and so the same answer.
    needs: Mutex<HashMap<String, Need>>,
    clock: Arc<dyn Clock>,
}

/// How an answer is taken away that somebody else keeps.
#[derive(Clone)]
enum Removal {
    File(PathBuf),
    Dns(Box<dns::Set>),
    Hook { hook: Hook, domain: String, value: String },
}

/// An answer that is there.
enum Shown {
    Http(Seen<Bytes>),
    Tls(Seen<Arc<CertifiedKey>>),
    Kept { need: Need, removal: Removal },
}

/// The answers of one order. They are taken away when this is dropped, in the background.
#[derive(Default)]
pub(super) struct Presented {
    shown: Vec<Shown>,
}

/// The challenge that an answer is for.
pub(super) fn challenge_of(answer: &Answer) -> ChallengeType {
    match answer {
        Answer::HttpListener(_) | Answer::HttpWebroot(_) => ChallengeType::Http01,
        Answer::TlsAlpn(_) => ChallengeType::TlsAlpn01,
        Answer::DnsUpdate(_) | Answer::DnsHook { .. } => ChallengeType::Dns01,
    }
}

/// Whether a token may become part of a path: base64url (RFC 8555, section 8.3).
pub(super) fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= TOKEN && text.bytes().all(plain)
}

impl Answers {
    /// None is there.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            http: Listeners::new(http::serve),
            tls: Listeners::new(tls_alpn::serve),
            needs: Mutex::default(),
            clock,
        }
    }

    /// Puts the answers to all `proofs` in place, and waits until they are to be seen.
    ///
    /// # Errors
    /// When one can't be; it names its identifier.
    pub(super) async fn present(
        &self,
        answer: &Answer,
        proofs: &[Proof],
        files: &Files,
        presented: &mut Presented,
    ) -> Result<(), Trouble> {
        let failed = |proof: &Proof, why: String| Trouble {
            identifiers: vec![proof.shown.clone()],
            ..local(format!("the answer for {}: {why}", proof.shown))
        };
        for proof in proofs {
            let put = self.put(answer, proof, files, presented).await;
            put.map_err(|why| failed(proof, why))?;
        }
        // All at the same time: what takes long here is that others take notice.
        let seen = join_all(proofs.iter().map(|proof| seen(answer, proof, presented))).await;
        for (proof, seen) in proofs.iter().zip(seen) {
            seen.map_err(|why| failed(proof, why))?;
        }
        Ok(())
    }

    async fn put(
        &self,
        answer: &Answer,
        proof: &Proof,
        files: &Files,
        presented: &mut Presented,
    ) -> Result<(), String> {
        match answer {
            Answer::HttpListener(address) => {
                let text = Bytes::from(proof.authorization.clone());
                let shown = self.http.show(*address, proof.token.clone(), text).await;
                let until = shown.map_err(|error| format!("can't listen at {address}: {error}"))?;
                presented.shown.push(Shown::Http(until));
                Ok(())
            }
            Answer::TlsAlpn(address) => {
                let certificate = tls_alpn::certificate(&proof.identifier, &proof.digest)?;
                let name = tls_alpn::asked_as(&proof.identifier);
                let shown = self.tls.show(*address, name, certificate).await;
                let until = shown.map_err(|error| format!("can't listen at {address}: {error}"))?;
                presented.shown.push(Shown::Tls(until));
                Ok(())
            }
            Answer::HttpWebroot(root) => {
                let path = http::file_of(root, &proof.token);
                let (file, text) = (path.clone(), proof.authorization.clone());
                let place = format!("file {}", path.display());
                let put = async move {
                    let shown = file.display().to_string();
                    let put = tokio::task::spawn_blocking(move || http::put(&file, &text)).await;
                    let put = put.map_err(|_| format!("can't write {shown}"))?;
                    put.map_err(|error| format!("can't write {shown}: {error}"))
                };
                self.keep(place, Removal::File(path), presented, put).await
            }
            Answer::DnsUpdate(update) => {
                let clock = Arc::clone(&self.clock);
                let (domain, value) = (&proof.identifier, &proof.value);
                let set = Box::new(dns::prepared(update, domain, value, files, clock).await?);
                let place = format!("dns {} {}", update.server, set.place());
                let removal = Removal::Dns(set.clone());
                self.keep(place, removal, presented, set.present()).await
            }
            Answer::DnsHook { hook, .. } => {
                let (domain, value) = (proof.identifier.clone(), proof.value.clone());
                let place = format!("hook {:?} {domain} {value}", hook.command);
                let present = dns_hook::run(hook, "present", &domain, &value);
                let removal = Removal::Hook {
                    hook: hook.clone(),
                    domain: domain.clone(),
                    value: value.clone(),
                };
                self.keep(place, removal, presented, present).await
            }
        }
    }

    /// Sets what has to be removed again. That it has to be is known before it is set, so that no end comes between.
    async fn keep(
        &self,
        place: String,
        removal: Removal,
        presented: &mut Presented,
        set: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        let need = self.need(place);
        let mut orders = need.lock().await;
        *orders += 1;
        presented.shown.push(Shown::Kept { need: Arc::clone(&need), removal });
        // Where another order needs it, it is there.
        if *orders > 1 { Ok(()) } else { set.await }
    }

    fn need(&self, place: String) -> Need {
        let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        needs.retain(|_, need| Arc::strong_count(need) > 1);
        Arc::clone(needs.entry(place).or_default())
    }
}

async fn seen(answer: &Answer, proof: &Proof, presented: &Presented) -> Result<(), String> {
    match answer {
        Answer::DnsUpdate(_) => {
            let sets = presented.shown.iter().filter_map(|shown| match shown {
                Shown::Kept { removal: Removal::Dns(set), .. } => Some(set),
                _ => None,
            });
            for set in sets.filter(|set| set.is_for(&proof.value)) {
                set.seen().await?;
            }
            Ok(())
        }
        Answer::DnsHook { wait, resolvers, .. } => {
            dns_hook::seen(&proof.identifier, &proof.value, *wait, resolvers).await
        }
        // Seen as soon as they are there.
        Answer::HttpListener(_) | Answer::HttpWebroot(_) | Answer::TlsAlpn(_) => Ok(()),
    }
}

impl Presented {
    /// Takes the answers away, and waits until they are, for at most a minute.
    pub(super) async fn remove(mut self) {
        let removing = self.begin();
        for listener in std::mem::take(&mut self.shown) {
            match listener {
                Shown::Http(seen) => seen.close().await,
                Shown::Tls(seen) => seen.close().await,
                Shown::Kept { .. } => {}
            }
        }
        if let Some(removing) = removing {
            // What it could not remove, it has told; and it goes on when nobody waits.
            let _ = tokio::time::timeout(REMOVALS, removing).await;
        }
    }

    /// Begins to take away what somebody else keeps; that goes on when nobody waits for it.
    fn begin(&mut self) -> Option<JoinHandle<()>> {
        let mut kept = Vec::new();
        for shown in std::mem::take(&mut self.shown) {
            match shown {
                Shown::Kept { need, removal } => kept.push((need, removal)),
                listener => self.shown.push(listener),
            }
        }
        if kept.is_empty() {
            return None;
        }
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            for (need, removal) in kept {
                let mut orders = need.lock().await;
                *orders = orders.saturating_sub(1);
                if *orders == 0 {
                    let removed = tokio::time::timeout(REMOVAL, removal.run()).await;
                    if let Err(why) = removed.unwrap_or_else(|_| Err("it takes too long".into())) {
                        tracing::warn!("an answer for a certificate is left behind: {why}");
                    }
                }
            }
        }))
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        // Nobody waits: the task goes on by itself.
        drop(self.begin());
    }
}

impl Removal {
    async fn run(self) -> Result<(), String> {
        match self {
            Self::File(path) => {
                let removed = tokio::fs::remove_file(&path).await;
                match removed {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(format!("can't remove {}: {error}", path.display()))
                    }
                    _ => Ok(()),
                }
            }
            Self::Dns(set) => set.remove().await,
            Self::Hook { hook, domain, value } => {
                dns_hook::run(&hook, "cleanup", &domain, &value).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::SystemClock;

    #[test]
    fn a_token_never_leads_out_of_its_folder() {
        for text in ["IlirfxKKXAsHtmzK29Pj8A", "a", "-_", &"x".repeat(TOKEN)] {
            assert!(is_token(text), "{text}");
        }
        for text in ["", ".", "..", "a/b", "../x", "a.b", "a b", "ä", "a\0", "a=", &"x".repeat(257)]
        {
            assert!(!is_token(text), "{text}");
        }
    }

    fn proof(token: &str) -> Proof {
        Proof {
            identifier: "a.example".into(),
            shown: "a.example".into(),
            token: token.into(),
            authorization: format!("{token}.thumb"),
            digest: [0; 32],
            value: format!("value-{token}"),
        }
    }

    #[tokio::test]
    async fn what_another_order_needs_stays_and_what_a_dropped_one_has_left_goes() {
        let root = tempfile::tempdir().unwrap();
        let (answers, files) = (Answers::new(Arc::new(SystemClock::new())), Files::default());
        let answer = Answer::HttpWebroot(root.path().to_owned());
        let path = http::file_of(root.path(), "one");
        let (mut first, mut second) = (Presented::default(), Presented::default());
        for presented in [&mut first, &mut second] {
            answers
                .present(&answer, &[proof("one"), proof("two")], &files, presented)
                .await
                .unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one.thumb");
        first.remove().await;
        assert!(path.exists(), "the second order needs it");
        drop(second);
        while path.exists() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_hook_that_is_cut_off_is_asked_to_clean_up() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = format!(
            "echo $GENESIS_ACTION $GENESIS_DOMAIN $GENESIS_NAME $GENESIS_VALUE >> '{}'; \
             [ $GENESIS_ACTION = cleanup ] || sleep 300",
            log.display()
        );
        let hook = Hook {
            command: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(300),
        };
        let answer = Answer::DnsHook { hook, wait: Duration::ZERO, resolvers: Vec::new() };
        let (answers, files) = (Answers::new(Arc::new(SystemClock::new())), Files::default());
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        {
            let mut presented = Presented::default();
            let proofs = [proof("x")];
            let present = answers.present(&answer, &proofs, &files, &mut presented);
            tokio::select! {
                _ = present => panic!("it sleeps"),
                () = async { while !text().ends_with('\n') { tokio::task::yield_now().await; } } => {}
            }
        }
        let line = "a.example _acme-challenge.a.example value-x\n";
        while text() != format!("present {line}cleanup {line}") {
            tokio::task::yield_now().await;
        }
    }
}
