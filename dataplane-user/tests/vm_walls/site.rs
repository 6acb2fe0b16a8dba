//! A core router and two hypervisors, joined by a trunk, each with its own bulkhead; machines with real sockets.
//!
//! ```text
//!   api01  web01  app01           db01  ledger  mqtt01
//!     |      |      |               |      |      |
//!  ===+======+======+== vmbr0    ===+======+======+== vmbr0
//!          hv01 | nic0                hv02 | nic0
//!  =============+==========================+========+======  a switch that filters VLANs
//!                                            trunk  |
//!        logs, workstation, visitor, …          core router
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netmodel::Model;
use netmodel::ids::MacAddr;
use netmodel::model::Owner;
use serde_json::Value;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::forgery::{Endpoint, Surroundings};
use testkit::kernel_vlan::BridgeVlan;
use testkit::netns::NetNs;
use testkit::program::place;
use testkit::site::{HOST_LINK, Site, SiteSpec, Wiring};
use testkit::wait::wait_at_most;
use testkit::{fixtures, lab};

const BRIDGE: &str = "vmbr0";
const UPLINK: &str = "nic0";
/// The switch of the site.
const SWITCH: &str = "bridge";
/// How long a daemon may take for what it does by itself: the processor is emulated.
const DAEMON: Duration = Duration::from_secs(120);

/// How the router's program is attached, and with it what the machines' NICs may leave to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Router {
    /// Native XDP: checksums are in the bytes.
    Xdp,
    /// TC, behind a NIC that hides tags: segmentation and checksums are left to whoever needs them (GSO, GRO).
    Tc,
}

/// A virtual machine: a namespace.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) id: u32,
    pub(crate) end: Endpoint,
    pub(crate) ns: NetNs,
    prefixes: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
}

/// Name, number, and on which hypervisor.
const MACHINES: [(&str, u32, usize); 6] = [
    ("grooveiq-api01", 101, 0),
    ("grooveiq-db01", 102, 1),
    ("vintronics-web01", 103, 0),
    ("moneyrouter-app01", 104, 0),
    ("moneyrouter-db01", 105, 1),
    ("grooveiq-mqtt01", 106, 1),
];

/// One machine that bulkhead runs on.
pub(crate) struct Bulkhead {
    fs: BpfFs,
    folder: TempDir,
    words: Vec<String>,
    daemon: Option<Child>,
}

impl Bulkhead {
    fn new(settings: &str, words: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("bulkhead.toml"), settings)?;
        Ok(Self {
            fs: BpfFs::mount()?,
            folder,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            daemon: None,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, ns: &NetNs, words: &[&str]) -> Command {
        let command = ns.command(env!("CARGO_BIN_EXE_bulkhead"));
        let pins = self.fs.path().join("bulkhead");
        let mut command = place(command, words, &pins, self.folder.path());
        command.args(&self.words);
        command
    }

    /// Runs a command to its end, which must be good; returns what it printed.
    fn run(&self, ns: &NetNs, words: &[&str]) -> Result<String> {
        let output = self.command(ns, words).output()?;
        let [out, talk] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        ensure!(output.status.success(), "{words:?}: {out}\n{talk}");
        Ok(out)
    }

    fn start(&mut self, ns: &NetNs) -> Result<()> {
        let log = fs::File::create(self.path("log"))?;
        let mut command = self.command(ns, &["run"]);
        self.daemon = Some(command.stdout(Stdio::null()).stderr(log).spawn()?);
        Ok(())
    }

    fn status(&self, ns: &NetNs) -> Result<Value> {
        let output = self.command(ns, &["status", "--format", "json"]).output()?;
        serde_json::from_slice(&output.stdout).context("reading what `bulkhead status` says")
    }
}

impl Drop for Bulkhead {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // It may have ended.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A hypervisor.
pub(crate) struct Hypervisor {
    bulkhead: Bulkhead,
    pub(crate) ns: NetNs,
}

impl Hypervisor {
    fn new(name: &str, inventory: &Path) -> Result<Self> {
        let ns = NetNs::new(name)?;
        ns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        ns.add_vlan_bridge(BRIDGE)?;
        ns.set_up(BRIDGE)?;
        let settings = format!(
            "{}hypervisor = \"{name}\"\n[ports]\nproxmox = \"pve\"\n",
            folders(inventory)
        );
        let bulkhead = Bulkhead::new(&settings, &[])?;
        fs::create_dir_all(bulkhead.path("pve/qemu-server"))?;
        Ok(Self { bulkhead, ns })
    }

    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        self.bulkhead.run(&self.ns, words)
    }

