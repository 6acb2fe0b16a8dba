//! The systemd units: what `docs/operations.md` says of boot, of rights and of what stays, key by key.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use testkit::fixtures;

/// Every unit, and its name in [`TABLE`].
const UNITS: [(&str, &str); 4] = [
    ("hold", "bulkhead-hold@.service"),
    ("run", "bulkhead.service"),
    ("dhcpd", "bulkhead-dhcpd.service"),
    ("dns", "bulkhead-dns.service"),
];

/// Units, section, key, and its words in any order; without words, the key must not be there. `hold` and `run` load programs and
/// set sysctls as root; `dhcpd` and `dns` answer tenants.
const TABLE: &str = "
# Boot: the hold, network-pre.target, whoever sets up the network, the generation, network.target, machines.
hold                 Unit     DefaultDependencies      no
hold,run             Unit     Wants                    network-pre.target
dhcpd,dns            Unit     Wants                    network.target
hold                 Unit     Before                   network-pre.target shutdown.target
hold                 Unit     Conflicts                shutdown.target
hold                 Unit     BindsTo                  sys-subsystem-net-devices-%i.device
hold                 Unit     After                    sys-subsystem-net-devices-%i.device systemd-tmpfiles-setup.service
hold                 Unit     JobTimeoutSec            30
run                  Unit     After                    network-pre.target
run                  Unit     Before                   network.target pve-guests.service libvirtd.service libvirt-guests.service
dhcpd,dns            Unit     After                    network.target bulkhead.service
hold                 Unit     RequiresMountsFor        /etc/bulkhead /run/bulkhead /sys/fs/bpf
run                  Unit     RequiresMountsFor        /run/bulkhead /sys/fs/bpf /var/lib/bulkhead
dhcpd                Unit     RequiresMountsFor        /var/lib/bulkhead
dns                  Unit     RequiresMountsFor        /run/bulkhead /var/lib/bulkhead
hold                 Install  WantedBy                 multi-user.target sys-subsystem-net-devices-%i.device
run,dhcpd,dns        Install  WantedBy                 multi-user.target

# What is run, as whom. No command has a prefix (`+`, `!`) that gives it more than the unit has.
hold                 Service  ExecStart                /usr/bin/bulkhead hold --interface %I
run                  Service  ExecStart                /usr/bin/bulkhead run
dhcpd                Service  ExecStart                /usr/bin/bulkhead-dhcpd --interface ${TRUNK}
dhcpd                Service  EnvironmentFile          /etc/default/bulkhead-dhcpd
dns                  Service  ExecStart                /usr/bin/bulkhead-dns
run,dns              Service  ExecReload               /bin/kill -HUP $MAINPID
hold                 Service  Type                     oneshot
hold                 Service  RemainAfterExit          yes
run                  Service  Type                     notify
hold,run             Service  User
dhcpd                Service  User                     bulkhead-dhcpd
dns                  Service  User                     bulkhead-dns
hold,run,dhcpd,dns   Service  Group                    bulkhead
hold,run,dhcpd,dns   Service  UMask                    0027

# Stopping takes nothing away, and a daemon that dies is started again for ever.
hold,run,dhcpd,dns   Service  ExecStop
hold,run,dhcpd,dns   Service  ExecStopPost
run,dhcpd,dns        Service  Restart                  always
run,dhcpd,dns        Service  RestartSec               2
run,dhcpd,dns        Unit     StartLimitIntervalSec    0
run                  Service  WatchdogSec              180

# Capabilities.
hold,run             Service  CapabilityBoundingSet    CAP_BPF CAP_NET_ADMIN CAP_PERFMON
hold,run             Service  AmbientCapabilities
dhcpd                Service  CapabilityBoundingSet    CAP_NET_BIND_SERVICE CAP_NET_RAW
dhcpd                Service  AmbientCapabilities      CAP_NET_BIND_SERVICE CAP_NET_RAW
dns                  Service  CapabilityBoundingSet    CAP_NET_BIND_SERVICE
dns                  Service  AmbientCapabilities      CAP_NET_BIND_SERVICE
hold,run,dhcpd,dns   Service  NoNewPrivileges          yes

