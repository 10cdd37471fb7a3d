//! What goes on beside whoever begins it: tasks, and work that waits for a disk. A simulation takes the place of tokio here,
//! so that what comes first is decided by its seed.

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinError};

#[cfg(test)]
pub mod simulated;

/// A task that ends when this is dropped. In a simulation it ends with its host.
pub struct Attached(Option<AbortHandle>);

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Begins a task that goes on for as long as what is returned.
pub fn attached(task: impl Future<Output = ()> + Send + 'static) -> Attached {
    #[cfg(test)]
    let task = match simulated::begin(task) {
        Ok(()) => return Attached(None),
        Err(task) => task,
    };
    Attached(Some(tokio::spawn(task).abort_handle()))
}

/// Begins a task that goes on by itself. Where no runtime goes on any more, nothing begins.
pub fn detached(task: impl Future<Output = ()> + Send + 'static) {
    #[cfg(test)]
    let task = match simulated::begin(task) {
        Ok(()) => return,
        Err(task) => task,
    };
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}

/// Does work that may wait for a disk on one of the runtime's own threads. It is done to its end, also when nobody waits for
/// it any more.
///
/// # Errors
/// When it panicked, or the runtime ended before it began.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(test)]
    let work = match simulated::aside(work) {
        Ok(done) => return Ok(done.await),
        Err(work) => work,
    };
    tokio::task::spawn_blocking(work).await
}
