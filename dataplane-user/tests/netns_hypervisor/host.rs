//! A hypervisor with a bridge, machines that come and go, and bulkhead on the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dataplane_user::loader::Pins;
use netmodel::Model;
use serde_json::Value;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::fixtures;
use testkit::frame::{Frame, tcp_flag};
use testkit::netns::NetNs;
use testkit::program::place;
use testkit::raw::RawSocket;
use testkit::wait::{PATIENCE, wait_at_most};

pub(crate) const BRIDGE: &str = "vmbr0";
pub(crate) const UPLINK: &str = "nic0";
/// How long a daemon may take for what it does by itself. The machine is busy with other tests.
const DAEMON: Duration = Duration::from_secs(60);
/// So long nothing may arrive where nothing should.
const SILENCE: Duration = Duration::from_millis(50);

/// A machine of the sample, and the number of its virtual machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) id: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) ipv4: std::net::Ipv4Addr,
}

impl Machine {
    pub(crate) fn port(self) -> String {
        format!("tap{}i0", self.id)
    }

    /// A frame to another machine of its segment that the inventory allows.
    pub(crate) fn opens(self, to: Self) -> Frame {
        let frame = Frame::new(self.mac, to.mac).ipv4(self.ipv4, to.ipv4);
        frame.tcp(4000, 5432, tcp_flag::SYN)
    }
}

/// A hypervisor, and all that bulkhead keeps for it.
pub(crate) struct Lab {
    // In this order: what holds a link goes before the namespace that the link is in.
    fs: BpfFs,
    folder: TempDir,
    pub(crate) hypervisor: NetNs,
    pub(crate) far: NetNs,
    model: Model,
}

impl Lab {
    /// The bridge is the operator's: not every kernel's can filter VLANs.
    pub(crate) fn new() -> Self {
        let network = "[network]\nmanage = []\n";
        Self::build(network, |hypervisor| hypervisor.add_bridge(BRIDGE).unwrap())
    }

    /// The bridge filters VLANs, and bulkhead says which its uplink carries.
    pub(crate) fn vlan_aware() -> Self {
        Self::build("", |hypervisor| hypervisor.add_vlan_bridge(BRIDGE).unwrap())
    }

    fn build(network: &str, make_bridge: impl FnOnce(&NetNs)) -> Self {
        let (hypervisor, far) = (
            NetNs::new("hypervisor").unwrap(),
            NetNs::new("machines").unwrap(),
        );
        for ns in [&hypervisor, &far] {
            ns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
                .unwrap();
        }
        make_bridge(&hypervisor);
        hypervisor.set_up(BRIDGE).unwrap();
        let options =
            netmodel::Options::new(fixtures::sample_site(), Some(fixtures::sample_tenants()));
        let lab = Self {
            fs: BpfFs::mount().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            hypervisor,
            far,
            model: netmodel::load(&options).model.unwrap(),
        };
        lab.cable(UPLINK);
        fs::create_dir_all(lab.path("pve/qemu-server")).unwrap();
        let text = format!(
            "site = \"{}\"\ntenants = \"{}\"\nhypervisor = \"hv01\"\n{network}[ports]\nproxmox = \"pve\"\n",
            fixtures::sample_site().display(),
            fixtures::sample_tenants().display()
        );
        fs::write(lab.path("bulkhead.toml"), text).unwrap();
        lab
    }

