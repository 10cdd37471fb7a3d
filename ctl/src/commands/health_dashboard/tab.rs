//! What is shown of one node, a tab for each kind of question.

/// A tab, in the order of the bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Tab {
    Overview,
    Health,
    History,
    Alerts,
    Runs,
    Certificates,
    Data,
    Logs,
    Stats,
    Oplog,
}

impl Tab {
    pub(super) const ALL: [Self; 10] = [
        Self::Overview,
        Self::Health,
        Self::History,
        Self::Alerts,
        Self::Runs,
        Self::Certificates,
        Self::Data,
        Self::Logs,
        Self::Stats,
        Self::Oplog,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Health => "Health",
            Self::History => "History",
            Self::Alerts => "Alerts",
            Self::Runs => "Runs",
            Self::Certificates => "Certs",
            Self::Data => "Data",
            Self::Logs => "Logs",
            Self::Stats => "Stats",
            Self::Oplog => "Oplog",
        }
    }

    /// What is on it, for the help.
    pub(super) fn holds(self) -> &'static str {
        match self {
            Self::Overview => "what is wrong, checks with their trends, objectives, domains",
            Self::Health => "open issues and incidents, every check, what holds remediation back",
            Self::History => "issues and attempts to mend them, the latest first",
            Self::Alerts => "what people hear of, channels, silences",
            Self::Runs => "the latest runs, and the schedule",
            Self::Certificates => "certificates, how long they last, whether they are served",
            Self::Data => "databases, what is backed up, backups",
            Self::Logs => "the logs that are archived",
            Self::Stats => "baselines, experiments, matrices",
            Self::Oplog => "who did what, as it is written",
        }
    }

    /// The key that chooses it.
    pub(super) fn key(self) -> char {
        match self.index() {
            9 => '0',
            // Below ten, so one digit.
            index => char::from(b'1' + index as u8),
        }
    }

    pub(super) fn of_key(key: char) -> Option<Self> {
        Self::ALL.into_iter().find(|tab| tab.key() == key)
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The one that many to the right, around the end.
    pub(super) fn step(self, by: usize) -> Self {
        Self::ALL[(self.index() + by) % Self::ALL.len()]
    }

    /// Whether the answer about the node as a whole has all that is on it.
    pub(super) fn is_of_base(self) -> bool {
        matches!(self, Self::Overview | Self::Health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_have_keys_and_neighbours() {
        for tab in Tab::ALL {
            assert_eq!(Tab::ALL[tab.index()], tab);
            assert_eq!(Tab::of_key(tab.key()), Some(tab));
            assert_eq!(tab.step(1).step(Tab::ALL.len() - 1), tab);
        }
        assert_eq!(Tab::of_key('x'), None);
        let keys: String = Tab::ALL.iter().map(|tab| tab.key()).collect();
        assert_eq!(keys, "1234567890");
    }
}
