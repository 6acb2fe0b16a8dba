//! A router with the daemon, and a client of each tenant.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use netmodel::model::Model;
use netmodel::published;
use testkit::netns::NetNs;
use testkit::peers;
use testkit::wait::wait_for;

use crate::support::{SECRET, two_tenants};

pub(crate) const GATEWAY_A: &str = "10.1.0.1";
pub(crate) const GATEWAY_B: &str = "10.1.0.65";
pub(crate) const ZONE: &str = "a.east.lab.example";
pub(crate) const RECORDS: &str = "
  - {name: web, type: A, value: 10.1.0.10}
  - {name: '@', type: MX, value: 10 web}
  - {name: www, type: CNAME, value: web}
  - {name: txt, type: TXT, value: 'hello world'}
  - {name: _sip._tcp, type: SRV, value: 0 5 5060 web}
  - {name: '@', type: CAA, value: '0 issue \"ca.example\"'}
";

/// The beginning of each tenant's key of the API; the tenant's name follows.
pub(crate) const API_KEY: &str = "not-a-secret-key-of-";

/// A router and a client of each tenant.
pub(crate) struct Lab {
    pub(crate) router: NetNs,
    pub(crate) a: NetNs,
    pub(crate) b: NetNs,
    folder: tempfile::TempDir,
    pub(crate) daemon: Mutex<Option<Child>>,
    /// More arguments for the daemon.
    pub(crate) more: Vec<String>,
    /// More variables for the daemon.
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let ns = |role| NetNs::new(role).expect("root can make a namespace");
        let lab = Self {
            router: ns("router"),
            a: ns("a"),
            b: ns("b"),
            folder: tempfile::tempdir().unwrap(),
            daemon: Mutex::new(None),
            more: Vec::new(),
            environment: Vec::new(),
        };
        let links = [
            (&lab.a, "a", GATEWAY_A, "10.1.0.10"),
            (&lab.b, "b", GATEWAY_B, "10.1.0.70"),
        ];
        for (client, name, gateway, address) in links {
            lab.router.add_veth(name, client, "eth0").unwrap();
            lab.router.set_up(name).unwrap();
            client.set_up("eth0").unwrap();
            lab.router.add_address(name, ip(gateway), 26).unwrap();
            client.add_address("eth0", ip(address), 26).unwrap();
            client.wait_until_up("eth0").unwrap();
        }
        lab.router.add_address("a", ip("fd00:1::1"), 64).unwrap();
        lab.a.add_address("eth0", ip("fd00:1::10"), 64).unwrap();
        lab.router.set_up("lo").unwrap();
        lab.publish(1);
        let key = |name: &str| {
            format!("[keys.{name}]\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET}\"\n")
        };
        let api = |tenant: &str| {
            format!("[api.{tenant}-api]\ntenant = \"{tenant}\"\nkey = \"{API_KEY}{tenant}\"\n")
        };
        let keys = [key("a-tf"), key("b-tf"), api("a"), api("b")].concat();
        std::fs::write(lab.path("keys"), keys).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(lab.path("keys"), mode).unwrap();
        lab
    }

    pub(crate) fn started() -> Self {
        Self::started_with(&["--replies-per-client=0", "--replies-per-segment=0"])
    }

    pub(crate) fn started_with(more: &[&str]) -> Self {
        let mut lab = Self::new();
        lab.more = more.iter().map(ToString::to_string).collect();
        lab.more.push("--records-per-tenant=20000".to_owned());
        lab.start();
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn publish(&self, number: u32) {
        self.publish_with(number, |_| {});
    }

    /// Publishes the lab's generation with something changed in it.
    pub(crate) fn publish_with(&self, number: u32, change: impl FnOnce(&mut Model)) {
        let mut published = two_tenants(RECORDS);
        published.number = number;
        change(&mut published.model);
        published::write(&self.path("generation"), &published.to_bytes(), 0o640).unwrap();
    }

    /// Starts the daemon, which may end by itself.
    pub(crate) fn spawn(&self) {
        let mut command = self.router.command(env!("CARGO_BIN_EXE_bulkhead-dns"));
        for option in ["generation", "keys", "zone-keys", "journal"] {
            command.arg(format!("--{option}")).arg(self.path(option));
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        command
            .args(["--workers", "2"])
            .arg("--status")
            .arg(self.path("status"))
            .args(&self.more)
            .envs(self.environment.iter().cloned())
            .stderr(log);
        *self.daemon.lock().unwrap() = Some(command.spawn().unwrap());
    }

    pub(crate) fn start(&self) {
        self.spawn();
        wait_for("the daemon to answer", || {
            let answer = self.dig(
                &self.a,
                &[
                    &format!("@{GATEWAY_A}"),
                    "+short",
                    "+time=1",
                    "+tries=1",
                    ZONE,
                    "NS",
                ],
            );
            answer.contains("ns.east").then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// Makes a certificate for the daemon, and its key; returns the options that name them.
    pub(crate) fn make_certificate(&self) -> [String; 2] {
        let names = ["ns.east.lab.example", GATEWAY_A].map(ToOwned::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = self.path("key.pem");
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(self.path("certificate.pem"), made.cert.pem()).unwrap();
        let option = |name: &str, file: &str| format!("--tls-{name}={}", self.path(file).display());
        [
            option("certificate", "certificate.pem"),
            option("key", "key.pem"),
        ]
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let daemon = self
            .daemon
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .id()
            .to_string();
        let sent = Command::new("kill").args([signal, &daemon]).status();
        assert!(sent.unwrap().success());
    }

    /// As `kill -9`.
    pub(crate) fn kill(&self) {
        let mut daemon = self.daemon.lock().unwrap().take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    pub(crate) fn dig(&self, client: &NetNs, arguments: &[&str]) -> String {
        text(&run(client.command("dig").args(arguments), ""))
    }

    /// Returns a command of Python's environment in a namespace; what it keeps goes into the test's folder.
    pub(crate) fn python_command(&self, client: &NetNs, program: &str) -> Command {
        let mut command = client.command(peers::python(program).unwrap());
        command
            .env("HOME", self.path(""))
            .env("TLDEXTRACT_CACHE", self.path("tld"));
        command
    }

    /// Runs a program of Python's environment; what it says. It must be content.
    pub(crate) fn python(&self, client: &NetNs, program: &str, arguments: &[&str]) -> String {
        let output = run(self.python_command(client, program).args(arguments), "");
        let said = text(&output);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {said}\n{}",
            self.log()
        );
        said
    }

    /// Runs nsupdate or knsupdate; its output, and whether it was content.
    pub(crate) fn update(
        &self,
        program: &str,
        client: &NetNs,
        key: &str,
        script: &str,
    ) -> (bool, String) {
        let key = format!("hmac-sha256:{key}:{SECRET}");
        self.update_with(program, client, &key, script)
    }

    /// The same with a key as these programs want it: `ALGORITHM:NAME:SECRET`.
    pub(crate) fn update_with(
        &self,
        program: &str,
        client: &NetNs,
        key: &str,
        script: &str,
    ) -> (bool, String) {
        let mut command = client.command(program);
        command.args(["-y", key]);
        if program == "nsupdate" {
            command.args(["-t", "5"]);
        }
        let output = run(&mut command, script);
        (output.status.success(), text(&output))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.get_mut().unwrap() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!(
            "{:?}: {error} (Debian: bind9-dnsutils, knot-dnsutils)",
            command.get_program()
        )
    });
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}
