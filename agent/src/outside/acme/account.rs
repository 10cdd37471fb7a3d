//! What is known of each CA, and our accounts there: made with the first order, kept in files.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::client::{Files, Http, Transport, hearing, read};
use super::trouble::{clean, local, outright, told, trouble, without_document};
use super::{Authority, Class, Directory, ExternalAccount, Trouble};
use crate::outside::dial::Resolver;
use crate::outside::{Clock, files};

/// A directory is taken from memory for so long.
const FRESH: Duration = Duration::from_secs(600);
/// So many CAs are remembered; a configuration has a few, and each of its changes may leave some behind.
const REMEMBERED: usize = 32;
/// A file of an account is no longer than this, in bytes.
const ACCOUNT: u64 = 64 << 10;
/// A file of a key is no longer than this, in bytes.
const KEY: u64 = 8 << 10;
/// So many profiles are told.
const PROFILES: usize = 32;

/// The part of a directory that is ours to read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    /// Where renewal information is, if the CA has any.
    pub(super) renewal_info: Option<String>,
    /// Without it, this is no directory.
    new_order: String,
    #[serde(default)]
    meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    profiles: HashMap<String, serde_json::Value>,
    caa_identities: Vec<String>,
    external_account_required: bool,
}

impl Index {
    /// The names of the CA's profiles, sorted.
    pub(super) fn profiles(&self) -> Vec<String> {
        let mut names: Vec<String> = self.meta.profiles.keys().map(|it| clean(it, 100)).collect();
        names.sort();
        names.truncate(PROFILES);
        names
    }

    /// The names by which CAA records allow the CA, in lower case.
    fn caa_identities(&self) -> Vec<String> {
        let names = self.meta.caa_identities.iter().take(PROFILES);
        names.map(|it| clean(it, 253).to_lowercase()).collect()
    }
}

/// What calls need that go under an account.
#[derive(Clone)]
pub(super) struct Session {
    /// The account.
    pub(super) account: Account,
    /// The CA's directory.
    pub(super) index: Arc<Index>,
}

/// A CA as it is known; its lock is held while an account is made, so that there are never two.
#[derive(Default)]
struct Place {
    http: Option<Http>,
    index: Option<(Duration, Arc<Index>, Http)>,
    account: Option<Account>,
}

