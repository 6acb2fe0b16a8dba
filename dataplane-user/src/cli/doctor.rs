//! `bulkhead doctor`.

use serde_json::{Value, json};

use super::args::{Common, DoctorArgs, Format};
use super::inventory::{enforced_interface, load, router_facts};
use super::place::{find, named};
use super::report::{CliError, NO, Paint, Report, YES};
use super::run::settings;
use crate::doctor::{Asked, Finding, Severity, diagnose, gather};
use crate::run::block_on;

/// Looks at the host and tells what is wrong with it.
pub(super) fn run(common: &Common, args: &DoctorArgs) -> Result<Report, CliError> {
    let (options, loaded) = load(common)?;
    let model = loaded.model.as_ref();
    let facts = model.map(|model| router_facts(model, &options));
    let interface = model.map(|model| enforced_interface(model, &options));
    let place = find(&args.place, interface).map(|interface| named(&args.place, &interface));
    let is_hypervisor = options.hypervisor.is_some();
    let host = facts.as_ref().and_then(|facts| facts.host);
    let hypervisor = match &place {
        Some(place) if is_hypervisor => Some(settings(common, place.clone())?),
        Some(_) | None => None,
    };
    let asked = Asked {
        place: place.as_ref(),
        router: model.zip(host).filter(|_| !is_hypervisor),
        hypervisor: hypervisor.as_ref(),
    };
    let facts = block_on(async { Ok::<_, CliError>(gather(asked).await) })?;
    Ok(report(
        common.format,
        &diagnose(&facts),
        Paint::for_stdout(),
    ))
}

fn report(format: Format, findings: &[Finding], paint: Paint) -> Report {
    let has_errors = findings.iter().any(|f| f.severity == Severity::Error);
    let code = if has_errors { NO } else { YES };
    match format {
        Format::Json => Report::json(&to_json(findings), code),
        Format::Text => Report::text(to_text(findings, paint), code),
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|f| f.severity == severity).count()
}

fn to_json(findings: &[Finding]) -> Value {
    json!({
        "format_version": 1,
        "errors": count(findings, Severity::Error),
        "warnings": count(findings, Severity::Warning),
        "findings": findings,
    })
}

