//! The servers, each in the same namespace and on the same processor, and the load on them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench::site;
use clap::ValueEnum;
use netmodel::ids::VlanId;
use netmodel::model::{DhcpScope, Subnet4};
use netmodel::published::{self, Published};
use nix::sys::socket::sockopt::{RcvBufForce, SockType as TypeOf};
use nix::sys::socket::{SockType, getsockopt, setsockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tempfile::TempDir;
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::wait::wait_for;

use crate::load::{self, Load, Outcome};

/// The server's address, and that of the relay that asks.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The pool, both ends included.
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 77, 1, 0), Ipv4Addr::new(10, 77, 255, 254));
const PREFIX: u8 = 16;
/// Clients that ask.
const CLIENTS: u32 = 60_000;
/// Seconds that a lease lasts.
const LEASE: u32 = 7200;
/// Longest time that perfdhcp may take on top of what it was told.
const GRACE: Duration = Duration::from_secs(20);
/// Room for requests that wait, for the echo as for this server; and for answers, whoever sends them.
const RECEIVE_BUFFER: usize = 8 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Server {
    /// Answers anything at once: what a socket can do.
    Echo,
    /// `bulkhead-dhcpd`.
    Bulkhead,
    /// Kea 2.2 with its memfile.
    Kea,
    /// dnsmasq.
    Dnsmasq,
}

impl Server {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Echo, Self::Bulkhead, Self::Kea, Self::Dnsmasq];

    /// How leases are kept.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Echo => "no-leases",
            Self::Bulkhead => "synced",
            Self::Kea | Self::Dnsmasq => "not-synced",
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Echo => "echo",
            Self::Bulkhead => "bulkhead",
            Self::Kea => "kea",
            Self::Dnsmasq => "dnsmasq",
        })
    }
}

/// Two namespaces, joined by a veth pair, and where programs are.
pub(crate) struct Lab {
    server: NetNs,
    client: NetNs,
    programs: PathBuf,
    peers: PathBuf,
    /// On the disk that `programs` is on: not a file system in memory.
    work: TempDir,
}

