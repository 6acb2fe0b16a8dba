//! Looking at the host, once. Nothing here fails: what cannot be seen is left out of the facts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::time::SystemTime;

use aya::programs::{SchedClassifier, TcAttachType};
use netmodel::Model;
use netmodel::model::HostId;

use super::facts::{Attached, Clock, Enforcement, Facts, Folder, Kernel, Nat, Site};
use super::links;
use crate::controller::{ControlOptions, ports_now};
use crate::loader::{Mode, Pins, is_bpf_fs};
use crate::nat;
use crate::network::{Netlink, Network};
use crate::run::{Place, State, attachment};

/// What the controller keeps.
pub(super) const STATE_FOLDER: &str = "/var/lib/bulkhead";
/// Where pins are.
const BPF_FOLDER: &str = "/sys/fs/bpf";

/// Capabilities that the controller needs, by bit (`include/uapi/linux/capability.h`).
const PRIVILEGES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// It has the two others in it.
const SYS_ADMIN: u32 = 21;

/// Sysctls that checks look at; `TRUNK` stands for the trunk.
const SYSCTLS: &[&str] = &[
    "kernel/unprivileged_bpf_disabled",
    "net/core/bpf_jit_enable",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/send_redirects",
    "net/ipv4/conf/TRUNK/accept_redirects",
    "net/ipv4/conf/TRUNK/accept_source_route",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/TRUNK/accept_ra",
    "net/ipv6/conf/TRUNK/accept_redirects",
];

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The trunk and its pins; `None` if nobody knows which it is.
    pub place: Option<&'a Place>,
    /// The inventory and the router that this host is, if it has no errors.
    pub router: Option<(&'a Model, HostId)>,
    /// How the ports are found, if this host is a hypervisor.
    pub hypervisor: Option<&'a ControlOptions>,
}

/// Looks at the host, in the network namespace of this thread. Needs a tokio runtime.
pub async fn gather(asked: Asked<'_>) -> Facts {
    let trunk = asked.place.map(|place| place.interface.clone());
    let mut facts = Facts {
        missing_privileges: missing_privileges(),
        kernel: kernel(),
        clock: clock(),
        bpf_file_system: is_bpf_fs(Path::new(BPF_FOLDER)),
        state_folder: folder(Path::new(STATE_FOLDER)),
        site: asked.router.map(|(model, host)| site(model, host)),
        sysctls: sysctls(trunk.as_deref()),
        nat: asked
            .router
            .map_or(Nat::Unwanted, |(model, host)| nat_table(model, host)),
        trunk,
        ..Facts::default()
    };
    let Ok(netlink) = Netlink::connect() else {
        return facts;
    };
    if let Ok(network) = Network::connect() {
        let observed = network.observe(facts.trunk.as_deref().unwrap_or_default());
        let observed = observed.await.ok();
        facts.links = observed.as_ref().map(links::all);
        facts.rx_vlan_offload = observed.and_then(|observed| observed.rx_vlan_offload);
    }
    if let Some(options) = asked.hypervisor {
        facts.ports = Some(ports_now(options).await.ok().flatten());
        return facts;
    }
    if let (Some(place), Some(link)) = (asked.place, facts.trunk_link()) {
        let ifindex = link.index;
        facts.enforcement = enforcement(place, ifindex, &netlink).await;
        facts.attached = attached(place, ifindex, facts.enforcement.mode).await;
    }
    facts
}

fn missing_privileges() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let has = |bit: u32| effective.unwrap_or(0) & (1 << bit) != 0;
    let missing = PRIVILEGES.iter().filter(|(bit, name)| {
        let is_implied = *name != "CAP_NET_ADMIN" && has(SYS_ADMIN);
        !has(*bit) && !is_implied
    });
    missing.map(|(_, name)| *name).collect()
}

fn kernel() -> Kernel {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    Kernel {
        options: config(&release).map(|text| parse_config(&text)),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        release,
    }
}

