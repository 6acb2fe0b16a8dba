//! A host where all is well, and each thing that can be wrong with it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::*;
use crate::controller::PortsNow;
use crate::loader::Mode;
use crate::ports::{Endpoint, Port, Ports, Unknown};

const TRUNK: u32 = 2;

fn port(index: u32, name: &str, vlans: &[(u16, bool)]) -> Link {
    let vlans = vlans.iter().map(|&(vlan, untagged)| {
        let pvid = untagged;
        (vlan, Vlan { pvid, untagged })
    });
    Link {
        index,
        name: name.into(),
        up: true,
        mtu: 1500,
        controller: Some(10),
        vlans: vlans.collect(),
        ..Link::default()
    }
}

/// A router, and a hypervisor's bridge beside it.
fn healthy() -> Facts {
    let link = |index, name: &str, kind| Link {
        index,
        name: name.into(),
        up: true,
        mtu: 1500,
        kind,
        ..Link::default()
    };
    let device = |index, vlan_id| {
        let kind = LinkKind::Vlan {
            parent: TRUNK,
            vlan_id,
        };
        link(index, &format!("eth1.{vlan_id}"), kind)
    };
    let options = [
        "BPF_SYSCALL",
        "NET_CLS_ACT",
        "NET_SCH_INGRESS",
        "VLAN_8021Q",
    ];
    let for_nat = ["NF_TABLES", "NF_TABLES_INET", "NFT_CT", "NFT_MASQ"];
    let options = options.into_iter().chain(for_nat);
    let sysctls = [
        ("kernel/unprivileged_bpf_disabled", "2"),
        ("net/core/bpf_jit_enable", "1"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/eth1/accept_redirects", "0"),
        ("net/ipv4/conf/eth1/accept_source_route", "0"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/eth1/accept_ra", "0"),
        ("net/ipv6/conf/eth1/accept_redirects", "0"),
    ];
    Facts {
        missing_privileges: Vec::new(),
        kernel: Kernel {
            release: "6.12.1-amd64".into(),
            options: Some(options.map(|o| (o.into(), "m".into())).collect()),
            btf: true,
        },
        clock: Clock {
            synchronised: Some(true),
            now: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000)),
            built: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)),
        },
        bpf_file_system: true,
        state_folder: Folder::Readable,
        site: Some(Site {
            segments: BTreeMap::from([
                (100, ("grooveiq".into(), 1500)),
                (101, ("vintronics".into(), 1500)),
            ]),
            native_vlan: Some(999),
            has_ipv6: true,
        }),
        trunk: Some("eth1".into()),
        enforcement: Enforcement {
            has_maps: true,
            mode: Some(Mode::Tcx),
            program: Some(31),
            ifindex: Some(TRUNK),
            why: Some("no xdp-native: Operation not supported".into()),
        },
        attached: Attached {
            xdp: Vec::new(),
            tcx: Some(vec![31]),
            filters: Some(0),
        },
        rx_vlan_offload: Some(false),
        links: Some(vec![
            link(TRUNK, "eth1", LinkKind::Other),
            device(3, 100),
            device(4, 101),
            link(10, "br0", LinkKind::Bridge { filters: true }),
            port(11, "eno1", &[(100, false), (101, false)]),
            port(12, "tap7", &[(100, true)]),
        ]),
        sysctls: sysctls
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        nat: Nat::Compared(Vec::new()),
        ports: None,
    }
}

fn link<'f>(facts: &'f mut Facts, name: &str) -> &'f mut Link {
    let links = facts.links.as_mut().unwrap();
    links.iter_mut().find(|link| link.name == name).unwrap()
}

fn set(facts: &mut Facts, key: &str, value: &str) {
    facts.sysctls.insert(key.into(), value.into()).unwrap();
}

