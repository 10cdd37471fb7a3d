//! What holds a fleet together: a store of keys whose every change has a number (its revision), whose keys can be leased,
//! and which tells of changes. It is etcd, where the agent was built with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(test)]
pub mod memory;

/// A call is given up after so long, as long as all is well.
pub const CALL: Duration = Duration::from_secs(2);
/// And where calls fail, after ever longer, up to this: many that come back at once must not all be given up, and come
/// again.
pub const LONGEST_CALL: Duration = Duration::from_secs(10);
/// More than any file of a certificate, a key or a password, in bytes.
pub const FILE_LIMIT: u64 = 4 << 20;
/// At most so many keys are taken in one listing.
pub const LISTED: usize = 100_000;

/// Whether this program can speak to etcd.
pub const BUILT_IN: bool = cfg!(feature = "etcd");

/// Where it is, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// "http://host:port" or "https://host:port", any of which will do.
    pub endpoints: Vec<String>,
    /// PEM file of the authorities that may vouch for it; `None` for those of the host.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Our name there, and the file with its password.
    pub user: Option<(String, PathBuf)>,
    /// All keys begin so; nothing else is read.
    pub root: String,
}

impl Place {
    /// The files that only their owner may read, each with its key of the configuration.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let key = self.certificate.iter().map(|(_, key)| ("key", key));
        key.chain(self.user.iter().map(|(_, password)| ("password_file", password)))
    }
}

/// A key as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// What it holds.
    pub value: Vec<u8>,
    /// The revision that made it; it grows each time that the key is made anew.
    pub created: i64,
    /// The revision that changed it last.
    pub modified: i64,
    /// The lease that it ends with; 0: none.
    pub lease: i64,
}

/// Keys as they were at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// In order of their names.
    pub entries: Vec<Entry>,
    /// Of the whole store.
    pub revision: i64,
}

/// What must be so for a change to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// There is no such key.
    Absent(String),
    /// The key was made by this revision, and is still there.
    Created(String, i64),
    /// The key was changed last by this revision.
    Modified(String, i64),
    /// The key ends with this lease. Of a store that was put back no lease comes again, unlike its revisions.
    Leased(String, i64),
}

/// One part of a change, which is made whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Sets a key.
    Put {
        /// Its name.
        key: String,
        /// What it holds.
        value: Vec<u8>,
        /// The lease that it ends with; 0: none.
        lease: i64,
    },
    /// Takes a key away, if it is there.
    Delete(String),
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// What had to be so was so, and the change is made.
    pub done: bool,
    /// Of the whole store afterwards.
    pub revision: i64,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was set.
    Put(Entry),
    /// It is gone: taken away, or its lease has ended.
    Gone {
        /// Its name.
        key: String,
        /// The revision that did it.
        revision: i64,
    },
}

/// What a watch has seen: all that happened up to a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Nothing more can come of it, nor of an earlier one.
    pub revision: i64,
    /// In order; may be empty.
    pub changes: Vec<Change>,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It does not answer; what was asked may have been done all the same.
    #[error("{0}")]
    Away(String),
    /// What has happened since is not kept any more.
    #[error("what has happened since revision {0} is not kept any more")]
    Compacted(i64),
    /// It takes no changes any more, since it has no room.
    #[error("it has no room: {0}")]
    Full(String),
    /// It does not know the lease.
    #[error("the lease has ended")]
    NoLease,
    /// It does not want us, or not this.
    #[error("it refuses: {0}")]
    Refused(String),
}

/// Connects to it; tests put a fake here for what a real one can't be made to show.
#[async_trait]
pub trait Coordinator: Send + Sync {
    /// Connects to one endpoint of a place; each call is given up after `limit`. The files of its TLS are read anew each
    /// time.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn connect(
        &self,
        place: &Place,
        endpoint: &str,
        limit: Duration,
    ) -> Result<Arc<dyn Link>, Trouble>;
}

/// A connection, to one member of a cluster that has a leader. Each call ends within its limit; after [`Trouble::Away`] it
/// is of no use any more.
#[async_trait]
pub trait Link: Send + Sync {
    /// Which cluster it is: revisions of another can't be compared.
    fn cluster(&self) -> u64;

    /// All keys that begin so, at one revision.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn list(&self, prefix: &str) -> Result<Listed, Trouble>;

    /// The same without the keys' values.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn names(&self, prefix: &str) -> Result<Listed, Trouble>;

    /// Makes a change if all guards hold.
    ///
    /// # Errors
    /// [`Trouble`]; after [`Trouble::Away`] it may have been made.
    async fn commit(&self, guards: &[Guard], acts: &[Act]) -> Result<Committed, Trouble>;

    /// A new lease that lasts so long unless it is kept.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn grant(&self, lasts: Duration) -> Result<i64, Trouble>;

    /// Makes a lease last as long as when it was granted, from now.
    ///
    /// # Errors
    /// [`Trouble`]; [`Trouble::NoLease`] when it has ended.
    async fn keep(&self, lease: i64) -> Result<(), Trouble>;

    /// Ends a lease, and all keys with it.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn revoke(&self, lease: i64) -> Result<(), Trouble>;

    /// Tells of each change of keys that begin so, from a revision on, without a gap and none twice, and of how far it
    /// has looked. It ends with an error, or with the receiver.
    ///
    /// # Errors
    /// [`Trouble`]; [`Trouble::Compacted`] comes through the channel.
    async fn watch(
        &self,
        prefix: &str,
        from: i64,
    ) -> Result<mpsc::Receiver<Result<Seen, Trouble>>, Trouble>;
}

/// etcd, where the agent was built with it.
#[derive(Debug, Default)]
pub struct RealCoordinator;

#[async_trait]
impl Coordinator for RealCoordinator {
    #[cfg(feature = "etcd")]
    async fn connect(
        &self,
        place: &Place,
        endpoint: &str,
        limit: Duration,
    ) -> Result<Arc<dyn Link>, Trouble> {
        let link = etcd::connect(place, endpoint, limit).await?;
        Ok(Arc::new(link))
    }

    #[cfg(not(feature = "etcd"))]
    async fn connect(&self, _: &Place, _: &str, _: Duration) -> Result<Arc<dyn Link>, Trouble> {
        Err(Trouble::Refused("this agent was built without etcd".to_owned()))
    }
}
