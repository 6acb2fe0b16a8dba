//! Waits for the confirmation of an apply, and undoes it if there is none.
//!
//! The operator's connection may be gone: hangups are ignored, and a terminal that cannot be written to is no error. If this
//! process dies too, `bulkhead run` undoes the generation, at the latest when it is started again.

use std::io::{BufRead as _, IsTerminal as _, stdin};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::warn;

use crate::controller::Controller;
use crate::run::{RunError, with_causes};
use crate::store::{Cause, Outcome, StoreError};

/// How often the store is looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// When what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How the wait ended.
pub(super) enum Ending {
    /// It was confirmed.
    Stays,
    /// It was undone.
    Undone {
        /// The generation that is enforced again; `None`: there was none.
        to: Option<u32>,
        /// The new generation, 0 if nothing is enforced.
        by: u32,
    },
}

/// Waits until the generation is confirmed, or undoes it.
pub(super) async fn wait(
    controller: &mut Controller,
    number: u32,
    mut stop: Stop,
) -> Result<Ending, RunError> {
    let mut typed = lines();
    let (mut is_stopped, mut is_agreed, mut told) = (false, false, String::new());
    loop {
        tokio::select! {
            () = stop.wanted() => is_stopped = true,
            Some(line) = typed.recv() => {
                is_agreed |= matches!(line.trim(), "yes" | "confirm");
            }
            () = tokio::time::sleep(PERIOD) => {}
        }
        if is_agreed {
            match agree(controller) {
                Ok(()) => is_agreed = false,
                Err(error) => complain(&error, &mut told),
            }
        }
        match look(controller, number, is_stopped).await {
            Ok(None) => {}
            Ok(Some(ending)) => return Ok(ending),
            // There may be nobody else to undo it.
            Err(error) => {
                complain(&error, &mut told);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn agree(controller: &mut Controller) -> Result<(), RunError> {
    let _lock = controller.lock()?;
    controller.confirm()?;
    Ok(())
}

/// Tells of an error, once.
fn complain(error: &RunError, told: &mut String) {
    let text = with_causes(error);
    if *told != text {
        warn!("tried again: {text}");
        *told = text;
    }
}

async fn look(
    controller: &mut Controller,
    number: u32,
    is_stopped: bool,
) -> Result<Option<Ending>, RunError> {
    let is_due = match controller.store().pending() {
        // Nobody knows how long it may stay.
        Err(StoreError::Damaged { .. }) => true,
        Err(error) => return Err(error.into()),
        Ok(Some(pending)) if controller.store().waiting(&pending).contains(&number) => {
            pending.left().is_none() || is_stopped
        }
        Ok(_) => return settled(controller, number),
    };
    if !is_due {
        return Ok(None);
    }
    let _lock = controller.lock()?;
    match controller.undo_unconfirmed(is_stopped).await? {
        Some(undone) => Ok(Some(Ending::Undone {
            to: undone.to,
            by: undone.by.unwrap_or(0),
        })),
        None => settled(controller, number),
    }
}

/// Nothing waits any more: somebody confirmed it, or `bulkhead run` undid it.
fn settled(controller: &Controller, number: u32) -> Result<Option<Ending>, RunError> {
    let record = controller.store().record(number)?;
    Ok(Some(match record.outcome {
        Outcome::Applied => Ending::Stays,
        Outcome::RolledBack { by } => {
            let to = match controller.store().record(by)?.cause {
                Cause::Rollback { to, .. } => Some(to),
                Cause::Apply | Cause::Watch | Cause::Repair => record.previous,
            };
            Ending::Undone { to, by }
        }
        Outcome::Failed { .. } => Ending::Undone { to: None, by: 0 },
        // Whoever undid it died before it could say so.
        Outcome::Applying | Outcome::Unconfirmed => Ending::Undone {
            to: record.previous,
            by: controller.store().current()?.unwrap_or(0),
        },
    }))
}

/// What is typed on a terminal, line by line.
fn lines() -> UnboundedReceiver<String> {
    let (tell, told) = unbounded_channel();
    if stdin().is_terminal() {
        // It ends with the process.
        std::thread::spawn(move || {
            for line in stdin().lock().lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
    }
    told
}

/// Signals that ask for an end, upon which the generation is undone at once; a hangup is none.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    _hangup: Signal,
}

impl Stop {
    /// Catches them from now on.
    pub(super) fn new() -> Result<Self, RunError> {
        let catch = |kind| signal(kind).map_err(RunError::io("catch signals"));
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            _hangup: catch(SignalKind::hangup())?,
        })
    }

    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
