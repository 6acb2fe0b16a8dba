//! Going back, and staying where one is: confirm, roll back, converge, drift.

use std::collections::BTreeMap;

use netmodel::published;
use tracing::{info, warn};

use super::{Controller, How, Prepared, detach};
use crate::loader::{Hold, Pins};
use crate::nat;
use crate::network::{self, Conflict, DesiredRouter, Network, rx_vlan_offload};
use crate::run::{RunError, State, with_causes};
use crate::store::{Cause, Outcome, Pending, StoreError, Summary};

/// What a confirmation found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Confirmed {
    /// This generation stays.
    Generation(u32),
    /// Nothing waits for a confirmation.
    Nothing,
    /// The time was up; this generation is being, or was, undone.
    TooLate(u32),
}

/// An apply that nobody confirmed in time was undone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undone {
    /// The generation that was not confirmed.
    pub generation: u32,
    /// The generation whose model is enforced again; `None`: there was none, so nothing is enforced.
    pub to: Option<u32>,
    /// The new generation.
    pub by: Option<u32>,
}

/// What [`Controller::converge`] did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Converged {
    /// The kernel was as the current generation says.
    Nothing,
    /// No generation is current, so nothing was done.
    NoGeneration,
    /// The current generation was brought into the kernel.
    Restored(u32),
    /// The kernel was not what the current generation says: it is, as a new generation.
    Repaired(u32),
}

impl Converged {
    /// Returns the generation that was brought into the kernel, if one was.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        match self {
            Self::Nothing | Self::NoGeneration => None,
            Self::Restored(number) | Self::Repaired(number) => Some(*number),
        }
    }
}

impl Controller {
    /// Lets the generation that waits for its confirmation stay.
    ///
    /// # Errors
    ///
    /// If the store refuses.
    pub fn confirm(&self) -> Result<Confirmed, RunError> {
        let Some(pending) = self.store.pending()? else {
            return Ok(Confirmed::Nothing);
        };
        let waiting = self.store.waiting(&pending);
        if !self.store.current()?.is_some_and(|n| waiting.contains(&n)) {
            // It never began: whoever holds the lock, as we do, finds no apply between its two steps.
            self.store.clear_pending()?;
            return Ok(Confirmed::Nothing);
        }
        if pending.left().is_none() {
            return Ok(Confirmed::TooLate(pending.generation));
        }
        self.settle(&pending, &Outcome::Applied)?;
        Ok(Confirmed::Generation(pending.generation))
    }

    /// Notes that what waited for its confirmation, if anything did, was undone by a generation.
    ///
    /// # Errors
    ///
    /// If the store refuses.
    pub fn abandon(&self, by: u32) -> Result<(), RunError> {
        match self.store.pending()? {
            Some(pending) => self.settle(&pending, &Outcome::RolledBack { by }),
            None => Ok(()),
        }
    }

    /// Ends a wait. In this order: whoever sees that nothing waits any more finds out why, and what dies in between has this outcome.
    fn settle(&self, pending: &Pending, outcome: &Outcome) -> Result<(), RunError> {
        for number in self.store.waiting(pending) {
            self.store.set_outcome(number, outcome.clone())?;
        }
        Ok(self.store.clear_pending()?)
    }

    /// Undoes the generation that waits for its confirmation, if its time is up, or at once if `now`.
    ///
    /// # Errors
    ///
    /// If the store or the kernel refuses; it can be tried again.
    pub async fn undo_unconfirmed(&mut self, now: bool) -> Result<Option<Undone>, RunError> {
        let Some(pending) = self.unconfirmed()? else {
            return Ok(None);
        };
        let waiting = self.store.waiting(&pending);
        let current = self.store.current()?;
        let Some(generation) = current.filter(|n| waiting.contains(n)) else {
            // It never began, or was undone, and what undid it died before it could say so.
            match current.map(|by| Ok((by, self.store.record(by)?.cause))) {
                Some(Ok((by, Cause::Rollback { unconfirmed, .. }))) if unconfirmed => {
                    self.settle(&pending, &Outcome::RolledBack { by })?;
                }
                Some(Err::<_, StoreError>(error)) => return Err(error.into()),
                _ => self.store.clear_pending()?,
            }
            return Ok(None);
        };
        if pending.left().is_some() && !now {
            return Ok(None);
        }
        warn!(
            generation,
            previous = pending.previous,
            "generation {generation} was not confirmed in time: undoing it"
        );
        let by = match pending.previous {
            Some(previous) => {
                let by = self.go_back(previous, generation).await?;
                self.settle(&pending, &Outcome::RolledBack { by })?;
                Some(by)
            }
            None => {
                let why = self.release().await?.to_owned();
                self.settle(&pending, &Outcome::Failed { why })?;
                None
            }
        };
        Ok(Some(Undone {
            generation,
            to: pending.previous,
            by,
        }))
    }

