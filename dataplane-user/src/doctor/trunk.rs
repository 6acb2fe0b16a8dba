//! Checks of the trunk: programs, offloads, MTU, addresses, sysctls, and the uplinks' table.

use super::Finding;
use super::facts::{Facts, Nat};
use crate::loader::Mode;

pub(super) fn presence(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "trunk";
    let Some(trunk) = &facts.trunk else {
        return vec![Finding::warning(
            NAME,
            "no trunk is known: the inventory has errors, or no router",
            "what is attached, offloads and MTUs were not checked",
            "bulkhead doctor --interface IF",
        )];
    };
    if facts.links.is_none() {
        return vec![Finding::warning(
            NAME,
            "the links cannot be listed",
            "the network was not checked",
            "ip link",
        )];
    }
    vec![match facts.trunk_link() {
        None => Finding::error(
            NAME,
            format!("there is no interface {trunk}"),
            "nothing can be enforced on it",
            "ip link; set router_parent to the trunk's name",
        ),
        Some(link) if !link.up => Finding::error(
            NAME,
            format!("{trunk} is down"),
            "no tenant reaches the router",
            format!("ip link set {trunk} up"),
        ),
        Some(_) => Finding::ok(NAME, format!("{trunk} is up")),
    }]
}

pub(super) fn enforcement(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "enforcement";
    const WHY: &str = "nothing judges the frames of tenants";
    let Some(link) = facts.trunk_link() else {
        return Vec::new();
    };
    let pinned = &facts.enforcement;
    let name = &link.name;
    let is_blind = !facts.missing_privileges.is_empty();
    vec![match (pinned.mode, pinned.ifindex) {
        (Some(_), Some(index)) if index == link.index && is_attached(facts) => {
            let mode = pinned.mode.map_or("", Mode::name);
            Finding::ok(NAME, format!("{mode} on {name}"))
        }
        _ if is_blind => Finding::warning(
            NAME,
            format!("whether {name} is enforced cannot be seen"),
            "pins and programs can be read with privileges only",
            "sudo bulkhead doctor",
        ),
        (None, _) => Finding::error(
            NAME,
            format!("nothing of bulkhead is attached to {name}"),
            WHY,
            "systemctl restart bulkhead (or bulkhead run)",
        ),
        (Some(mode), _) => Finding::error(
            NAME,
            format!("the pinned {mode} program is no longer attached to {name}"),
            WHY,
            format!(
                "bulkhead detach --interface {name} --yes; systemctl restart bulkhead (or bulkhead run)"
            ),
        ),
    }]
}

/// Is the pinned program among those of the trunk? What the kernel does not tell is taken from the pin.
fn is_attached(facts: &Facts) -> bool {
    let Some(program) = facts.enforcement.program else {
        return false;
    };
    match facts.enforcement.mode {
        Some(Mode::XdpNative | Mode::XdpGeneric) => facts.attached.xdp.contains(&program),
        Some(Mode::Tcx) => {
            let tcx = facts.attached.tcx.as_ref();
            tcx.is_none_or(|programs| programs.contains(&program))
        }
        Some(Mode::Clsact) => true,
        None => false,
    }
}

fn is_ours(facts: &Facts, program: u32) -> bool {
    facts.enforcement.program == Some(program)
}

pub(super) fn foreign_xdp(facts: &Facts) -> Vec<Finding> {
    let Some(trunk) = &facts.trunk else {
        return Vec::new();
    };
    // Without privileges, ours cannot be told from others.
    if facts.enforcement.program.is_none() && !facts.missing_privileges.is_empty() {
        return Vec::new();
    }
    let foreign = facts.attached.xdp.iter().filter(|&&id| !is_ours(facts, id));
    foreign
        .map(|id| {
            Finding::error(
                "foreign-xdp",
                format!("XDP program {id} on {trunk} is not bulkhead's"),
                "it sees each frame first, and can send frames past the policy",
                format!("bpftool prog show id {id}; ip link set dev {trunk} xdp off"),
            )
        })
        .collect()
}

