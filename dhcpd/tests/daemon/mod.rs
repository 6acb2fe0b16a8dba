//! The daemon in a namespace, with the sample inventory, and somebody who talks to it over the trunk.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod wire;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use netmodel::Model;
use netmodel::leases::{Follow, Lease, Step};
use netmodel::model::Subnet6;
use netmodel::published::{self, Published};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::frame::{BROADCAST, Frame};
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::wait::wait_for;

/// How long an answer may take on a busy machine; also how long silence is waited for.
const ANSWER: Duration = Duration::from_millis(700);

pub(crate) const GUEST: u16 = 40;

/// How the daemon is set up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Talk {
    pub(crate) probe_wait: u32,
    /// Size of a disk of its own, for the state folder.
    pub(crate) disk: Option<&'static str>,
    /// `--interface trunk=VLAN` instead of a trunk.
    pub(crate) plain: Option<u16>,
    /// Both ends have a VLAN device of the guests.
    pub(crate) devices: bool,
    /// Seconds; 0 is the default.
    pub(crate) lease_time: u32,
    /// The guests have IPv6, too: fd00:40::/64.
    pub(crate) six: bool,
    /// It runs as nobody, with the two capabilities that its unit gives it.
    pub(crate) unprivileged: bool,
    /// Lines for the settings.
    pub(crate) settings: &'static str,
}

/// Router and switch, joined by a trunk, and the daemon.
pub(crate) struct Lab {
    child: Child,
    /// Keeps the daemon's own disk while no daemon runs.
    disk: Option<Child>,
    pub(crate) raw: RawSocket,
    pub(crate) router: NetNs,
    pub(crate) switch: NetNs,
    folder: tempfile::TempDir,
    talk: Talk,
    pub(crate) model: Model,
}

/// A host of the inventory with a reservation.
pub(crate) struct Reserved {
    pub(crate) vlan: u16,
    pub(crate) mac: [u8; 6],
    pub(crate) address: Ipv4Addr,
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) vlan: Option<u16>,
    pub(crate) kind: MessageType,
    pub(crate) client: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) server: Ipv4Addr,
}