    /// Writes a machine's configuration as Proxmox VE does, with a tag of the tenant's wish.
    pub(crate) fn configure(&self, machine: &Machine) -> Result<()> {
        let mac = MacAddr(machine.end.mac);
        let text = format!("net0: virtio={mac},bridge={BRIDGE},tag=4000\n");
        Ok(fs::write(self.configuration(machine), text)?)
    }

    /// Forgets a machine, which has moved away.
    pub(crate) fn forget(&self, machine: &Machine) -> Result<()> {
        Ok(fs::remove_file(self.configuration(machine))?)
    }

    fn configuration(&self, machine: &Machine) -> PathBuf {
        let name = format!("pve/qemu-server/{}.conf", machine.id);
        self.bulkhead.path(&name)
    }

    /// Waits until the port of a machine is bound to `endpoint`, or to nobody; with programs.
    pub(crate) fn wait_until_bound(&self, machine: &Machine, endpoint: Option<&str>) -> Result<()> {
        let (port, endpoint) = (machine.port(), endpoint.map_or(Value::Null, Value::from));
        let bound = wait_at_most(DAEMON, "the port", || {
            let status = self.bulkhead.status(&self.ns).ok()?;
            let rows = status["ports"].as_array()?.iter();
            let row = rows.clone().find(|row| row["port"] == port.as_str())?;
            (row["endpoint"] == endpoint && row["attached"] == true).then_some(())
        });
        let log = fs::read_to_string(self.bulkhead.path("log")).unwrap_or_default();
        bound.with_context(|| format!("{port} is not bound to {endpoint}: {log}"))
    }

    /// Frames that machines sent and that were dropped in a VLAN (0: at nobody's port), by reason.
    pub(crate) fn dropped(&self, vlan: u16) -> Result<BTreeMap<String, u64>> {
        let status = self.bulkhead.status(&self.ns)?;
        let rows = status["counters"].as_array().context("no counters")?.iter();
        let rows = rows.filter(|row| row["direction"] == "from_tenant" && row["vlan_id"] == vlan);
        let counts = rows.map(|row| {
            let outcome = row["outcome"].as_str().context("no outcome")?;
            Ok((
                outcome.to_owned(),
                row["packets"].as_u64().context("no number")?,
            ))
        });
        counts.collect()
    }
}

impl Machine {
    fn new(model: &Model, (name, id): (&'static str, u32)) -> Result<Self> {
        let host = model.hosts.iter().find(|host| host.name.as_str() == name);
        let interface = host
            .and_then(|host| host.interfaces.first())
            .with_context(|| format!("{name} is not in the inventory"))?;
        let segment = model.segment(interface.segment.context("it is on a segment")?);
        let (net4, net6) = (segment.ipv4.context("IPv4")?, segment.ipv6.context("IPv6")?);
        let end = Endpoint {
            mac: interface.mac.context("it has a MAC")?.0,
            vlan: segment.vlan_id.as_u16(),
            ipv4: interface.ipv4.context("it has an IPv4 address")?,
            ipv6: interface.ipv6.context("it has an IPv6 address")?,
        };
        Ok(Self {
            name,
            id,
            end,
            ns: NetNs::new(name)?,
            prefixes: vec![
                (end.ipv4.into(), net4.net.prefix_len()),
                (end.ipv6.into(), net6.net.prefix_len()),
            ],
            gateways: vec![net4.gateway.into(), net6.gateway.into()],
        })
    }

    pub(crate) fn port(&self) -> String {
        format!("tap{}i0", self.id)
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.end.ipv4.into(), self.end.ipv6.into()]
    }
}

/// The site.
pub(crate) struct Lab {
    // In this order: daemons, and what holds a link, go before the namespaces that the links are in.
    pub(crate) hypervisors: Vec<Hypervisor>,
    router: Bulkhead,
    pub(crate) machines: Vec<Machine>,
    pub(crate) site: Site,
    /// The router's address on its uplink.
    pub(crate) uplink: IpAddr,
    how: Router,
    model: Model,
    router_mac: [u8; 6],
    inventory: TempDir,
}

impl Lab {
    pub(crate) fn build(how: Router) -> Result<Self> {
        let inventory = inventory()?;
        let model = lab::load(inventory.path())?;
        let mut spec = lab::site(&model)?;
        spec.hosts.retain(|host| !(100..=102).contains(&host.vlan));
        let site = Site::build(&spec, Wiring::EmptyRouter)?;
        let router = start_router(how, &site, &spec, inventory.path())?;
        let uplink = spec.uplink.iter().flat_map(|uplink| &uplink.router);
        let uplink = uplink.map(|(ip, _)| *ip).find(IpAddr::is_ipv4);
        let names = ["hv01", "hv02"];
        let hypervisors: Result<Vec<_>> = names
            .iter()
            .map(|name| {
                let hypervisor = Hypervisor::new(name, inventory.path())?;
                join(&site, &spec, &hypervisor.ns, name)?;
                Ok(hypervisor)
            })
            .collect();
        let machines = MACHINES
            .iter()
            .map(|&(name, id, _)| Machine::new(&model, (name, id)));
        let mut lab = Self {
            hypervisors: hypervisors?,
            router,
            machines: machines.collect::<Result<_>>()?,
            site,
            uplink: uplink.context("the sample's router has an uplink")?,
            how,
            model,
            router_mac: spec.router_mac,
            inventory,
        };
        for (machine, (_, _, at)) in lab.machines.iter().zip(MACHINES) {
            lab.plug(machine, at)?;
        }
        for hypervisor in &mut lab.hypervisors {
            hypervisor.run(&["apply", "--yes"])?;
            hypervisor.bulkhead.start(&hypervisor.ns)?;
        }
        for (machine, (_, _, at)) in lab.machines.iter().zip(MACHINES) {
            lab.hypervisors[at].wait_until_bound(machine, Some(&lab.endpoint(machine)))?;
        }
        Ok(lab)
    }

