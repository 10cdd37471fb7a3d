//! An answer that many ask for at once is made once.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Makes answers, one at a time. Who asks while one is made shares the next one with all who asked meanwhile, never one
/// that was begun before it was asked for: what somebody has just changed is in it.
#[derive(Debug)]
pub(super) struct Shared<V> {
    /// So many have been begun.
    begun: AtomicU64,
    /// The last one that was made, with its number.
    last: Mutex<Option<(u64, V)>>,
}

impl<V> Default for Shared<V> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::default() }
    }
}

impl<V: Clone> Shared<V> {
    /// What `make` returns, or what it returned to somebody else, called after this was.
    pub(super) async fn ask(&self, make: impl FnOnce() -> V) -> V {
        let before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, answer)) = &*last
            && *number > before
        {
            return answer.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = make();
        *last = Some((number, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    /// Asks; what is made is the count of those made so far.
    async fn ask(shared: &Shared<u64>, made: &AtomicU64) -> u64 {
        shared.ask(|| made.fetch_add(1, Ordering::SeqCst) + 1).await
    }

    #[tokio::test]
    async fn each_who_asks_alone_has_an_answer_of_its_own() {
        let (shared, made) = (Shared::default(), AtomicU64::new(0));
        assert_eq!(ask(&shared, &made).await, 1);
        assert_eq!(ask(&shared, &made).await, 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn those_who_ask_while_one_is_made_share_the_next_one() {
        let (shared, made) = (Arc::new(Shared::default()), Arc::new(AtomicU64::new(0)));
        let (begun, has_begun) = mpsc::channel();
        let (let_go, held) = mpsc::channel::<()>();
        let (own, count) = (Arc::clone(&shared), Arc::clone(&made));
        let first = tokio::spawn(async move {
            own.ask(move || {
                begun.send(()).unwrap();
                held.recv().unwrap();
                count.fetch_add(1, Ordering::SeqCst) + 1
            })
            .await
        });
        tokio::task::block_in_place(|| has_begun.recv()).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let mut asked = Box::pin(ask(&shared, &made));
            // They have asked, and wait.
            assert!(futures_util::FutureExt::now_or_never(&mut asked).is_none());
            waiting.push(asked);
        }
        let_go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), 1);
        for asked in waiting {
            // Not the first, which may have looked before they asked.
            assert_eq!(asked.await, 2);
        }
        assert_eq!(ask(&shared, &made).await, 3);
    }

    #[tokio::test]
    async fn who_leaves_holds_nobody() {
        let (shared, made) = (Shared::default(), AtomicU64::new(0));
        let held = shared.last.lock().await;
        let mut gone = Box::pin(ask(&shared, &made));
        assert!(futures_util::FutureExt::now_or_never(&mut gone).is_none());
        drop((gone, held));
        assert_eq!(ask(&shared, &made).await, 1);
    }
}