pub(super) fn foreign_tc(facts: &Facts) -> Vec<Finding> {
    let Some(trunk) = &facts.trunk else {
        return Vec::new();
    };
    if facts.enforcement.program.is_none() && !facts.missing_privileges.is_empty() {
        return Vec::new();
    }
    const NAME: &str = "foreign-tc";
    const WHY: &str = "it can change or redirect frames that the policy judges otherwise";
    let tcx = facts.attached.tcx.iter().flatten();
    let mut findings: Vec<_> = tcx
        .filter(|&&id| !is_ours(facts, id))
        .map(|id| {
            let found = format!("TCX program {id} on {trunk} is not bulkhead's");
            Finding::warning(NAME, found, WHY, format!("bpftool net show dev {trunk}"))
        })
        .collect();
    if let Some(count @ 1..) = facts.attached.filters {
        let found = format!("{count} TC filters on {trunk} are not bulkhead's");
        let remedy = format!("tc filter show dev {trunk} ingress");
        findings.push(Finding::warning(NAME, found, WHY, remedy));
    }
    findings
}

pub(super) fn hidden_tags(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "hidden-tags";
    let Some(trunk) = facts.trunk_link().map(|link| &link.name) else {
        return Vec::new();
    };
    let is_native = facts.enforcement.mode == Some(Mode::XdpNative);
    vec![match facts.rx_vlan_offload {
        Some(true) if is_native => Finding::error(
            NAME,
            format!("rxvlan is on, and {trunk} is enforced by native XDP"),
            "the NIC takes VLAN tags out of frames before the program sees them: tenants' frames are dropped as untagged",
            format!("ethtool -K {trunk} rxvlan off"),
        ),
        Some(true) => Finding::ok(NAME, "rxvlan is on; TC programs see the tag all the same"),
        Some(false) => Finding::ok(NAME, "rxvlan is off"),
        None => Finding::warning(
            NAME,
            format!("{trunk} does not tell its offloads"),
            "a NIC that takes tags out of frames would hide them from native XDP",
            format!("ethtool -k {trunk}"),
        ),
    }]
}

pub(super) fn native_xdp(facts: &Facts) -> Vec<Finding> {
    let (Some(mode), Some(why)) = (facts.enforcement.mode, &facts.enforcement.why) else {
        return Vec::new();
    };
    let found = match mode {
        Mode::XdpNative => "the driver has it".to_owned(),
        Mode::XdpGeneric | Mode::Tcx | Mode::Clsact => format!("not used: {why}"),
    };
    vec![Finding::ok("native-xdp", found)]
}

pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "trunk-mtu";
    let (Some(link), Some(site)) = (facts.trunk_link(), &facts.site) else {
        return Vec::new();
    };
    let largest = site.segments.values().max_by_key(|(_, mtu)| *mtu);
    vec![match largest {
        Some((segment, mtu)) if *mtu > link.mtu => Finding::error(
            NAME,
            format!(
                "{} has {}, the segment {segment} {mtu}",
                link.name, link.mtu
            ),
            "large packets of that segment are lost",
            format!("ip link set dev {} mtu {mtu}", link.name),
        ),
        _ => Finding::ok(NAME, format!("{} octets on {}", link.mtu, link.name)),
    }]
}

pub(super) fn device_mtu(facts: &Facts) -> Vec<Finding> {
    let Some(site) = &facts.site else {
        return Vec::new();
    };
    let wrong = facts.devices().filter_map(|(vlan, device)| {
        let (segment, mtu) = site.segments.get(&vlan)?;
        (device.mtu != *mtu).then(|| {
            Finding::warning(
                "device-mtu",
                format!(
                    "{} has {}, its segment {segment} {mtu}",
                    device.name, device.mtu
                ),
                "packets are lost, or needlessly fragmented",
                format!("ip link set dev {} mtu {mtu}", device.name),
            )
        })
    });
    wrong.collect()
}

pub(super) fn addresses(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "trunk-address";
    let Some(link) = facts.trunk_link() else {
        return Vec::new();
    };
    if link.addresses.is_empty() {
        return vec![Finding::ok(
            NAME,
            format!("{} itself has no address", link.name),
        )];
    }
    let found = link.addresses.iter().map(|address| {
        Finding::error(
            NAME,
            format!("{} itself has {address}", link.name),
            "the router is on the untagged network, which no segment is: its frames are dropped",
            format!("ip address delete {address} dev {}", link.name),
        )
    });
    found.collect()
}