impl Lab {
    pub(crate) fn new(talk: &Talk) -> Self {
        let (router, switch) = (NetNs::new("router").unwrap(), NetNs::new("switch").unwrap());
        router.add_veth("trunk", &switch, "far").unwrap();
        for (ns, link) in [(&router, "trunk"), (&switch, "far")] {
            let is_off = if talk.six { "0" } else { "1" };
            ns.sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), is_off)
                .unwrap();
            ns.set_up(link).unwrap();
            if talk.devices {
                let device = format!("{link}40");
                ns.add_vlan_device(link, GUEST, &device).unwrap();
                ns.sysctl(&format!("net.ipv6.conf.{device}.disable_ipv6"), is_off)
                    .unwrap();
                ns.set_up(&device).unwrap();
            }
        }
        let raw = RawSocket::open(&switch, "far").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut model = testkit::lab::load(&testkit::fixtures::sample()).unwrap();
        if talk.six {
            let mut segments = model.segments.iter_mut();
            let guest = segments.find(|segment| segment.vlan_id.as_u16() == GUEST);
            guest.unwrap().ipv6 = Some(Subnet6 {
                net: "fd00:40::/64".parse().unwrap(),
                gateway: wire::GATEWAY6,
            });
        }
        fs::create_dir(folder.path().join("state")).unwrap();
        let lease_time = if talk.lease_time == 0 {
            3600
        } else {
            talk.lease_time
        };
        let settings = format!(
            "probe_wait = {}\nlease_time = {lease_time}\nmessages_per_mac = 0\nstrangers_per_segment = 0\n{}",
            talk.probe_wait, talk.settings
        );
        fs::write(folder.path().join("dhcpd.toml"), settings).unwrap();
        write_generation(&folder.path().join("generation"), 1, &model);
        let disk = talk
            .disk
            .map(|size| mount(&folder.path().join("state"), size));
        let child = spawn(&router, folder.path(), (talk, disk.as_ref()));
        let lab = Self {
            child,
            disk,
            raw,
            router,
            switch,
            folder,
            talk: talk.clone(),
            model,
        };
        lab.wait_until_serving();
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The state folder, as the daemon sees it.
    pub(crate) fn state(&self) -> PathBuf {
        let folder = self.path("state");
        match &self.disk {
            None => folder,
            Some(disk) => inside(disk, &folder),
        }
    }

    fn wait_until_serving(&self) {
        wait_for("the daemon to serve", || {
            self.path("dhcpd.json").exists().then_some(())
        })
        .unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_file(self.path("dhcpd.json")).unwrap();
    }

    pub(crate) fn start(&mut self) {
        self.child = spawn(
            &self.router,
            self.folder.path(),
            (&self.talk, self.disk.as_ref()),
        );
        self.wait_until_serving();
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        wait_for("the daemon to end", || self.child.try_wait().unwrap()).unwrap()
    }

    pub(crate) fn publish(&self, number: u32, change: impl FnOnce(&mut Model)) {
        let mut model = self.model.clone();
        change(&mut model);
        write_generation(&self.path("generation"), number, &model);
    }

    /// A reservation of the inventory whose MAC is known.
    pub(crate) fn reservation(&self) -> Reserved {
        let reservation = self
            .model
            .reservations
            .first()
            .expect("the sample has reservations");
        Reserved {
            vlan: self.model.segment(reservation.segment).vlan_id.as_u16(),
            mac: reservation.mac.0,
            address: reservation.ipv4,
        }
    }

    /// The last state of each address, out of the lease file.
    pub(crate) fn all_leases(&self) -> HashMap<IpAddr, Lease> {
        let mut follow = Follow::open(&self.state().join("leases"), 0).unwrap();
        let mut leases = HashMap::new();
        while let Some(step) = follow.next().unwrap() {
            match step {
                Step::Restart => leases.clear(),
                Step::Entry(entry) => {
                    leases.insert(entry.address, entry.lease);
                }
            }
        }
        leases
    }

    /// Those of IPv4.
    pub(crate) fn leases(&self) -> HashMap<Ipv4Addr, Lease> {
        let all = self.all_leases().into_iter();
        all.filter_map(|(address, lease)| match address {
            IpAddr::V4(address) => Some((address, lease)),
            IpAddr::V6(_) => None,
        })
        .collect()
    }

    pub(crate) fn send(&self, vlan: u16, from: [u8; 6], message: &Message) {
        let mut payload = Vec::new();
        message.encode(&mut Encoder::new(&mut payload)).unwrap();
        let frame = Frame::new(from, BROADCAST);
        let frame = if vlan == 0 { frame } else { frame.vlan(vlan) };
        let source = message.ciaddr();
        let frame = frame
            .ipv4(source, Ipv4Addr::BROADCAST)
            .udp(68, 67)
            .payload(&payload);
        self.raw.send(&frame.build()).unwrap();
    }

    /// Sends, and returns the answer to it; `None` is silence.
    pub(crate) fn ask(&self, vlan: u16, from: [u8; 6], message: &Message) -> Option<Answer> {
        self.raw.drain().unwrap();
        self.send(vlan, from, message);
        self.next_answer(vlan, from)
    }

    pub(crate) fn next_answer(&self, vlan: u16, client: [u8; 6]) -> Option<Answer> {
        let wanted = |frame: &[u8]| {
            let answer = parse(frame)?;
            (answer.client == client && (vlan == 0 || answer.vlan == Some(vlan))).then_some(answer)
        };
        self.raw
            .receive_where(Instant::now() + ANSWER, wanted)
            .unwrap()
    }

    /// Returns the answers that are already there.
    pub(crate) fn all_answers(&self) -> Vec<Answer> {
        let frames = std::iter::from_fn(|| self.raw.try_receive().unwrap());
        frames.filter_map(|frame| parse(&frame)).collect()
    }

    /// Waits for an ARP probe and answers it; returns the address.
    pub(crate) fn answer_probe(&self, vlan: u16, mac: [u8; 6]) -> Ipv4Addr {
        let deadline = Instant::now() + Duration::from_secs(5);
        let probed = self.raw.receive_where(deadline, |frame| {
            let parsed = testkit::frame::ParsedFrame::parse(frame)?;
            let arp = parsed.arp.as_ref()?;
            (arp.operation == 1 && arp.sender.1.is_unspecified())
                .then_some((arp.target.1, parsed.source))
        });
        let (address, router) = probed.unwrap().expect("a probe");
        let reply = Frame::new(mac, router)
            .vlan(vlan)
            .arp_reply(address, Ipv4Addr::UNSPECIFIED);
        self.raw.send(&reply.build()).unwrap();
        address
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for process in std::iter::once(&mut self.child).chain(&mut self.disk) {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("the daemon said:\n{log}");
        }
    }
}

