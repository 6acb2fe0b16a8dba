//! Doing it.

use std::fs;

use netmodel::published;
use tracing::{info, warn};

use super::ports::release_strays;
use super::{Controller, How, Prepared};
use crate::loader::{Attached, Datapath, Hook, LoadOptions, Mode, Pins, WantedMode, is_bpf_fs};
use crate::nat;
use crate::network::{Change, Network, rx_vlan_offload};
use crate::run::{PINS, Place, RunError, State, with_causes};
use crate::store::{Cause, Outcome, Pending, Record};

/// Only the services, which are of one group, and root read what is published.
const PUBLISHED_MODE: u32 = 0o640;

/// What became of an apply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// Number of the new generation.
    pub number: u32,
    /// What is enforced and yet not as it should be: it will be repaired, or must be.
    pub warnings: Vec<String>,
}

impl Controller {
    /// Makes the kernel enforce what was prepared, as the next generation.
    ///
    /// # Errors
    ///
    /// If the store or the kernel refuses. The generation before it is then current and enforced, or the text says
    /// why not.
    pub async fn apply(&mut self, prepared: &Prepared, how: How) -> Result<Applied, RunError> {
        let enforcement = &prepared.observed.enforcement;
        if how.confirm_within.is_some() && prepared.old.is_none() && enforcement.is_of_something() {
            return Err(RunError::NothingToGoBackTo {
                store: self.options.place.store.clone(),
            });
        }
        let number = self.store.next_number(enforcement.generation)?;
        let mut record = Record::new(number, prepared.base, how.cause, &prepared.inventory);
        record.host = prepared
            .host
            .map(|id| prepared.new.model.host(id).name.to_string());
        record.summary = how.summary;
        let bytes = prepared.body.to_file(number, &prepared.inventory);
        self.store.add(&bytes, &record, &how.plan)?;
        // What is damaged is told by whoever undoes what nobody confirmed.
        let waited = self.store.pending().ok().flatten();
        let pending = match (how.confirm_within, &waited) {
            (Some(within), _) => Some(Pending::new(number, prepared.base, within)),
            // Else a repair would confirm what it repairs.
            (None, Some(waited)) if record.cause == Cause::Repair => {
                let is_repaired = |base| self.store.waiting(waited).contains(&base);
                let inherits = prepared.base.is_some_and(is_repaired);
                inherits.then(|| waited.clone().inherited_by(number))
            }
            (None, _) => None,
        };
        if let Some(pending) = &pending {
            self.store.set_pending(pending)?;
        }
        // From here on the generation is meant: whoever finds an unfinished apply finishes it.
        self.store.set_current(number)?;
        if let Err(error) = self.enforce(prepared, number).await {
            self.give_up(prepared.base, number, &error)?;
            match (pending, waited) {
                (None, _) => {}
                (Some(_), Some(waited)) => self.store.set_pending(&waited)?,
                (Some(_), None) => self.store.clear_pending()?,
            }
            return Err(error);
        }
        let outcome = match pending {
            Some(_) => Outcome::Unconfirmed,
            None => Outcome::Applied,
        };
        Ok(Applied {
            number,
            warnings: self.tell_of(prepared, number, outcome, &bytes),
        })
    }

    /// The old generation is current again; if its tables were replaced already, [`Controller::converge`] brings them back.
    fn give_up(&self, base: Option<u32>, number: u32, error: &RunError) -> Result<(), RunError> {
        match base {
            Some(base) => self.store.set_current(base)?,
            None => self.store.clear_current()?,
        }
        let why = with_causes(error);
        self.store.set_outcome(number, Outcome::Failed { why })?;
        // It may be tried again and again.
        let pending = self.store.pending().ok().flatten();
        let back = pending.and_then(|pending| pending.previous);
        let needed: Vec<u32> = [Some(number), base, back].into_iter().flatten().collect();
        Ok(self.store.prune(self.options.kept, &needed)?)
    }

    /// Does everything between the record and the telling, in the order of [`crate::network::NetworkPlan`]: a device
    /// comes up only behind programs and the uplinks' guards, and goes when no packet is sent there any more.
    pub(super) async fn enforce(
        &mut self,
        prepared: &Prepared,
        number: u32,
    ) -> Result<(), RunError> {
        let network = Network::connect()?;
        let changes = &prepared.network;
        apply_all(&network, changes.prepare()).await?;
        // Guards come before what they guard, and go after it.
        let guards_go = prepared.ruleset.is_empty();
        if !prepared.nat.is_empty() && !guards_go {
            nat::apply(&prepared.ruleset)?;
        }
        // A bridge filters VLANs behind programs, and carries nothing that they do not know.
        let is_new =
            prepared.observed.ports.is_some() || !prepared.observed.enforcement.is_attached();
        if is_new {
            self.flip(prepared, number)?;
        }
        if let Some(ports) = &prepared.observed.ports {
            release_strays(&self.options.place, &prepared.observed.network, ports).await?;
        }
        apply_all(&network, changes.open()).await?;
        if !is_new {
            self.flip(prepared, number)?;
        }
        apply_all(&network, changes.after_flip()).await?;
        if !prepared.nat.is_empty() && guards_go {
            nat::apply(&prepared.ruleset)?;
        }
        Ok(())
    }

    /// The same where programs and maps are as they should be.
    pub(super) async fn mend_network(&self, prepared: &Prepared) -> Result<(), RunError> {
        let network = Network::connect()?;
        apply_all(&network, prepared.network.prepare()).await?;
        if !prepared.nat.is_empty() {
            nat::apply(&prepared.ruleset)?;
        }
        apply_all(&network, prepared.network.open()).await?;
        apply_all(&network, prepared.network.after_flip()).await
    }

