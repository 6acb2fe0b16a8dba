//! Attaches the programs to the trunk, in the best mode that hides no tag; replaces and detaches them.

use std::fmt;
use std::io;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, Link, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, TcError, Xdp, XdpMode, tc};
use aya::util::KernelVersion;
use serde::{Deserialize, Serialize};

use super::{Datapath, Hook, LoaderError, Pins, Published, load_hook, program_mut};

/// Priority of our clsact filter: first. (0 would let the kernel choose.)
const CLSACT_PRIORITY: u16 = 1;
/// Handle of our clsact filter.
const CLSACT_HANDLE: u32 = 1;

/// Is a filter of this priority and handle where ours is?
pub(crate) fn is_our_filter(priority: u32, handle: u32) -> bool {
    (priority, handle) == (u32::from(CLSACT_PRIORITY), CLSACT_HANDLE)
}

/// How the programs are attached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the kernel's generic hook: for tests, never chosen by itself.
    XdpGeneric,
    /// TCX link on ingress (Linux 6.6 and newer).
    Tcx,
    /// clsact filter on ingress.
    Clsact,
}

impl Mode {
    /// Every mode, best first.
    pub const ALL: [Self; 4] = [Self::XdpNative, Self::XdpGeneric, Self::Tcx, Self::Clsact];

    /// Returns the public name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    /// Returns whose programs it attaches.
    #[must_use]
    pub fn hook(self) -> Hook {
        match self {
            Self::XdpNative | Self::XdpGeneric => Hook::Xdp,
            Self::Tcx | Self::Clsact => Hook::Tc,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WantedMode {
    /// Native XDP where the driver has it and no tag is hidden, else TCX, else clsact.
    #[default]
    Auto,
    /// This one or nothing.
    Exactly(Mode),
}

/// What became of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Attached {
    /// The mode.
    pub mode: Mode,
    /// Why this mode and no better one.
    pub why: String,
    /// An existing attachment was replaced in one step.
    pub replaced: bool,
}

impl Datapath {
    /// Attaches the programs to the trunk. An attachment that is pinned is replaced in one step, in its own mode.
    ///
    /// `rx_vlan_offload`: does the NIC take tags out of the frames before the driver's XDP hook sees them?
    ///
    /// # Errors
    ///
    /// [`LoaderError::Attach`] or [`LoaderError::AttachAny`] with the kernel's words.
    pub fn attach(
        &mut self,
        interface: &str,
        wanted: WantedMode,
        rx_vlan_offload: bool,
        _published: Published,
    ) -> Result<Attached, LoaderError> {
        let publisher = &mut self.publisher;
        let mut programs = Programs {
            ebpf: &mut self.ebpf,
            xdp: Hook::Xdp.program(),
            tc: Hook::Tc.program(),
            load: &mut |ebpf, hook| load_hook(ebpf, publisher, hook),
            pins: self.pins.as_ref(),
        };
        let attached = programs.attach(interface, wanted, rx_vlan_offload)?;
        if let Some(pins) = &self.pins {
            if attached.replaced {
                pins.remove_other_abis()?;
            }
            pins.remove_hold()?;
        }
        Ok(attached)
    }
}

/// Brings the programs of a hook into the kernel.
type LoadHook<'a> = dyn FnMut(&mut Ebpf, Hook) -> Result<(), LoaderError> + 'a;

/// Two programs, one per kind of hook, of which one is attached.
pub(super) struct Programs<'a> {
    pub(super) ebpf: &'a mut Ebpf,
    pub(super) xdp: &'static str,
    pub(super) tc: &'static str,
    /// Loads what a hook needs, unless it is loaded.
    pub(super) load: &'a mut LoadHook<'a>,
    /// Where the attachment is kept, or is found and replaced.
    pub(super) pins: Option<&'a Pins>,
}

impl Programs<'_> {
    /// Attaches one of them, or puts it into the attachment that is pinned, in one step.
    pub(super) fn attach(
        &mut self,
        interface: &str,
        wanted: WantedMode,
        rx_vlan_offload: bool,
    ) -> Result<Attached, LoaderError> {
        if let Some(attached) = self.replace(interface)? {
            return Ok(attached);
        }
        match wanted {
            WantedMode::Exactly(mode) => {
                if mode == Mode::XdpNative && rx_vlan_offload {
                    return Err(attach_error(interface, mode, hidden_tags(interface)));
                }
                self.attach_as(interface, mode)?;
                Ok(Attached {
                    mode,
                    why: "asked for".into(),
                    replaced: false,
                })
            }
            WantedMode::Auto => self.attach_best(interface, rx_vlan_offload),
        }
    }