# Files.
hold,run,dhcpd,dns   Service  ProtectSystem            strict
hold,run,dhcpd,dns   Service  ProtectHome              yes
hold,run,dhcpd,dns   Service  PrivateTmp               yes
dhcpd,dns            Service  PrivateDevices           yes
hold,run             Service  ReadWritePaths           /run/bulkhead /sys/fs/bpf
dhcpd,dns            Service  ReadWritePaths
run                  Service  StateDirectory           bulkhead
run                  Service  StateDirectoryMode       0711
dhcpd                Service  StateDirectory           bulkhead/dhcp
dhcpd                Service  StateDirectoryMode       0750
dhcpd                Service  RuntimeDirectory         bulkhead/dhcp
dns                  Service  StateDirectory           bulkhead/dns
dns                  Service  StateDirectoryMode       0700
dns                  Service  RuntimeDirectory         bulkhead/dns
dhcpd,dns            Service  RuntimeDirectoryMode     0750

# The kernel. Forwarding and its like are part of what `run` sets.
hold,run,dhcpd,dns   Service  ProtectClock             yes
hold,run,dhcpd,dns   Service  ProtectControlGroups     yes
hold,run,dhcpd,dns   Service  ProtectHostname          yes
hold,run,dhcpd,dns   Service  ProtectKernelLogs        yes
hold,run,dhcpd,dns   Service  ProtectKernelModules     yes
hold,run             Service  ProtectKernelTunables
dhcpd,dns            Service  ProtectKernelTunables    yes
dhcpd,dns            Service  ProtectProc              invisible
dhcpd,dns            Service  ProcSubset               pid

# The process.
dns                  Service  LimitNOFILE              16384
hold,run,dhcpd,dns   Service  LockPersonality          yes
hold,run,dhcpd,dns   Service  MemoryDenyWriteExecute   yes
hold,run,dhcpd,dns   Service  RestrictNamespaces       yes
hold,run,dhcpd,dns   Service  RestrictRealtime         yes
hold,run,dhcpd,dns   Service  RestrictSUIDSGID         yes
hold                 Service  RestrictAddressFamilies  AF_INET AF_NETLINK AF_UNIX
run,dns              Service  RestrictAddressFamilies  AF_INET AF_INET6 AF_NETLINK AF_UNIX
dhcpd                Service  RestrictAddressFamilies  AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_UNIX
hold,run,dhcpd,dns   Service  SystemCallArchitectures  native
hold,run,dhcpd,dns   Service  SystemCallErrorNumber    EPERM
hold,run             Service  SystemCallFilter         @system-service bpf
dhcpd,dns            Service  SystemCallFilter         @system-service ~@privileged ~@resources
";

/// The words of each key of a unit, by `Section Key`.
type Keys = BTreeMap<String, Vec<String>>;

/// What the table says of a unit.
fn expected(name: &str) -> Keys {
    let mut keys = Keys::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let Some(units) = words.next() else {
            continue;
        };
        let is_known = |name: &str| UNITS.iter().any(|(known, _)| *known == name);
        assert!(units.split(',').all(is_known), "a bug of this test: {line}");
        if units.split(',').any(|unit| unit == name) {
            let key = [words.next().unwrap(), words.next().unwrap()].join(" ");
            let before = keys.insert(key, words.map(str::to_owned).collect());
            assert!(before.is_none(), "a bug of this test, twice: {line}");
        }
    }
    keys
}

fn folder() -> PathBuf {
    fixtures::project_root().join("packaging/systemd")
}

