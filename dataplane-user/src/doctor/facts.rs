//! What the checks know of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::controller::PortsNow;
use crate::loader::Mode;

/// Everything that was gathered. `None` is always: could not be seen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Names of capabilities that the controller needs and this process lacks.
    pub missing_privileges: Vec<&'static str>,
    /// The kernel.
    pub kernel: Kernel,
    /// The clock.
    pub clock: Clock,
    /// Is a BPF file system where pins are?
    pub bpf_file_system: bool,
    /// `/var/lib/bulkhead`.
    pub state_folder: Folder,
    /// What the inventory says; `None` if it cannot be loaded, or names no router.
    pub site: Option<Site>,
    /// The trunk's name.
    pub trunk: Option<String>,
    /// What is pinned for the trunk.
    pub enforcement: Enforcement,
    /// What is attached to the trunk.
    pub attached: Attached,
    /// Does the trunk's NIC take VLAN tags out of received frames?
    pub rx_vlan_offload: Option<bool>,
    /// Every link.
    pub links: Option<Vec<Link>>,
    /// Sysctls, by path below `/proc/sys`; those that do not exist are absent.
    pub sysctls: BTreeMap<String, String>,
    /// The table of the uplinks.
    pub nat: Nat,
    /// The ports of a hypervisor, of which `trunk` is the bridge; inside `None`: nothing is applied, or they cannot be seen.
    /// Outside `None`: this host is a router.
    pub ports: Option<Option<PortsNow>>,
}

/// The kernel.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// As `uname -r` says.
    pub release: String,
    /// `CONFIG_X` → `y`, `m` or another value, without the prefix.
    pub options: Option<BTreeMap<String, String>>,
    /// Does it tell its types?
    pub btf: bool,
}

/// The clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Is it synchronised?
    pub synchronised: Option<bool>,
    /// What it says.
    pub now: Option<SystemTime>,
    /// When this program was made.
    pub built: Option<SystemTime>,
}

/// A folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Folder {
    /// It is there and can be read.
    Readable,
    /// It is not there.
    #[default]
    Absent,
    /// It cannot be read.
    Unreadable(String),
}

/// What the inventory says of this router.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Name and MTU of each segment with a subnet, by VLAN id.
    pub segments: BTreeMap<u16, (String, u32)>,
    /// VLAN id of the native segment.
    pub native_vlan: Option<u16>,
    /// Is any segment IPv6?
    pub has_ipv6: bool,
}

/// What is pinned for the trunk.
#[derive(Clone, Debug, Default)]
pub struct Enforcement {
    /// Are there maps?
    pub has_maps: bool,
    /// Mode of the attachment.
    pub mode: Option<Mode>,
    /// The kernel's number of the program.
    pub program: Option<u32>,
    /// Index of the interface that it is attached to; 0: of none.
    pub ifindex: Option<u32>,
    /// Why in this mode, as the controller found.
    pub why: Option<String>,
}

/// What is attached to the trunk.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// XDP programs.
    pub xdp: Vec<u32>,
    /// TCX programs on ingress; `None` if the kernel has no TCX, or does not tell.
    pub tcx: Option<Vec<u32>>,
    /// clsact filters on ingress that are not where ours would be.
    pub filters: Option<usize>,
}

/// A link.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Is it set up?
    pub up: bool,
    /// Largest packet in octets.
    pub mtu: u32,
    /// What it is.
    pub kind: LinkKind,
    /// Index of the bridge (or other) that it is a port of.
    pub controller: Option<u32>,
    /// Its addresses with prefix lengths, but those that the kernel gives by itself.
    pub addresses: Vec<String>,
    /// VLANs of a bridge's port.
    pub vlans: BTreeMap<u16, Vlan>,
}

/// What a link is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LinkKind {
    /// A VLAN device.
    Vlan {
        /// Index of what it is on.
        parent: u32,
        /// VLAN id.
        vlan_id: u16,
    },
    /// A bridge.
    Bridge {
        /// Does it filter VLANs?
        filters: bool,
    },
    /// Anything else.
    #[default]
    Other,
}

/// How a bridge's port carries a VLAN.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vlan {
    /// Untagged frames that come in belong to it.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

/// The table of the uplinks.
#[derive(Clone, Debug, Default)]
pub enum Nat {
    /// The router has no uplinks, or the inventory is not known.
    #[default]
    Unwanted,
    /// It cannot be read.
    Unreadable(String),
    /// It was compared.
    Compared(Vec<String>),
}

impl Facts {
    /// Returns the trunk's link.
    pub(super) fn trunk_link(&self) -> Option<&Link> {
        let name = self.trunk.as_deref()?;
        self.links.as_ref()?.iter().find(|link| link.name == name)
    }

    /// Returns the VLAN devices on the trunk.
    pub(super) fn devices(&self) -> impl Iterator<Item = (u16, &Link)> {
        let trunk = self.trunk_link().map(|link| link.index);
        self.links.iter().flatten().filter_map(move |link| {
            if let LinkKind::Vlan { parent, vlan_id } = link.kind
                && Some(parent) == trunk
            {
                Some((vlan_id, link))
            } else {
                None
            }
        })
    }
}

impl Link {
    /// Returns the VLANs that frames leave with a tag in.
    pub(super) fn tagged(&self) -> BTreeSet<u16> {
        let tagged = self.vlans.iter().filter(|(_, how)| !how.untagged);
        tagged.map(|(vlan, _)| *vlan).collect()
    }
}
