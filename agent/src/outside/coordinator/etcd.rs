//! The coordinator that is etcd, by its v3 API.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions, KeyValue,
    LeaseKeepAliveStream, LeaseKeeper, PutOptions, ResponseHeader, TlsOptions, Txn, TxnOp,
    WatchOptions, WatchResponse,
};
use tokio::sync::{Mutex, mpsc};
use tonic::Code;
use tonic::transport::{Certificate, Identity};

use super::{
    Act, CALL, Change, Committed, Entry, FILE_LIMIT, Guard, LISTED, Link, Listed, Place, Seen,
    Trouble,
};
use crate::outside::secret;

/// A connection that is not made by then is none.
const CONNECT: Duration = Duration::from_secs(1);
/// An idle connection is asked so often whether it lives, and has so long to answer. etcd ends connections that ask more
/// often than every 5 s.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));
/// So many keys are asked for at a time.
const PAGE: i64 = 500;
/// A page of keys with their values is at most so long, in bytes.
const ANSWER_LIMIT: usize = 64 << 20;
/// What a watch has seen waits for its reader, up to so many answers.
const UNREAD: usize = 16;

pub(super) struct Etcd {
    client: Client,
    cluster: u64,
    /// Each call is given up after so long.
    limit: Duration,
    /// The stream by which leases are kept.
    keeping: Mutex<Option<(i64, LeaseKeeper, LeaseKeepAliveStream)>>,
}

async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome.map_err(|error| trouble(&error)),
        Err(_) => Err(Trouble::Away(format!("no answer to {what} within {limit:?}"))),
    }
}

/// What etcd says, without control characters and not without end.
fn said(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

fn trouble(error: &Error) -> Trouble {
    // The client looks at the first answer itself.
    if matches!(error, Error::LeaseKeepAliveError(text) if text.contains("not found")) {
        return Trouble::NoLease;
    }
    let Error::GRpcStatus(status) = error else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        return Trouble::Away(said(&text));
    };
    let text = said(status.message());
    match status.code() {
        Code::OutOfRange if text.contains("compacted") => Trouble::Compacted(0),
        Code::ResourceExhausted if text.contains("space exceeded") => Trouble::Full(text),
        Code::NotFound if text.contains("lease") => Trouble::NoLease,
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::OutOfRange => Trouble::Refused(text),
        code => Trouble::Away(format!("{code:?}: {text}")),
    }
}

/// The revision of an answer.
fn revision(header: Option<&ResponseHeader>) -> Result<i64, Trouble> {
    let none = || Trouble::Away("an answer without a revision".to_owned());
    header.map(ResponseHeader::revision).ok_or_else(none)
}

