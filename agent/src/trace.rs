//! Which trace belongs to what is being done: a call has the one of its caller or a new one, and hands it to the runs
//! that it starts and to the entries of the operation log that it makes.
//!
//! W3C Trace Context (2021), section 3.2: `00-<trace>-<parent>-<flags>` in lower-case hex.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use genesis_storage::Intent;
use rustix::rand::{GetRandomFlags, getrandom};

tokio::task_local! {
    static CURRENT: Option<Trace>;
}

/// A trace, and where in it something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: [u8; 16],
    /// The caller's span; zeros: there is none.
    parent: [u8; 8],
    sampled: bool,
}

impl Trace {
    /// A new one, which nobody has begun elsewhere.
    pub fn begin() -> Self {
        let mut id = [0; 16];
        // A system without random numbers has other troubles: here the ids are just to differ.
        if getrandom(&mut id, GetRandomFlags::empty()) != Ok(id.len()) || id == [0; 16] {
            static NEXT: AtomicU64 = AtomicU64::new(1);
            id[8..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        }
        Self { id, parent: [0; 8], sampled: true }
    }

    /// The one of a `traceparent`; `None`: it is none that can be followed.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let [version, id, parent, flags] =
            [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let version = digits::<1>(version)?[0];
        // A later version may say more behind what is known of it.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let (id, parent) = (digits::<16>(id)?, digits::<8>(parent)?);
        let flags = digits::<1>(flags)?[0];
        (id != [0; 16] && parent != [0; 8]).then_some(Self { id, parent, sampled: flags & 1 == 1 })
    }

    /// The one with this id, such as the record of a run keeps.
    pub fn of(id: &str) -> Option<Self> {
        let id = digits::<16>(id)?;
        (id != [0; 16]).then_some(Self { id, parent: [0; 8], sampled: true })
    }

    /// Its id, in 32 hex digits.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// Its id.
    pub fn id_bytes(&self) -> [u8; 16] {
        self.id
    }

    /// The caller's span, and whether the caller records it.
    pub fn parent(&self) -> Option<([u8; 8], bool)> {
        (self.parent != [0; 8]).then_some((self.parent, self.sampled))
    }

    /// Whatever `future` does belongs to this.
    pub fn cover<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Some(self), future)
    }

    /// What is sent to have something belong to this that no collector is told of.
    pub fn untold(&self) -> String {
        format!("00-{}-{}-00", self.id(), hex::encode(&self.id[8..]))
    }
}

/// So many bytes in lower-case hex, and nothing else.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// That of what is being done here, if it has one.
pub fn current() -> Option<Trace> {
    CURRENT.try_with(|trace| *trace).ok().flatten()
}

/// What belongs to the same as what is being done here, if that has a trace, and goes on in a task of its own.
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(current(), future)
}

/// What is done here for others, and belongs to none.
pub fn apart<F: Future>(future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(None, future)
}

/// Says in an intent what it belongs to.
pub fn stamp(intent: Intent) -> Intent {
    match current() {
        Some(trace) if intent.trace_id.is_empty() => intent.trace_id(trace.id()),
        _ => intent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn what_is_followed() {
        for (header, sampled) in [
            (format!("00-{ID}-00f067aa0ba902b7-01"), Some(true)),
            (format!("00-{ID}-00f067aa0ba902b7-00"), Some(false)),
            (format!("00-{ID}-00f067aa0ba902b7-03"), Some(true)),
            (format!("cc-{ID}-00f067aa0ba902b7-01-what-comes-later"), Some(true)),
            (format!("00-{ID}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{ID}-00f067aa0ba902b7-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{ID}-0000000000000000-01"), None),
            (format!("00-{ID}-00f067aa0ba902b7"), None),
            (format!("00-{ID}-00f067aa0ba902b7-1"), None),
            (format!("00-{ID}0-00f067aa0ba902b7-01"), None),
            (format!("0-{ID}-00f067aa0ba902b7-01"), None),
            (" ".to_owned(), None),
            ("-".repeat(9_000), None),
            ("00-ääää-00f067aa0ba902b7-01".to_owned(), None),
        ] {
            let read = Trace::parse(&header);
            assert_eq!(read.and_then(|it| it.parent()).map(|it| it.1), sampled, "{header}");
            if let Some(read) = read {
                assert_eq!(read.id(), ID);
            }
        }
    }

    #[test]
    fn new_ones_differ_and_can_be_had_back() {
        let (one, other) = (Trace::begin(), Trace::begin());
        assert_ne!(one, other);
        assert_eq!(Trace::of(&one.id()), Some(one));
        assert_eq!(Trace::of(""), None);
    }

    #[tokio::test]
    async fn an_intent_says_what_it_belongs_to() {
        let intent = || Intent::new(jiff::Timestamp::UNIX_EPOCH, "x", "y");
        assert_eq!(stamp(intent()).trace_id, "");
        let (one, other) = (Trace::begin(), Trace::begin());
        let covered = one.cover(async { stamp(intent()).trace_id });
        assert_eq!(covered.await, one.id());
        let given = one.cover(async { stamp(intent().trace_id(other.id())).trace_id });
        assert_eq!(given.await, other.id());
        let others = one.cover(async { apart(async { stamp(intent()).trace_id }).await });
        assert_eq!(others.await, "", "what others have left");
        let carried = one.cover(async { tokio::spawn(carry(async { current() })).await });
        assert_eq!(carried.await.unwrap(), Some(one));
        assert_eq!(tokio::spawn(carry(async { current() })).await.unwrap(), None);
        let untold = Trace::parse(&one.untold()).unwrap();
        assert_eq!((untold.id(), untold.parent().map(|it| it.1)), (one.id(), Some(false)));
    }
}
