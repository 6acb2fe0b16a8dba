//! `bulkhead run`: keeps the kernel what the current generation says, for as long as it runs.
//!
//! ```text
//!  start ─► undo what nobody confirmed ─► converge ─► wait ─┬─ store changed      ─► converge
//!                                           ▲               ├─ network changed    ─► converge
//!                                           └───────────────┼─ time is up         ─► undo, converge
//!                                                           ├─ inventory changed  ─► plan, perhaps apply
//!                                                           └─ SIGTERM            ─► end; enforcement stays
//! ```
//!
//! It enforces what was applied, never what merely lies in the inventory's folder; with `--watch`, a change there becomes a
//! plan, and an apply if the configuration allows it.

use std::fs::File;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::{debug, error, info, warn};

use super::inventory::{Reading, Watched};
use super::signals::{Signals, Wish};
use super::{RunError, State, with_causes};
use crate::cli::Paint;
use crate::controller::{ControlOptions, Controller, Converged, Desired, Held, How, Review, hold};
use crate::loader::{Pins, Swept};
use crate::store::Cause;

/// How often everything is compared again, whatever the kernel has told.
const FULL_SYNC: Duration = Duration::from_secs(60);
/// When what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the daemon does, and how.
pub struct DaemonOptions<'a> {
    /// Where and how to enforce.
    pub control: ControlOptions,
    /// What to do with changes of the inventory; `None`: nothing.
    pub inventory: Option<Watched<'a>>,
}

/// Enforces the current generation, then waits: SIGHUP looks at everything again, SIGTERM and SIGINT end the process,
/// not the enforcement.
///
/// # Errors
///
/// What hinders it from the beginning. Later errors are logged, shown in `status`, and tried again.
pub async fn run(options: DaemonOptions<'_>) -> Result<(), RunError> {
    let place = options.control.place.clone();
    let _only = place.lock_as_daemon()?;
    let mut signals = Signals::new(&place, options.inventory.as_ref())?;
    let mut daemon = Daemon::new(options);
    daemon.start().await?;
    loop {
        let wish = signals.next(daemon.patience()).await;
        daemon.ping();
        match wish {
            Wish::End => break,
            Wish::Look => daemon.look().await,
            Wish::LookAndRead => {
                daemon.look().await;
                daemon.is_asked = true;
                daemon.read_again();
            }
            Wish::Inventory => daemon.inventory_changed(),
            Wish::Nothing => {}
        }
        daemon.due().await;
    }
    notify(&[NotifyState::Stopping]);
    info!(
        "ending; enforcement on {} stays (bulkhead detach would remove it)",
        place.interface
    );
    Ok(())
}

/// What became of a reading of the inventory.
enum Taken {
    /// It is what is applied.
    Is,
    /// It is not applied, and why.
    Not(String),
    /// The same, but not for what it says: it is read again.
    Later(String),
}

struct Daemon<'a> {
    controller: Controller,
    inventory: Option<Watched<'a>>,
    last_sync: Instant,
    last_sweep: Instant,
    /// The last error that was logged, so that it is not logged every minute.
    problem: Option<String>,
    /// Why the inventory is not applied.
    waiting: Option<String>,
    /// Did somebody ask for the inventory to be read (SIGHUP)?
    is_asked: bool,
    /// The generation that was current at the last look.
    current: Option<u32>,
}

impl<'a> Daemon<'a> {
    fn new(options: DaemonOptions<'a>) -> Self {
        Self {
            controller: Controller::new(options.control),
            inventory: options.inventory,
            last_sync: Instant::now(),
            last_sweep: Instant::now(),
            problem: None,
            waiting: None,
            is_asked: false,
            current: None,
        }
    }

    fn lock(&mut self) -> Result<File, RunError> {
        self.controller.lock()
    }

    /// What cannot be enforced at the beginning ends the process: whoever starts it must see it. But a trunk that is not there
    /// (yet, or at the moment) is waited for.
    async fn start(&mut self) -> Result<(), RunError> {
        match self.begin().await {
            Err(error) if error.is_missing_link() => self.complain(&error),
            Err(error) => {
                self.complain(&error);
                return Err(error);
            }
            Ok(()) => {}
        }
        self.read_again();
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), RunError> {
        let converged = self.converge(true).await?;
        self.tell(&converged);
        #[cfg(feature = "debug-log")]
        self.controller.follow_debug_log()?;
        Ok(())
    }