    /// Changes the registry, in a copy of the sample.
    pub(crate) fn edit_registry(&self, from: &str, to: &str) {
        let mut cp = Command::new("cp");
        cp.arg("-r")
            .arg(fixtures::sample_site())
            .arg(self.path("site"));
        assert!(cp.status().unwrap().success());
        let path = self.path("site/group_vars/all/tenants.yml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "no `{from}` in the registry");
        fs::write(path, text.replace(from, to)).unwrap();
        let settings = self.path("bulkhead.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let sample = fixtures::sample_site().display().to_string();
        fs::write(settings, text.replace(&sample, "site")).unwrap();
    }

    /// Makes a port of the bridge, with a far end.
    pub(crate) fn cable(&self, name: &str) {
        self.hypervisor
            .add_veth(name, &self.far, &end(name))
            .unwrap();
        self.far.set_up(&end(name)).unwrap();
        self.join(name);
    }

    /// Makes it a port of the bridge, and up.
    pub(crate) fn join(&self, name: &str) {
        self.hypervisor.set_controller(name, BRIDGE).unwrap();
        self.hypervisor.set_up(name).unwrap();
    }

    pub(crate) fn socket(&self, name: &str) -> RawSocket {
        RawSocket::open(&self.far, &end(name)).unwrap()
    }

    /// A machine of the inventory. Its configuration is written by [`Lab::configure`].
    pub(crate) fn machine(&self, name: &str, id: u32) -> Machine {
        let mut hosts = self.model.hosts.iter();
        let host = hosts.find(|host| host.name.as_str() == name).unwrap();
        let interface = &host.interfaces[0];
        Machine {
            id,
            mac: interface.mac.unwrap().0,
            ipv4: interface.ipv4.unwrap(),
        }
    }

    /// The hardware address of the router's trunk.
    pub(crate) fn router_mac(&self) -> [u8; 6] {
        let router = &self.model.routers[0];
        let mut interfaces = self.model.host(router.host).interfaces.iter();
        let trunk = interfaces.find(|i| i.name == router.trunk).unwrap();
        trunk.mac.unwrap().0
    }

    /// Writes the machine's configuration as Proxmox VE does, with a tag of the tenant's wish.
    pub(crate) fn configure(&self, machine: Machine) {
        let mac = netmodel::ids::MacAddr(machine.mac);
        let text = format!("net0: virtio={mac},bridge={BRIDGE},tag=4000\n");
        let path = self.path(&format!("pve/qemu-server/{}.conf", machine.id));
        fs::write(path, text).unwrap();
    }

    /// A machine with its configuration, plugged in.
    pub(crate) fn start_machine(&self, name: &str, id: u32) -> (Machine, RawSocket) {
        let machine = self.machine(name, id);
        self.configure(machine);
        self.cable(&machine.port());
        (machine, self.socket(&machine.port()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::at(&self.fs.path().join("bulkhead"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let command = self.hypervisor.command(env!("CARGO_BIN_EXE_bulkhead"));
        place(command, words, self.pins().folder(), self.folder.path())
    }

    /// Runs a command to its end; returns what it printed and what it said beside.
    #[track_caller]
    pub(crate) fn bulkhead(&self, words: &[&str], code: i32) -> (String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(words).output().unwrap();
        let [out, talk] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert_eq!(status.code(), Some(code), "{words:?}\n{out}\n{talk}");
        (out, talk)
    }

    /// The row of a port in `status`; null if there is none.
    pub(crate) fn port(&self, name: &str) -> Value {
        let status = self.status();
        let rows = status["ports"].as_array().into_iter().flatten();
        let mut rows = rows.filter(|row| row["port"] == name);
        rows.next().cloned().unwrap_or(Value::Null)
    }

    pub(crate) fn status(&self) -> Value {
        let mut command = self.command(&["status", "--format", "json"]);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    }

    /// Frames that were dropped for a reason where they came in from a tenant.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        let status = self.status();
        let rows = status["counters"].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["outcome"] == reason && row["direction"] == "from_tenant");
        rows.map(|row| row["packets"].as_u64().unwrap()).sum()
    }

    /// Starts the daemon.
    pub(crate) fn run(&self) -> Daemon {
        let log = self.path("log");
        let mut command = self.command(&["run"]);
        let file = fs::File::create(&log).unwrap();
        command.stdout(Stdio::null()).stderr(file);
        Daemon {
            child: command.spawn().unwrap(),
            log,
        }
    }

    /// Waits until an endpoint is bound to a port and programs are there; returns how long that took.
    #[track_caller]
    pub(crate) fn wait_until_bound(&self, port: &str, endpoint: &str) -> Duration {
        let start = Instant::now();
        let bound = wait_at_most(DAEMON, "the port", || {
            let row = self.port(port);
            (row["endpoint"] == endpoint && row["attached"] == true).then_some(())
        });
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(bound.is_ok(), "{}\n{log}", self.port(port));
        start.elapsed()
    }

    #[track_caller]
    pub(crate) fn wait_until_unknown(&self, port: &str) {
        let unknown = wait_at_most(DAEMON, "the port", || {
            let row = self.port(port);
            (row["unknown"].is_object() && row["attached"] == true).then_some(())
        });
        assert!(unknown.is_ok(), "{}", self.port(port));
    }
}

/// Does this very frame arrive?
pub(crate) fn receives(socket: &RawSocket, frame: &[u8]) -> bool {
    let same = |got: &[u8]| got.starts_with(frame).then_some(());
    let found = socket.receive_where(Instant::now() + PATIENCE, same);
    found.unwrap().is_some()
}

/// Does a frame arrive in the end? The kernel takes a program off some time after it was told to.
pub(crate) fn reaches(from: &RawSocket, to: &RawSocket, frame: &[u8]) -> bool {
    let same = |got: &[u8]| got.starts_with(frame).then_some(());
    let arrived = wait_at_most(PATIENCE, "a frame", || {
        from.send(frame).unwrap();
        to.receive_where(Instant::now() + SILENCE, same).unwrap()
    });
    arrived.is_ok()
}

/// Nothing arrives.
#[track_caller]
pub(crate) fn is_silent(socket: &RawSocket, what: &str) {
    std::thread::park_timeout(SILENCE);
    let got = socket.try_receive().unwrap();
    assert!(got.is_none(), "{what}: {got:x?}");
}

/// The daemon, killed when this is dropped, at the latest.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Kills it: it can do nothing any more.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[track_caller]
    pub(crate) fn wait_until_it_says(&self, words: &str) {
        let log = || fs::read_to_string(&self.log).unwrap();
        let said = wait_at_most(DAEMON, words, || log().contains(words).then_some(()));
        assert!(said.is_ok(), "`{words}` is not in:\n{}", log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn end(port: &str) -> String {
    format!("far-{port}")
}

/// Removes the attachment of a port's program, behind bulkhead's back: the pin is all that holds the link.
pub(crate) fn lose_a_program(pins: &Pins, ifindex: u32) -> bool {
    let path = pins.port_link(ifindex, dataplane_user::loader::PortHook::FromTenant);
    Path::new(&path).exists() && fs::remove_file(path).is_ok()
}