    /// Load, fill, flip, attach: in this order, no packet meets a program without tables.
    fn flip(&mut self, prepared: &Prepared, number: u32) -> Result<(), RunError> {
        if let Some(ports) = &prepared.observed.ports {
            return self.flip_ports(prepared, ports, number);
        }
        let place = self.options.place.clone();
        check_bpf_fs(&place)?;
        drop_stale_link(&place, prepared)?;
        // Not what was observed: what was prepared for this flip may have switched it off.
        let rx_vlan = rx_vlan_offload(&place.interface)?;
        if self.datapath.is_none() {
            let (pins, wanted) = (Pins::at(&place.pins), self.options.mode);
            self.datapath = Some(Datapath::load(&LoadOptions {
                pins: Some(place.pins.clone()),
                connections: self.options.connections,
                hook: Some(Hook::first(&pins, wanted, rx_vlan)),
            })?);
        }
        let Some(datapath) = &mut self.datapath else {
            return Ok(());
        };
        let trunk = &prepared.observed.trunk;
        let published = datapath.publish(&prepared.new.tables, trunk, number)?;
        let attached = datapath.attach(&place.interface, self.options.mode, rx_vlan, published)?;
        warn_of(&place, self.options.mode, &attached, rx_vlan);
        self.why = why(&place, &attached);
        Ok(())
    }

    /// Everything after the flip: enforcement does not depend on it, so what fails is told, not undone.
    pub(super) fn tell_of(
        &self,
        prepared: &Prepared,
        number: u32,
        outcome: Outcome,
        bytes: &[u8],
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let place = &self.options.place;
        let mut note = |what: &str, result: Result<(), RunError>| {
            if let Err(error) = result {
                let text = format!("cannot {what}: {}", with_causes(&error));
                warn!("{text}");
                warnings.push(text);
            }
        };
        let published = publish(place, bytes);
        note("publish the generation for DHCP and DNS", published);
        let state = State::new(&place.interface, &self.why, number, &prepared.new.tables);
        let written = state.write(&place.state);
        note(
            "write the state file",
            written.map_err(RunError::io("write it")),
        );
        let noted = self.store.set_outcome(number, outcome);
        note("note the outcome", noted.map_err(RunError::from));
        let back = self.store.pending().ok().flatten().and_then(|p| p.previous);
        let needed = [Some(number), prepared.base, back];
        let needed: Vec<u32> = needed.into_iter().flatten().collect();
        let pruned = self.store.prune(self.options.kept, &needed);
        note("remove old generations", pruned.map_err(RunError::from));
        info!(
            generation = number,
            segments = prepared.new.model.segments.len(),
            tenants = prepared.new.model.tenants.len(),
            interface = place.interface,
            why = self.why,
            "enforced"
        );
        warnings
    }
}

async fn apply_all(network: &Network, changes: &[Change]) -> Result<(), RunError> {
    for change in changes {
        network.apply(change).await?;
    }
    Ok(())
}

/// Writes what DHCP and DNS read.
pub(super) fn publish(place: &Place, bytes: &[u8]) -> Result<(), RunError> {
    if let Some(folder) = place.published.parent() {
        fs::create_dir_all(folder)
            .map_err(RunError::io("make the folder of the published file"))?;
    }
    Ok(published::write(&place.published, bytes, PUBLISHED_MODE)?)
}

/// The folder need not exist yet; what it will be in must be a BPF file system.
pub(super) fn check_bpf_fs(place: &Place) -> Result<(), RunError> {
    use std::path::Path;
    let existing = place.pins.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or(Path::new("."));
    if is_bpf_fs(existing) {
        return Ok(());
    }
    let is_usual = place.pins.starts_with(PINS);
    let mount = if is_usual {
        Path::new("/sys/fs/bpf")
    } else {
        existing
    };
    Err(RunError::NoBpfFs {
        path: place.pins.clone(),
        mount: mount.to_owned(),
    })
}

/// A link whose interface is gone enforces nothing and cannot be adopted; one on another interface is not ours.
fn drop_stale_link(place: &Place, prepared: &Prepared) -> Result<(), RunError> {
    let pins = Pins::at(&place.pins);
    match prepared.observed.enforcement.attached {
        Some((mode, 0)) => {
            warn!("the interface that {mode} was attached to is gone: attaching anew");
            Ok(pins.remove_dead_link(mode)?)
        }
        Some((_, found)) if found != prepared.observed.trunk.ifindex => {
            Err(RunError::OtherInterface {
                path: place.pins.clone(),
                found,
                wanted: prepared.observed.trunk.ifindex,
                interface: place.interface.clone(),
            })
        }
        Some(_) | None => Ok(()),
    }
}

fn warn_of(place: &Place, wanted: WantedMode, attached: &Attached, rx_vlan: bool) {
    if let WantedMode::Exactly(wanted) = wanted
        && wanted != attached.mode
    {
        warn!(
            "the attachment of the earlier run is {}, and stays so: `bulkhead detach` before {wanted}",
            attached.mode
        );
    }
    if attached.mode == Mode::XdpNative && rx_vlan {
        warn!(
            "the NIC takes VLAN tags out of frames (rxvlan), so every frame looks untagged and is dropped \
             (remedy: ethtool -K {} rxvlan off)",
            place.interface
        );
    }
}

/// Keeps the reason of the run that chose the mode.
fn why(place: &Place, attached: &Attached) -> String {
    const ADOPTED: &str = "; adopted from an earlier run";
    match State::read(&place.state) {
        Some(state) if attached.replaced && state.interface == place.interface => {
            let first = state.why.strip_suffix(ADOPTED).unwrap_or(&state.why);
            format!("{first}{ADOPTED}")
        }
        _ => attached.why.clone(),
    }
}