/// What an account's file holds.
#[derive(Deserialize, Serialize)]
struct Kept {
    directory: String,
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// The CAs and our accounts there.
pub(super) struct Accounts {
    clock: Arc<dyn Clock>,
    resolver: Resolver,
    /// Reads files.
    pub(super) files: Files,
    places: Mutex<HashMap<Authority, Arc<tokio::sync::Mutex<Place>>>>,
}

impl Accounts {
    /// None is known yet.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            resolver: Resolver::default(),
            files: Files::default(),
            places: Mutex::default(),
        }
    }

    /// What the CA says of itself now.
    ///
    /// # Errors
    /// When it can't be had.
    pub(super) async fn directory(&self, ca: &Authority) -> Result<Directory, Trouble> {
        let place = self.place(ca);
        let mut place = place.lock().await;
        place.index = None;
        let (looked, heard) = hearing(self.look(ca, &mut place)).await;
        let (index, _) = looked?;
        Ok(Directory {
            date: heard.date,
            renewal_info: index.renewal_info.is_some(),
            profiles: index.profiles(),
            caa_identities: index.caa_identities(),
            external_account_required: index.meta.external_account_required,
        })
    }

    /// The CA's directory, and how it is reached.
    ///
    /// # Errors
    /// When it can't be had.
    pub(super) async fn index(&self, ca: &Authority) -> Result<(Arc<Index>, Http), Trouble> {
        let place = self.place(ca);
        let mut place = place.lock().await;
        self.look(ca, &mut place).await
    }

    /// Our account at the CA; it is made where there is none.
    ///
    /// # Errors
    /// As the CA says, and when the file can't be had.
    pub(super) async fn session(&self, ca: &Authority) -> Result<Session, Trouble> {
        let place = self.place(ca);
        let mut place = place.lock().await;
        let (index, http) = self.look(ca, &mut place).await?;
        let account = match place.account.clone() {
            Some(account) => account,
            None => match self.restored(ca, &http).await? {
                Some(account) => account,
                None => self.made(ca, &index, &http).await?,
            },
        };
        place.account = Some(account.clone());
        Ok(Session { account, index })
    }

    /// An account anew, in place of one that the CA knows no more; once made, others who say the same get that one.
    ///
    /// # Errors
    /// As the CA says, and when the file can't be had.
    pub(super) async fn renewed(&self, ca: &Authority, gone: &str) -> Result<Session, Trouble> {
        let place = self.place(ca);
        let mut place = place.lock().await;
        let (index, http) = self.look(ca, &mut place).await?;
        let account = match place.account.take().filter(|account| account.id() != gone) {
            Some(account) => account,
            None => self.made(ca, &index, &http).await?,
        };
        place.account = Some(account.clone());
        Ok(Session { account, index })
    }

    /// The CA is asked for its directory again before anything else: it may have moved.
    pub(super) async fn forget(&self, ca: &Authority) {
        let place = self.place(ca);
        let mut place = place.lock().await;
        // Who made a new one in the meantime loses nothing but a request.
        *place = Place::default();
    }

    fn place(&self, ca: &Authority) -> Arc<tokio::sync::Mutex<Place>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(ca) {
            return Arc::clone(place);
        }
        if places.len() >= REMEMBERED {
            // Those that nobody is using now.
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(places.entry(ca.clone()).or_default())
    }

    async fn look(&self, ca: &Authority, place: &mut Place) -> Result<(Arc<Index>, Http), Trouble> {
        let now = self.clock.monotonic();
        if let Some((since, index, http)) = &place.index
            && now.saturating_sub(*since) < FRESH
        {
            return Ok((Arc::clone(index), http.clone()));
        }
        let attempted = format!("{}: its directory", ca.name);
        let http = match place.http.clone() {
            Some(http) => http,
            None => {
                let roots = ca.roots_file.as_deref();
                let (resolver, clock) = (self.resolver.clone(), Arc::clone(&self.clock));
                let made = Http::new(roots, &self.files, resolver, clock).await;
                made.map_err(|error| trouble(&attempted, &error.into(), &Default::default()))?
            }
        };
        let (index, body) = fetched(&http, &ca.directory, &attempted).await?;
        let index = Arc::new(index);
        let knowing = http.knowing(&ca.directory, body);
        place.http = Some(http);
        // An account holds the directory that it was made with.
        place.account = None;
        place.index = Some((now, Arc::clone(&index), knowing.clone()));
        Ok((index, knowing))
    }

    /// The account of our file, if there is one.
    async fn restored(&self, ca: &Authority, http: &Http) -> Result<Option<Account>, Trouble> {
        let path = file_of(ca);
        match tokio::fs::try_exists(&path).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                return Err(local(format!("can't look at {}: {error}", path.display())));
            }
        }
        let bytes = read(&path, ACCOUNT, true, &self.files).await.map_err(local)?;
        let shown = path.display();
        // What the parser says might quote the key.
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|_| local(format!("{shown} is no account; remove it for a new one")))?;
        if kept.directory != ca.directory {
            return Err(local(format!("{shown} is an account at {}", clean(&kept.directory, 200))));
        }
        let contacts_differ = kept.contact != ca.contact;
        let attempted = format!("{}: our account", ca.name);
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let (account, heard) = hearing(builder.from_credentials(kept.credentials)).await;
        let account = account.map_err(|error| trouble(&attempted, &error, &heard))?;
        if contacts_differ {
            self.tell_contacts(ca, &account, &bytes).await;
        }
        Ok(Some(account))
    }

    /// Tells the CA our new contacts. That it does not take them keeps no certificate from being renewed.
    async fn tell_contacts(&self, ca: &Authority, account: &Account, bytes: &[u8]) {
        let contacts: Vec<&str> = ca.contact.iter().map(String::as_str).collect();
        let told = account.update_contacts(&contacts).await.map_err(|error| error.to_string());
        let written = match told {
            Ok(()) => match serde_json::from_slice::<Kept>(bytes) {
                Ok(kept) => {
                    let kept = Kept { contact: ca.contact.clone(), ..kept };
                    write(file_of(ca), &kept).await
                }
                Err(_) => Ok(()),
            },
            Err(why) => Err(clean(&why, 300)),
        };
        if let Err(why) = written {
            tracing::warn!(ca = ca.name, "the CA was not told of the new contacts: {why}");
        }
    }

    async fn made(&self, ca: &Authority, index: &Index, http: &Http) -> Result<Account, Trouble> {
        let attempted = format!("{}: an account", ca.name);
        let external = match &ca.external {
            Some(external) => Some(self.binding(external).await?),
            None if index.meta.external_account_required => {
                let message = format!("{attempted}: the CA wants an external account");
                let kind = "externalAccountRequired".to_owned();
                return Err(Trouble { kind, ..told(Class::Policy, message) });
            }
            None => None,
        };
        let contact: Vec<&str> = ca.contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        // Before there is a key that could not be kept.
        let path = file_of(ca);
        prepare(path.clone()).await.map_err(local)?;
        let (account, credentials) = super::call::asked!(&attempted, {
            let builder = Account::builder_with_http(Box::new(http.clone()));
            builder.create(&wanted, ca.directory.clone(), external.as_ref())
        })
        .map_err(outright)?
        .0;
        let (directory, contact) = (ca.directory.clone(), ca.contact.clone());
        write(path, &Kept { directory, contact, credentials }).await.map_err(local)?;
        tracing::info!(ca = ca.name, account = account.id(), "made an account at the CA");
        Ok(account)
    }

    /// What binds our account to one that the CA knows.
    async fn binding(&self, external: &ExternalAccount) -> Result<ExternalAccountKey, Trouble> {
        let bytes = read(&external.key_file, KEY, true, &self.files).await.map_err(local)?;
        let key = decoded(&bytes).ok_or_else(|| {
            local(format!("{} is no key in base64url", external.key_file.display()))
        })?;
        Ok(ExternalAccountKey::new(external.key_id.clone(), &key))
    }
}

