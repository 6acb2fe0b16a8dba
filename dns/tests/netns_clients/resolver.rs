//! An unmodified resolver, Debian's unbound, in a tenant's segment: it gets to the daemon by a stub zone, and by the
//! delegation in the zone above the site's.

use std::fs;
use std::process::{Child, Stdio};

use testkit::peers::Peer;
use testkit::wait::wait_for;

use crate::lab::{GATEWAY_A, Lab, ZONE};

/// A resolver in the namespace of tenant a, until it is dropped.
pub(crate) struct Resolver<'l> {
    lab: &'l Lab,
    running: Child,
}

impl<'l> Resolver<'l> {
    /// Starts it with these zones, and Debian's defaults otherwise but for where its files are, and without what it knows of
    /// private addresses (RFC 6303).
    pub(crate) fn start(lab: &'l Lab, zones: &str) -> Self {
        let peer = Peer::find("unbound").unwrap();
        let folder = lab.path("");
        let conf = format!(
            "server:\n  interface: 127.0.0.1\n  port: 53\n  do-daemonize: no\n  num-threads: 1\n\
             \x20 directory: {folder}\n  pidfile: {folder}/unbound.pid\n  chroot: \"\"\n  username: \"\"\n\
             \x20 use-syslog: no\n  use-caps-for-id: yes\n  qname-minimisation: yes\n\
             \x20 local-zone: 10.in-addr.arpa. nodefault\n\
             remote-control:\n  control-enable: no\n{zones}",
            folder = folder.display()
        );
        let path = lab.path("unbound.conf");
        fs::write(&path, conf).unwrap();
        let mut command = lab.a.command(&peer.program);
        command.envs(peer.environment()).args(["-d", "-c"]);
        let log = fs::File::create(lab.path("unbound.log")).unwrap();
        let running = command.arg(path).stdin(Stdio::null()).stderr(log);
        let running = running.spawn().unwrap();
        let resolver = Self { lab, running };
        wait_for("unbound to answer", || {
            let said = resolver.ask(&["localhost", "A"]);
            said.contains("NOERROR").then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", resolver.log()));
        resolver
    }

    /// What it tells a client on its own machine.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let fixed = ["@127.0.0.1", "+time=5", "+tries=1"];
        self.lab.dig(&self.lab.a, &[&fixed, arguments].concat())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.lab.path("unbound.log")).unwrap_or_default()
    }

    /// Asks it for everything that a zone can have.
    fn check(&self) {
        let name = |label: &str| format!("{label}.{ZONE}");
        let rows: [(&str, String, &str, &str, &[&str]); 9] = [
            ("a name", name("web"), "A", "NOERROR", &["10.1.0.10"]),
            (
                "an alias",
                name("www"),
                "A",
                "NOERROR",
                &["10.1.0.10", "CNAME"],
            ),
            ("a wildcard", name("x.apps"), "A", "NOERROR", &["10.1.0.21"]),
            (
                "deep below it",
                name("x.y.apps"),
                "A",
                "NOERROR",
                &["10.1.0.21"],
            ),
            ("no such name", name("nothing"), "A", "NXDOMAIN", &["SOA"]),
            (
                "no such type",
                name("web"),
                "TXT",
                "NOERROR",
                &["ANSWER: 0", "SOA"],
            ),
            (
                "reverse",
                "20.0.1.10.in-addr.arpa".into(),
                "PTR",
                "NOERROR",
                &["CNAME", "one.a.east"],
            ),
            (
                "reverse of nobody",
                "21.0.1.10.in-addr.arpa".into(),
                "PTR",
                "NXDOMAIN",
                &["CNAME", "SOA"],
            ),
            (
                "another tenant's",
                "only-b.b.east.lab.example".into(),
                "A",
                "NXDOMAIN",
                &["SOA"],
            ),
        ];
        for (what, name, kind, code, expected) in rows {
            let said = self.ask(&[&name, kind]);
            assert!(
                said.contains(&format!("status: {code}")),
                "{what}: {said}\n{}",
                self.log()
            );
            for part in expected {
                assert!(said.contains(part), "{what}: {part}: {said}");
            }
        }
        // It does not fit into UDP, so the resolver asks again over TCP.
        let said = self.ask(&["+tcp", "+short", &name("long"), "TXT"]);
        assert_eq!(said.lines().count(), 30, "{said}");
    }
}

impl Drop for Resolver<'_> {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

/// A router whose tenant a has added what the inventory of the tests lacks.
fn started() -> Lab {
    let lab = Lab::started();
    lab.a.set_up("lo").unwrap();
    let long: String = (0..30)
        .map(|n| format!("update add long.{ZONE}. 60 TXT \"{n:0>120}\"\n"))
        .collect();
    let scripts = [
        format!("zone {ZONE}.\nupdate add *.apps.{ZONE}. 60 A 10.1.0.21\n{long}send\n"),
        format!(
            "zone 0/26.0.1.10.in-addr.arpa.\n\
             update add 20.0/26.0.1.10.in-addr.arpa. 60 PTR one.{ZONE}.\nsend\n"
        ),
    ];
    for script in scripts {
        let script = format!("server {GATEWAY_A}\n{script}");
        let (is_good, output) = lab.update("nsupdate", &lab.a, "a-tf", &script);
        assert!(is_good, "{output}");
    }
    lab
}

#[test]
fn unbound_resolves_a_tenants_names_through_a_stub_zone() {
    let lab = started();
    let zones = ["east.lab.example", "10.in-addr.arpa"];
    let zones = zones.map(|zone| format!("stub-zone:\n  name: {zone}\n  stub-addr: {GATEWAY_A}\n"));
    Resolver::start(&lab, &zones.concat()).check();
}

#[test]
fn unbound_follows_a_delegation_to_the_sites_name_server() {
    let lab = started();
    // All of the internet that this resolver knows: a root that delegates the site's zones, with glue for their name server.
    let root = format!(
        ". 3600 IN SOA a.root. nobody.root. 1 3600 900 604800 60\n. 3600 IN NS a.root.\n\
         a.root. 3600 IN A 127.0.0.1\n\
         east.lab.example. 3600 IN NS ns.east.lab.example.\nns.east.lab.example. 3600 IN A {GATEWAY_A}\n\
         0.1.10.in-addr.arpa. 3600 IN NS ns.east.lab.example.\n"
    );
    fs::write(lab.path("root.zone"), root).unwrap();
    let zones = "auth-zone:\n  name: .\n  zonefile: root.zone\n  for-upstream: yes\n  for-downstream: no\n  \
                 fallback-enabled: no\n";
    let resolver = Resolver::start(&lab, zones);
    resolver.check();
    let said = resolver.ask(&["www.example.org", "A"]);
    assert!(
        said.contains("status: NXDOMAIN"),
        "the root says so: {said}"
    );
}