    fn tell(&mut self, converged: &Converged) {
        let place = self.controller.place();
        let text = match converged {
            Converged::Nothing => format!("the kernel on {} is as it should be", place.interface),
            Converged::Restored(number) => {
                format!("enforcing generation {number} on {}", place.interface)
            }
            Converged::Repaired(number) => format!("repaired, as generation {number}"),
            Converged::NoGeneration if Pins::at(&place.pins).is_in_use() => format!(
                "no generation is stored in {}, so what is enforced stays as it is (remedy: bulkhead apply)",
                place.store.display()
            ),
            Converged::NoGeneration if self.controller.hold_needs().is_some() => {
                "nothing was applied yet, and the trunk is held: bulkhead apply".to_owned()
            }
            Converged::NoGeneration => format!(
                "nothing was applied yet, and nothing is enforced on {}: every frame passes \
                 (remedy: bulkhead apply, or [hold] in bulkhead.toml)",
                place.interface
            ),
        };
        info!(
            interface = place.interface,
            generation = converged.generation(),
            "{text}"
        );
        notify(&[NotifyState::Status(&text)]);
    }

    /// Where no generation is enforced, there is the hold, if it is configured.
    async fn hold(&self) -> Result<(), RunError> {
        let Some(needs) = self.controller.hold_needs() else {
            return Ok(());
        };
        let place = self.controller.place();
        match hold(place, needs, self.controller.mode()).await? {
            Held::Attached(attached) => {
                let text = format!(
                    "{} is held ({}): everything is dropped but what [hold] lists, until `bulkhead apply`",
                    place.interface, attached.mode
                );
                warn!("{text}");
                notify(&[NotifyState::Status(&text)]);
            }
            Held::Already | Held::Enforced => {}
        }
        Ok(())
    }

