//! BIND, Knot, NSD and PowerDNS as secondaries: they copy what their segment sees, and follow an update within a
//! second, or two. Each is in the network namespace of the segment `management`. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

#[path = "conformance/support.rs"]
#[allow(dead_code, reason = "every test program uses its own part")]
mod support;

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netmodel::published;
use support::{SECRET, two_tenants};
use testkit::netns::NetNs;
use testkit::peers::Peer;
use testkit::wait::wait_for;

const GATEWAY: &str = "10.0.99.1";
const GATEWAY_A: &str = "10.1.0.1";
const SECONDARY: &str = "10.0.99.53";
const SECOND: Duration = Duration::from_secs(1);
const CATALOG: &str = "catalog.bulkhead.invalid";
const ZONE: &str = "a.east.lab.example";
const RECORDS: &str = "
  - {name: web, type: A, value: 10.1.0.10}
  - {name: www, type: CNAME, value: web}
";

/// A router, a client of tenant `a`, and a secondary in a platform segment.
struct Lab {
    // Before the namespaces: what runs in them ends first.
    running: Vec<Child>,
    folder: tempfile::TempDir,
    router: NetNs,
    a: NetNs,
    management: NetNs,
}

impl Lab {
    fn new() -> Self {
        let ns = |role| NetNs::new(role).expect("root can make a namespace");
        let mut lab = Self {
            running: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            router: ns("router"),
            a: ns("a"),
            management: ns("management"),
        };
        let links = [
            (&lab.a, "a", GATEWAY_A, "10.1.0.10", 26),
            (&lab.management, "m", GATEWAY, SECONDARY, 24),
        ];
        for (client, name, gateway, address, length) in links {
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            lab.router.add_veth(name, client, "eth0").unwrap();
            lab.router.set_up(name).unwrap();
            client.set_up("eth0").unwrap();
            lab.router.add_address(name, ip(gateway), length).unwrap();
            client.add_address("eth0", ip(address), length).unwrap();
            client.wait_until_up("eth0").unwrap();
        }
        let key = |name: &str| {
            format!("[keys.{name}]\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET}\"\n")
        };
        let secondary = format!("[secondaries.ns2]\naddress = \"{SECONDARY}\"\nkey = \"ns2\"\n");
        fs::write(lab.path("keys"), key("a-tf") + &key("ns2") + &secondary).unwrap();
        fs::set_permissions(lab.path("keys"), fs::Permissions::from_mode(0o600)).unwrap();
        lab.publish(1, RECORDS);
        let mut daemon = lab.router.command(env!("CARGO_BIN_EXE_bulkhead-dns"));
        for option in ["generation", "keys", "journal"] {
            daemon.arg(format!("--{option}")).arg(lab.path(option));
        }
        daemon.args(["--workers", "1"]);
        lab.spawn(daemon, "bulkhead-dns");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn publish(&self, number: u32, records: &str) {
        let mut published = two_tenants(records);
        published.number = number;
        published::write(&self.path("generation"), &published.to_bytes(), 0o640).unwrap();
    }

    fn spawn(&mut self, mut command: Command, log: &str) {
        let log = fs::File::create(self.path(&format!("{log}.log"))).unwrap();
        command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null());
        self.running.push(command.spawn().unwrap());
    }

    /// Starts a server of others in the segment `management`.
    fn start(&mut self, program: &str, arguments: &[&str], conf: &str) {
        let peer = Peer::find(program).unwrap();
        let path = self.path(&format!("{program}.conf"));
        fs::write(&path, conf).unwrap();
        let mut command = self.management.command(&peer.program);
        command.envs(peer.environment()).args(arguments).arg(path);
        self.spawn(command, program);
    }

