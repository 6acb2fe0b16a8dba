//! Attaches the programs to ports and uplinks; replaces them in links that an earlier process pinned.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, Link, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use super::attach::{BoxError, add_clsact, attach_error, clsact_link, clsact_options, why_no_tcx};
use super::pins::pin_file;
use super::{LoaderError, Mode, Pins, PortHook, PortPath, Published, WantedMode, program_mut};

/// An interface to attach to.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index.
    pub index: u32,
}

impl PortPath {
    /// Attaches the programs of an access port: what comes out of it first. A port whose programs are pinned gets these
    /// programs in their place, in one step each.
    ///
    /// # Errors
    ///
    /// [`LoaderError::Attach`] with the kernel's words; also if the interface is gone.
    pub fn attach_port(
        &mut self,
        interface: Interface<'_>,
        wanted: WantedMode,
        _published: Published,
    ) -> Result<Mode, LoaderError> {
        self.attach_hook(interface, PortHook::FromTenant, wanted)?;
        self.attach_hook(interface, PortHook::ToTenant, wanted)
    }

    /// Attaches the programs of an uplink.
    ///
    /// # Errors
    ///
    /// As [`PortPath::attach_port`].
    pub fn attach_uplink(
        &mut self,
        interface: Interface<'_>,
        wanted: WantedMode,
        _published: Published,
    ) -> Result<Mode, LoaderError> {
        self.attach_hook(interface, PortHook::FromUplink, wanted)?;
        self.attach_hook(interface, PortHook::ToUplink, wanted)
    }

    fn attach_hook(
        &mut self,
        interface: Interface<'_>,
        hook: PortHook,
        wanted: WantedMode,
    ) -> Result<Mode, LoaderError> {
        let name = interface.name;
        let modes: &[Mode] = match &wanted {
            WantedMode::Auto => &[Mode::Tcx, Mode::Clsact],
            WantedMode::Exactly(mode) => std::slice::from_ref(mode),
        };
        let mut tried = None;
        for &mode in modes {
            let attached = match mode {
                Mode::Clsact => self.attach_clsact(interface, hook),
                Mode::Tcx => self.attach_tcx(interface, hook).map_err(why_no_tcx),
                Mode::XdpNative | Mode::XdpGeneric => Err("ports have no XDP program".into()),
            };
            match attached {
                Ok(()) => return Ok(mode),
                Err(error) => tried = Some(attach_error(name, mode, error)),
            }
        }
        Err(tried.unwrap_or_else(|| attach_error(name, Mode::Tcx, "no mode was tried")))
    }

    fn attach_tcx(&mut self, interface: Interface<'_>, hook: PortHook) -> Result<(), BoxError> {
        let pin = self.link_pin(interface, hook);
        let program: &mut SchedClassifier = program_mut(&mut self.ebpf, hook.program())?;
        if let Some(pin) = pin.as_deref().filter(|pin| pin.exists()) {
            if replace(program, pin).is_ok() {
                return Ok(());
            }
            // Of an interface that had this index before.
            fs::remove_file(pin)?;
        }
        // Ours is the first to see what comes in, and the last to see what goes out.
        let (direction, order) = match hook {
            PortHook::FromTenant | PortHook::FromUplink => {
                (TcAttachType::Ingress, LinkOrder::first())
            }
            PortHook::ToTenant | PortHook::ToUplink => (TcAttachType::Egress, LinkOrder::last()),
        };
        let options = aya::programs::tc::TcAttachOptions::TcxOrder(order);
        let id = program.attach_with_options(interface.name, direction, options)?;
        if let Some(pin) = pin {
            let link: FdLink = program.take_link(id)?.try_into()?;
            link.pin(pin)?;
        }
        Ok(())
    }

    fn attach_clsact(&mut self, interface: Interface<'_>, hook: PortHook) -> Result<(), BoxError> {
        add_clsact(interface.name)?;
        let direction = match hook {
            PortHook::FromTenant | PortHook::FromUplink => TcAttachType::Ingress,
            PortHook::ToTenant | PortHook::ToUplink => TcAttachType::Egress,
        };
        let is_kept = self.pins.is_some();
        let program: &mut SchedClassifier = program_mut(&mut self.ebpf, hook.program())?;
        let id = match program.attach_with_options(interface.name, direction, clsact_options()) {
            Ok(id) => id,
            // There is one of an earlier process: its place is taken in one step.
            Err(_) => program.attach_to_link(clsact_link(interface.name, direction)?)?,
        };
        if is_kept {
            // The filter stays in the kernel without us; dropping the link would remove it.
            std::mem::forget(program.take_link(id)?);
        }
        Ok(())
    }

    /// Where the link of a hook is kept; `None` without a pin folder.
    fn link_pin(&self, interface: Interface<'_>, hook: PortHook) -> Option<PathBuf> {
        let pins = self.pins.as_ref()?;
        Some(pins.port_link(interface.index, hook))
    }
}

impl Pins {
    /// Removes the links of a port, and with them its programs; says whether there were any. (With the port itself, the
    /// kernel removes them, but not their pins.)
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn forget_port(&self, ifindex: u32) -> Result<bool, LoaderError> {
        let links = self.port_links();
        let of_port: Vec<_> = links
            .iter()
            .filter(|(index, _)| *index == ifindex)
            .collect();
        for (_, path) in &of_port {
            fs::remove_file(path).map_err(pin_file("remove the link", path))?;
        }
        Ok(!of_port.is_empty())
    }

    /// Removes the programs of a port that are attached as filters; those that are attached as links go with their pins.
    ///
    /// # Errors
    ///
    /// [`LoaderError::Detach`] with the kernel's words.
    pub fn detach_port_filters(&self, interface: &str) -> Result<(), LoaderError> {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            let link = clsact_link(interface, direction);
            let removed = link.and_then(|link| Ok(Link::detach(link)?));
            removed.map_err(|source| LoaderError::Detach {
                interface: interface.into(),
                source,
            })?;
        }
        Ok(())
    }
}

fn replace(program: &mut SchedClassifier, pin: &Path) -> Result<(), BoxError> {
    let link: SchedClassifierLink = FdLink::from(PinnedLink::from_pin(pin)?).try_into()?;
    let id = program.attach_to_link(link)?;
    // The pin keeps it; each generation would leave one more open file here.
    drop(program.take_link(id)?);
    Ok(())
}