    fn attach_best(
        &mut self,
        interface: &str,
        rx_vlan_offload: bool,
    ) -> Result<Attached, LoaderError> {
        let mut tried = Vec::new();
        if rx_vlan_offload {
            tried.push(format!("no native XDP: {}", hidden_tags(interface)));
        }
        for mode in [Mode::XdpNative, Mode::Tcx, Mode::Clsact] {
            if mode == Mode::XdpNative && rx_vlan_offload {
                continue;
            }
            match self.attach_as(interface, mode) {
                Ok(()) => {
                    let why = if tried.is_empty() {
                        "the driver has native XDP, and no NIC offload hides tags".into()
                    } else {
                        tried.join("; ")
                    };
                    return Ok(Attached {
                        mode,
                        why,
                        replaced: false,
                    });
                }
                Err(error) => tried.push(format!("no {mode}: {}", root_cause(&error))),
            }
        }
        Err(LoaderError::AttachAny {
            interface: interface.into(),
            tried: tried.join("; "),
        })
    }

    fn attach_as(&mut self, interface: &str, mode: Mode) -> Result<(), LoaderError> {
        let wrap = |source| attach_error(interface, mode, source);
        (self.load)(self.ebpf, mode.hook())?;
        match mode {
            Mode::XdpNative | Mode::XdpGeneric => self.attach_xdp(interface, mode).map_err(wrap),
            Mode::Tcx => self.attach_tcx(interface).map_err(why_no_tcx).map_err(wrap),
            Mode::Clsact => self.attach_clsact(interface).map_err(wrap),
        }
    }

    fn attach_xdp(&mut self, interface: &str, mode: Mode) -> Result<(), BoxError> {
        let flags = if mode == Mode::XdpGeneric {
            XdpMode::Skb
        } else {
            XdpMode::Driver
        };
        let pins = self.pins;
        let program: &mut Xdp = program_mut(self.ebpf, self.xdp)?;
        let id = program.attach(interface, flags)?;
        let link = program.take_link(id)?;
        // On some errors aya attaches over netlink instead, which is no link and cannot be pinned.
        let link: FdLink = link.try_into()?;
        match pins {
            Some(pins) => pin(pins, mode, link)?,
            None => {
                let program: &mut Xdp = program_mut(self.ebpf, self.xdp)?;
                program.attach_to_link(link.try_into()?)?;
            }
        }
        Ok(())
    }

    fn attach_tcx(&mut self, interface: &str) -> Result<(), BoxError> {
        let pins = self.pins;
        let program: &mut SchedClassifier = program_mut(self.ebpf, self.tc)?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
        if let Some(pins) = pins {
            let link: FdLink = program.take_link(id)?.try_into()?;
            pin(pins, Mode::Tcx, link)?;
        }
        Ok(())
    }

    fn attach_clsact(&mut self, interface: &str) -> Result<(), BoxError> {
        add_clsact(interface)?;
        let pins = self.pins;
        let program: &mut SchedClassifier = program_mut(self.ebpf, self.tc)?;
        let ingress = TcAttachType::Ingress;
        let id = program.attach_with_options(interface, ingress, clsact_options())?;
        if let Some(pins) = pins {
            // The filter stays in the kernel without us; dropping the link would remove it.
            std::mem::forget(program.take_link(id)?);
            program.pin(pins.link(Mode::Clsact))?;
        }
        Ok(())
    }

    /// Puts the new program into a link that an earlier process pinned. Returns `None` if there is none.
    fn replace(&mut self, interface: &str) -> Result<Option<Attached>, LoaderError> {
        let Some(pins) = self.pins else {
            return Ok(None);
        };
        let mode = pins.mode();
        let Some(mode) = mode else {
            return Ok(None);
        };
        let wrap = |source| attach_error(interface, mode, source);
        (self.load)(self.ebpf, mode.hook())?;
        match mode {
            Mode::XdpNative | Mode::XdpGeneric => {
                self.replace_xdp(&pins.link(mode)).map_err(wrap)?
            }
            Mode::Tcx => self.replace_tcx(&pins.link(mode)).map_err(wrap)?,
            Mode::Clsact => self.replace_clsact(interface).map_err(wrap)?,
        }
        Ok(Some(Attached {
            mode,
            why: "adopted from an earlier run".into(),
            replaced: true,
        }))
    }