fn entry(pair: &KeyValue) -> Entry {
    Entry {
        key: String::from_utf8_lossy(pair.key()).into_owned(),
        value: pair.value().to_vec(),
        created: pair.create_revision(),
        modified: pair.mod_revision(),
        lease: pair.lease(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let about = |why: String| format!("{}: {why}", path.display());
    let length = std::fs::metadata(path).map_err(|error| about(error.to_string()))?.len();
    if length > FILE_LIMIT {
        return Err(about(format!("{length} bytes are no certificate")));
    }
    std::fs::read(path).map_err(|error| about(error.to_string()))
}

async fn file(path: &Path) -> Result<Vec<u8>, Trouble> {
    let path = path.to_owned();
    in_time(move || read(&path)).await
}

async fn secret(path: &Path) -> Result<Vec<u8>, Trouble> {
    let path = path.to_owned();
    in_time(move || secret::read(&path, FILE_LIMIT)).await
}

async fn in_time(
    read: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
) -> Result<Vec<u8>, Trouble> {
    // A mount that hangs holds no call for ever.
    match tokio::time::timeout(CALL, tokio::task::spawn_blocking(read)).await {
        Ok(Ok(read)) => read.map_err(Trouble::Refused),
        _ => Err(Trouble::Away("a configured file can't be read in time".to_owned())),
    }
}

async fn options(place: &Place, endpoint: &str) -> Result<ConnectOptions, Trouble> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(KEEPALIVE.0, KEEPALIVE.1)
        .with_keep_alive_while_idle(true)
        // A member that is cut off from the others must not be listened to.
        .with_require_leader(true)
        // Tokens end, and are made void by changes of users and roles.
        .with_auto_token_refresh(true);
    if endpoint.starts_with("https://") {
        let mut tls = TlsOptions::new();
        tls = match &place.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(file(ca).await?)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &place.certificate {
            tls = tls.identity(Identity::from_pem(file(certificate).await?, secret(key).await?));
        }
        options = options.with_tls(tls);
    }
    if let Some((user, password)) = &place.user {
        let password = String::from_utf8(secret(password).await?);
        let text = password.map_err(|_| Trouble::Refused("the password is no text".to_owned()))?;
        options = options.with_user(user.clone(), text.trim_end_matches(['\r', '\n']));
    }
    Ok(options)
}

/// Connects, and makes sure that the member there knows a leader.
pub(super) async fn connect(
    place: &Place,
    endpoint: &str,
    limit: Duration,
) -> Result<Etcd, Trouble> {
    let options = options(place, endpoint).await?;
    let client = within(limit, "connecting", Client::connect([endpoint], Some(options))).await?;
    let mut kv = client.kv_client();
    // Read by the leader's leave, not from what this member happens to have.
    let only = GetOptions::new().with_keys_only().with_limit(1);
    let answer = within(limit, "a first look", kv.get(place.root.as_str(), Some(only))).await?;
    Ok(Etcd {
        cluster: answer.header().map_or(0, ResponseHeader::cluster_id),
        limit,
        client,
        keeping: Mutex::default(),
    })
}

impl Etcd {
    /// All keys that begin so, page by page, at the revision of the first.
    async fn range(&self, prefix: &str, wanted: GetOptions) -> Result<Listed, Trouble> {
        let mut kv = self.client.kv_client().max_decoding_message_size(ANSWER_LIMIT);
        let mut listed = Listed::default();
        // The end of what begins so: no name of ours ends with a byte that has none after it.
        let end = after(prefix);
        let mut from = prefix.as_bytes().to_vec();
        loop {
            let options = wanted
                .clone()
                .with_range(end.clone())
                .with_limit(PAGE)
                .with_revision(listed.revision);
            let answer =
                within(self.limit, "a listing", kv.get(from.clone(), Some(options))).await?;
            if listed.revision == 0 {
                listed.revision = revision(answer.header())?;
            }
            listed.entries.extend(answer.kvs().iter().map(entry));
            let Some(last) = answer.kvs().last().filter(|_| answer.more()) else { break };
            if listed.entries.len() > LISTED {
                return Err(Trouble::Refused(format!(
                    "more than {LISTED} keys begin with {prefix}"
                )));
            }
            from = [last.key(), b"\0"].concat();
        }
        Ok(listed)
    }
}

#[async_trait]
impl Link for Etcd {
    fn cluster(&self) -> u64 {
        self.cluster
    }

    async fn list(&self, prefix: &str) -> Result<Listed, Trouble> {
        self.range(prefix, GetOptions::new()).await
    }

    async fn names(&self, prefix: &str) -> Result<Listed, Trouble> {
        self.range(prefix, GetOptions::new().with_keys_only()).await
    }

    async fn commit(&self, guards: &[Guard], acts: &[Act]) -> Result<Committed, Trouble> {
        let guards: Vec<Compare> = guards
            .iter()
            .map(|guard| match guard {
                Guard::Absent(key) => Compare::version(key.as_str(), CompareOp::Equal, 0),
                Guard::Created(key, at) => {
                    Compare::create_revision(key.as_str(), CompareOp::Equal, *at)
                }
                Guard::Modified(key, at) => {
                    Compare::mod_revision(key.as_str(), CompareOp::Equal, *at)
                }
                Guard::Leased(key, lease) => Compare::lease(key.as_str(), CompareOp::Equal, *lease),
            })
            .collect();
        let acts: Vec<TxnOp> = acts
            .iter()
            .map(|act| match act {
                Act::Put { key, value, lease } => {
                    let options = PutOptions::new().with_lease(*lease);
                    TxnOp::put(key.as_str(), value.clone(), Some(options))
                }
                Act::Delete(key) => TxnOp::delete(key.as_str(), None),
            })
            .collect();
        let mut kv = self.client.kv_client();
        let answer =
            within(self.limit, "a change", kv.txn(Txn::new().when(guards).and_then(acts))).await?;
        Ok(Committed { done: answer.succeeded(), revision: revision(answer.header())? })
    }

    async fn grant(&self, lasts: Duration) -> Result<i64, Trouble> {
        let seconds = i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX).max(1);
        let mut leases = self.client.lease_client();
        Ok(within(self.limit, "a lease", leases.grant(seconds, None)).await?.id())
    }

    async fn keep(&self, lease: i64) -> Result<(), Trouble> {
        let mut keeping = self.keeping.lock().await;
        let asked = async {
            let (_, mut keeper, mut answers) = match keeping.take() {
                Some(open) if open.0 == lease => open,
                _ => {
                    let (keeper, answers) = self.client.lease_client().keep_alive(lease).await?;
                    (lease, keeper, answers)
                }
            };
            keeper.keep_alive().await?;
            let answer = answers.message().await?;
            Ok((answer.map(|it| it.ttl()), (lease, keeper, answers)))
        };
        let (left, open) = within(self.limit, "keeping a lease", asked).await?;
        match left {
            Some(left) if left > 0 => {
                *keeping = Some(open);
                Ok(())
            }
            Some(_) => Err(Trouble::NoLease),
            None => Err(Trouble::Away("the stream that keeps leases has ended".to_owned())),
        }
    }

    async fn revoke(&self, lease: i64) -> Result<(), Trouble> {
        let mut leases = self.client.lease_client();
        within(self.limit, "ending a lease", leases.revoke(lease)).await.map(|_| ())
    }

    async fn watch(
        &self,
        prefix: &str,
        from: i64,
    ) -> Result<mpsc::Receiver<Result<Seen, Trouble>>, Trouble> {
        // How far it has looked is only believed where etcd says so by itself: before 3.4.25 the answer to who asks is
        // ahead of what is still to be sent, which would be lost with the connection.
        let options =
            WatchOptions::new().with_prefix().with_start_revision(from).with_progress_notify();
        let mut watching = self.client.watch_client().max_decoding_message_size(ANSWER_LIMIT);
        let mut stream =
            within(self.limit, "a watch", watching.watch(prefix, Some(options))).await?;
        let (tell, told) = mpsc::channel(UNREAD);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    () = tell.closed() => return,
                    next = stream.message() => next,
                };
                let seen = match next {
                    Ok(Some(answer)) => match seen(&answer, from) {
                        Ok(None) => continue,
                        Ok(Some(seen)) => Ok(seen),
                        Err(trouble) => Err(trouble),
                    },
                    Ok(None) => Err(Trouble::Away("the watch has ended".to_owned())),
                    Err(error) => Err(trouble(&error)),
                };
                let over = seen.is_err();
                if tell.send(seen).await.is_err() || over {
                    return;
                }
            }
        });
        Ok(told)
    }
}