fn write_generation(path: &Path, number: u32, model: &Model) {
    let published = Published {
        number,
        inventory: "test".to_owned(),
        model: model.clone(),
    };
    published::write(path, &published.to_bytes(), 0o640).unwrap();
}

/// Mounts a disk in memory on a folder, for those who enter the mount namespace of the process.
fn mount(folder: &Path, size: &str) -> Child {
    let script =
        "mount -t tmpfs -o size=$1 tmpfs \"$2\" && touch \"$2/mounted\" && exec sleep 3600";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--kill-child", "sh", "-c", script, "sh", size]);
    let process = command.arg(folder).spawn().unwrap();
    let mark = inside(&process, &folder.join("mounted"));
    wait_for("the disk", || mark.exists().then_some(())).unwrap();
    fs::remove_file(mark).unwrap();
    process
}

/// Makes a folder and what is in it nobody's, in the sense of the user of that name.
fn give_away(folder: &Path) {
    let to_nobody = |path: &Path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    to_nobody(folder);
    for entry in fs::read_dir(folder).unwrap() {
        to_nobody(&entry.unwrap().path());
    }
}

/// A path as a process sees it.
fn inside(process: &Child, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", process.id()));
    root.join(path.strip_prefix("/").unwrap())
}

fn spawn(router: &NetNs, folder: &Path, (talk, disk): (&Talk, Option<&Child>)) -> Child {
    let daemon = env!("CARGO_BIN_EXE_bulkhead-dhcpd");
    let place = |name: &str| folder.join(name).display().to_string();
    let interface = match talk.plain {
        None => "trunk".to_owned(),
        Some(vlan) if talk.devices => format!("trunk40={vlan}"),
        Some(vlan) => format!("trunk={vlan}"),
    };
    let mut command = match disk {
        None if talk.unprivileged => {
            give_away(folder);
            let mut command = router.command("setpriv");
            let two = "-all,+net_raw,+net_bind_service";
            command.args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--no-new-privs",
            ]);
            for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
                command.arg(format!("{set}={two}"));
            }
            command.arg(daemon);
            command
        }
        None => router.command(daemon),
        Some(disk) => {
            let mut command = router.command("nsenter");
            command.arg(format!("--mount=/proc/{}/ns/mnt", disk.id()));
            command.arg(daemon);
            command
        }
    };
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    command
        .args([
            "--interface",
            &interface,
            "--generation",
            &place("generation"),
        ])
        .args(["--state", &place("state"), "--status", &place("dhcpd.json")])
        .args(["--config", &place("dhcpd.toml")])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn parse(frame: &[u8]) -> Option<Answer> {
    let parsed = testkit::frame::ParsedFrame::parse(frame)?;
    // Ethernet, IPv4, UDP: nothing here has options.
    let payload = frame.get(parsed.packet_at + 28..)?;
    let message = Message::decode(&mut Decoder::new(payload)).ok()?;
    assert!(parsed.checksums_ok, "an answer has right checksums");
    let Some(DhcpOption::ServerIdentifier(server)) =
        message.opts().get(OptionCode::ServerIdentifier)
    else {
        return None;
    };
    Some(Answer {
        vlan: parsed.vlan(),
        kind: message.opts().msg_type()?,
        client: message.chaddr().try_into().ok()?,
        address: message.yiaddr(),
        server: *server,
    })
}

fn message(client: [u8; 6], kind: MessageType) -> Message {
    let mut message = Message::default();
    message.set_chaddr(&client);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message
}

pub(crate) fn discover(client: [u8; 6]) -> Message {
    message(client, MessageType::Discover)
}

pub(crate) fn rapid(client: [u8; 6]) -> Message {
    let mut message = discover(client);
    message.opts_mut().insert(DhcpOption::RapidCommit);
    message
}

pub(crate) fn request(client: [u8; 6], address: Ipv4Addr, server: Ipv4Addr) -> Message {
    let mut message = message(client, MessageType::Request);
    message
        .opts_mut()
        .insert(DhcpOption::RequestedIpAddress(address));
    message
        .opts_mut()
        .insert(DhcpOption::ServerIdentifier(server));
    message
}

pub(crate) fn release(client: [u8; 6], address: Ipv4Addr) -> Message {
    let mut message = message(client, MessageType::Release);
    message.set_ciaddr(address);
    message
}

pub(crate) fn renew(client: [u8; 6], address: Ipv4Addr) -> Message {
    let mut message = message(client, MessageType::Request);
    message.set_ciaddr(address);
    message
}