    /// Compares the kernel with the current generation, and repairs it.
    async fn look(&mut self) {
        self.last_sync = Instant::now();
        let converged = self.converge(false).await;
        self.notice_generation();
        match converged {
            Ok(Converged::Nothing | Converged::NoGeneration) => self.well(),
            Ok(converged) => {
                self.well();
                self.tell(&converged);
            }
            Err(error) => {
                self.complain(&error);
                // What it wrote itself on the way wakes it again.
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn converge(&mut self, renew: bool) -> Result<Converged, RunError> {
        let _lock = self.lock()?;
        let undone = self.controller.undo_unconfirmed(false).await;
        let converged = match undone {
            Ok(_) => self.controller.converge(renew).await,
            Err(error) => {
                // What cannot be undone is more than nothing.
                if let Err(other) = self.controller.converge(renew).await {
                    warn!("{}", with_causes(&other));
                }
                Err(error)
            }
        };
        match &converged {
            Ok(Converged::NoGeneration) => self.hold().await?,
            Ok(_) => {}
            // A damaged store after a reboot: nothing can be enforced, and all would pass.
            Err(_) => match self.hold().await {
                Err(error) if !error.is_missing_link() => {
                    warn!("cannot hold the trunk: {}", with_causes(&error));
                }
                _ => {}
            },
        }
        converged
    }

    /// Takes away what no holder of connections comes back to. Packets do not wait for it.
    fn sweep(&mut self) {
        self.last_sweep = Instant::now();
        match Pins::at(&self.controller.place().pins).sweep() {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => debug!(
                connections = swept.connections,
                tickets = swept.tickets,
                "swept"
            ),
            Err(error) => warn!("cannot sweep connections: {}", with_causes(&error)),
        }
    }

    fn complain(&mut self, problem: &RunError) {
        let text = with_causes(problem);
        if self.problem.as_ref() != Some(&text) {
            error!("what is enforced stays: {text}");
            notify(&[NotifyState::Status(&format!("problem: {text}"))]);
        }
        self.problem = Some(text);
        self.show();
    }

    /// What another process has applied may be what the inventory says.
    fn notice_generation(&mut self) {
        let current = self.controller.store().current().ok().flatten();
        if std::mem::replace(&mut self.current, current) != current && self.waiting.is_some() {
            self.read_again();
        }
    }

    fn well(&mut self) {
        self.problem = None;
        self.show();
    }

    /// Lets `status` show what the operator should know, the most urgent first.
    fn show(&self) {
        let place = self.controller.place();
        let notice = self.problem.as_ref().or(self.waiting.as_ref());
        if let Err(error) = State::set_notice(&place.state, &place.interface, notice.cloned()) {
            warn!("cannot write {}: {error}", place.state.display());
        }
    }

    fn read_again(&mut self) {
        if let Some(watched) = &mut self.inventory {
            watched.now();
        }
    }

    fn inventory_changed(&mut self) {
        if let Some(watched) = &mut self.inventory {
            watched.touched();
        }
    }

    /// Does what the clock asks for.
    async fn due(&mut self) {
        if let Err(error) = self.undo().await {
            self.complain(&error);
        }
        if self.last_sync.elapsed() >= FULL_SYNC {
            self.look().await;
        }
        if self.last_sweep.elapsed() >= FULL_SYNC {
            self.sweep();
        }
        let Some(watched) = &mut self.inventory else {
            return;
        };
        if let Some(reading) = watched.due() {
            self.take(reading).await;
        } else if let Some(hindrance) = watched.hindrance() {
            self.wait_for(hindrance);
        }
    }

    /// Notes why the inventory is not applied; it is said once.
    fn wait_for(&mut self, why: String) {
        if self.waiting.as_ref() != Some(&why) {
            warn!("the inventory has changed, and is not applied: {why}");
            notify(&[NotifyState::Status("the inventory is not what is applied")]);
            self.waiting = Some(why);
        }
        self.show();
    }

    async fn undo(&mut self) -> Result<(), RunError> {
        let waiting = self.controller.store().pending()?;
        if waiting.is_some_and(|pending| pending.left().is_none()) {
            let _lock = self.lock()?;
            self.controller.undo_unconfirmed(false).await?;
        }
        Ok(())
    }

    /// Makes a plan of what the inventory says, and applies it if that is allowed.
    async fn take(&mut self, reading: Reading) {
        let taken = match reading.desired {
            Ok(desired) => match self.plan(desired).await {
                Ok(taken) => taken,
                Err(error) => Taken::Later(with_causes(&error)),
            },
            Err(problem) => Taken::Not(problem),
        };
        if let (Taken::Later(_), Some(watched)) = (&taken, &mut self.inventory) {
            watched.again();
        }
        if !matches!(taken, Taken::Later(_)) {
            self.is_asked = false;
        }
        match taken {
            Taken::Is => {
                self.waiting = None;
                info!("the inventory is what is applied");
                self.show();
            }
            // It is tried again and again.
            Taken::Not(why) | Taken::Later(why) => self.wait_for(why),
        }
    }

    async fn plan(&mut self, desired: Desired) -> Result<Taken, RunError> {
        let Some(settings) = self.inventory.as_ref().map(|watched| watched.settings) else {
            return Ok(Taken::Is);
        };
        let _lock = self.lock()?;
        let inventory = desired.inventory.clone();
        let prepared = self.controller.prepare(desired).await?;
        let review = Review::new(&prepared, Some(settings.allow_destroy));
        if review.is_empty() {
            return Ok(Taken::Is);
        }
        if review.is_refused() {
            return Ok(Taken::Not(format!("refused: {}", review.refusals())));
        }
        if self.controller.store().pending()?.is_some() {
            let why = "an apply waits for its confirmation".to_owned();
            return Ok(Taken::Later(why));
        }
        if !settings.apply {
            let summary = review.summary_line();
            return Ok(Taken::Not(format!("{summary} (remedy: bulkhead apply)")));
        }
        // It would lock the operator out again, and nobody would undo it.
        if !self.is_asked
            && let Some(undone) = self.controller.undone(&inventory)?
        {
            return Ok(Taken::Not(format!(
                "generation {undone} said the same, and was undone (remedy: correct the inventory, or bulkhead apply)"
            )));
        }
        let how = How {
            cause: Cause::Watch,
            confirm_within: None,
            plan: review.to_text(Paint::PLAIN),
            summary: review.summary(),
        };
        let applied = self.controller.apply(&prepared, how).await?;
        self.tell(&Converged::Restored(applied.number));
        Ok(Taken::Is)
    }

    /// Returns how long there is nothing to do.
    fn patience(&self) -> Duration {
        let sync = FULL_SYNC.saturating_sub(self.last_sync.elapsed());
        let sync = sync.min(FULL_SYNC.saturating_sub(self.last_sweep.elapsed()));
        let confirm = match self.controller.store().pending() {
            Ok(Some(pending)) => pending.left().unwrap_or(Duration::ZERO),
            _ => sync,
        };
        let watch = self.inventory.as_ref().and_then(Watched::left);
        let watchdog = watchdog().unwrap_or(sync);
        // What failed is tried again, but not all the time.
        let least = match self.problem {
            Some(_) => RETRY,
            None => Duration::from_millis(10),
        };
        sync.min(confirm)
            .min(watch.unwrap_or(sync))
            .min(watchdog)
            .max(least)
    }

    fn ping(&self) {
        notify(&[NotifyState::Watchdog]);
    }
}

/// Half of the time after which systemd takes us for dead; `None`: it does not look.
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|time| time / 2)
}

/// Tells systemd, if it is there.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot tell systemd: {error}");
    }
}
