//! The remediation matrix of the procedures: what each kind of issue is told by, what is done about it, and what
//! is left to people. Static rows; the checks of the configuration name them.

/// What can be done, as far as its reach goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Such as "make-room", by which people run it.
    pub name: &'static str,
    /// The kind of its runs.
    pub kind: &'static str,
    /// What it is for, in words.
    pub what: &'static str,
    /// It reaches into trading: connections, queries, restarts.
    pub trade_touching: bool,
    /// What it changes can't be had back.
    pub destructive: bool,
    /// It goes on during an emergency.
    pub goes_on: bool,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Such as "memory-leak".
    pub name: &'static str,
    /// By what it is told.
    pub detection: &'static str,
    /// What is done by itself.
    pub action: Action,
    /// What people do when that does not help.
    pub fallback: Action,
    /// The page of the runbook.
    pub runbook: &'static str,
}

const fn action(name: &'static str, kind: &'static str, what: &'static str) -> Action {
    Action { name, kind, what, trade_touching: false, destructive: false, goes_on: false }
}

const fn touching(action: Action) -> Action {
    Action { trade_touching: true, ..action }
}

const fn destructive(action: Action) -> Action {
    Action { destructive: true, ..action }
}

const RESTART: Action = destructive(touching(action(
    "restart-service",
    "health.restart-service",
    "restart the service in a controlled way",
)));

/// The rows, and last the one of every check that is on none.
pub const MATRIX: [Row; 6] = [
    Row {
        name: "connection-pool",
        detection: "less than 10 % of the connections are available at two looks",
        action: touching(action(
            "reset-connections",
            "health.reset-connections",
            "reset the connections that idle, then the oldest",
        )),
        fallback: RESTART,
        runbook: "connection-pool",
    },
    Row {
        name: "memory-leak",
        detection: "more than 85 % of the memory is in use for 60 s",
        action: action(
            "clear-memory",
            "health.clear-memory",
            "have the service collect its garbage and clear its caches",
        ),
        fallback: RESTART,
        runbook: "memory-leak",
    },
    Row {
        name: "disk-space",
        detection: "less than 10 % of a file system is free, in bytes or inodes",
        action: Action {
            goes_on: true,
            ..action(
                "make-room",
                "health.make-room",
                "delete local copies of logs that are proven in the archive, oldest first",
            )
        },
        fallback: action("add-storage", "health.add-storage", "add storage"),
        runbook: "disk-space",
    },
    Row {
        name: "api-degradation",
        detection: "latency beyond two sigma, sustained",
        action: action("open-breaker", "health.open-breaker", "open the circuit breaker"),
        fallback: touching(action(
            "switch-to-backup",
            "health.switch-to-backup",
            "switch to the backup",
        )),
        runbook: "api-degradation",
    },
    Row {
        name: "database-lock",
        detection: "a deadlock or a blocked chain of queries",
        action: destructive(touching(action(
            "cancel-query",
            "health.cancel-query",
            "cancel the query at the root of the chain",
        ))),
        fallback: touching(action("investigate", "health.investigate", "look into it by hand")),
        runbook: "database-lock",
    },
    Row {
        name: "none",
        detection: "whatever the check says",
        action: action("mend", "health.mend", "what the check's configuration says"),
        fallback: touching(action(
            "fallback",
            "health.fallback",
            "what the check's configuration says",
        )),
        runbook: "health",
    },
];

/// The row of this name.
pub fn row(name: &str) -> Option<&'static Row> {
    MATRIX.iter().find(|row| row.name == name)
}
