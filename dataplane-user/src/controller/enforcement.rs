//! What the kernel enforces: the attached program, the generation, the contents of its maps.

use std::fmt;

use serde::Serialize;

use super::ControlOptions;
use crate::compile::Trunk;
use crate::loader::{LoaderError, Mode, Pins, TableDifference, WantedMode};
use crate::network::Netlink;
use crate::run::{Place, RunError, attachment};

/// What is enforced on the trunk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enforcement {
    /// The pinned attachment, and the interface it is on; 0: the interface is gone.
    pub attached: Option<(Mode, u32)>,
    /// What is attached is the hold, not a generation.
    pub held: bool,
    /// Number of the generation that packets are judged by; 0: none.
    pub generation: u32,
    /// Maps of another layout, which an older or newer bulkhead made.
    pub other_abi: Option<u32>,
    /// Index of the trunk.
    ifindex: u32,
    /// What is to be done at the ports; `None`: there is a trunk.
    ports: Option<Vec<EnforcementChange>>,
}

/// Something that a generation changes in the programs and maps.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EnforcementChange {
    /// The programs are attached.
    Attach {
        /// The trunk.
        interface: String,
        /// How, as asked.
        mode: String,
    },
    /// The programs of a link whose interface is gone are attached to the interface that has its name now.
    Reattach {
        /// The trunk.
        interface: String,
    },
    /// The programs of a port are attached.
    AttachPort {
        /// The port.
        port: String,
        /// Whose machine is behind it, or why nobody knows.
        who: String,
    },
    /// Another machine is behind a port.
    Plug {
        /// The port.
        port: String,
        /// Whose machine is behind it, or why nobody knows.
        who: String,
    },
    /// Ports are gone.
    Unplug {
        /// How many.
        ports: usize,
    },
    /// The hypervisor itself has other hardware addresses.
    OwnAddresses,
    /// The maps are made anew: they are of another layout.
    Layout {
        /// Version of the old layout.
        from: u32,
    },
    /// The kernel enforces another generation than the current one.
    Generation {
        /// What it enforces.
        enforced: u32,
        /// What it should.
        current: u32,
    },
    /// Entries of a map.
    Table(TableDifference),
}

impl fmt::Display for EnforcementChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach { interface, mode } => write!(f, "+ programs on {interface} ({mode})"),
            Self::Reattach { interface } => {
                write!(f, "~ programs on {interface}: the interface is a new one")
            }
            Self::AttachPort { port, who } => write!(f, "+ programs on port {port} ({who})"),
            Self::Plug { port, who } => write!(f, "~ port {port}: {who}"),
            Self::Unplug { ports } => write!(f, "~ ports: {ports} gone"),
            Self::OwnAddresses => f.write_str("~ the hypervisor's own hardware addresses"),
            Self::Layout { from } => {
                write!(f, "~ maps: made anew, the old ones have layout {from}")
            }
            Self::Generation { enforced, current } => write!(
                f,
                "~ maps: the kernel enforces generation {enforced}, not {current}"
            ),
            Self::Table(table) => {
                write!(f, "~ map {}:", table.map)?;
                let counts = [
                    ('+', table.missing),
                    ('~', table.changed),
                    ('-', table.surplus),
                ];
                for (sign, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                    write!(f, " {sign}{count}")?;
                }
                Ok(())
            }
        }
    }
}

impl Enforcement {
    /// Looks at the pins of a place.
    pub(super) async fn observe(
        place: &Place,
        trunk: &Trunk,
        netlink: &Netlink,
    ) -> Result<Self, RunError> {
        let pins = Pins::at(&place.pins);
        let mut held = false;
        let attached = match pins.mode() {
            Some(mode) => {
                let found = attachment(&pins, mode, trunk.ifindex, netlink).await;
                held = found.is_hold;
                // What cannot be found out is taken as it should be: a detached link says so (0).
                Some((mode, found.ifindex.unwrap_or(trunk.ifindex)))
            }
            None => None,
        };
        Ok(Self {
            attached,
            held,
            generation: generation(&pins)?,
            other_abi: pins.other_abis().first().copied(),
            ifindex: trunk.ifindex,
            ports: None,
        })
    }

    /// Looks at the pins of a hypervisor's place; `lacks` is what is to be done at the ports.
    pub(super) fn of_ports(
        place: &Place,
        trunk: &Trunk,
        lacks: Vec<EnforcementChange>,
    ) -> Result<Self, RunError> {
        let pins = Pins::at(&place.pins);
        Ok(Self {
            attached: None,
            held: false,
            generation: generation(&pins)?,
            other_abi: pins.other_abis().first().copied(),
            ifindex: trunk.ifindex,
            ports: Some(lacks),
        })
    }

    /// Is the trunk's traffic judged by the programs of a generation?
    #[must_use]
    pub fn is_attached(&self) -> bool {
        let attached = self.attached;
        !self.held && attached.is_some_and(|(_, ifindex)| ifindex == self.ifindex)
    }

    /// Is there anything that a generation left, be it of another layout?
    pub(super) fn is_of_something(&self) -> bool {
        self.generation > 0 || self.other_abi.is_some() || self.is_attached()
    }

    /// Tells what has to change so that `tables` and the generation after `base` are enforced.
    pub(super) fn changes(
        &self,
        options: &ControlOptions,
        base: Option<u32>,
        tables: &[TableDifference],
    ) -> Vec<EnforcementChange> {
        let interface = options.place.interface.clone();
        let mut changes = self.ports.clone().unwrap_or_default();
        match self.attached {
            None if self.ports.is_some() => {}
            None => changes.push(EnforcementChange::Attach {
                interface,
                mode: wanted_name(options.mode).to_owned(),
            }),
            Some((_, ifindex)) if ifindex != self.ifindex => {
                changes.push(EnforcementChange::Reattach { interface });
            }
            Some((mode, _)) if self.held => changes.push(EnforcementChange::Attach {
                interface,
                mode: format!("{mode}, in place of the hold"),
            }),
            Some(_) => {}
        }
        if let (Some(from), 0) = (self.other_abi, self.generation) {
            changes.push(EnforcementChange::Layout { from });
        }
        if let Some(current) = base
            && current != self.generation
            && self.generation != 0
        {
            changes.push(EnforcementChange::Generation {
                enforced: self.generation,
                current,
            });
        }
        changes.extend(tables.iter().cloned().map(EnforcementChange::Table));
        changes
    }
}

#[cfg(test)]
impl Enforcement {
    /// Nothing was ever attached to the trunk.
    pub(super) fn nothing(trunk: &Trunk) -> Self {
        Self {
            attached: None,
            held: false,
            generation: 0,
            other_abi: None,
            ifindex: trunk.ifindex,
            ports: None,
        }
    }
}

/// Number of the generation that packets are judged by; 0: none, or none of this layout.
fn generation(pins: &Pins) -> Result<u32, RunError> {
    match pins.generation() {
        Ok(generation) => Ok(generation.number),
        Err(LoaderError::AbiMismatch { .. } | LoaderError::NotRunning { .. }) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn wanted_name(mode: WantedMode) -> &'static str {
    match mode {
        WantedMode::Auto => "the best mode that hides no tag",
        WantedMode::Exactly(mode) => mode.name(),
    }
}