    /// As `status` calls it.
    pub(crate) fn endpoint(&self, machine: &Machine) -> String {
        let tenant = machine.name.split('-').next().unwrap_or_default();
        format!("{tenant}/{}", machine.name)
    }

    pub(crate) fn machine(&self, name: &str) -> &Machine {
        let mut machines = self.machines.iter();
        machines.find(|machine| machine.name == name).unwrap()
    }

    /// Starts a machine at a hypervisor: configuration, port, addresses.
    pub(crate) fn plug(&self, machine: &Machine, at: usize) -> Result<()> {
        let hypervisor = &self.hypervisors[at];
        hypervisor.configure(machine)?;
        let (port, ns) = (machine.port(), &machine.ns);
        hypervisor.ns.add_veth(&port, ns, HOST_LINK)?;
        ns.set_mac(HOST_LINK, machine.end.mac)?;
        if self.how == Router::Xdp {
            ns.set_tx_checksum(HOST_LINK, false)?;
        }
        ns.set_up(HOST_LINK)?;
        for (address, prefix) in &machine.prefixes {
            ns.add_address(HOST_LINK, *address, *prefix)?;
        }
        hypervisor.ns.set_controller(&port, BRIDGE)?;
        hypervisor.ns.set_up(&port)?;
        for gateway in &machine.gateways {
            ns.add_default_route(*gateway)?;
        }
        Ok(())
    }

    /// What a machine has around it at a hypervisor.
    pub(crate) fn around(&self, machine: &Machine, at: usize) -> Result<Surroundings> {
        let mut segments = self.model.segments.iter();
        let segment = segments.find(|segment| segment.vlan_id.as_u16() == machine.end.vlan);
        let segment = segment.context("the machine's segment")?;
        Ok(Surroundings {
            router_mac: self.router_mac,
            host_mac: self.hypervisors[at].ns.mac(BRIDGE)?,
            gateway4: segment.ipv4.context("IPv4")?.gateway,
            gateway6: segment.ipv6.context("IPv6")?.gateway,
        })
    }

    /// On which hypervisor a machine was started.
    pub(crate) fn started_at(&self, machine: &Machine) -> usize {
        let mut all = MACHINES.iter();
        all.find(|(name, ..)| *name == machine.name).unwrap().2
    }

