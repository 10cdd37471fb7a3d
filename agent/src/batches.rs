//! Batches of a producer that are answered once they are durable, and count once: what the file of observations and that
//! of trades have in common.

mod trouble;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use genesis_storage::Producer;

use crate::error::{Error, Result};
pub use trouble::Trouble;

/// So many producers are known at a time.
pub const PRODUCERS: usize = 10_000;
/// Of those that were silent for so long, in milliseconds, some make room for others.
const SILENT: i64 = 86_400_000;
/// So many at a time.
const LET_GO: usize = PRODUCERS / 10;

/// What the batches of one stream have in common: once one of them came to nothing, none behind it counts, or its sender
/// would send it again in vain.
pub type Stream = Arc<AtomicBool>;

/// How far each producer is, and what a group of batches changes of that until it is durable.
#[derive(Debug, Default)]
pub struct Producers {
    known: HashMap<String, Producer>,
    changed: HashMap<String, Producer>,
    /// How many of those are new.
    new: usize,
    /// Those that make room.
    forgotten: Vec<String>,
}

impl Producers {
    /// As they are on the disk.
    pub fn new(known: impl IntoIterator<Item = (String, Producer)>) -> Self {
        Self { known: known.into_iter().collect(), ..Self::default() }
    }

    /// Begins a group.
    pub fn begin(&mut self) {
        self.changed.clear();
        self.forgotten.clear();
        self.new = 0;
    }

    /// Takes a batch of the group in; `false`: it was there before.
    ///
    /// # Errors
    /// `TOO_MANY_PRODUCERS`.
    pub fn take(&mut self, name: &str, sequence: u64, at_millis: i64) -> Result<bool> {
        let known = self.changed.get(name).or_else(|| self.known.get(name)).copied();
        if known.is_some_and(|known| sequence <= known.sequence) {
            return Ok(false);
        }
        if known.is_none() {
            if !self.has_room() {
                self.let_go(at_millis);
            }
            if !self.has_room() {
                return Err(crowded(name));
            }
            self.new += 1;
        }
        self.changed.insert(name.to_owned(), Producer { sequence, at_millis });
        Ok(true)
    }

    fn has_room(&self) -> bool {
        self.known.len() + self.new < PRODUCERS + self.forgotten.len()
    }

    /// Those that were silent the longest make room.
    fn let_go(&mut self, at_millis: i64) {
        let mut silent: Vec<(i64, &String)> = self
            .known
            .iter()
            .filter(|(name, it)| {
                it.at_millis < at_millis - SILENT && !self.changed.contains_key(*name)
            })
            .map(|(name, it)| (it.at_millis, name))
            .collect();
        silent.sort_unstable();
        self.forgotten = silent.into_iter().take(LET_GO).map(|(_, name)| name.clone()).collect();
    }

    /// Those that the group forgets.
    pub fn forgotten(&self) -> impl Iterator<Item = &String> {
        self.forgotten.iter().filter(|name| !self.changed.contains_key(*name))
    }

    /// Those that the group changes.
    pub fn changed(&self) -> impl Iterator<Item = (&String, &Producer)> {
        self.changed.iter()
    }

    /// The group is durable.
    pub fn end(&mut self) {
        for name in std::mem::take(&mut self.forgotten) {
            self.known.remove(&name);
        }
        self.known.extend(std::mem::take(&mut self.changed));
        self.new = 0;
    }
}

/// A batch that is behind one that came to nothing.
pub fn broken(sequence: u64) -> Error {
    let message = format!("batch {sequence} is behind one that is not kept; send both again");
    Error::unavailable("STREAM_BROKEN", message)
}

fn crowded(producer: &str) -> Error {
    let message = format!(
        "{PRODUCERS} producers are known already, {producer} would be one more; give each process a lasting name, and wait \
         until one of those was silent for a day"
    );
    Error::unavailable("TOO_MANY_PRODUCERS", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_silent_the_longest_make_room_and_nobody_else() {
        let each = (0..PRODUCERS as i64)
            .map(|at| (format!("p-{at}"), Producer { sequence: 7, at_millis: at }));
        let mut producers = Producers::new(each);
        producers.begin();
        // Of nobody it is known that a day has passed.
        let crowded = producers.take("new", 1, SILENT).unwrap_err();
        assert_eq!(crowded.code, "TOO_MANY_PRODUCERS");
        assert_eq!(producers.take("p-0", 7, SILENT).ok(), Some(false));
        assert_eq!(producers.take("p-0", 8, SILENT).ok(), Some(true));
        // Five are silent for long enough, of which one has just come back.
        assert_eq!(producers.take("new", 1, SILENT + 5).ok(), Some(true));
        let mut forgotten: Vec<&str> = producers.forgotten().map(String::as_str).collect();
        forgotten.sort_unstable();
        assert_eq!(forgotten, ["p-1", "p-2", "p-3", "p-4"]);
        producers.end();
        producers.begin();
        assert_eq!(producers.take("p-1", 1, SILENT + 5).ok(), Some(true), "it begins anew");
        assert_eq!(producers.take("p-9", 7, SILENT + 5).ok(), Some(false));
    }
}