/// A server that runs; it ends with this.
pub(crate) struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    /// Starts a server whose files are in a folder; what it says goes into the folder, too.
    fn start(mut command: Command, folder: TempDir) -> Result<Self> {
        let log = fs::File::create(folder.path().join("log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child, folder })
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Processor time that it took since its start.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        processor_time(self.child.id())
    }

    /// Its resident memory, in octets: now, and at most until now.
    pub(crate) fn memory(&self) -> Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kibibytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let sizes = kibibytes("VmRSS:").zip(kibibytes("VmHWM:"));
        let (now, most) = sizes.context("the size of a process that runs")?;
        Ok((now << 10, most << 10))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lab {
    pub(crate) fn new(programs: &Path, peers: &Path) -> Result<Self> {
        let (server, client) = (NetNs::new("server")?, NetNs::new("client")?);
        server.add_veth("srv", &client, "cli")?;
        for (ns, link, address) in [(&server, "srv", SERVER), (&client, "cli", RELAY)] {
            ns.sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), "1")?;
            ns.set_up("lo")?;
            ns.set_up(link)?;
            ns.add_address(link, IpAddr::V4(address), PREFIX)?;
        }
        server.wait_until_up("srv")?;
        Ok(Self {
            server,
            client,
            programs: programs.to_owned(),
            peers: peers.to_owned(),
            work: TempDir::new_in(programs)?,
        })
    }

    /// A folder for the files of a server.
    pub(crate) fn folder(&self) -> Result<TempDir> {
        Ok(TempDir::new_in(self.work.path())?)
    }

    /// A socket at the clients' end of the veth pair.
    pub(crate) fn client(&self) -> Result<RawSocket> {
        RawSocket::open(&self.client, "cli")
    }

    /// A program of a peer, with its libraries.
    fn peer(&self, ns: &NetNs, program: &str, processor: &str) -> Result<Command> {
        let path = self.peers.join("usr/sbin").join(program);
        ensure!(
            path.is_file(),
            "{} is not there (remedy: cargo xtask setup --only peers)",
            path.display()
        );
        let libraries = self.peers.join("usr/lib/x86_64-linux-gnu");
        let mut command = ns.command("taskset");
        command.args(["-c", processor]).arg(path);
        command.env("LD_LIBRARY_PATH", libraries);
        Ok(command)
    }

    /// Starts a server with no leases, and waits until it answers.
    pub(crate) fn start(&self, server: Server) -> Result<Running> {
        let folder = self.folder()?;
        let command = match server {
            Server::Echo => self.own(std::env::current_exe()?, &["--echo".into()]),
            Server::Bulkhead => self.bulkhead(folder.path())?,
            Server::Kea => self.kea(folder.path())?,
            Server::Dnsmasq => self.dnsmasq(folder.path())?,
        };
        let running = Running::start(command, folder)?;
        let answers = wait_for("the server to answer", || {
            let load = Load {
                rate: 20,
                seconds: 1,
            };
            let outcome = self.ask(&running, load).ok()?;
            (outcome.done > 0).then_some(())
        });
        if answers.is_err() {
            bail!("{server} does not answer; it said:\n{}", running.log());
        }
        Ok(running)
    }

    /// A program of ours in the server's namespace.
    fn own(&self, program: PathBuf, args: &[String]) -> Command {
        let mut command = self.server.command("taskset");
        command.args(["-c", "0"]).arg(program).args(args);
        command
    }

    fn bulkhead(&self, folder: &Path) -> Result<Command> {
        let mut model = site::model(3, 0)?;
        let segment = model.segments.get_mut(1).context("a segment")?;
        segment.ipv4 = Some(Subnet4 {
            net: format!("{SERVER}/{PREFIX}")
                .parse::<ipnet::Ipv4Net>()?
                .trunc(),
            gateway: SERVER,
        });
        segment.dhcp = Some(DhcpScope {
            pool: Some(POOL),
            dns_servers: vec![],
        });
        let (name, vlan): (_, VlanId) = (segment.name.to_string(), segment.vlan_id);
        let published = Published {
            number: 1,
            inventory: "bench".to_owned(),
            model,
        };
        published::write(&folder.join("generation"), &published.to_bytes(), 0o640)?;
        let settings = format!(
            "lease_time = {LEASE}\nstrangers_per_segment = 0\n\
             [[relays]]\naddress = \"{RELAY}\"\nsegment = \"{name}\"\nserves = [\"{name}\"]\n"
        );
        fs::write(folder.join("dhcpd.toml"), settings)?;
        Ok(self.daemon(folder, format!("srv={vlan}")))
    }

    /// Starts this server on a trunk, with the generation, the settings and the leases of a folder.
    pub(crate) fn start_trunk(&self, folder: TempDir) -> Result<Running> {
        let command = self.daemon(folder.path(), "srv".to_owned());
        Running::start(command, folder)
    }

    /// `bulkhead-dhcpd` on an interface.
    fn daemon(&self, folder: &Path, interface: String) -> Command {
        let place = |name: &str| folder.join(name).display().to_string();
        let args = [
            "--interface".to_owned(),
            interface,
            "--generation".to_owned(),
            place("generation"),
            "--state".to_owned(),
            place("state"),
            "--status".to_owned(),
            place("status.json"),
            "--config".to_owned(),
            place("dhcpd.toml"),
        ];
        self.own(self.programs.join("bulkhead-dhcpd"), &args)
    }

    fn kea(&self, folder: &Path) -> Result<Command> {
        let config = serde_json::json!({"Dhcp4": {
            "interfaces-config": {"interfaces": ["srv"], "dhcp-socket-type": "udp"},
            "lease-database": {
                "type": "memfile", "persist": true, "lfc-interval": 0,
                "name": folder.join("leases.csv"),
            },
            "valid-lifetime": LEASE,
            "subnet4": [{
                "id": 1, "subnet": format!("10.77.0.0/{PREFIX}"),
                "pools": [{"pool": format!("{} - {}", POOL.0, POOL.1)}],
                "option-data": [
                    {"name": "routers", "data": SERVER.to_string()},
                    {"name": "domain-name-servers", "data": SERVER.to_string()},
                    {"name": "domain-name", "data": "bench.lab.example"},
                ],
            }],
            "loggers": [{
                "name": "kea-dhcp4", "severity": "ERROR",
                "output_options": [{"output": "stderr"}],
            }],
        }});
        let path = folder.join("kea.json");
        fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
        let mut command = self.peer(&self.server, "kea-dhcp4", "0")?;
        command.arg("-c").arg(path);
        // Its process file and lock, too, are nobody else's.
        command.env("KEA_PIDFILE_DIR", folder);
        command.env("KEA_LOCKFILE_DIR", folder);
        Ok(command)
    }

    fn dnsmasq(&self, folder: &Path) -> Result<Command> {
        let mut command = self.peer(&self.server, "dnsmasq", "0")?;
        let file = |name: &str| folder.join(name).display().to_string();
        command.args([
            "--keep-in-foreground",
            "--port=0",
            "--no-ping",
            "--quiet-dhcp",
        ]);
        command.args(["--conf-file=/dev/null", "--user=root", "--log-facility=-"]);
        command.arg(format!("--pid-file={}", file("pid")));
        command.arg(format!("--dhcp-leasefile={}", file("leases")));
        command.arg(format!("--dhcp-lease-max={}", CLIENTS * 2));
        let (first, last) = POOL;
        command.arg(format!("--dhcp-range={first},{last},255.255.0.0,{LEASE}"));
        Ok(command)
    }

    /// Lets a server know its clients first, and then measures.
    pub(crate) fn warm(&self, running: &Running, rate: u32, seconds: u32) -> Result<Outcome> {
        self.ask(running, Load { rate, seconds: 1 })?;
        self.ask(running, Load { rate, seconds })
    }

    /// Puts load on a server.
    pub(crate) fn ask(&self, running: &Running, load: Load) -> Result<Outcome> {
        let mut command = self.peer(&self.client, "perfdhcp", "1")?;
        let [rate, clients, seconds] =
            [load.rate, CLIENTS, load.seconds].map(|number| number.to_string());
        command.args([
            "-4", "-g", "single", "-r", &rate, "-R", &clients, "-p", &seconds,
        ]);
        // Half a second for answers that are late.
        command.args([
            "-W",
            "500000",
            "-l",
            &RELAY.to_string(),
            &SERVER.to_string(),
        ]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let before = running.processor_time()?;
        let deadline = Duration::from_secs(load.seconds.into()) + GRACE;
        let mut generator = command.spawn().context("start perfdhcp")?;
        give_room(&mut generator)?;
        let text = finish(generator, deadline)?;
        let cpu = running.processor_time()?.saturating_sub(before);
        let (begun, done) = load::counts(&text).context("what perfdhcp says")?;
        Ok(Outcome {
            load,
            begun,
            done,
            cpu,
        })
    }
}

/// Gives a generator's socket a larger receive buffer than it asks for: it is busy sending now and then, and then loses
/// answers that a server sends in one piece. Over 4,000/s this is most of what it calls lost, of all servers.
fn give_room(generator: &mut Child) -> Result<()> {
    let process = pidfd_open(Pid::from_child(generator), PidfdFlags::empty())?;
    let folder = format!("/proc/{}/fd", generator.id());
    wait_for("the generator's socket", || {
        let is_over = generator.try_wait().is_ok_and(|status| status.is_some());
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let widened = numbers
            .filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok())
            .filter(|file| getsockopt(file, TypeOf).is_ok_and(|kind| kind == SockType::Datagram))
            .filter(|socket| setsockopt(socket, RcvBufForce, &RECEIVE_BUFFER).is_ok())
            .count();
        (is_over || widened > 0).then_some(())
    })
}

/// Waits for a program to end, and returns what it said. Its report fits into a pipe.
fn finish(mut child: Child, limit: Duration) -> Result<String> {
    let deadline = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("perfdhcp did not end in time");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Processor time of all threads of a process: the first field of `schedstat`, in nanoseconds.
fn processor_time(process: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
        total += Duration::from_nanos(nanos.context("a number in schedstat")?);
    }
    Ok(total)
}

/// Answers every message with an address out of its transaction id: no lease, no check, one socket.
pub(crate) fn echo() -> Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(SERVER, 67))?;
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)?;
    let mut message = [0; 2048];
    loop {
        let (_, from) = socket.recv_from(&mut message)?;
        // The first option of perfdhcp's messages is their type: DISCOVER is 1, OFFER 2, ACK 5.
        let kind = if message[242] == 1 { 2 } else { 5 };
        message[0] = 2;
        let (x, y) = (message[6], message[7]);
        message[16..20].copy_from_slice(&[10, 77, x | 1, y]);
        let head = [53, 1, kind, 54, 4, 10, 77, 0, 1, 51, 4, 0, 0, 28, 32, 255];
        message[240..256].copy_from_slice(&head);
        message[256..300].fill(0);
        socket.send_to(&message[..300], from)?;
    }
}