/// What goes wrong, the finding that says so, and how bad it is.
type Row = (fn(&mut Facts), &'static str, Severity);

const ROWS: &[Row] = {
    use Severity::{Error, Warning};
    &[
        (
            |f| f.missing_privileges = vec!["CAP_BPF"],
            "privileges",
            Warning,
        ),
        (
            |f| f.kernel.release = "5.10.0-1".into(),
            "kernel-version",
            Error,
        ),
        (
            |f| f.kernel.release = "6.0.9".into(),
            "kernel-version",
            Error,
        ),
        (
            |f| f.kernel.release = "unknown".into(),
            "kernel-version",
            Warning,
        ),
        (|f| f.kernel.options = None, "kernel-options", Warning),
        (|f| drop_option(f, "VLAN_8021Q"), "kernel-options", Error),
        (|f| drop_option(f, "BPF_SYSCALL"), "kernel-options", Error),
        (|f| drop_option(f, "NFT_MASQ"), "kernel-options", Error),
        (
            |f| {
                drop_option(f, "NFT_MASQ");
                f.nat = Nat::Unwanted;
            },
            "kernel-options",
            Warning,
        ),
        (|f| f.kernel.btf = false, "kernel-types", Error),
        (|f| f.bpf_file_system = false, "bpf-file-system", Error),
        (
            |f| set(f, "kernel/unprivileged_bpf_disabled", "0"),
            "unprivileged-bpf",
            Warning,
        ),
        (
            |f| drop_sysctl(f, "kernel/unprivileged_bpf_disabled"),
            "unprivileged-bpf",
            Warning,
        ),
        (
            |f| set(f, "net/core/bpf_jit_enable", "0"),
            "bpf-jit",
            Warning,
        ),
        (
            |f| drop_sysctl(f, "net/core/bpf_jit_enable"),
            "bpf-jit",
            Warning,
        ),
        (|f| f.clock.synchronised = Some(false), "clock", Warning),
        (|f| f.clock.synchronised = None, "clock", Warning),
        (
            |f| f.clock.now = Some(SystemTime::UNIX_EPOCH),
            "clock-in-the-past",
            Error,
        ),
        (|f| f.state_folder = Folder::Absent, "state-folder", Error),
        (
            |f| f.state_folder = Folder::Unreadable("denied".into()),
            "state-folder",
            Warning,
        ),
        (|f| f.trunk = None, "trunk", Warning),
        (|f| f.links = None, "trunk", Warning),
        (|f| f.trunk = Some("eth7".into()), "trunk", Error),
        (|f| link(f, "eth1").up = false, "trunk", Error),
        (
            |f| f.enforcement = Enforcement::default(),
            "enforcement",
            Error,
        ),
        (|f| f.enforcement.ifindex = Some(0), "enforcement", Error),
        (|f| f.enforcement.ifindex = Some(9), "enforcement", Error),
        (|f| f.attached.tcx = Some(vec![]), "enforcement", Error),
        (
            |f| f.enforcement.mode = Some(Mode::XdpNative),
            "enforcement",
            Error,
        ),
        (|f| f.attached.xdp = vec![32], "foreign-xdp", Error),
        (
            |f| f.attached.tcx = Some(vec![31, 32]),
            "foreign-tc",
            Warning,
        ),
        (|f| f.attached.filters = Some(1), "foreign-tc", Warning),
        (|f| f.rx_vlan_offload = None, "hidden-tags", Warning),
        (
            |f| {
                f.enforcement.mode = Some(Mode::XdpNative);
                f.rx_vlan_offload = Some(true);
            },
            "hidden-tags",
            Error,
        ),
        (|f| link(f, "eth1").mtu = 1496, "trunk-mtu", Error),
        (|f| link(f, "eth1.100").mtu = 1400, "device-mtu", Warning),
        (
            |f| link(f, "eth1").addresses = vec!["192.0.2.1/24".into()],
            "trunk-address",
            Error,
        ),
        (|f| site(f).native_vlan = None, "native-vlan", Warning),
        (|f| site(f).native_vlan = Some(100), "native-vlan", Error),
        (
            |f| {
                site(f).native_vlan = Some(101);
                site(f).segments.remove(&101);
            },
            "native-vlan",
            Error,
        ),
        (|f| set(f, "net/ipv4/ip_forward", "0"), "sysctl", Warning),
        (
            |f| set(f, "net/ipv4/conf/all/send_redirects", "1"),
            "sysctl",
            Warning,
        ),
        (
            |f| set(f, "net/ipv4/conf/eth1/accept_source_route", "1"),
            "sysctl",
            Warning,
        ),
        (
            |f| set(f, "net/ipv6/conf/all/forwarding", "0"),
            "sysctl",
            Warning,
        ),
        (
            |f| set(f, "net/ipv6/conf/eth1/accept_ra", "1"),
            "sysctl",
            Warning,
        ),
        (
            |f| f.nat = Nat::Compared(vec!["+ nat x".into()]),
            "uplink-table",
            Warning,
        ),
        (
            |f| f.nat = Nat::Unreadable("no nft".into()),
            "uplink-table",
            Warning,
        ),
        (
            |f| link(f, "tap7").vlans = (2..4095).map(|id| (id, Vlan::default())).collect(),
            "bridge-port-carries-all-vlans",
            Error,
        ),
        (
            |f| *link(f, "eno1") = port(11, "eno1", &[(1, true), (100, false)]),
            "bridge-port-native-vlan",
            Error,
        ),
        (
            |f| *link(f, "tap7") = port(12, "tap7", &[(1, true)]),
            "bridge-port-default-vlan",
            Warning,
        ),
        (
            |f| {
                link(f, "br0").kind = LinkKind::Bridge { filters: false };
                link(f, "eth1").controller = Some(10);
            },
            "bridge-filters-nothing",
            Error,
        ),
    ]
};

fn drop_option(facts: &mut Facts, option: &str) {
    facts
        .kernel
        .options
        .as_mut()
        .unwrap()
        .remove(option)
        .unwrap();
}

fn drop_sysctl(facts: &mut Facts, key: &str) {
    facts.sysctls.remove(key).unwrap();
}

fn site(facts: &mut Facts) -> &mut Site {
    facts.site.as_mut().unwrap()
}

#[test]
fn healthy_host_has_no_findings() {
    let findings = diagnose(&healthy());
    let bad: Vec<_> = findings
        .iter()
        .filter(|f| f.severity != Severity::Ok)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(findings.len() > 15, "{findings:#?}");
}

#[test]
fn each_thing_that_is_wrong_is_found_and_has_a_remedy() {
    for (number, (break_it, name, severity)) in ROWS.iter().enumerate() {
        let mut facts = healthy();
        break_it(&mut facts);
        let findings = diagnose(&facts);
        let bad = findings.iter().filter(|f| f.severity != Severity::Ok);
        let bad: Vec<_> = bad.collect();
        let of_name = bad.iter().filter(|f| f.name == *name);
        let severities: Vec<_> = of_name.clone().map(|f| f.severity).collect();
        assert_eq!(severities, [*severity], "row {number}: {name} in {bad:#?}");
        for finding in of_name {
            assert!(
                !finding.why.is_empty() && !finding.remedy.is_empty(),
                "{finding:?}"
            );
        }
    }
}

#[test]
fn every_check_has_a_row() {
    let rows: std::collections::BTreeSet<_> = ROWS.iter().map(|(_, name, _)| *name).collect();
    let fine = diagnose(&healthy());
    // `native-xdp` is only told; `bridge-port` has the names of what is wrong.
    let told = ["native-xdp", "bridge-port"];
    let names = fine
        .iter()
        .map(|f| f.name)
        .filter(|name| !told.contains(name));
    let missing: Vec<_> = names.filter(|name| !rows.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn without_privileges_nothing_is_said_to_be_wrong_that_cannot_be_seen() {
    let mut facts = healthy();
    facts.missing_privileges = vec!["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"];
    facts.enforcement = Enforcement::default();
    facts.attached = Attached {
        xdp: vec![31],
        tcx: None,
        filters: None,
    };
    let findings = diagnose(&facts);
    assert!(
        findings.iter().all(|f| f.severity != Severity::Error),
        "{findings:#?}"
    );
    let unseen = findings.iter().find(|f| f.name == "enforcement").unwrap();
    assert_eq!(unseen.severity, Severity::Warning);
}

#[test]
fn worst_comes_first() {
    let mut facts = healthy();
    facts.clock.synchronised = Some(false);
    facts.attached.xdp = vec![7];
    let findings = diagnose(&facts);
    let severities: Vec<_> = findings.iter().map(|f| f.severity).collect();
    assert!(severities.is_sorted());
    assert_eq!(findings[0].name, "foreign-xdp");
    assert_eq!(findings[1].name, "clock");
}

/// A hypervisor whose only machine is this one.
fn hypervisor(port: Port, bare: &[&str]) -> Facts {
    let now = PortsNow {
        ports: Ports {
            uplink: Some((11, "eno1".into())),
            access: BTreeMap::from([(12, port)]),
            ..Ports::default()
        },
        plugged: Default::default(),
        bare: bare.iter().map(|name| (*name).to_owned()).collect(),
    };
    Facts {
        trunk: Some("br0".into()),
        ports: Some(Some(now)),
        ..healthy()
    }
}

fn port_of(is_foreign: bool, is_known: bool) -> Port {
    let endpoint = Endpoint {
        name: "grooveiq/grooveiq-api01".into(),
        tenant: Some("grooveiq".into()),
        mac: [2; 6],
        vlan_id: 100,
        connections: 0,
    };
    Port {
        name: "tap7".into(),
        is_foreign,
        who: is_known.then_some(endpoint).ok_or(Unknown::Unsaid),
    }
}

#[test]
fn hypervisor_is_asked_about_its_ports_and_not_about_a_trunk() {
    use Severity::{Error, Ok, Warning};
    let all_well = hypervisor(port_of(false, true), &[]);
    let findings = diagnose(&all_well);
    let names: Vec<_> = findings.iter().map(|f| f.name).collect();
    assert!(!names.contains(&"trunk") && !names.contains(&"uplink-table"));
    let nothing_applied = Facts {
        ports: Some(None),
        ..healthy()
    };
    for (facts, name, severity) in [
        (&all_well, "ports", Ok),
        (&all_well, "machines", Ok),
        (&hypervisor(port_of(false, true), &["tap7"]), "ports", Error),
        (&hypervisor(port_of(false, false), &[]), "machines", Warning),
        (&hypervisor(port_of(true, false), &[]), "machines", Error),
        (&nothing_applied, "ports", Error),
    ] {
        let findings = diagnose(facts);
        let found = findings.iter().find(|finding| finding.name == name);
        assert_eq!(found.unwrap().severity, severity, "{found:?}");
    }
}
