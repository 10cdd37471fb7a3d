//! Keeps whoever was overtaken out of a database. In a fleet, care is done by whoever holds a lock; a lock alone keeps
//! nobody out, since its holder may be frozen past its end and go on when it wakes. So the lock's token, which only
//! grows, is held against a table in the very database that is cared for (Kleppmann 2016, "How to do distributed
//! locking").
//!
//! Who takes over calls [`raise`]: it writes its token, which must not be lower than the one there, and once that is
//! committed ends every session that carries a lower one in its name, and waits until they are gone. Who works opens
//! each of its sessions with its token in the name, and calls [`check`] in it before anything else. Then no statement of
//! a lower token runs once [`raise`] has returned:
//!
//! 1. A session can be seen in pg_stat_activity, by its whole name, before its client may send a statement: the server
//!    takes the name from the startup packet and shows it before it is ready for queries.
//! 2. So a check that still found the lower token read before the higher one was committed, and its session stood before
//!    that. The one who raises looks after its commit, and sees the session: it is ended, and waited for.
//! 3. Any other check reads after that commit, and finds the higher token: its session is not used.
//!
//! Sessions that show up later need not be waited for: they are all of the third kind. A session that is gone has given
//! back its advisory locks, since a server does that first.

use std::time::Duration;

use serde::Deserialize;

use super::Failure;
use super::postgres::{Session, literal, quote};
use super::sessions::OWN;
use crate::outside::Clock;

/// The care of a database.
pub const CARE: &str = "care";
/// Where the tokens are, by schema: no care is taken of it.
pub const SCHEMA: &str = "genesis_fleet";
/// Servers cut longer names of applications, in bytes.
const NAME: usize = 63;
/// Stands before the token in the name of a session.
const MARK: &str = " fence=";
/// So long sessions may take to end.
const END: Duration = Duration::from_secs(10);
/// So often it is looked whether they have.
const PACE: Duration = Duration::from_millis(20);
/// Writing is tried so often where others write, or make the table, at the same moment.
const TRIES: usize = 5;

const MAKE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS genesis_fleet";
const MAKE_TABLE: &str = "CREATE TABLE IF NOT EXISTS genesis_fleet.fence (resource text PRIMARY KEY, token bigint NOT NULL, \
                          holder text NOT NULL, taken_at timestamptz NOT NULL DEFAULT now())";
/// A token that a crash of the server takes back would let in who was kept out.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Under which token sessions work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    /// What is done by one at a time, such as [`CARE`]; it is part of the names of sessions, of 20 bytes at most.
    pub resource: &'static str,
    /// The lock's token.
    pub token: i64,
    /// Who holds the lock, for people.
    pub holder: String,
}

/// What the table has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct There {
    token: i64,
    holder: String,
}

/// A session of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Seen {
    pid: i32,
    /// When it began, in microseconds since 1970; `None`: the role may not know.
    began_us: Option<i64>,
    user: String,
    application: String,
}

/// What a session calls itself. The token is never cut.
pub(super) fn application(purpose: &str, fence: Option<&Fence>) -> String {
    let mut name = format!("{OWN}{purpose}");
    if let Some(Fence { resource, token, .. }) = fence {
        let mark = format!("{MARK}{resource}:{token}");
        // The purposes are words of ours.
        name = name.chars().filter(char::is_ascii).take(NAME.saturating_sub(mark.len())).collect();
        name.push_str(&mark);
    }
    name
}

/// The token for this resource in the name of an agent's session.
fn token_of(application: &str, resource: &str) -> Option<i64> {
    let (_, mark) = application.strip_prefix(OWN)?.rsplit_once(MARK)?;
    let (of, token) = mark.split_once(':')?;
    if of == resource { token.parse().ok() } else { None }
}

/// Whether this token is the one that counts.
fn judge(fence: &Fence, there: Option<&There>) -> Result<(), Failure> {
    let mine = fence.token;
    match there {
        Some(there) if there.token == mine && there.holder == fence.holder => Ok(()),
        Some(There { token, holder }) if *token >= mine => Err(Failure::Fenced(format!(
            "another host of the fleet has taken over: {holder}, whose token is {token}; the token here is {mine}, and \
             nothing further is done. Where the fleet's etcd was made anew its tokens begin anew, too: see that nobody cares for \
             the database, then run there: DELETE FROM genesis_fleet.fence;"
        ))),
        Some(There { token, holder }) => Err(Failure::Fenced(format!(
            "genesis_fleet.fence was put back to the token {token} of {holder}; the token here is {mine}, and nothing \
             further is done"
        ))),
        None => Err(Failure::Fenced(format!(
            "somebody has deleted the token from genesis_fleet.fence; it was {mine}, and nothing further is done"
        ))),
    }
}