pub(super) fn native_vlan(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "native-vlan";
    let Some(site) = &facts.site else {
        return Vec::new();
    };
    let Some(native) = site.native_vlan else {
        return vec![Finding::warning(
            NAME,
            "the inventory names no router_native_segment",
            "the switch has a native VLAN on the trunk: frames without a tag belong to a segment that nobody named",
            "router_native_segment: blackhole",
        )];
    };
    let used = facts.devices().find(|(vlan, _)| *vlan == native);
    vec![match (site.segments.get(&native), used) {
        (Some((segment, _)), _) => Finding::error(
            NAME,
            format!("VLAN {native} ({segment}) is native and has a subnet"),
            "frames without a tag would belong to a segment in use",
            "name an unrouted segment as router_native_segment",
        ),
        (None, Some((_, device))) => Finding::error(
            NAME,
            format!("{} is a device on the native VLAN {native}", device.name),
            "frames without a tag must go nowhere",
            format!("ip link delete {}", device.name),
        ),
        (None, None) => Finding::ok(NAME, format!("VLAN {native} is a blackhole")),
    }]
}

/// Sysctls of a router, with the trunk's name for `TRUNK`.
const SYSCTLS: &[(&str, &str, &str)] = &[
    (
        "net/ipv4/ip_forward",
        "1",
        "the kernel forwards nothing between segments",
    ),
    (
        "net/ipv4/conf/all/send_redirects",
        "0",
        "the router tells tenants ways around itself",
    ),
    (
        "net/ipv4/conf/TRUNK/accept_redirects",
        "0",
        "a tenant can bend the router's routes",
    ),
    (
        "net/ipv4/conf/TRUNK/accept_source_route",
        "0",
        "a sender chooses its way past the policy",
    ),
    (
        "net/ipv6/conf/TRUNK/accept_ra",
        "0",
        "a tenant can become the router's router",
    ),
    (
        "net/ipv6/conf/TRUNK/accept_redirects",
        "0",
        "a tenant can bend the router's routes",
    ),
];

pub(super) fn sysctls(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "sysctl";
    let Some(trunk) = facts.trunk_link().map(|link| &link.name) else {
        return Vec::new();
    };
    let ipv6 = (
        "net/ipv6/conf/all/forwarding",
        "1",
        "the kernel forwards no IPv6 between segments",
    );
    let has_ipv6 = facts.site.as_ref().is_some_and(|site| site.has_ipv6);
    let wanted = SYSCTLS.iter().copied().chain(has_ipv6.then_some(ipv6));
    let wrong: Vec<_> = wanted
        .filter_map(|(key, value, why)| {
            let path = key.replace("TRUNK", trunk);
            let found = facts.sysctls.get(&path)?;
            (found != value).then(|| {
                // Slashes, since a name of an interface may have dots.
                let remedy = format!("sysctl -w {path}={value}");
                Finding::warning(NAME, format!("{path} is {found}"), why, remedy)
            })
        })
        .collect();
    if wrong.is_empty() {
        return vec![Finding::ok(
            NAME,
            "forwarding, redirects and source routes are as they should be",
        )];
    }
    wrong
}

pub(super) fn nat(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "uplink-table";
    const WHY: &str = "the uplinks are not translated and guarded as the inventory says";
    match &facts.nat {
        Nat::Unwanted => Vec::new(),
        Nat::Compared(changes) => vec![match changes.first() {
            None => Finding::ok(NAME, "the nftables table inet bulkhead is as it should be"),
            Some(first) => Finding::warning(
                NAME,
                format!("{} changes are due, the first: {first}", changes.len()),
                WHY,
                "bulkhead plan; bulkhead apply",
            ),
        }],
        Nat::Unreadable(why) => {
            vec![Finding::warning(
                NAME,
                why.clone(),
                WHY,
                "nft list table inet bulkhead",
            )]
        }
    }
}