/// The first key after all that begin so.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // As etcd says "all there are".
    vec![0]
}

/// What an answer of a watch says; all changes of one revision are in one answer. `None`: nothing yet.
fn seen(answer: &WatchResponse, from: i64) -> Result<Option<Seen>, Trouble> {
    if answer.compact_revision() > 0 {
        return Err(Trouble::Compacted(from));
    }
    if answer.canceled() {
        return Err(Trouble::Away(format!(
            "the watch was ended: {}",
            said(answer.cancel_reason())
        )));
    }
    // The revision of the first answer is that of the whole store, up to which nothing has been looked at yet.
    if answer.created() {
        return Ok(None);
    }
    let changes = answer.events().iter().filter_map(|event| {
        let pair = event.kv()?;
        Some(match event.event_type() {
            EventType::Put => Change::Put(entry(pair)),
            EventType::Delete => Change::Gone {
                key: String::from_utf8_lossy(pair.key()).into_owned(),
                revision: pair.mod_revision(),
            },
        })
    });
    let changes: Vec<Change> = changes.collect();
    let last = changes.last().map(|change| match change {
        Change::Put(entry) => entry.modified,
        Change::Gone { revision, .. } => *revision,
    });
    // An answer without events tells how far was looked.
    let revision = last.map_or_else(|| revision(answer.header()), Ok)?;
    Ok(Some(Seen { revision, changes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_so_ends_before_the_next() {
        assert_eq!(after("/genesis/a/"), b"/genesis/a0");
        assert_eq!(after("a\u{7f}"), b"a\x80");
        assert_eq!(after(""), [0]);
    }

    #[tokio::test]
    async fn a_key_or_password_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "hush").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            path
        };
        let (certificate, key, password) = (write("pem"), write("key"), write("password"));
        let place = Place {
            endpoints: vec!["https://etcd:2379".into()],
            ca: None,
            certificate: Some((certificate, key.clone())),
            user: Some(("genesis".into(), password.clone())),
            root: "/genesis/prod/".into(),
        };
        for open in [key, password] {
            let Err(Trouble::Refused(why)) = options(&place, &place.endpoints[0]).await else {
                panic!("{open:?} was used");
            };
            let wanted = format!("{} is open to others (mode 0644): chmod 600 it", open.display());
            assert_eq!(why, wanted);
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        // The certificate is no secret.
        assert!(options(&place, &place.endpoints[0]).await.is_ok());
    }

    #[test]
    fn what_etcd_says_is_told_apart() {
        let told = |code, text: &str| trouble(&Error::GRpcStatus(tonic::Status::new(code, text)));
        let space = "etcdserver: mvcc: database space exceeded";
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        for (code, text, is) in [
            (Code::ResourceExhausted, space, Trouble::Full(space.into())),
            (Code::OutOfRange, compacted, Trouble::Compacted(0)),
            (Code::NotFound, "etcdserver: requested lease not found", Trouble::NoLease),
            (Code::PermissionDenied, "no\u{7}", Trouble::Refused("no".into())),
            (Code::Unavailable, "no leader", Trouble::Away("Unavailable: no leader".into())),
        ] {
            assert_eq!(told(code, text), is);
        }
    }
}