    /// Lets stay what waited for a confirmation and cannot be undone any more.
    ///
    /// # Errors
    ///
    /// If the store refuses.
    pub fn keep_unconfirmed(&self) -> Result<(), RunError> {
        if let Ok(Some(pending)) = self.store.pending() {
            for number in self.store.waiting(&pending) {
                // What cannot be undone may be so since its record is damaged.
                let _ = self.store.set_outcome(number, Outcome::Applied);
            }
        }
        Ok(self.store.clear_pending()?)
    }

    /// Returns the generation that had this inventory, if it was gone back from and nothing else was applied since.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn undone(&self, inventory: &str) -> Result<Option<u32>, RunError> {
        let mut at = self.store.current()?;
        while let Some(number) = at {
            let record = self.store.record(number)?;
            match (record.cause, record.previous) {
                (Cause::Repair, before) => at = before,
                (Cause::Rollback { .. }, Some(before)) => {
                    let is_it = self.store.record(before)?.inventory == inventory;
                    return Ok(is_it.then_some(before));
                }
                (Cause::Rollback { .. } | Cause::Apply | Cause::Watch, _) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Lets DHCP, DNS and the history hear of what is enforced, if an apply died before they did.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn finish_telling(&mut self, prepared: &Prepared) -> Result<(), RunError> {
        let enforced = prepared.observed.enforcement.generation;
        let Some(base) = prepared.base.filter(|base| *base == enforced) else {
            return Ok(());
        };
        if self.is_told(base)? {
            return Ok(());
        }
        if let Some(state) = State::read(&self.options.place.state) {
            self.why = state.why;
        }
        self.told_again(prepared, base)
    }

    /// Returns the apply that waits. If its file is damaged, the records still tell.
    fn unconfirmed(&self) -> Result<Option<Pending>, RunError> {
        let error = match self.store.pending() {
            Ok(None) => return Ok(None),
            Ok(Some(pending)) => {
                let record = self.store.record(pending.generation);
                if record.is_ok_and(|record| record.outcome == Outcome::Applied) {
                    // It was confirmed; what did it died before it could say so here.
                    self.store.clear_pending()?;
                    return Ok(None);
                }
                return Ok(Some(pending));
            }
            Err(error @ StoreError::Damaged { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        warn!("{}", with_causes(&error));
        let Some(current) = self.store.current()? else {
            self.store.clear_pending()?;
            return Ok(None);
        };
        let record = self.store.record(current)?;
        if record.outcome != Outcome::Unconfirmed {
            self.store.clear_pending()?;
            return Ok(None);
        }
        let up = std::time::Duration::ZERO;
        let pending = Pending::new(current, record.previous, up);
        // What it repaired did not stay either.
        let first = self.store.waiting(&pending).last().copied();
        let previous = self.store.record(first.unwrap_or(current))?.previous;
        Ok(Some(Pending {
            previous,
            ..pending
        }))
    }

    async fn go_back(&mut self, to: u32, from: u32) -> Result<u32, RunError> {
        let prepared = self.prepare(self.stored(to)?).await?;
        let how = How {
            cause: Cause::Rollback {
                to,
                unconfirmed: true,
            },
            confirm_within: None,
            plan: format!("Generation {from} was not confirmed in time: back to {to}.\n"),
            summary: Summary::default(),
        };
        Ok(self.apply(&prepared, how).await?.number)
    }

    /// The first generation was not confirmed: as before it, the trunk is held, or nothing is enforced. Returns which of them.
    async fn release(&mut self) -> Result<&'static str, RunError> {
        let place = &self.options.place;
        let pins = Pins::at(&place.pins);
        if !pins.has_ports() {
            // The devices first: behind them, nothing would be judged any more.
            self.remove_network().await?;
        }
        let place = &self.options.place;
        self.datapath = None;
        self.ports = None;
        self.following = None;
        let mut why =
            "nobody confirmed it, and there was no generation before it: nothing is enforced";
        if let (Some(needs), Some(_)) = (&self.options.hold, pins.mode()) {
            why = "nobody confirmed it, and there was no generation before it: the trunk is held";
            let rx_vlan = rx_vlan_offload(&place.interface)?;
            let mut hold = Hold::load(&place.pins, needs)?;
            hold.attach(&place.interface, self.options.mode, rx_vlan)?;
            pins.remove_generations()?;
        } else if pins.is_in_use() {
            detach(place).await?;
        }
        self.store.clear_current()?;
        Ok(why)
    }

    /// Removes the devices and addresses that bulkhead made, and its table of the uplinks.
    async fn remove_network(&self) -> Result<(), RunError> {
        let network = Network::connect()?;
        let trunk = self.options.place.interface.clone();
        let observed = network.observe(&trunk).await?;
        let nothing = network::Desired {
            manage: self.options.network.manage,
            router: Some(DesiredRouter {
                trunk,
                tags_in_frames: false,
                devices: BTreeMap::new(),
            }),
            bridge: None,
        };
        for change in network::plan(&nothing, &observed).after_flip() {
            network.apply(change).await?;
        }
        if self.options.network.manage.nat {
            nat::remove()?;
        }
        Ok(())
    }

    /// Makes the kernel what the current generation says. `renew`: put this binary's programs into place in any case.
    ///
    /// # Errors
    ///
    /// If the store or the kernel refuses. What is enforced stays.
    pub async fn converge(&mut self, renew: bool) -> Result<Converged, RunError> {
        let Some(current) = self.store.current()? else {
            return Ok(Converged::NoGeneration);
        };
        self.follow_ports().await?;
        let prepared = self.prepare_current(current).await?;
        let enforced = prepared.observed.enforcement.generation;
        for conflict in &prepared.network.conflicts {
            warn!("{conflict}");
        }
        if enforced == current && prepared.is_as_it_should_be() && !renew {
            if !self.is_told(current)? {
                self.told_again(&prepared, current)?;
            }
            return Ok(Converged::Nothing);
        }
        let is_other = enforced >= current && !prepared.tables.is_empty();
        if is_other || enforced > current {
            return self.repair(&prepared, current).await;
        }
        if enforced == current && prepared.enforcement.is_empty() && !renew {
            self.mend_network(&prepared).await?;
            self.told_again(&prepared, current)?;
            return Ok(Converged::Restored(current));
        }
        let is_known = enforced == current && prepared.is_as_it_should_be();
        self.enforce(&prepared, current).await?;
        self.told_again(&prepared, current)?;
        Ok(if is_known {
            Converged::Nothing
        } else {
            Converged::Restored(current)
        })
    }

    /// Connections that the wrong tables let through are judged again: by a new generation.
    async fn repair(&mut self, prepared: &Prepared, current: u32) -> Result<Converged, RunError> {
        let changes: Vec<String> = prepared
            .enforcement
            .iter()
            .map(ToString::to_string)
            .collect();
        let why = changes.join("; ");
        info!(
            generation = current,
            drift = why,
            "the kernel is not what it should be"
        );
        // Whoever changed these tables may have changed those that are filled next, too.
        self.forget_tables();
        let how = How {
            cause: Cause::Repair,
            confirm_within: None,
            plan: format!("{}\n", changes.join("\n")),
            summary: Summary::default(),
        };
        Ok(Converged::Repaired(self.apply(prepared, how).await?.number))
    }

    /// Did DHCP, DNS and the history hear of a generation that is enforced? An apply may have died between the two.
    fn is_told(&self, number: u32) -> Result<bool, RunError> {
        let published = published::head(&self.options.place.published);
        let is_published = published.is_ok_and(|head| head.number == number);
        Ok(is_published && self.store.record(number)?.outcome != Outcome::Applying)
    }

    /// Publishes a generation that is enforced, and notes that it is.
    fn told_again(&self, prepared: &Prepared, number: u32) -> Result<(), RunError> {
        let place = &self.options.place;
        let bytes = std::fs::read(self.store.generation_path(number))
            .map_err(RunError::io("read the generation that is published"))?;
        let pending = self.store.pending()?;
        let is_waiting = pending.is_some_and(|p| self.store.waiting(&p).contains(&number));
        let outcome = match is_waiting {
            true => Outcome::Unconfirmed,
            false => Outcome::Applied,
        };
        self.tell_of(prepared, number, outcome, &bytes);
        let published = published::head(&place.published);
        let generation = published.map_or(0, |head| head.number);
        info!(generation, "published");
        Ok(())
    }

    /// Tells how the kernel differs from the current generation.
    ///
    /// # Errors
    ///
    /// If the store or the kernel cannot be read.
    pub async fn drift(&self) -> Result<Drift, RunError> {
        let Some(current) = self.store.current()? else {
            return Ok(Drift::default());
        };
        let prepared = self.prepare_current(current).await?;
        let enforcement = prepared.enforcement.iter().map(ToString::to_string);
        let network = prepared.network.changes().iter().map(ToString::to_string);
        let nat = prepared.nat.iter().map(ToString::to_string);
        let mut lines: Vec<String> = enforcement.chain(network).chain(nat).collect();
        let published = published::head(&self.options.place.published);
        let path = self.options.place.published.display();
        match published {
            Ok(head) if head.number == current => {}
            Ok(head) => lines.push(format!(
                "~ {path}: DHCP and DNS have generation {}, not {current}",
                head.number
            )),
            Err(error) => lines.push(format!("~ {path}: {}", with_causes(&error))),
        }
        Ok(Drift {
            current: Some(current),
            lines,
            conflicts: prepared.network.conflicts,
        })
    }
}

/// How the kernel differs from the current generation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drift {
    /// The current generation; `None`: nothing was ever applied.
    pub current: Option<u32>,
    /// A line for each difference, as a plan would show it.
    pub lines: Vec<String>,
    /// What somebody else put in the way: nobody but the operator removes it.
    pub conflicts: Vec<Conflict>,
}

impl Drift {
    /// Is the kernel what the current generation says?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.conflicts.is_empty()
    }
}
