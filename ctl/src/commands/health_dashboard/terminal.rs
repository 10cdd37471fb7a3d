//! The terminal: taken over, and given back however the program ends.

use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::app::App;
use super::draw::draw;
use crate::connect::Session;
use crate::render;

/// Whether the terminal is taken over now.
static TAKEN: AtomicBool = AtomicBool::new(false);

type Hook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

/// The session's standard output. What can't be written is lost, and why is kept: ratatui would complain about it on a
/// standard error that is gone as well.
struct Out<'s, 'c> {
    session: &'s Session<'c>,
    failed: Rc<RefCell<Option<io::Error>>>,
}

impl<'s, 'c> Out<'s, 'c> {
    fn of(session: &'s Session<'c>) -> Self {
        Self { session, failed: Rc::default() }
    }

    fn keep(&self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }
}

impl Write for Out<'_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.keep(self.session.console(|console| render::screen(console, data)));
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.keep(self.session.console(|console| console.stdout.flush()));
        Ok(())
    }
}

/// The whole terminal. It is given back when this is dropped.
pub(super) struct Screen<'s, 'c> {
    session: &'s Session<'c>,
    terminal: Terminal<CrosstermBackend<Out<'s, 'c>>>,
    /// Why something could not be drawn.
    failed: Rc<RefCell<Option<io::Error>>>,
    /// What was done at a panic before.
    hook: Arc<Hook>,
}

impl<'s, 'c> Screen<'s, 'c> {
    pub(super) fn take(session: &'s Session<'c>) -> io::Result<Self> {
        let hook: Arc<Hook> = panic::take_hook().into();
        let before = Arc::clone(&hook);
        panic::set_hook(Box::new(move |info| {
            give_back(&mut io::stdout());
            before(info);
        }));
        let out = Out::of(session);
        let failed = Rc::clone(&out.failed);
        match enter(out) {
            Ok(terminal) => Ok(Self { session, terminal, failed, hook }),
            Err(error) => {
                give_back(&mut Out::of(session));
                reinstall(hook);
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, app: &App) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, app))?;
        self.failed.take().map_or(Ok(()), Err)
    }

    /// How wide and high it is.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }

    /// Gives the terminal back for a while.
    pub(super) fn leave(&mut self) {
        give_back(&mut Out::of(self.session));
    }

    /// Takes it over again, whatever was written on it meanwhile.
    pub(super) fn again(&mut self) -> io::Result<()> {
        let failed = Rc::clone(&self.failed);
        // What the shell made of its modes meanwhile is no mode of ours.
        disable_raw_mode()?;
        self.terminal = enter(Out { session: self.session, failed })?;
        Ok(())
    }
}

impl Drop for Screen<'_, '_> {
    fn drop(&mut self) {
        // A panic has given it back already, and may have happened while the console was in use.
        if !std::thread::panicking() {
            give_back(&mut Out::of(self.session));
            reinstall(Arc::clone(&self.hook));
        }
    }
}

fn reinstall(hook: Arc<Hook>) {
    drop(panic::take_hook());
    panic::set_hook(Box::new(move |info| hook(info)));
}

fn enter<'s, 'c>(mut out: Out<'s, 'c>) -> io::Result<Terminal<CrosstermBackend<Out<'s, 'c>>>> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(out, EnterAlternateScreen, Hide, Clear(ClearType::All))?;
    Terminal::new(CrosstermBackend::new(out))
}

/// As it was, once; where that fails there is no terminal any more.
fn give_back(out: &mut impl Write) {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(out, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
