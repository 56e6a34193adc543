//! The command while it runs: started, shown progress of, and waited for.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use nix::unistd::Pid;
use quotakeeper_limiter::task::{Health, Limiter};
use quotakeeper_proxy::Proxy;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::child;
use super::direct::DirectConnections;
use super::learned::Learned;
use super::progress::{Line, Style};
use super::refusals::RefusalsByLimit;
use super::signals::Signals;
use super::suspend;
use super::terminal::{self, Terminal};
use super::usage::UsageSeen;
use super::view::View;
use super::waits::LongWaits;
use super::{Failure, Started, user};
use crate::cli::{Progress, RunArguments};
use crate::output::{say, send_messages};

/// The interval of the progress line.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How long the calls and connections of an ended command have to end: it is over in moments, unless processes are left.
const SETTLED: Duration = Duration::from_secs(2);

/// A command that has ended.
pub struct Ended {
    pub status: ExitStatus,
    /// How long it ran.
    pub ran: Duration,
    /// What was seen meanwhile.
    pub shown: Shown,
}

/// Runs the command until it has ended. `notes`: what a person is told first.
///
/// # Errors
/// The command can't be started or waited for.
pub async fn run_command(
    arguments: &RunArguments,
    started: &mut Started,
    view: &View,
    notes: &[String],
) -> Result<Ended, Failure> {
    let began = Instant::now();
    let signals = Signals::catch().context("signals can't be watched")?;
    let (terminal, outputs) = if shares_terminal(arguments) { Terminal::open() } else { None }.unzip();
    if let (Some(outputs), Some(user)) = (&outputs, &arguments.user) {
        let given = user::find(user).and_then(|user| Ok(outputs.give_to(&user)?));
        given.context("the terminal can't be given to the user")?;
    }
    let command = match &arguments.user {
        Some(user) => user::command_line(user, &arguments.command)?,
        None => arguments.command.clone(),
    };
    let child = child::start(&command, &view.environment, &view.replacements, outputs.as_ref())
        .map_err(|error| Failure { code: error.exit_code(), error: anyhow!("{error}") })?;
    // The command has it now, and its end shows that nobody writes any more.
    drop(outputs);
    suspend::follow(terminal.clone(), child::pid(&child)?);
    let shared = terminal.clone().map(SharedTerminal::new);
    notes.iter().for_each(|note| say(note));
    let mut shown = Shown {
        line: Line::new(style(arguments, terminal)),
        direct: std::mem::take(&mut started.direct),
        metrics: arguments.admin.and_then(|_| started.metrics.take()),
        quiet: arguments.quiet,
        ..Shown::default()
    };
    let status = watch(child, signals, &started.limiter, &started.proxy, &mut shown).await?;
    let ran = began.elapsed();
    all_calls_end(&started.proxy).await;
    drop(shared);
    Ok(Ended { status, ran, shown })
}

/// Whether the command shares the terminal with a progress line.
pub fn shares_terminal(arguments: &RunArguments) -> bool {
    arguments.progress == Progress::Auto && !arguments.quiet && terminal::is_ours()
}

fn style(arguments: &RunArguments, terminal: Option<Terminal>) -> Style {
    match (arguments.progress, terminal) {
        _ if arguments.quiet => Style::Off,
        (Progress::Off, _) => Style::Off,
        (Progress::Auto, Some(terminal)) => Style::Live(terminal),
        (Progress::Auto | Progress::Plain, _) => Style::Plain,
    }
}

/// Messages go to the shared terminal while this lives.
struct SharedTerminal(Terminal);

impl SharedTerminal {
    fn new(terminal: Terminal) -> SharedTerminal {
        let messages = terminal.clone();
        send_messages(Some(Box::new(move |text| messages.message(text))));
        SharedTerminal(terminal)
    }
}

impl Drop for SharedTerminal {
    fn drop(&mut self) {
        send_messages(None);
        self.0.finish();
    }
}

/// Waits until the calls of clients that ended with the command are over, and what connections without one mean is
/// counted, so that the report has them. Processes that the command has left may go on calling.
async fn all_calls_end(proxy: &Proxy) {
    let until = Instant::now() + SETTLED;
    while !proxy.is_settled() && Instant::now() < until {
        tokio::time::sleep(SETTLED / 100).await;
    }
}

/// What is shown and noted while the command runs.
#[derive(Default)]
pub struct Shown {
    line: Line,
    waits: LongWaits,
    pub learned: Learned,
    pub refusals: RefusalsByLimit,
    pub direct: DirectConnections,
    pub usage: UsageSeen,
    /// Where the limiter's metrics are served; none: nowhere.
    metrics: Option<watch::Sender<String>>,
    quiet: bool,
}

impl Shown {
    fn look(&mut self, proxy: &Proxy, health: Health, command: Pid) {
        let accounts = &health.report.accounts;
        self.usage.look(accounts);
        self.line.show(accounts, &self.usage);
        self.refusals.look(&proxy.stats(), accounts);
        for host in self.direct.look(command) {
            let remedy = proxy.bypass_remedy();
            say(&format!(
                "the command connects to {host} without the proxy, and its calls there are not limited: {remedy}"
            ));
        }
        let news = self.waits.news(accounts, Timestamp::now());
        let learned = self.learned.news(accounts);
        news.iter().chain(&learned).filter(|_| !self.quiet).for_each(|sentence| say(sentence));
        if let Some(metrics) = &self.metrics {
            metrics.send_replace(quotakeeper_limiter::metrics::text(Some(health), None, &Default::default()));
        }
    }
}

/// Shows progress until the command ends.
async fn watch(
    child: Child,
    signals: Signals,
    limiter: &Limiter,
    proxy: &Proxy,
    shown: &mut Shown,
) -> anyhow::Result<ExitStatus> {
    let command = child::pid(&child)?;
    let mut ended = std::pin::pin!(child::wait(child, signals));
    let mut resized = signal(SignalKind::window_change()).context("signals can't be watched")?;
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = &mut ended => return status,
            Some(()) = resized.recv() => {
                shown.line.fit();
            }
            _ = tick.tick() => shown.look(proxy, limiter.health().await?, command),
        }
    }
}