fn config(release: &str) -> Option<String> {
    if let Ok(packed) = fs::File::open("/proc/config.gz") {
        let mut text = String::new();
        let read = flate2::read::GzDecoder::new(packed).read_to_string(&mut text);
        return read.ok().map(|_| text);
    }
    fs::read_to_string(format!("/boot/config-{release}")).ok()
}

fn parse_config(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("CONFIG_"));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn clock() -> Clock {
    let program = fs::metadata("/proc/self/exe");
    Clock {
        synchronised: is_synchronised(),
        now: Some(SystemTime::now()),
        built: program.and_then(|program| program.modified()).ok(),
    }
}

fn is_synchronised() -> Option<bool> {
    // SAFETY: all zeroes is a valid timex; mode 0 only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}

fn folder(path: &Path) -> Folder {
    match fs::read_dir(path) {
        Ok(_) => Folder::Readable,
        Err(error) if error.kind() == ErrorKind::NotFound => Folder::Absent,
        Err(error) => Folder::Unreadable(error.to_string()),
    }
}

fn site(model: &Model, host: HostId) -> Site {
    let mut site = Site::default();
    for segment in &model.segments {
        let is_routed = segment.ipv4.is_some() || segment.ipv6.is_some();
        if is_routed {
            let told = (segment.name.to_string(), segment.mtu.into());
            site.segments.insert(segment.vlan_id.as_u16(), told);
        }
        site.has_ipv6 |= segment.ipv6.is_some();
    }
    let router = model.routers.iter().find(|router| router.host == host);
    let native = router.and_then(|router| router.native_segment);
    site.native_vlan = native.map(|id| model.segment(id).vlan_id.as_u16());
    site
}

fn sysctls(trunk: Option<&str>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for key in SYSCTLS {
        let path = key.replace("TRUNK", trunk.unwrap_or("all"));
        if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(&path)) {
            values.insert(path, value.trim().to_owned());
        }
    }
    values
}

fn nat_table(model: &Model, host: HostId) -> Nat {
    let wanted = nat::desired(model, host);
    if wanted.is_empty() {
        return Nat::Unwanted;
    }
    match nat::observe() {
        Ok(observed) => {
            let changes = nat::plan(&wanted, &observed);
            Nat::Compared(changes.iter().map(ToString::to_string).collect())
        }
        Err(error) => Nat::Unreadable(error.to_string()),
    }
}

async fn enforcement(place: &Place, ifindex: u32, netlink: &Netlink) -> Enforcement {
    let pins = Pins::at(&place.pins);
    let mode = pins.mode();
    let mut found = Enforcement {
        has_maps: pins.has_maps(),
        mode,
        why: State::read(&place.state).map(|state| state.why),
        ..Enforcement::default()
    };
    if let Some(mode) = mode {
        let attached = attachment(&pins, mode, ifindex, netlink).await;
        (found.program, found.ifindex) = (attached.program, attached.ifindex);
    }
    found
}

async fn attached(place: &Place, ifindex: u32, mode: Option<Mode>) -> Attached {
    let interface = &place.interface;
    let tcx = SchedClassifier::query_tcx(interface, TcAttachType::Ingress).ok();
    Attached {
        xdp: links::xdp_programs(ifindex).await.unwrap_or_default(),
        tcx: tcx.map(|(_, programs)| programs.iter().map(|p| p.id()).collect()),
        filters: links::foreign_filters(ifindex, mode == Some(Mode::Clsact))
            .await
            .ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_kernel_are_read_and_those_that_are_off_are_not() {
        let text = "# Linux\nCONFIG_BPF_SYSCALL=y\n# CONFIG_VLAN_8021Q is not set\nCONFIG_HZ=250\n";
        let options = parse_config(text);
        assert_eq!(options["BPF_SYSCALL"], "y");
        assert_eq!(options["HZ"], "250");
        assert!(!options.contains_key("VLAN_8021Q"));
    }
}
