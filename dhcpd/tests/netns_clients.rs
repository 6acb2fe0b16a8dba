//! Real clients: udhcpc, dhclient, dhcpcd, each from DISCOVER to RELEASE. Needs root.
//!
//! Their scripts write down what they were told, and set the address: nothing of the machine's own (its
//! `/etc/resolv.conf`, its leases) is touched.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

#[cfg(test)]
mod daemon;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use daemon::{Lab, Talk};
use netmodel::leases::{Lease, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::wait::wait_for;

const GUEST: u16 = 40;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 20, 40, 1);
const LINK: &str = "far";

/// What all scripts do: say what happened, and hold the address while it is bound.
const SCRIPT: &str = r#"
said() { echo "$1 address=$2 mask=$3 router=$4 dns=$5 domain=$6" >> "$LOG"; }
bind() { ip address replace "$1/24" dev far; }
unbind() { ip address flush dev far; }
"#;

/// A client at the far end of a plain interface in VLAN 40, whose gateway has a kernel behind it.
struct Wire {
    lab: Lab,
    mac: [u8; 6],
}

/// A client's process; killed when it is dropped.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Client {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    /// Signals the process that the child of this one waits for.
    fn signal_grandchild(&self, signal: Signal) {
        let child = |id: u32| -> u32 {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
            children
                .split_whitespace()
                .next()
                .expect("a child")
                .parse()
                .unwrap()
        };
        let id = child(child(self.0.id()));
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }
}

impl Wire {
    fn new() -> Self {
        let lab = Lab::new(&Talk {
            plain: Some(GUEST),
            probe_wait: 50,
            ..Talk::default()
        });
        lab.router.add_address("trunk", GATEWAY.into(), 24).unwrap();
        // No device fills checksums in behind a veth: what the clients' raw sockets see is whole.
        lab.router.set_tx_checksum("trunk", false).unwrap();
        let mac = lab.switch.mac(LINK).unwrap();
        Self { lab, mac }
    }

    fn log(&self) -> PathBuf {
        self.lab.path("client-log")
    }