/// Takes the fence over, and ends every session that works under a lower token. When it returns, none is left.
///
/// # Errors
/// [`Failure::Fenced`] by a higher token; [`Failure::FenceMissing`] with the SQL to run; [`Failure::FenceBlocked`] by
/// sessions that can't be ended; and what the server says.
pub async fn raise(session: &mut Session, fence: &Fence, clock: &dyn Clock) -> Result<(), Failure> {
    write(session, fence).await?;
    end_lower(session, fence, clock).await
}

/// Whether this token is still the one that counts. It is asked in the very session that is about to work.
///
/// # Errors
/// [`Failure::Fenced`] where it is not, [`Failure::FenceMissing`], and what the server says.
pub async fn check(session: &mut Session, fence: &Fence) -> Result<(), Failure> {
    let there = match look(session, fence).await {
        Err(failure) if unusable(&failure) => return Err(missing(session, &failure).await),
        there => there?,
    };
    judge(fence, there.as_ref())
}

async fn look(session: &mut Session, fence: &Fence) -> Result<Option<There>, Failure> {
    session
        .ask(&format!(
            "SELECT coalesce((SELECT json_build_object('token', token, 'holder', holder) FROM genesis_fleet.fence \
             WHERE resource = {})::text, 'null')",
            literal(fence.resource)
        ))
        .await
}

async fn write(session: &mut Session, fence: &Fence) -> Result<(), Failure> {
    session.run(DURABLE).await?;
    // One token is one holder's, unless the fleet was made anew.
    let sql = format!(
        "INSERT INTO genesis_fleet.fence AS f (resource, token, holder, taken_at) VALUES ({}, {}, {}, now()) \
         ON CONFLICT (resource) DO UPDATE SET token = EXCLUDED.token, holder = EXCLUDED.holder, taken_at = EXCLUDED.taken_at \
         WHERE f.token < EXCLUDED.token OR (f.token = EXCLUDED.token AND f.holder = EXCLUDED.holder) RETURNING token",
        literal(fence.resource),
        fence.token,
        literal(&fence.holder)
    );
    let mut last = None;
    for _ in 0..TRIES {
        let failure = match session.rows(&sql).await {
            Ok(rows) if !rows.is_empty() => return Ok(()),
            Ok(_) => {
                judge(fence, look(session, fence).await?.as_ref())?;
                continue;
            }
            Err(failure) => failure,
        };
        match failure.code() {
            // No such table.
            "42P01" => match make(session).await {
                Err(failure) if unusable(&failure) => {
                    return Err(missing(session, &failure).await);
                }
                Err(failure) if !crossed(&failure) => return Err(failure),
                _ => {}
            },
            "42501" => return Err(missing(session, &failure).await),
            _ if crossed(&failure) => {}
            _ => return Err(failure),
        }
        last = Some(failure);
    }
    let never = || Failure::Odd("the token could neither be written nor was it refused".to_owned());
    Err(last.unwrap_or_else(never))
}

/// Makes the table. Who may not make schemas may still have been given this one.
async fn make(session: &mut Session) -> Result<(), Failure> {
    match session.run(MAKE_TABLE).await {
        Err(failure) if failure.code() == "3F000" => {
            session.run(&format!("{MAKE_SCHEMA}; {MAKE_TABLE}")).await
        }
        made => made,
    }
}

/// Another was at the same at the same moment: the next try tells.
fn crossed(failure: &Failure) -> bool {
    const CODES: [&str; 7] = ["23505", "42P06", "42P07", "42710", "40001", "40P01", "XX000"];
    CODES.contains(&failure.code())
}

/// The table is not there, or not for this role.
fn unusable(failure: &Failure) -> bool {
    matches!(failure.code(), "42P01" | "3F000" | "42501")
}

async fn missing(session: &mut Session, failure: &Failure) -> Failure {
    let role = session.text("SELECT current_user").await.unwrap_or_else(|_| "ROLE".to_owned());
    let role = quote(&role);
    Failure::FenceMissing(format!(
        "the table genesis_fleet.fence, which keeps out a host that was overtaken, can't be used: {failure}; as the owner of \
         the database, run there: {MAKE_SCHEMA}; {MAKE_TABLE}; GRANT USAGE ON SCHEMA genesis_fleet TO {role}; GRANT SELECT, \
         INSERT, UPDATE ON genesis_fleet.fence TO {role};"
    ))
}

/// The agents' sessions in this database but this one.
async fn seen(session: &mut Session) -> Result<Vec<Seen>, Failure> {
    session
        .ask(&format!(
            "SELECT coalesce(json_agg(json_build_object('pid', pid, 'began_us', {BEGAN}, 'user', coalesce(usename, ''), \
             'application', application_name)), '[]')::text FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND starts_with(application_name, {})",
            literal(OWN)
        ))
        .await
}