/// A key in base64, of either alphabet, with or without padding.
pub(super) fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?.trim().trim_end_matches('=');
    let text = text.replace('+', "-").replace('/', "_");
    let key = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    (!key.is_empty()).then_some(key)
}

async fn fetched(http: &Http, url: &str, attempted: &str) -> Result<(Index, Bytes), Trouble> {
    let (answer, heard) = hearing(http.get(url)).await;
    let answer = answer.map_err(|error| trouble(attempted, &error.into(), &heard))?;
    if answer.status != 200 {
        let mut found =
            told(without_document(answer.status), format!("{attempted}: HTTP {}", answer.status));
        (found.retry_after, found.date) = (heard.retry_after, heard.date);
        return Err(found);
    }
    let index: Result<Index, _> = serde_json::from_slice(&answer.body);
    match index {
        Ok(index) if !index.new_order.is_empty() => {
            // The instance that listens in `directory` wants it as well.
            super::client::note_again(heard);
            Ok((index, answer.body))
        }
        _ => {
            let why = Transport::There("it is no directory of ACME".to_owned());
            Err(trouble(attempted, &why.into(), &heard))
        }
    }
}

/// Where the account is kept: by the CA's name, and by what makes it another account.
fn file_of(ca: &Authority) -> PathBuf {
    let mut hash = sha2::Sha256::new();
    hash.update(ca.directory.as_bytes());
    if let Some(external) = &ca.external {
        hash.update([0]);
        hash.update(external.key_id.as_bytes());
    }
    let hash = hex::encode(hash.finalize());
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_');
    let name: String =
        ca.name.chars().take(64).map(|it| if plain(it) { it } else { '_' }).collect();
    ca.accounts.join(format!("{name}-{}.json", hash.get(..12).unwrap_or_default()))
}

/// Makes the folder of a file, and sees that it can be written to.
async fn prepare(path: PathBuf) -> Result<(), String> {
    aside(move || {
        let folder = folder_of(&path);
        files::create_folders(folder)?;
        tempfile::NamedTempFile::new_in(folder).map(drop)
    })
    .await
}

/// Writes an account durably, and whole or not at all.
async fn write(path: PathBuf, kept: &Kept) -> Result<(), String> {
    let text = serde_json::to_vec_pretty(kept).map_err(|_| "the account can't be written")?;
    aside(move || {
        let folder = folder_of(&path);
        files::create_folders(folder)?;
        // Its mode is 0600 from the start.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        files::sync_folder_of(&path)
    })
    .await
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

async fn aside(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), String> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| "the folder of accounts could not be looked at".to_owned())?;
    done.map_err(|error| format!("can't write to the folder of accounts: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(name: &str, directory: &str, key_id: Option<&str>) -> Authority {
        Authority {
            name: name.into(),
            directory: directory.into(),
            contact: vec![],
            external: key_id
                .map(|key_id| ExternalAccount { key_id: key_id.into(), key_file: "/k".into() }),
            roots_file: None,
            accounts: "/accounts".into(),
        }
    }

    #[test]
    fn another_directory_or_key_is_another_account() {
        let files = [
            ca("le", "https://a/dir", None),
            ca("le", "https://b/dir", None),
            ca("le", "https://a/dir", Some("1")),
            ca("le", "https://a/dir", Some("2")),
        ]
        .map(|ca| file_of(&ca));
        let different: std::collections::BTreeSet<_> = files.iter().collect();
        assert_eq!(different.len(), 4);
        let odd = file_of(&ca("../x/y", "https://a/dir", None));
        assert_eq!(odd.parent(), Some(Path::new("/accounts")));
        assert!(odd.file_name().unwrap().to_string_lossy().starts_with("___x_y-"), "{odd:?}");
    }

    #[test]
    fn keys_come_in_either_alphabet() {
        for text in ["-_8", "-_8=\n", "+/8=", "+/8"] {
            assert_eq!(decoded(text.as_bytes()), Some(vec![0xfb, 0xff]), "{text}");
        }
        for text in ["", "\n", "a b", "ä"] {
            assert_eq!(decoded(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_directory_without_orders_is_none() {
        assert!(serde_json::from_str::<Index>(r#"{"newNonce":"https://a"}"#).is_err());
        let text = r#"{"newOrder":"https://a","renewalInfo":"https://b",
            "meta":{"profiles":{"short":"x","classic":"y"},"externalAccountRequired":true}}"#;
        let index: Index = serde_json::from_str(text).unwrap();
        assert_eq!(index.profiles(), ["classic", "short"]);
        assert!(index.meta.external_account_required && index.renewal_info.is_some());
    }
}