    fn replace_xdp(&mut self, link: &Path) -> Result<(), BoxError> {
        let link: XdpLink = FdLink::from(PinnedLink::from_pin(link)?).try_into()?;
        let program: &mut Xdp = program_mut(self.ebpf, self.xdp)?;
        let id = program.attach_to_link(link)?;
        // The pin keeps it; each generation would leave one more open file here.
        drop(program.take_link(id)?);
        Ok(())
    }

    fn replace_tcx(&mut self, link: &Path) -> Result<(), BoxError> {
        let link: SchedClassifierLink = FdLink::from(PinnedLink::from_pin(link)?).try_into()?;
        let program: &mut SchedClassifier = program_mut(self.ebpf, self.tc)?;
        let id = program.attach_to_link(link)?;
        // The pin keeps it; each generation would leave one more open file here.
        drop(program.take_link(id)?);
        Ok(())
    }

    fn replace_clsact(&mut self, interface: &str) -> Result<(), BoxError> {
        let link = clsact_link(interface, TcAttachType::Ingress)?;
        let program: &mut SchedClassifier = program_mut(self.ebpf, self.tc)?;
        let id = program.attach_to_link(link)?;
        std::mem::forget(program.take_link(id)?);
        if let Some(pins) = self.pins {
            let pin = pins.link(Mode::Clsact);
            std::fs::remove_file(&pin)?;
            let program: &mut SchedClassifier = program_mut(self.ebpf, self.tc)?;
            program.pin(pin)?;
        }
        Ok(())
    }
}

impl Pins {
    /// Takes enforcement away: the filter or link first, then the maps.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NotRunning`] if nothing is pinned there; else what the kernel refused.
    pub fn detach(&self, interface: &str) -> Result<(), LoaderError> {
        if !self.is_in_use() {
            return Err(LoaderError::NotRunning {
                path: self.folder().into(),
            });
        }
        if self.mode() == Some(Mode::Clsact) {
            let link = clsact_link(interface, TcAttachType::Ingress);
            let removed = link.and_then(|link| Ok(Link::detach(link)?));
            removed.map_err(|source| LoaderError::Detach {
                interface: interface.into(),
                source,
            })?;
        }
        self.remove()
    }
}

/// Makes the place for clsact filters, unless it is there.
pub(super) fn add_clsact(interface: &str) -> Result<(), BoxError> {
    match tc::qdisc_add_clsact(interface) {
        Err(error) if !is_present(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Where our clsact filters are.
pub(super) fn clsact_options() -> TcAttachOptions {
    TcAttachOptions::Netlink(NlOptions {
        priority: CLSACT_PRIORITY,
        handle: TcHandle::from(CLSACT_HANDLE),
        ..NlOptions::default()
    })
}

pub(super) fn clsact_link(
    interface: &str,
    direction: TcAttachType,
) -> Result<SchedClassifierLink, BoxError> {
    let handle = TcHandle::from(CLSACT_HANDLE);
    SchedClassifierLink::attached(interface, direction, CLSACT_PRIORITY, handle, None)
        .map_err(BoxError::from)
}

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn pin(pins: &Pins, mode: Mode, link: FdLink) -> Result<(), LoaderError> {
    let path = pins.link(mode);
    link.pin(&path)
        .map(|_| ())
        .map_err(|source| LoaderError::Pin { path, source })
}

pub(super) fn attach_error(
    interface: &str,
    mode: Mode,
    source: impl Into<BoxError>,
) -> LoaderError {
    LoaderError::Attach {
        interface: interface.into(),
        mode: mode.name(),
        source: source.into(),
    }
}

/// A kernel without TCX says only "invalid argument".
pub(super) fn why_no_tcx(error: BoxError) -> BoxError {
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(6, 6, 0) => {
            "this kernel has no TCX, which came with Linux 6.6".into()
        }
        _ => error,
    }
}

fn hidden_tags(interface: &str) -> String {
    format!(
        "the NIC takes VLAN tags out of frames (rxvlan), so XDP would not see them \
         (remedy: ethtool -K {interface} rxvlan off)"
    )
}

/// Does the error say that the qdisc is there already?
fn is_present(error: &TcError) -> bool {
    if let TcError::NetlinkError(error) = error {
        return error.raw_os_error() == Some(libc::EEXIST);
    }
    matches!(error, TcError::IoError(error) if error.kind() == io::ErrorKind::AlreadyExists)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