const BEGAN: &str = "(extract(epoch FROM backend_start) * 1000000)::bigint";

/// Those that work under a lower token.
fn lower(fence: &Fence, seen: Vec<Seen>) -> Vec<Seen> {
    let is_lower = |one: &Seen| {
        token_of(&one.application, fence.resource).is_some_and(|token| token < fence.token)
    };
    seen.into_iter().filter(is_lower).collect()
}

async fn end_lower(session: &mut Session, fence: &Fence, clock: &dyn Clock) -> Result<(), Failure> {
    let mut left = lower(fence, seen(session).await?);
    let mut refused = String::new();
    for one in &left {
        tracing::info!(
            pid = one.pid,
            application = one.application,
            "ends a session that was overtaken"
        );
        let sql = format!(
            "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false)::text FROM pg_stat_activity WHERE pid = {} \
             AND application_name = {} AND {BEGAN} IS NOT DISTINCT FROM {}",
            one.pid,
            literal(&one.application),
            one.began_us.map_or_else(|| "NULL".to_owned(), |began| began.to_string())
        );
        match session.text(&sql).await {
            Ok(_) => {}
            // It may end by itself all the same.
            Err(failure @ Failure::Refused { .. }) => refused = format!(": {failure}"),
            Err(failure) => return Err(failure),
        }
    }
    let since = clock.monotonic();
    while !left.is_empty() {
        let now = seen(session).await?;
        left.retain(|one| now.contains(one));
        if !left.is_empty() && clock.monotonic().saturating_sub(since) >= END {
            let named: Vec<String> = left.iter().map(Seen::words).collect();
            return Err(Failure::FenceBlocked(format!(
                "sessions of a host that was overtaken have not ended within {END:?}, and nothing is done beside them: {}{refused}",
                named.join(", ")
            )));
        }
        if !left.is_empty() {
            clock.sleep(PACE).await;
        }
    }
    Ok(())
}

impl Seen {
    fn words(&self) -> String {
        format!("pid {} ({}, {})", self.pid, self.user, self.application)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(token: i64) -> Fence {
        Fence { resource: CARE, token, holder: "gw-1 (a)".to_owned() }
    }

    #[test]
    fn the_token_is_never_cut_from_a_name() {
        assert_eq!(application("vacuum", None), "genesis-agent/vacuum");
        assert_eq!(application("vacuum", Some(&fence(7))), "genesis-agent/vacuum fence=care:7");
        for token in [0, -1, 7, i64::MAX, i64::MIN] {
            for purpose in ["turn", "reindex-look", &"long".repeat(20), &"ä".repeat(40)] {
                let name = application(purpose, Some(&fence(token)));
                assert!(name.len() <= NAME, "{name}");
                assert_eq!(token_of(&name, CARE), Some(token), "{name}");
            }
        }
    }

    #[test]
    fn only_sessions_of_an_agent_under_a_lower_token_are_meant() {
        for (application, meant) in [
            ("genesis-agent/vacuum fence=care:6", true),
            ("genesis-agent/fence=care:9 fence=care:6", true),
            ("genesis-agent/ fence=care:-1", true),
            ("genesis-agent/vacuum fence=care:7", false),
            ("genesis-agent/vacuum fence=care:8", false),
            ("genesis-agent/vacuum fence=care:", false),
            ("genesis-agent/vacuum fence=care:6x", false),
            ("genesis-agent/vacuum fence=backup:6", false),
            ("genesis-agent/vacuum", false),
            ("genesis-agent/vacuum fence=6", false),
            ("strategy fence=care:6", false),
            ("", false),
        ] {
            let application = application.to_owned();
            let one = Seen { pid: 1, began_us: None, user: "agent".to_owned(), application };
            let found = lower(&fence(7), vec![one.clone()]);
            assert_eq!(!found.is_empty(), meant, "{}", one.application);
        }
    }

    #[test]
    fn only_the_very_token_counts() {
        let there = |token, holder: &str| Some(There { token, holder: holder.to_owned() });
        for (what, there, words) in [
            ("mine", there(7, "gw-1 (a)"), None),
            ("a higher one", there(8, "gw-2 (b)"), Some("gw-2 (b), whose token is 8")),
            ("mine, and another's", there(7, "gw-2 (b)"), Some("gw-2 (b), whose token is 7")),
            ("a lower one", there(6, "gw-1 (a)"), Some("put back to the token 6")),
            ("none", None, Some("deleted")),
        ] {
            let judged = judge(&fence(7), there.as_ref());
            match (words, judged) {
                (None, judged) => assert_eq!(judged, Ok(()), "{what}"),
                (Some(words), Err(Failure::Fenced(said))) => {
                    assert!(said.contains(words), "{what}: {said}");
                }
                (Some(_), other) => panic!("{what}: {other:?}"),
            }
        }
    }
}
