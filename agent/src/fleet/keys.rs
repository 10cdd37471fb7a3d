//! The names of the fleet's keys.

/// Names keys of one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// Those of a fleet.
    pub fn of(fleet: &str) -> Self {
        Self { root: format!("/genesis/{fleet}/") }
    }

    /// All of them begin so.
    pub fn root(&self) -> String {
        self.root.clone()
    }

    /// What every member follows: it changes seldom.
    pub fn common(&self) -> String {
        format!("{}common/", self.root)
    }

    /// The emergency of the whole fleet.
    pub fn emergency(&self) -> String {
        format!("{}common/emergency", self.root)
    }

    /// Members that live, by host and session.
    pub fn members(&self) -> String {
        format!("{}members/", self.root)
    }

    /// The sessions of one host; there is one.
    pub fn member(&self, host_id: &str) -> String {
        format!("{}members/{host_id}/", self.root)
    }

    /// A member that lives.
    pub fn session(&self, host_id: &str, session: &str) -> String {
        format!("{}members/{host_id}/{session}", self.root)
    }

    /// Every host that has been a member, until it is forgotten.
    pub fn roster(&self) -> String {
        format!("{}roster/", self.root)
    }

    /// One of them.
    pub fn known(&self, host_id: &str) -> String {
        format!("{}roster/{host_id}", self.root)
    }

    /// Locks that are held.
    pub fn locks(&self) -> String {
        format!("{}locks/", self.root)
    }

    /// The last step that was made under a lock.
    pub fn step(&self, name: &str) -> String {
        format!("{}steps/{name}", self.root)
    }

    /// Experiments of the whole fleet, by number.
    pub fn experiments(&self) -> String {
        format!("{}common/experiments/", self.root)
    }

    /// One of them.
    pub fn experiment(&self, number: u64) -> String {
        // In order of their numbers.
        format!("{}common/experiments/{number:010}", self.root)
    }

    /// The number of the last one.
    pub fn last_experiment(&self) -> String {
        format!("{}common/last/experiment", self.root)
    }

    /// Who takes the looks of one; it ends with the lock.
    pub fn owner(&self, number: u64) -> String {
        format!("{}common/owners/{number:010}", self.root)
    }

    /// Parameters of the whole fleet.
    pub fn parameters(&self) -> String {
        format!("{}common/parameters/", self.root)
    }

    /// One of them.
    pub fn parameter(&self, strategy: &str, name: &str) -> String {
        format!("{}common/parameters/{strategy}/{name}", self.root)
    }

    /// What each host has tallied of an experiment.
    pub fn tallies(&self, number: u64) -> String {
        format!("{}tallies/experiments/{number:010}/", self.root)
    }

    /// What one host has.
    pub fn tally(&self, number: u64, host_id: &str) -> String {
        format!("{}tallies/experiments/{number:010}/{host_id}", self.root)
    }

    /// What the looks at experiments have shown.
    pub fn looks(&self) -> String {
        format!("{}looks/experiments/", self.root)
    }

    /// What the looks at an experiment have shown.
    pub fn look(&self, number: u64) -> String {
        format!("{}looks/experiments/{number:010}", self.root)
    }

    /// A lock.
    pub fn lock(&self, name: &str) -> String {
        format!("{}locks/{name}", self.root)
    }

    /// Who has cared for a database last.
    pub fn cared(&self, database: &str) -> String {
        format!("{}cared/{database}", self.root)
    }

    /// The newest version of the matrix.
    pub fn matrix(&self) -> String {
        format!("{}common/matrices/current", self.root)
    }

    /// The parts of a version of the matrix.
    pub fn matrix_parts(&self, number: u64) -> String {
        format!("{}matrices/versions/{number:020}/", self.root)
    }

    /// One of them, from 0. All names are equally long, so that none begins as another does.
    pub fn matrix_part(&self, number: u64, part: u32) -> String {
        format!("{}matrices/versions/{number:020}/{part:04}", self.root)
    }

    /// What hosts say of the matrix.
    pub fn matrix_acks(&self) -> String {
        format!("{}acks/matrices/", self.root)
    }

    /// What one host says of it.
    pub fn matrix_ack(&self, host_id: &str) -> String {
        format!("{}acks/matrices/{host_id}", self.root)
    }

    /// The head of a host's operation log.
    pub fn head(&self, host_id: &str) -> String {
        format!("{}heads/{host_id}", self.root)
    }
}