    fn script(&self, body: &str) -> String {
        let path = self.lab.path("script");
        let log = self.log().display().to_string();
        fs::write(&path, format!("#!/bin/sh\nLOG={log}\n{SCRIPT}{body}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.lab.switch.command(program);
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(self.lab.path("client-output"));
        let output = output.unwrap();
        command.args(arguments).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        command
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Client {
        Client(self.command(program, arguments).spawn().unwrap())
    }

    /// Waits until the server has such a lease of the client.
    fn wait(&self, what: &str, wanted: impl Fn(&Lease) -> bool) -> (Ipv4Addr, Lease) {
        let found = wait_for(what, || {
            let leases = self.lab.leases();
            let mut own = leases
                .into_iter()
                .filter(|(_, lease)| lease.mac.0 == self.mac);
            own.find(|(_, lease)| wanted(lease))
        });
        found.unwrap_or_else(|error| {
            let read = |name: &str| fs::read_to_string(self.lab.path(name)).unwrap_or_default();
            panic!(
                "{error:#}\nscript: {}\nclient: {}",
                read("client-log"),
                read("client-output")
            )
        })
    }

    /// Waits until the client's script has said so, and returns the whole line.
    fn wait_for_log(&self, start: &str) -> String {
        let found = wait_for(start, || {
            let log = fs::read_to_string(self.log()).ok()?;
            log.lines()
                .find(|line| line.starts_with(start))
                .map(str::to_owned)
        });
        found.unwrap_or_else(|error| {
            let read = |name: &str| fs::read_to_string(self.lab.path(name)).unwrap_or_default();
            panic!(
                "{error:#}\nscript: {}\nclient: {}",
                read("client-log"),
                read("client-output")
            )
        })
    }

    fn assert_told(&self, line: &str, address: Ipv4Addr, mask: &str) {
        let wanted = format!(
            "address={address} mask={mask} router={GATEWAY} dns={GATEWAY} domain=east.lab.example"
        );
        assert!(
            line.ends_with(&wanted),
            "{line:?} does not end with {wanted:?}"
        );
    }
}

fn bound(lease: &Lease) -> bool {
    lease.state == State::Bound
}

/// Was it extended: does it end later than the one before?
fn later(than: &Lease) -> impl Fn(&Lease) -> bool {
    let until = than.until;
    move |lease| bound(lease) && lease.until > until
}

#[test]
fn udhcpc_is_bound_renews_and_releases() {
    let wire = Wire::new();
    let script = wire.script(
        r#"case "$1" in
            bound|renew) bind "$ip"; said "$1" "$ip" "$mask" "$router" "$dns" "$domain";;
            deconfig) unbind;;
        esac"#,
    );
    let client = wire.start("udhcpc", &["-f", "-i", LINK, "-s", &script, "-O", "domain"]);
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("bound"), address, "24");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal(Signal::SIGUSR1);
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!((same, renewed.since), (address, lease.since));
    wire.wait_for_log("renew");
    client.signal(Signal::SIGUSR2);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn dhclient_is_bound_reboots_and_releases() {
    let wire = Wire::new();
    let script = wire.script(
        r#"case "$reason" in
            BOUND|REBOOT|RENEW|REBIND)
                bind "$new_ip_address"
                said "$reason" "$new_ip_address" "$new_subnet_mask" "$new_routers" "$new_domain_name_servers" "$new_domain_name";;
            PREINIT) ip link set far up;;
            RELEASE|STOP|EXPIRE|FAIL) unbind;;
        esac"#,
    );
    let place = |name: &str| wire.lab.path(name).display().to_string();
    let (leases, pid, config) = (
        place("dhclient.leases"),
        place("dhclient.pid"),
        place("dhclient.conf"),
    );
    fs::write(
        &config,
        "request subnet-mask, routers, domain-name-servers, domain-name;\n",
    )
    .unwrap();
    let common = [
        "-4", "-d", "-cf", &config, "-lf", &leases, "-pf", &pid, "-sf", &script,
    ];
    let run = |more: &[&str]| wire.start("dhclient", &[&common[..], more, &[LINK]].concat());
    let client = run(&[]);
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("BOUND"), address, "255.255.255.0");
    wait_for("the client to write its lease down", || {
        let text = fs::read_to_string(&leases).ok()?;
        text.contains("expire").then_some(())
    })
    .unwrap();
    drop(client);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    // It remembers its address: INIT-REBOOT.
    let client = run(&[]);
    let (same, _) = wire.wait("an extension", later(&lease));
    assert_eq!(same, address);
    wire.wait_for_log("REBOOT");
    drop(client);
    let _release = run(&["-r"]);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn dhcpcd_is_bound_renews_rebinds_and_releases() {
    let wire = Wire::new();
    let script = wire.script(
        r#"case "$reason" in
            BOUND|REBOOT|RENEW|REBIND)
                said "$reason" "$new_ip_address" "$new_subnet_mask" "$new_routers" "$new_domain_name_servers" "$new_domain_name";;
        esac"#,
    );
    let config = wire.lab.path("dhcpcd.conf").display().to_string();
    fs::write(
        &config,
        "option subnet_mask, routers, domain_name_servers, domain_name\nnoarp\n",
    )
    .unwrap();
    // Its files are at fixed places: they get a disk of their own. It leaves helpers behind when it is
    // killed: they get a process tree of their own, which ends as a whole, but not before it has
    // sent its last message.
    let private =
        "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/dhcpcd && \"$@\" && sleep 20";
    let client = wire.start(
        "unshare",
        &[
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            private,
            "sh",
            "dhcpcd",
            "-4",
            "-B",
            "-f",
            &config,
            "-c",
            &script,
            LINK,
        ],
    );
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("BOUND"), address, "255.255.255.0");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGUSR1);
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!(same, address);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGHUP);
    let (same, _) = wire.wait("a rebinding", later(&renewed));
    assert_eq!(same, address);
    // A signal that comes while its script runs is lost, now and then.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGALRM);
    wire.wait("a release", |lease| lease.state == State::Released);
}