    fn dig(&self, server: &str, arguments: &[&str]) -> String {
        let mut command = self.management.command("dig");
        command.args([
            &format!("@{server}"),
            "+short",
            "+time=1",
            "+tries=1",
            "+norecurse",
        ]);
        let output = command
            .args(arguments)
            .output()
            .expect("dig (Debian: bind9-dnsutils)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn nsupdate(&self, script: &str) {
        let mut command = self.a.command("nsupdate");
        command
            .args(["-y", &format!("hmac-sha256:a-tf:{SECRET}")])
            .stdin(Stdio::piped());
        let mut child = command.spawn().expect("nsupdate (Debian: bind9-dnsutils)");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{}", self.logs());
    }

    fn add(&self, label: &str, address: &str) {
        self.nsupdate(&format!(
            "server {GATEWAY_A}\nzone {ZONE}.\nupdate add {label}.{ZONE}. 60 A {address}\nsend\n"
        ));
    }

    fn remove(&self, label: &str) {
        self.nsupdate(&format!(
            "server {GATEWAY_A}\nzone {ZONE}.\nupdate delete {label}.{ZONE}. A\nsend\n"
        ));
    }

    /// Waits until the secondary says this; how long that took.
    fn until(&self, name: &str, kind: &str, expected: &str) -> Duration {
        let start = Instant::now();
        wait_for("the secondary to follow", || {
            (self.dig(SECONDARY, &[name, kind]).trim() == expected).then_some(())
        })
        .unwrap_or_else(|error| {
            panic!("{name} {kind} is not {expected}: {error}\n{}", self.logs())
        });
        start.elapsed()
    }

    fn logs(&self) -> String {
        let files = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|file| file.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|it| it == "log"));
        let shown = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            format!("--- {}\n{text}", path.display())
        };
        logs.map(shown).collect()
    }

    /// Waits until a secondary's log has this, which is how it says that a zone came step by step.
    fn says_ixfr(&self, program: &str, text: &str) {
        let log = self.path(&format!("{program}.log"));
        wait_for("the log to tell of IXFR", || {
            let said = fs::read_to_string(&log).ok()?;
            said.contains(text).then_some(())
        })
        .unwrap_or_else(|error| panic!("{text}: {error}\n{}", self.logs()));
    }

    /// What every secondary must do once it runs; half of all changes are there within this time.
    fn check(&self, within: Duration) {
        self.until(&format!("web.{ZONE}"), "A", "10.1.0.10");
        // Zone of the site as this segment sees it.
        self.until("a.east.lab.example", "NS", "ns.east.lab.example.");
        let mut took = Vec::new();
        for (octet, label) in [(30, "one"), (31, "two"), (32, "three"), (33, "four")] {
            let (name, address) = (format!("{label}.{ZONE}"), format!("10.1.0.{octet}"));
            self.add(label, &address);
            took.push(self.until(&name, "A", &address));
        }
        self.remove("one");
        took.push(self.until(&format!("one.{ZONE}"), "A", ""));
        took.sort();
        assert!(
            took[took.len() / 2] < within,
            "updates took {took:?}\n{}",
            self.logs()
        );
        // A new generation reaches it, too, as does what was there before.
        self.publish(
            2,
            &format!("{RECORDS}  - {{name: gen2, type: A, value: 10.1.0.12}}\n"),
        );
        self.until(&format!("gen2.{ZONE}"), "A", "10.1.0.12");
        assert_eq!(
            self.dig(SECONDARY, &[&format!("two.{ZONE}"), "A"]).trim(),
            "10.1.0.31"
        );
        assert_eq!(
            self.dig(SECONDARY, &["only-b.b.east.lab.example", "A"])
                .trim(),
            ""
        );
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[test]
fn bind_learns_all_zones_from_the_list_and_follows_within_a_second() {
    let mut lab = Lab::new();
    let folder = lab.folder.path().to_owned();
    let conf = format!(
        "key ns2 {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
         options {{ directory \"{at}\"; listen-on {{ {SECONDARY}; }}; listen-on-v6 {{ none; }}; recursion no; \
         pid-file none; session-keyfile none; notify no; allow-notify {{ key ns2; }}; \
         catalog-zones {{ zone \"{CATALOG}\" default-masters {{ {GATEWAY} key ns2; }} in-memory yes; }}; }};\n\
         controls {{ }};\n\
         zone \"{CATALOG}\" {{ type slave; file \"{at}/catalog.db\"; masters {{ {GATEWAY} key ns2; }}; }};\n",
        at = shown(&folder)
    );
    lab.start("named", &["-g", "-4", "-n", "1", "-d", "3", "-c"], &conf);
    lab.check(SECOND);
    lab.says_ixfr("named", "got incremental response");
    lab.until("0/26.0.1.10.in-addr.arpa", "NS", "ns.east.lab.example.");
}

#[test]
fn knot_learns_all_zones_from_the_list_and_follows_within_a_second() {
    let mut lab = Lab::new();
    let folder = lab.folder.path().to_owned();
    let conf = format!(
        "server:\n  rundir: \"{at}\"\n  listen: {SECONDARY}@53\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 2\n\
         log:\n  - target: stderr\n    any: info\ndatabase:\n  storage: \"{at}\"\n\
         key:\n  - id: ns2\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
         remote:\n  - id: primary\n    address: {GATEWAY}@53\n    key: ns2\n\
         acl:\n  - id: notice\n    address: {GATEWAY}\n    key: ns2\n    action: notify\n\
         template:\n  - id: default\n    storage: \"{at}\"\n  - id: member\n    storage: \"{at}\"\n    master: primary\n    acl: notice\n\
         zone:\n  - domain: {CATALOG}\n    master: primary\n    acl: notice\n    catalog-role: interpret\n    catalog-template: member\n",
        at = shown(&folder)
    );
    lab.start("knotd", &["-c"], &conf);
    lab.check(SECOND);
    lab.says_ixfr("knotd", &format!("[{ZONE}.] IXFR, incoming"));
    lab.until("0/26.0.1.10.in-addr.arpa", "NS", "ns.east.lab.example.");
}

#[test]
fn nsd_follows_within_a_second() {
    let mut lab = Lab::new();
    let folder = lab.folder.path().to_owned();
    let zones: String = [ZONE, "east.lab.example"]
        .iter()
        .map(|zone| {
            format!(
                "zone:\n  name: {zone}\n  zonefile: \"\"\n  allow-notify: {GATEWAY} ns2\n  \
                 request-xfr: {GATEWAY}@53 ns2\n"
            )
        })
        .collect();
    let conf = format!(
        "server:\n  ip-address: {SECONDARY}\n  username: \"\"\n  zonesdir: \"{at}\"\n  database: \"\"\n  \
         pidfile: \"{at}/nsd.pid\"\n  xfrdfile: \"{at}/xfrd.state\"\n  zonelistfile: \"{at}/zone.list\"\n  xfrdir: \"{at}\"\n  \
         rrl-ratelimit: 0\n  xfrd-reload-timeout: 0\nremote-control:\n  control-enable: no\n\
         key:\n  name: ns2\n  algorithm: hmac-sha256\n  secret: \"{SECRET}\"\n{zones}",
        at = shown(&folder)
    );
    lab.start("nsd", &["-d", "-c"], &conf);
    lab.check(SECOND);
}

/// `PowerDNS` looks once a second which notices have come, then copies. Its backend for BIND's files takes whole zones
/// only: told to use IXFR, 4.7 says that it has committed the steps, and goes on serving what was before.
#[test]
fn powerdns_follows_within_two_seconds() {
    let mut lab = Lab::new();
    let folder = lab.folder.path().to_owned();
    let at = shown(&folder);
    let zones: String = [ZONE, "east.lab.example"]
        .iter()
        .map(|zone| {
            // A zone whose file is not there is none.
            fs::write(lab.path(&format!("{zone}.zone")), "").unwrap();
            format!(
                "zone \"{zone}\" {{ type slave; file \"{at}/{zone}.zone\"; masters {{ {GATEWAY}; }}; }};\n"
            )
        })
        .collect();
    fs::write(lab.path("named.conf"), zones).unwrap();
    let peer = Peer::find("pdns_server").unwrap();
    let modules = format!("usr/lib/{}-linux-gnu/pdns", std::env::consts::ARCH);
    let conf = format!(
        "launch=bind\nmodule-dir={}\nbind-config={at}/named.conf\nbind-dnssec-db={at}/keys.db\n\
         local-address={SECONDARY}\nsecondary=yes\ndaemon=no\nguardian=no\nsocket-dir={at}\nsecurity-poll-suffix=\n\
         disable-syslog=yes\nloglevel=5\ncache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n",
        peer.beside(&modules).display()
    );
    fs::write(lab.path("pdns.conf"), conf).unwrap();
    let config_dir = format!("--config-dir={at}");
    let keys = lab.path("keys.db").display().to_string();
    let mut steps = vec![
        vec!["create-bind-db", &keys],
        vec!["import-tsig-key", "ns2", "hmac-sha256", SECRET],
    ];
    steps.extend(
        [ZONE, "east.lab.example"].map(|zone| vec!["activate-tsig-key", zone, "ns2", "secondary"]),
    );
    let util = Peer::find("pdnsutil").unwrap();
    for step in steps {
        let mut command = Command::new(&util.program);
        command
            .envs(util.environment())
            .arg(&config_dir)
            .args(&step);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{step:?}: {output:?}");
    }
    let mut command = lab.management.command(&peer.program);
    command.envs(peer.environment()).arg(config_dir);
    lab.spawn(command, "pdns_server");
    lab.check(2 * SECOND);
    let log = fs::read_to_string(lab.path("pdns_server.log")).unwrap();
    assert!(log.contains("with TSIG key 'ns2'"), "{log}");
}
