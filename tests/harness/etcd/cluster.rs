//! Members of one cluster.

use super::{Etcd, EtcdOptions, Place};
use crate::clock::wait_for;
use crate::netns::Namespace;

/// A cluster, until it is dropped. Its members talk to each other in the clear.
pub struct EtcdCluster {
    members: Vec<Etcd>,
}

impl EtcdCluster {
    /// So many members on loopback.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn start(members: usize) -> Self {
        Self::of(&vec![EtcdOptions::default(); members])
    }

    /// A member in each of these namespaces.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn across(namespaces: &[&Namespace]) -> Self {
        let options = |namespace: &&Namespace| EtcdOptions::default().in_namespace(namespace);
        Self::of(&namespaces.iter().map(options).collect::<Vec<_>>())
    }

    fn of(options: &[EtcdOptions]) -> Self {
        let places: Vec<_> = options
            .iter()
            .enumerate()
            .map(|(index, options)| {
                Place::new(&format!("member-{index}"), options.namespace.as_ref())
            })
            .collect();
        let all: Vec<_> = places.iter().map(Place::member).collect();
        let members = options.iter().cloned().zip(places);
        let members =
            members.map(|(options, place)| Etcd::prepare(options, place, all.join(","))).collect();
        let cluster = Self { members };
        cluster.restart();
        cluster
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn member(&self, index: usize) -> &Etcd {
        &self.members[index]
    }

    /// All of them.
    pub fn members(&self) -> &[Etcd] {
        &self.members
    }

    /// Where clients reach them: URLs.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// Starts all of them, after a SIGKILL if they run, and waits until each is healthy.
    ///
    /// # Panics
    /// When one does not become so.
    pub fn restart(&self) {
        self.members.iter().for_each(Etcd::kill);
        self.members.iter().for_each(Etcd::launch);
        self.members.iter().for_each(Etcd::wait_healthy);
    }

    /// All are killed, lose everything, and are started: their revisions begin anew.
    ///
    /// # Panics
    /// When one does not start.
    pub fn wipe(&self) {
        self.members.iter().for_each(Etcd::lose);
        self.restart();
    }

    /// Which of them leads, by those that answer: waits until there is one.
    ///
    /// # Panics
    /// When there is none.
    pub fn leader(&self) -> usize {
        wait_for("a leader", || {
            let said = self.members.iter().map(Etcd::status).enumerate();
            let said: Vec<_> = said.filter_map(|(index, said)| Some((index, said?))).collect();
            // Who has been cut off believes in the leader of a term that is over.
            let newest = said.iter().max_by_key(|(_, said)| said["raftTerm"].as_u64())?;
            let leader = newest.1["leader"].as_u64().filter(|leader| *leader != 0)?;
            let leads = said.iter().find(|(_, said)| said["header"]["member_id"] == leader)?;
            Some(leads.0)
        })
    }
}
