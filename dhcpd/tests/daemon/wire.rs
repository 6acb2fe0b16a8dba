//! A real client at the far end of a plain interface, and what it and the server say.
//!
//! With `BULKHEAD_VLAN_DEVICES` (rung vm: the kernel must have them) the client is on a VLAN device, and the gateway's kernel, too;
//! the server is on the trunk (`trunk`), on the gateway's VLAN device (`device`), or on the one for IPv4 and on the other for both
//! families (`each`).

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use netmodel::leases::{Lease, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::wait::wait_for;

use super::{GUEST, Lab, Talk};

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 20, 40, 1);
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x40, 0, 0, 0, 0, 0, 1);

/// What all scripts do: say what happened, and hold the address while it is bound.
const SCRIPT: &str = r#"
said() { echo "$1 address=$2 mask=$3 router=$4 dns=$5 domain=$6" >> "$LOG"; }
bind() { ip address replace "$1/24" dev "$LINK"; }
unbind() { ip address flush dev "$LINK"; }
"#;

/// A client at the far end of a plain interface in VLAN 40, whose gateway has a kernel behind it.
pub(crate) struct Wire {
    pub(crate) lab: Lab,
    pub(crate) mac: [u8; 6],
    /// The client's interface.
    pub(crate) link: &'static str,
}

/// A client's process; killed when it is dropped.
pub(crate) struct Client(pub(crate) Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Client {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    /// Signals the process that the child of this one waits for.
    pub(crate) fn signal_grandchild(&self, signal: Signal) {
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
    pub(crate) fn new(talk: &Talk) -> Self {
        let mut place = env::var("BULKHEAD_VLAN_DEVICES").unwrap_or_default();
        if place == "each" {
            place = if talk.six { "device" } else { "trunk" }.to_owned();
        }
        let (devices, plain, gateway, link) = match place.as_str() {
            "" => (false, Some(GUEST), "trunk", "far"),
            "trunk" => (true, None, "trunk40", "far40"),
            "device" => (true, Some(GUEST), "trunk40", "far40"),
            other => panic!("BULKHEAD_VLAN_DEVICES={other}: trunk, device or each"),
        };
        let lab = Lab::new(&Talk {
            plain,
            devices,
            probe_wait: 50,
            ..talk.clone()
        });
        lab.router.add_address(gateway, GATEWAY.into(), 24).unwrap();
        if talk.six {
            lab.router
                .sysctl("net.ipv6.conf.all.forwarding", "1")
                .unwrap();
            lab.router
                .add_address(gateway, GATEWAY6.into(), 64)
                .unwrap();
        }
        // No device fills checksums in behind a veth: what the clients' raw sockets see is whole.
        lab.router.set_tx_checksum("trunk", false).unwrap();
        let mac = lab.switch.mac(link).unwrap();
        Self { lab, mac, link }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.lab.path("client-log")
    }

    pub(crate) fn script(&self, body: &str) -> String {
        let path = self.lab.path("script");
        let log = self.log().display().to_string();
        let text = format!("#!/bin/sh\nLOG={log}\nLINK={}\n{SCRIPT}{body}", self.link);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
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

    /// A command whose output is its caller's.
    pub(crate) fn command_only(&self, program: &str) -> Command {
        self.lab.switch.command(program)
    }

    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Client {
        Client(self.command(program, arguments).spawn().unwrap())
    }

    /// Starts a shell script in a process tree and mounts of its own, which end as a whole.
    pub(crate) fn start_tree(&self, script: &str, arguments: &[&str]) -> Client {
        let tree = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"];
        self.start("unshare", &[&tree[..], &[script, "sh"], arguments].concat())
    }

    /// Starts dhcpcd for a family (`-4`, `-6`), with these lines as its settings.
    ///
    /// Its files are at fixed places: they get a disk of their own. It leaves helpers behind when it is killed, which must not end
    /// before they have sent its last message.
    pub(crate) fn start_dhcpcd(&self, family: &str, settings: &str, script: &str) -> Client {
        let config = self.lab.path("dhcpcd.conf").display().to_string();
        fs::write(&config, settings).unwrap();
        let private = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/dhcpcd && \"$@\" && sleep 20";
        let dhcpcd = [
            "dhcpcd", family, "-B", "-f", &config, "-c", script, self.link,
        ];
        self.start_tree(private, &dhcpcd)
    }

    /// Waits until the server has such a lease of the client.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Lease) -> bool) -> (IpAddr, Lease) {
        self.wait_where(what, |_, lease| wanted(lease))
    }

    pub(crate) fn wait_where(
        &self,
        what: &str,
        wanted: impl Fn(IpAddr, &Lease) -> bool,
    ) -> (IpAddr, Lease) {
        let found = wait_for(what, || {
            let leases = self.lab.all_leases();
            let mut own = leases
                .into_iter()
                .filter(|(_, lease)| lease.mac.0 == self.mac);
            own.find(|(at, lease)| wanted(*at, lease))
        });
        found.unwrap_or_else(|error| panic!("{error:#}\n{}", self.said()))
    }

    /// What the client and its script said.
    fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.lab.path(name)).unwrap_or_default();
        format!(
            "script: {}\nclient: {}",
            read("client-log"),
            read("client-output")
        )
    }

    /// Waits until the client's script has said so, and returns the whole line.
    pub(crate) fn wait_for_log(&self, start: &str) -> String {
        let found = wait_for(start, || {
            let log = fs::read_to_string(self.log()).ok()?;
            log.lines()
                .find(|line| line.starts_with(start))
                .map(str::to_owned)
        });
        found.unwrap_or_else(|error| panic!("{error:#}\n{}", self.said()))
    }

    /// What the client sends over IPv4 to this server alone is lost, or is not any longer: so that it asks all at T2.
    pub(crate) fn lose_unicast(&self, is_lost: bool) {
        // To another port, not away: a client that is told that it may not send does not wait for an answer.
        let rules = format!(
            "table ip lost {{ chain out {{ type filter hook output priority 0; \
             ip daddr {GATEWAY} udp dport 67 udp dport set 9; }}; }}"
        );
        let rules = if is_lost {
            rules.as_str()
        } else {
            "delete table ip lost"
        };
        let nft = self.command_only("nft").arg(rules).status();
        assert!(nft.expect("nft runs").success());
    }

    /// The server is another one from now on, with the same leases: of DHCPv6 it answers REBIND, but not RENEW.
    pub(crate) fn change_server(&mut self) {
        self.lab.kill();
        fs::remove_file(self.lab.state().join("duid")).unwrap();
        self.lab.start();
    }

    pub(crate) fn assert_told(&self, line: &str, address: IpAddr, mask: &str) {
        let wanted = format!(
            "address={address} mask={mask} router={GATEWAY} dns={GATEWAY} domain=east.lab.example"
        );
        assert!(
            line.ends_with(&wanted),
            "{line:?} does not end with {wanted:?}"
        );
    }
}

pub(crate) fn bound(lease: &Lease) -> bool {
    lease.state == State::Bound
}

/// Was it extended: does it end later than the one before?
pub(crate) fn later(than: &Lease) -> impl Fn(&Lease) -> bool {
    let until = than.until;
    move |lease| bound(lease) && lease.until > until
}