/// Two lines at most for what is wrong, and one for what is not.
fn to_text(findings: &[Finding], paint: Paint) -> String {
    let width = findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let severity = format!("{:7}", finding.severity.name());
        let severity = match finding.severity {
            Severity::Error => paint.bad(&severity),
            Severity::Warning => paint.middling(&severity),
            Severity::Ok => paint.good(&severity),
        };
        let Finding {
            name,
            found,
            why,
            remedy,
            ..
        } = finding;
        text.push_str(&format!("{severity}  {name:width$}  {found}"));
        if !why.is_empty() {
            text.push_str(&format!(": {why}"));
        }
        text.push('\n');
        if !remedy.is_empty() {
            text.push_str(&format!("{:7}  {:>width$}  {remedy}\n", "", "remedy"));
        }
    }
    let (errors, warnings) = (
        count(findings, Severity::Error),
        count(findings, Severity::Warning),
    );
    let fine = count(findings, Severity::Ok);
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (errors, warnings) = (plural(errors, "error"), plural(warnings, "warning"));
    text.push_str(&format!("\n{errors}, {warnings}, {fine} ok\n"));
    text
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::doctor::{Attached, Clock, Facts, Kernel, Link};

    fn finding(name: &'static str, severity: Severity, found: &str) -> Finding {
        let is_fine = severity == Severity::Ok;
        Finding {
            name,
            severity,
            found: found.to_owned(),
            why: if is_fine { "" } else { "this is why" },
            remedy: if is_fine { "" } else { "do that" }.to_owned(),
        }
    }

    #[test]
    fn text_is_aligned_and_json_has_a_version() {
        let findings = [
            finding(
                "foreign-xdp",
                Severity::Error,
                "XDP program 12 on eth1 is not bulkhead's",
            ),
            finding("clock", Severity::Warning, "not synchronised"),
            finding("kernel-version", Severity::Ok, "Linux 6.12.1"),
        ];
        let text = report(Format::Text, &findings, Paint::plain());
        assert_eq!(text.code, NO);
        assert_snapshot!(text.data, @r"
        error    foreign-xdp     XDP program 12 on eth1 is not bulkhead's: this is why
                         remedy  do that
        warning  clock           not synchronised: this is why
                         remedy  do that
        ok       kernel-version  Linux 6.12.1

        1 error, 1 warning, 1 ok
        ");
        let json = report(Format::Json, &findings[1..], Paint::plain());
        assert_eq!(json.code, YES);
        let json: Value = serde_json::from_str(&json.data).unwrap();
        assert_eq!(json["format_version"], 1);
        assert_eq!((&json["errors"], &json["warnings"]), (&json!(0), &json!(1)));
        assert_eq!(json["findings"][0]["name"], "clock");
        assert_eq!(json["findings"][0]["severity"], "warning");
    }

    /// A router on which nothing was ever applied. Somebody else has a program on its trunk.
    fn new_router() -> Facts {
        let trunk = Link {
            index: 2,
            name: "eth1".to_owned(),
            up: true,
            mtu: 1500,
            addresses: vec!["192.168.1.1/24".to_owned()],
            ..Link::default()
        };
        let sysctls = [
            ("kernel/unprivileged_bpf_disabled", "2"),
            ("net/core/bpf_jit_enable", "1"),
            ("net/ipv4/ip_forward", "0"),
        ];
        Facts {
            kernel: Kernel {
                release: "6.1.0-28-amd64".to_owned(),
                options: None,
                btf: true,
            },
            clock: Clock {
                synchronised: Some(false),
                ..Clock::default()
            },
            bpf_file_system: true,
            trunk: Some("eth1".to_owned()),
            attached: Attached {
                xdp: vec![12],
                ..Attached::default()
            },
            rx_vlan_offload: Some(true),
            links: Some(vec![trunk]),
            sysctls: sysctls
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Facts::default()
        }
    }

    #[test]
    fn findings_of_a_new_router_say_what_to_do() {
        let text = report(Format::Text, &diagnose(&new_router()), Paint::plain());
        assert_eq!(text.code, NO);
        assert_snapshot!(text.data, @r"
        error    enforcement       nothing of bulkhead is attached to eth1: nothing judges the frames of tenants
                           remedy  systemctl restart bulkhead (or bulkhead run)
        error    foreign-xdp       XDP program 12 on eth1 is not bulkhead's: it sees each frame first, and can send frames past the policy
                           remedy  bpftool prog show id 12; ip link set dev eth1 xdp off
        error    trunk-address     eth1 itself has 192.168.1.1/24: the router is on the untagged network, which no segment is: its frames are dropped
                           remedy  ip address delete 192.168.1.1/24 dev eth1
        warning  kernel-options    neither /proc/config.gz nor /boot/config-* can be read: whether the kernel has what bulkhead needs is not known
                           remedy  ls /boot/config-$(uname -r)
        warning  clock             not synchronised: leases, logs, DNS signatures and the order of generations go by the clock
                           remedy  timedatectl set-ntp true
        warning  sysctl            net/ipv4/ip_forward is 0: the kernel forwards nothing between segments
                           remedy  sysctl -w net/ipv4/ip_forward=1
        ok       privileges        CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are there
        ok       kernel-version    Linux 6.1.0-28-amd64, without TCX: clsact is used
        ok       kernel-types      the kernel tells its types (BTF)
        ok       bpf-file-system   mounted on /sys/fs/bpf
        ok       unprivileged-bpf  only privileged processes load programs
        ok       bpf-jit           programs are compiled
        ok       state-folder      /var/lib/bulkhead is not there yet
        ok       trunk             eth1 is up
        ok       hidden-tags       rxvlan is on; TC programs see the tag all the same

        3 errors, 3 warnings, 9 ok
        ");
    }
}
