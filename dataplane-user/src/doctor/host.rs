//! Checks of the host: kernel, privileges, clock, folders.

use super::facts::{Facts, Folder};
use super::{Finding, Severity};

/// Options without which nothing works, each with what needs it.
const NEEDED: &[(&str, &str)] = &[
    ("BPF_SYSCALL", "eBPF programs"),
    ("NET_CLS_ACT", "TC programs"),
    ("NET_SCH_INGRESS", "TC programs"),
    ("VLAN_8021Q", "VLAN devices"),
];
/// Options that the uplinks' NAT needs.
const NEEDED_FOR_NAT: &[(&str, &str)] = &[
    ("NF_TABLES", "NAT"),
    ("NF_TABLES_INET", "NAT"),
    ("NFT_CT", "NAT"),
    ("NFT_MASQ", "NAT"),
];

pub(super) fn privileges(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "privileges";
    if facts.missing_privileges.is_empty() {
        return vec![Finding::ok(
            NAME,
            "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are there",
        )];
    }
    let missing = facts.missing_privileges.join(", ");
    vec![Finding::warning(
        NAME,
        format!("this process lacks {missing}"),
        "what is attached, pinned and filtered could not be seen, or not all of it",
        "sudo bulkhead doctor",
    )]
}

pub(super) fn version(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "kernel-version";
    let release = &facts.kernel.release;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (next(), next()) else {
        let found = format!("`{release}` is no version that is known");
        let why = "bulkhead is tested on Linux 6.1 and newer";
        return vec![Finding::warning(NAME, found, why, "uname -r")];
    };
    vec![match (major, minor) {
        (..6, _) | (6, 0) => Finding::error(
            NAME,
            format!("Linux {release}"),
            "bulkhead is tested on Linux 6.1 and newer; older ones may refuse its programs",
            "install a kernel of Debian 12 or newer",
        ),
        (6, ..6) => Finding::ok(
            NAME,
            format!("Linux {release}, without TCX: clsact is used"),
        ),
        _ => Finding::ok(NAME, format!("Linux {release}")),
    }]
}

pub(super) fn options(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "kernel-options";
    let Some(options) = &facts.kernel.options else {
        return vec![Finding::warning(
            NAME,
            "neither /proc/config.gz nor /boot/config-* can be read",
            "whether the kernel has what bulkhead needs is not known",
            "ls /boot/config-$(uname -r)",
        )];
    };
    let is_on = |option: &str| matches!(options.get(option).map(String::as_str), Some("y" | "m"));
    let missing = |needed: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        needed
            .iter()
            .filter(|(option, _)| !is_on(option))
            .copied()
            .collect()
    };
    let for_nat = missing(NEEDED_FOR_NAT).into_iter();
    let all = missing(NEEDED).into_iter().chain(for_nat);
    let findings: Vec<_> = all
        .map(|(option, what)| {
            let mut finding = Finding::error(
                NAME,
                format!("CONFIG_{option} is off: no {what}"),
                "the kernel lacks what bulkhead needs",
                "boot a stock kernel of the distribution",
            );
            if what == "NAT" && matches!(facts.nat, super::Nat::Unwanted) {
                finding.severity = Severity::Warning;
            }
            finding
        })
        .collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            NAME,
            "eBPF, VLAN devices and nftables are there",
        )];
    }
    findings
}

pub(super) fn btf(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "kernel-types";
    vec![if facts.kernel.btf {
        Finding::ok(NAME, "the kernel tells its types (BTF)")
    } else {
        Finding::error(
            NAME,
            "/sys/kernel/btf/vmlinux is not there",
            "the programs cannot be loaded",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
        )
    }]
}

pub(super) fn bpf_file_system(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "bpf-file-system";
    vec![if facts.bpf_file_system {
        Finding::ok(NAME, "mounted on /sys/fs/bpf")
    } else {
        Finding::error(
            NAME,
            "no BPF file system is on /sys/fs/bpf",
            "enforcement would end with the daemon: nothing can be pinned",
            "mount -t bpf bpf /sys/fs/bpf",
        )
    }]
}

pub(super) fn unprivileged_bpf(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "unprivileged-bpf";
    const KEY: &str = "kernel/unprivileged_bpf_disabled";
    vec![match facts.sysctls.get(KEY).map(String::as_str) {
        Some("1" | "2") => Finding::ok(NAME, "only privileged processes load programs"),
        Some(value) => Finding::warning(
            NAME,
            format!("kernel.unprivileged_bpf_disabled = {value}"),
            "every user of the router may load eBPF programs, a way to attack its kernel",
            "sysctl -w kernel.unprivileged_bpf_disabled=1",
        ),
        None => unseen(NAME, KEY),
    }]
}

pub(super) fn jit(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "bpf-jit";
    // A kernel that always compiles has no such file in other network namespaces than the first.
    vec![match facts
        .sysctls
        .get("net/core/bpf_jit_enable")
        .map(String::as_str)
    {
        Some("0") => Finding::warning(
            NAME,
            "net.core.bpf_jit_enable = 0",
            "programs are interpreted: several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => Finding::ok(NAME, "programs are compiled"),
        None => match facts
            .kernel
            .options
            .as_ref()
            .and_then(|o| o.get("BPF_JIT_ALWAYS_ON"))
        {
            Some(value) if value == "y" => Finding::ok(NAME, "programs are always compiled"),
            _ => unseen(NAME, "net/core/bpf_jit_enable"),
        },
    }]
}

fn unseen(name: &'static str, key: &str) -> Finding {
    let found = format!("/proc/sys/{key} cannot be read");
    let remedy = format!("cat /proc/sys/{key}");
    Finding::warning(name, found, "it is not known", remedy)
}

pub(super) fn clock(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "clock";
    const WHY: &str = "leases, logs, DNS signatures and the order of generations go by the clock";
    const REMEDY: &str = "timedatectl set-ntp true";
    vec![match facts.clock.synchronised {
        Some(true) => Finding::ok(NAME, "synchronised"),
        Some(false) => Finding::warning(NAME, "not synchronised", WHY, REMEDY),
        None => Finding::warning(NAME, "the kernel does not tell", WHY, "timedatectl"),
    }]
}

pub(super) fn build_date(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "clock-in-the-past";
    let (Some(now), Some(built)) = (facts.clock.now, facts.clock.built) else {
        return Vec::new();
    };
    match built.duration_since(now) {
        Ok(early) if !early.is_zero() => vec![Finding::error(
            NAME,
            format!(
                "the clock is {} h before this program was made",
                early.as_secs() / 3600
            ),
            "leases and rollbacks would end at the wrong time",
            "timedatectl set-ntp true",
        )],
        _ => Vec::new(),
    }
}

pub(super) fn state_folder(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "state-folder";
    const PATH: &str = super::gather::STATE_FOLDER;
    vec![match &facts.state_folder {
        Folder::Readable => Finding::ok(NAME, format!("{PATH} is there")),
        Folder::Absent if facts.enforcement.has_maps => Finding::error(
            NAME,
            format!("{PATH} is gone, while packets are judged"),
            "history and rollback are lost; what is enforced goes on",
            "bulkhead apply",
        ),
        Folder::Absent => Finding::ok(NAME, format!("{PATH} is not there yet")),
        Folder::Unreadable(why) => Finding::warning(
            NAME,
            format!("{PATH} cannot be read: {why}"),
            "which generation was applied could not be seen",
            "sudo bulkhead doctor",
        ),
    }]
}