    /// Takes the programs off the hypervisors, and their daemons away.
    pub(crate) fn detach_hypervisors(&mut self) -> Result<()> {
        for hypervisor in &mut self.hypervisors {
            if let Some(mut daemon) = hypervisor.bulkhead.daemon.take() {
                daemon.kill()?;
                daemon.wait()?;
            }
            hypervisor.run(&["detach", "--yes"])?;
        }
        Ok(())
    }

    /// What the inventory allows between segments, as `show matrix` says it.
    pub(crate) fn matrix(&self) -> Result<Value> {
        let mut show = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        show.args(["show", "matrix", "--format", "json"]);
        for tree in ["site", "tenants"] {
            show.arg(format!("--{tree}"))
                .arg(self.inventory.path().join(tree));
        }
        Ok(serde_json::from_slice(&show.output()?.stdout)?)
    }

    /// Returns what the matrix calls the segment of a VLAN.
    pub(crate) fn zone(&self, vlan: u16) -> &str {
        let mut segments = self.model.segments.iter();
        let segment = segments.find(|segment| segment.vlan_id.as_u16() == vlan);
        match segment.unwrap().owner {
            Owner::Tenant(tenant) => self.model.tenant(tenant).name.as_str(),
            Owner::Platform => segment.unwrap().name.as_str(),
        }
    }

    /// Nothing is to be done anywhere: `plan` says so.
    pub(crate) fn is_as_it_should_be(&self) -> Result<()> {
        self.router.run(&self.site.router, &["plan"])?;
        let mut hypervisors = self.hypervisors.iter();
        hypervisors.try_for_each(|hypervisor| hypervisor.run(&["plan"]).map(drop))
    }
}

fn folders(inventory: &Path) -> String {
    let inventory = inventory.display();
    format!("site = \"{inventory}/site\"\ntenants = \"{inventory}/tenants\"\n")
}

/// The sample, with an IPv6 address for each of the machines.
fn inventory() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let copied = Command::new("cp")
        .arg("-r")
        .args([fixtures::sample_site(), fixtures::sample_tenants()])
        .arg(folder.path())
        .status()?;
    ensure!(copied.success(), "copying the sample");
    for (name, ..) in MACHINES {
        let tenant = name.split('-').next().unwrap_or_default();
        let file = format!("tenants/{tenant}/host_vars/{name}.yml");
        edit(&folder.path().join(file), |line| {
            let address = line.trim().strip_prefix("ip: 10.")?;
            let (vlan, last) = address.split_once(".0.")?;
            Some(format!("{line}\n      ip6: \"fd00:{vlan}::{last}\""))
        })?;
    }
    edit(
        &folder.path().join("site/group_vars/all/tenants.yml"),
        |line| {
            let subnet = line.trim() == "subnet: 10.102.0.0/24";
            subnet.then(|| format!("{line}\n    subnet6: fd00:102::/64"))
        },
    )?;
    Ok(folder)
}

/// Replaces the one line of a file for which there is another.
fn edit(path: &Path, replace: impl Fn(&str) -> Option<String>) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let found = text.lines().filter(|line| replace(line).is_some()).count();
    ensure!(found == 1, "{} has {found} such lines", path.display());
    let lines = text
        .lines()
        .map(|line| replace(line).unwrap_or_else(|| line.to_owned()));
    Ok(fs::write(
        path,
        lines.map(|line| line + "\n").collect::<String>(),
    )?)
}

fn start_router(how: Router, site: &Site, spec: &SiteSpec, inventory: &Path) -> Result<Bulkhead> {
    site.router
        .set_rx_vlan_offload(&spec.trunk, how == Router::Tc)?;
    let words = ["--interface", spec.trunk.as_str()];
    let router = Bulkhead::new(&folders(inventory), &words)?;
    router.run(&site.router, &["apply", "--yes"])?;
    Ok(router)
}

/// Plugs a hypervisor's uplink into the switch, for every VLAN of the site.
fn join(site: &Site, spec: &SiteSpec, hypervisor: &NetNs, name: &str) -> Result<()> {
    hypervisor.add_veth(UPLINK, &site.middle, name)?;
    site.middle.set_controller(name, SWITCH)?;
    for segment in &spec.segments {
        site.middle
            .add_bridge_vlan(name, segment.vlan, BridgeVlan::Tagged)?;
    }
    site.middle.set_up(name)?;
    hypervisor.set_controller(UPLINK, BRIDGE)?;
    hypervisor.set_up(UPLINK)
}
