//! The place where a simulation takes over from tokio, for the thread that it goes on in.

use std::cell::RefCell;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;

use tokio::sync::oneshot;

/// Something that is done in steps.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a simulation does in the place of tokio.
pub trait Simulated {
    /// Has a task go on beside the one that goes on now, for as long as the host of that one lives.
    fn begin(&self, task: Task);

    /// Takes as long as a disk does.
    fn disk(&self) -> Task;
}

thread_local! {
    static HERE: RefCell<Option<Rc<dyn Simulated>>> = const { RefCell::new(None) };
}

fn here() -> Option<Rc<dyn Simulated>> {
    HERE.with(|here| here.borrow().clone())
}

/// Ends the simulation of this thread, also by a panic.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        HERE.with(|here| here.borrow_mut().take());
    }
}

/// Has a simulation take over on this thread while `work` goes on.
pub fn during<T>(simulation: Rc<dyn Simulated>, work: impl FnOnce() -> T) -> T {
    HERE.with(|here| *here.borrow_mut() = Some(simulation));
    let _over = Over;
    work()
}

/// Begins a task, if there is a simulation.
///
/// # Errors
/// The task, where there is none.
pub fn begin<F>(task: F) -> Result<(), F>
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(simulation) = here() else { return Err(task) };
    simulation.begin(Box::pin(task));
    Ok(())
}

/// Has work done that waits for a disk, if there is a simulation: it takes time before it is done, and before that is known.
///
/// # Errors
/// The work, where there is none.
pub fn aside<T, W>(work: W) -> Result<impl Future<Output = T> + Send, W>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let Some(simulation) = here() else { return Err(work) };
    let (tell, told) = oneshot::channel();
    let (before, after) = (simulation.disk(), simulation.disk());
    simulation.begin(Box::pin(async move {
        before.await;
        let done = work();
        after.await;
        // Who asked may have left.
        let _ = tell.send(done);
    }));
    Ok(async move {
        match told.await {
            Ok(done) => done,
            // The host is gone, and with it whoever waits here.
            Err(_) => pending().await,
        }
    })
}
