//! The dashboard on a whole terminal: keys, signals and answers change the state, and each change is drawn. Nodes are
//! asked beside that, so that a slow one holds up neither the keys nor the others.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use genesis_client::{Client, Error};
use ratatui::crossterm::event::{self, Event};
use rustix::process::{self, getpgrp, kill_process_group};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::app::{App, Effect};
use super::ask::{self, Told};
use super::looks::Looks;
use super::node::Base;
use super::tab::Tab;
use super::terminal::Screen;
use crate::connect::Session;
use crate::console::{Moment, moment};
use crate::exit::{Exit, Halt};

/// So often at least the time is shown anew.
const TICK: Duration = Duration::from_secs(1);
/// So many answers are taken before they are drawn.
const TOGETHER: usize = 256;
/// So many issues of a node are asked about at a time.
const EXPLAINING: usize = 8;
/// So long a process that was to stop is given to do so.
const STOPPING: Duration = Duration::from_millis(200);

/// What the command line says of it.
pub(in crate::commands) struct Opened {
    pub(in crate::commands) merge: bool,
    pub(in crate::commands) interval: Duration,
}

/// What came of asking.
enum Answer {
    Base(usize, Option<Client>, Box<Result<Base, Error>>),
    Page(usize, Tab, Told),
    Explained(usize, String, Result<Vec<String>, Error>),
}

/// A node, as far as asking goes.
#[derive(Default)]
struct Line {
    client: Option<Client>,
    asked: Option<Moment>,
    asking: bool,
    page: Option<(Tab, Moment)>,
    /// The pages that are being asked for.
    turning: BTreeSet<Tab>,
    /// The issues that it is asked about.
    explaining: BTreeSet<String>,
}

pub(in crate::commands) async fn open(session: &Session<'_>, opened: Opened) -> Result<Exit, Halt> {
    let looks =
        session.console(|console| Looks { colour: console.colour(), unicode: console.unicode() });
    let names: Vec<String> = session.nodes().map(ToString::to_string).collect();
    let mut app = App::new(&names, looks, moment());
    app.merge = opened.merge && names.len() > 1;
    app.interval = opened.interval;
    // Before the terminal is taken, so that none comes in between.
    let heard = |error: io::Error| Halt::Failed(format!("can't listen for signals: {error}"));
    let mut signals = Signals::listen().map_err(heard)?;
    let taken = |error: io::Error| Halt::Failed(format!("can't draw on the terminal: {error}"));
    let mut screen = Screen::take(session).map_err(taken)?;
    let mut desk = Desk::new(session, names.len());
    let ended = follow(&mut signals, &mut app, &mut screen, &mut desk).await;
    drop(screen);
    let flushed = session.console(|console| console.stdout.flush());
    if let Err(error) = ended.and(flushed) {
        if !is_gone(&error) {
            return Err(Halt::output(&error));
        }
        // The terminal is gone, and with it whoever could be told. What was not yet written goes nowhere.
        session.console(|console| console.stdout = Box::new(io::sink()));
    }
    app.tick(moment());
    Ok(app.exit())
}

fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::IO, Errno::NXIO, Errno::BADF, Errno::NOTTY];
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::BrokenPipe
        || gone.iter().any(|gone| code == Some(gone.raw_os_error()))
}

/// What ends or stops programs from outside.
struct Signals {
    ends: Ends,
    go_on: Signal,
}

/// Those that end it.
struct Ends([Signal; 4]);

impl Signals {
    fn listen() -> io::Result<Self> {
        let ends = Ends([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ]);
        let go_on = signal(SignalKind::from_raw(process::Signal::CONT.as_raw()))?;
        Ok(Self { ends, go_on })
    }
}