/// What the file says. As systemd has it, a key that comes again adds to its list, an empty one clears it, and `~` is said of a
/// whole line.
fn found(unit: &str) -> Keys {
    let text = fs::read_to_string(folder().join(unit)).unwrap();
    let mut keys = Keys::new();
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        assert!(
            !line.ends_with('\\'),
            "{unit}: lines that go on are not read"
        );
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        let words = keys.entry(format!("{section} {key}")).or_default();
        if value.is_empty() {
            words.clear();
        }
        let (not, value) = match value.strip_prefix('~') {
            Some(value) => ("~", value),
            None => ("", value),
        };
        let added = value.split_whitespace();
        words.extend(added.map(|word| format!("{not}{word}")));
    }
    keys
}

fn sorted(words: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    let mut words: Vec<String> = words.into_iter().map(Into::into).collect();
    words.sort_unstable();
    words
}

#[test]
fn units_have_the_keys_of_the_table_and_no_others() {
    let mut wrong = Vec::new();
    for (name, unit) in UNITS {
        let (expected, mut found) = (expected(name), found(unit));
        for key in ["Unit Description", "Unit Documentation"] {
            assert!(found.remove(key).is_some(), "{unit}: no {key}");
        }
        let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        for key in keys {
            let [expected, found] = [&expected, &found].map(|keys| keys.get(key));
            let [expected, found] =
                [expected, found].map(|words| sorted(words.into_iter().flatten()).join(" "));
            if expected != found {
                wrong.push(format!(
                    "{unit}: {key}: expected `{expected}`, found `{found}`"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn system_calls_that_no_list_names_are_refused() {
    // The first list decides about what is in none.
    for (_, unit) in UNITS {
        let calls = &found(unit)["Service SystemCallFilter"];
        assert!(!calls[0].starts_with('~'), "{unit}: {calls:?}");
    }
}

#[test]
fn operations_tell_who_runs_each_unit_with_which_capabilities() {
    let text = fs::read_to_string(fixtures::project_root().join("docs/operations.md")).unwrap();
    for (_, unit) in UNITS {
        let begin = format!("| `{unit}` |");
        let row = text.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("docs/operations.md has no row of {unit}"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let keys = found(unit);
        let user = keys
            .get("Service User")
            .map_or("root", |words| words[0].as_str());
        let group = &keys["Service Group"][0];
        assert_eq!(cells[2], format!("{user}:{group}"), "{unit}");
        let told = cells[3].split(", ").map(|name| format!("CAP_{name}"));
        let bound = &keys["Service CapabilityBoundingSet"];
        assert_eq!(sorted(told), sorted(bound), "{unit}");
    }
}

#[test]
fn package_installs_every_unit() {
    let files = fs::read_dir(folder()).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(sorted(files), sorted(UNITS.map(|(_, unit)| unit)));
    let manifest = fixtures::project_root().join("dataplane-user/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    for (_, unit) in UNITS {
        let asset = format!(r#"["../packaging/systemd/{unit}", "usr/lib/systemd/system/", "644"]"#);
        assert!(manifest.contains(&asset), "{unit}");
    }
}

#[test]
fn systemd_understands_every_key() {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    // Without the first of these, a key that it ignores is no failure.
    command.args(["verify", "--recursive-errors=no", "--man=no"]);
    command.current_dir(place.path());
    for (_, unit) in UNITS {
        let text = fs::read_to_string(folder().join(unit)).unwrap();
        // Nothing is installed here.
        let lines = text
            .lines()
            .map(|line| match line.starts_with("ExecStart=") {
                true => "ExecStart=/bin/true\n".to_owned(),
                false => format!("{line}\n"),
            });
        fs::write(place.path().join(unit), lines.collect::<String>()).unwrap();
        command.arg(format!("./{}", unit.replace('@', "@eth1")));
    }
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound && !in_ci() => {
            eprintln!("skipped: there is no systemd-analyze here");
            return;
        }
        output => output.unwrap(),
    };
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
}

/// Whether skipping is a failure.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
