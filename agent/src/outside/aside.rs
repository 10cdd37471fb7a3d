//! Work that may hang in the kernel, out of the way of everything else.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

/// A look does little; the C library's resolver wants the most.
const STACK_BYTES: usize = 512 << 10;

/// What is under way, each with where its answer will be.
type UnderWay<K, V> = Mutex<HashMap<K, watch::Receiver<Option<V>>>>;

/// Runs work on threads of its own, one for each key at a time. A dead network mount holds a system call for hours:
/// on the runtime's own few threads for such work it would soon hold the whole agent. Who asks for what is under way
/// already waits for the same answer, so that there are never more threads than keys, however often is asked.
#[derive(Debug)]
pub struct Aside<K, V> {
    under_way: Arc<UnderWay<K, V>>,
}

impl<K, V> Default for Aside<K, V> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<K, V> Aside<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What `work` returns, or the same work under `key` that was under way already. It goes on when nobody waits
    /// for it any more.
    ///
    /// # Errors
    /// When no thread is to be had, or the work broke off; in words.
    pub async fn run(
        &self,
        key: &K,
        work: impl FnOnce() -> V + Send + 'static,
    ) -> Result<V, String> {
        let mut answer = self.begin(key, work)?;
        let value = answer.wait_for(Option::is_some).await;
        value.ok().and_then(|value| value.clone()).ok_or_else(|| "the look broke off".to_owned())
    }

    fn begin(
        &self,
        key: &K,
        work: impl FnOnce() -> V + Send + 'static,
    ) -> Result<watch::Receiver<Option<V>>, String> {
        // Held until the key is in, so that the thread can't take it out before.
        let mut under_way = lock(&self.under_way);
        if let Some(answer) = under_way.get(key) {
            return Ok(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        let (place, own) = (Arc::clone(&self.under_way), key.clone());
        std::thread::Builder::new()
            .name("look".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Made here and not outside: where no thread is to be had, this closure is dropped while the lock
                // is held, and an entry in it would wait for that lock for ever.
                let entry = Entry { under_way: place, key: own };
                let value = work();
                // Who asks from now on wants to know what is so from now on.
                drop(entry);
                sender.send_replace(Some(value));
            })
            .map_err(|error| format!("no thread to look with: {error}"))?;
        under_way.insert(key.clone(), answer.clone());
        Ok(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Takes its key out when it is dropped, also by a panic.
struct Entry<K: Eq + Hash, V> {
    under_way: Arc<UnderWay<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_look_at_a_time_answers_all_who_ask_and_the_next_one_is_new() {
        let (aside, count) = (Aside::default(), Arc::new(AtomicU32::new(0)));
        let (let_go, held) = mpsc::channel::<()>();
        let counting = |held: Option<mpsc::Receiver<()>>| {
            let count = Arc::clone(&count);
            move || {
                held.map(|held| held.recv());
                count.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        {
            // Nobody waits for the first any more; it is under way all the same.
            let first = aside.run(&"x", counting(Some(held)));
            assert!(futures_util::FutureExt::now_or_never(first).is_none());
        }
        let other = aside.run(&"y", || 7).await;
        assert_eq!(other, Ok(7), "one that hangs holds no other");
        let (one, two, ()) =
            tokio::join!(aside.run(&"x", counting(None)), aside.run(&"x", counting(None)), async {
                let_go.send(()).unwrap()
            });
        assert_eq!((one, two), (Ok(1), Ok(1)));
        assert_eq!(aside.run(&"x", counting(None)).await, Ok(2));
        assert!(lock(&aside.under_way).is_empty());
    }

    #[tokio::test]
    async fn a_look_that_panics_is_told_and_forgotten() {
        let aside = Aside::default();
        let broken = aside.run(&1, || -> u8 { panic!("on purpose") }).await;
        assert_eq!(broken, Err("the look broke off".to_owned()));
        assert_eq!(aside.run(&1, || 5).await, Ok(5));
    }
}