impl Ends {
    /// Until one of them comes.
    async fn recv(&mut self) {
        let Self([terminate, interrupt, hangup, quit]) = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

/// Until somebody or something ends it.
async fn follow(
    signals: &mut Signals,
    app: &mut App,
    screen: &mut Screen<'_, '_>,
    desk: &mut Desk<'_, '_>,
) -> io::Result<()> {
    let mut events = events();
    loop {
        app.resize(screen.size()?);
        desk.ask(app, moment());
        screen.draw(app)?;
        let pause = desk.pause(app, moment());
        let effect = tokio::select! {
            biased;
            () = signals.ends.recv() => return Ok(()),
            // It was stopped, and the terminal was the shell's.
            _ = signals.go_on.recv() => { screen.again()?; None }
            event = events.recv() => match event {
                Some(Ok(event)) => heard(app, &event),
                // No key is ever heard again.
                Some(Err(_)) | None => return Ok(()),
            },
            Some(answer) = desk.running.next() => {
                desk.told(app, answer);
                for _ in 0..TOGETHER {
                    match desk.running.next().now_or_never().flatten() {
                        Some(answer) => desk.told(app, answer),
                        None => break,
                    }
                }
                None
            }
            () = tokio::time::sleep(pause) => None,
        };
        app.tick(moment());
        match effect {
            None => {}
            Some(Effect::Quit) => return Ok(()),
            Some(Effect::Refresh) => desk.forget(),
            Some(Effect::Explain(node, issue)) => desk.explain(node, issue),
            Some(Effect::Suspend) => {
                screen.leave();
                // Where nobody could wake it the system does not stop it.
                kill_process_group(getpgrp(), process::Signal::TSTP)?;
                let _ = tokio::time::timeout(STOPPING, signals.go_on.recv()).await;
                screen.again()?;
            }
        }
    }
}

fn heard(app: &mut App, event: &Event) -> Option<Effect> {
    match event {
        Event::Key(key) => app.key(*key, moment()),
        // The size is looked at before each drawing.
        _ => None,
    }
}

/// What the terminal says, read by a thread that ends with the process.
fn events() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Who is asked what, and when.
struct Desk<'s, 'c> {
    session: &'s Session<'c>,
    lines: Vec<Line>,
    running: FuturesUnordered<LocalBoxFuture<'s, Answer>>,
}

impl<'s, 'c> Desk<'s, 'c> {
    fn new(session: &'s Session<'c>, nodes: usize) -> Self {
        let lines = std::iter::repeat_with(Line::default).take(nodes).collect();
        Self { session, lines, running: FuturesUnordered::new() }
    }

    /// Asks whoever is due, as many at a time as the session allows.
    fn ask(&mut self, app: &App, now: Moment) {
        let due = |asked: Option<Moment>| {
            asked.is_none_or(|at| !app.paused && now.up.saturating_sub(at.up) >= app.interval)
        };
        let most = self.session.global.max_parallel as usize;
        if let Some(node) = app.opened
            && let Some(line) = self.lines.get_mut(node)
            && let Some(client) = line.client.clone()
            && !app.tab.is_of_base()
            && !line.turning.contains(&app.tab)
            && due(line.page.filter(|(tab, _)| *tab == app.tab).map(|(_, at)| at))
        {
            let tab = app.tab;
            line.page = Some((tab, now));
            line.turning.insert(tab);
            let answer = async move { Answer::Page(node, tab, ask::tab(&client, tab).await) };
            self.running.push(answer.boxed_local());
        }
        // The one that is looked at, which waits for no other; then those that have waited longest.
        let mut waiting: Vec<usize> = (0..self.lines.len())
            .filter(|node| !self.lines[*node].asking && due(self.lines[*node].asked))
            .collect();
        waiting.sort_by_key(|node| {
            (app.opened != Some(*node), self.lines[*node].asked.map(|at| at.up))
        });
        for node in waiting {
            if self.running.len() >= most && app.opened != Some(node) {
                break;
            }
            let line = &mut self.lines[node];
            line.asking = true;
            line.asked = Some(now);
            let answer = base(self.session, node, line.client.clone());
            self.running.push(answer.boxed_local());
        }
    }

    /// Asks everything anew, whenever it was asked.
    fn forget(&mut self) {
        for line in &mut self.lines {
            line.asked = None;
            line.page = None;
        }
    }

    fn explain(&mut self, node: usize, issue: String) {
        let Some(line) = self.lines.get_mut(node) else { return };
        let Some(client) = line.client.clone() else { return };
        if line.explaining.len() >= EXPLAINING || !line.explaining.insert(issue.clone()) {
            return;
        }
        let answer = async move {
            let said = ask::explain(&client, &issue).await;
            Answer::Explained(node, issue, said)
        };
        self.running.push(answer.boxed_local());
    }

    fn told(&mut self, app: &mut App, answer: Answer) {
        let now = moment();
        match answer {
            Answer::Base(node, client, told) => {
                if let Some(line) = self.lines.get_mut(node) {
                    line.asking = false;
                    // One that was had before makes its connection again by itself.
                    line.client = client;
                }
                app.told(node, *told, now);
            }
            Answer::Page(node, tab, told) => {
                if let Some(line) = self.lines.get_mut(node) {
                    line.turning.remove(&tab);
                }
                app.page(node, tab, told, now);
            }
            Answer::Explained(node, issue, said) => {
                if let Some(line) = self.lines.get_mut(node) {
                    line.explaining.remove(&issue);
                }
                app.explained(node, &issue, said);
            }
        }
    }

    /// Until somebody is due or the time is to be shown.
    fn pause(&self, app: &App, now: Moment) -> Duration {
        if app.paused {
            return TICK;
        }
        let left = |at: Moment| (at.up + app.interval).saturating_sub(now.up);
        let asked = self.lines.iter().filter(|line| !line.asking).filter_map(|line| line.asked);
        let page = app.opened.and_then(|node| self.lines.get(node));
        let page = page.filter(|line| !line.turning.contains(&app.tab)).and_then(|line| line.page);
        let next = asked.map(left).chain(page.map(|(_, at)| left(at))).min().unwrap_or(TICK);
        next.clamp(Duration::from_millis(20), TICK)
    }
}

async fn base(session: &Session<'_>, node: usize, client: Option<Client>) -> Answer {
    let Some(name) = session.nodes.get(node) else {
        // Nodes are as many as lines.
        return Answer::Page(node, Tab::Overview, Told::default());
    };
    let work = async {
        let client = match client.clone() {
            Some(client) => client,
            None => Client::connect(name, session.options()).await?,
        };
        let told = ask::base(&client).await;
        Ok((client, told))
    };
    match session.within(name, work).await {
        Ok((client, told)) => {
            let told = told.map_err(|error| session.advised(name, error));
            Answer::Base(node, Some(client), Box::new(told))
        }
        Err(error) => Answer::Base(node, client, Box::new(Err(session.advised(name, error)))),
    }
}
