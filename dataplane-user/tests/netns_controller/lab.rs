//! A router with a trunk, a copy of the sample inventory to edit, and bulkhead on the command line.

use std::cell::RefCell;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use aya::maps::{ArrayOfMaps, HashMap, Map, MapData};
use dataplane_common::abi::{EndpointEntry, EndpointKey, endpoint_flags};
use dataplane_user::loader::Pins;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::fixtures;
use testkit::kernel_vlan::vlan_devices_available;
use testkit::netns::NetNs;
use testkit::program::place;
use testkit::wait::wait_for;
use testkit::xdp::XdpPass;

/// The program.
const BULKHEAD: &str = env!("CARGO_BIN_EXE_bulkhead");
/// The trunk, in the router's namespace.
pub(crate) const TRUNK: &str = "eth0";
/// Its far end.
pub(crate) const FAR_TRUNK: &str = "trunk";
/// The trunk's hardware address, whichever interface it is.
const ROUTER_MAC: [u8; 6] = [0x00, 0xe0, 0x4c, 0x29, 0x1e, 0x50];

/// A router, and all that bulkhead keeps for it.
pub(crate) struct Lab {
    // In this order: what holds a link goes before the namespace that the link is in.
    fs: BpfFs,
    pub(crate) folder: TempDir,
    pub(crate) router: NetNs,
    pub(crate) far: Arc<NetNs>,
    /// The far end takes what the trunk sends from its XDP hook.
    wakes_far_end: RefCell<Option<XdpPass>>,
    network: &'static str,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) talk: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            talk: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Holds the exit code against what is expected, and shows everything if it differs.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.talk);
        self
    }
}

impl Lab {
    /// A router whose devices and addresses are nobody's business: not every kernel has VLAN devices.
    pub(crate) fn new() -> Self {
        Self::managing("manage = []")
    }

    /// A router whose devices and addresses are bulkhead's, but not the uplinks' table.
    pub(crate) fn with_devices() -> Self {
        Self::managing("manage = [\"links\", \"addresses\", \"sysctls\"]")
    }

    /// A router of which bulkhead has all that this kernel has, the uplinks' table too.
    pub(crate) fn with_everything() -> Self {
        Self::managing(match vlan_devices_available().unwrap() {
            true => "manage = [\"links\", \"addresses\", \"sysctls\", \"nat\"]",
            false => "manage = [\"sysctls\", \"nat\"]",
        })
    }

    /// A router whose `[network]` says this.
    pub(crate) fn managing(network: &'static str) -> Self {
        let (router, far) = (NetNs::new("router").unwrap(), NetNs::new("far").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let lab = Self {
            fs: BpfFs::mount().unwrap(),
            folder,
            router,
            far: Arc::new(far),
            wakes_far_end: RefCell::new(None),
            network,
        };
        lab.add_trunk();
        fixtures::copy(&fixtures::sample_site(), &lab.path("site")).unwrap();
        fixtures::copy(&fixtures::sample_tenants(), &lab.path("tenants")).unwrap();
        lab.configure("");
        lab
    }

    fn add_trunk(&self) {
        self.router.add_veth(TRUNK, &self.far, FAR_TRUNK).unwrap();
        self.router.set_mac(TRUNK, ROUTER_MAC).unwrap();
        self.router.set_rx_vlan_offload(TRUNK, false).unwrap();
        self.router.set_up(TRUNK).unwrap();
        self.far.set_up(FAR_TRUNK).unwrap();
        let wakes = self.far.attach_xdp_pass(FAR_TRUNK).unwrap();
        // The one before was attached to an interface that is gone.
        *self.wakes_far_end.borrow_mut() = Some(wakes);
    }

    /// Writes the settings: the folders, and what else is said.
    pub(crate) fn configure(&self, more: &str) {
        let network = self.network;
        let text = format!("site = \"site\"\ntenants = \"tenants\"\n{more}[network]\n{network}\n");
        fs::write(self.path("bulkhead.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::at(&self.fs.path().join("bulkhead"))
    }

    /// Returns the number of the generation that packets are judged by.
    pub(crate) fn enforced(&self) -> u32 {
        self.pins().generation().map_or(0, |found| found.number)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.place(self.router.command(BULKHEAD), words)
    }

    /// Says what to do, and where.
    fn place(&self, command: Command, words: &[&str]) -> Command {
        let mut command = place(command, words, self.pins().folder(), self.folder.path());
        command.args(["--interface", TRUNK]);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn bulkhead(&self, words: &[&str]) -> Said {
        Said::of(&self.command(words).output().unwrap())
    }

    /// Runs a command to its end on a terminal, on which something is typed.
    pub(crate) fn on_a_terminal(&self, words: &[&str], typed: &str) -> Said {
        let command = self.command(words);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
        let mut script = self.router.command("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]);
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.stderr(Stdio::piped()).spawn().unwrap();
        let mut keyboard = script.stdin.take().unwrap();
        keyboard.write_all(typed.as_bytes()).unwrap();
        drop(keyboard);
        Said::of(&script.wait_with_output().unwrap())
    }

    /// Runs a tool of the operating system in the router; returns what it prints.
    #[track_caller]
    pub(crate) fn tool(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = self.router.command(words.next().unwrap());
        let said = Said::of(&command.args(words).output().unwrap());
        said.expect(0).out
    }

    /// Waits until the kernel is what the current generation says.
    #[track_caller]
    pub(crate) fn settles(&self) {
        let settled = wait_for("no drift", || {
            (self.bulkhead(&["drift"]).code == 0).then_some(())
        });
        assert!(settled.is_ok(), "{}", self.bulkhead(&["drift"]).out);
    }

    /// Runs a command to its end; it prints JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let mut words = words.to_vec();
        words.extend(["--format", "json"]);
        let said = self.bulkhead(&words);
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}\n{}", said.out, said.talk))
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        self.start_logged(words, "log")
    }

    /// The same, with a log of another name.
    pub(crate) fn start_logged(&self, words: &[&str], log: &str) -> Running {
        self.spawn(self.command(words), log)
    }

    /// Starts a command with the capabilities of `bulkhead.service`, and no others.
    pub(crate) fn start_as_unit(&self, words: &[&str]) -> Running {
        let unit = include_str!("../../../packaging/systemd/bulkhead.service");
        let mut lines = unit.lines();
        let set = lines.find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let set = set.unwrap().replace(" CAP_", ",+").replace("CAP_", "+");
        let mut command = self.router.command("setpriv");
        command.arg(format!("--bounding-set=-all,{}", set.to_lowercase()));
        command.args(["--no-new-privs", BULKHEAD]);
        self.spawn(self.place(command, words), "log")
    }

    pub(crate) fn spawn(&self, mut command: Command, log: &str) -> Running {
        let log = self.path(log);
        let file = fs::File::create(&log).unwrap();
        command.stdout(Stdio::null()).stderr(file);
        Running {
            child: command.spawn().unwrap(),
            log,
        }
    }

    /// Changes one text of a file of the inventory; it must be there.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "no `{from}` in {file}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Withdraws grooveiq's offer to vintronics.
    pub(crate) fn withdraw_offer(&self) {
        let file = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
        self.edit(file, "tcp/443", "tcp/8443");
    }

    /// Takes the tenant moneyrouter, the last of the registry, out of the inventory.
    pub(crate) fn remove_moneyrouter(&self) {
        let registry = self.path("site/group_vars/all/tenants.yml");
        let text = fs::read_to_string(&registry).unwrap();
        let (others, _) = text.split_once("  moneyrouter:").unwrap();
        fs::write(registry, others).unwrap();
        fs::remove_dir_all(self.path("tenants/moneyrouter")).unwrap();
    }

    /// Takes a machine's endpoint out of the enforced tables, behind bulkhead's back.
    pub(crate) fn lose_an_endpoint(&self) {
        let slot = self.pins().generation().unwrap().slot;
        let outer = MapData::from_pin(self.pins().map("ENDPOINTS")).unwrap();
        let outer: ArrayOfMaps<_, HashMap<MapData, EndpointKey, EndpointEntry>> =
            Map::ArrayOfMaps(outer).try_into().unwrap();
        let mut inner = outer.get(&slot, 0).unwrap();
        let mut entries = inner.iter().map(Result::unwrap);
        let machine = entries.find(|(_, entry)| entry.flags & endpoint_flags::MAC_KNOWN != 0);
        let (key, _) = machine.unwrap();
        inner.remove(&key).unwrap();
    }

    /// Replaces the trunk by a new interface of its name.
    pub(crate) fn renew_trunk(&self) {
        self.router.delete_link(TRUNK).unwrap();
        self.add_trunk();
    }

    /// Sets a device of bulkhead's down, if there is one.
    pub(crate) fn break_a_device(&self) {
        let device = dataplane_user::network::device_name(TRUNK, 100);
        if self.router.ifindex(&device).is_ok() {
            self.router.set_down(&device).unwrap();
        }
    }

    /// Returns how many frames were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        let status = self.json(&["status"]);
        let rows = status["counters"].as_array().unwrap().iter();
        let dropped = rows.filter(|row| {
            let outcome = row["outcome"].as_str().unwrap();
            !["forwarded", "answered", "to-kernel"].contains(&outcome)
        });
        dropped.map(|row| row["packets"].as_u64().unwrap()).sum()
    }

    /// Returns the model of a generation, as text.
    pub(crate) fn model(&self, number: u32) -> String {
        let path = self
            .path("store/generations")
            .join(format!("{number}/generation"));
        let generation = netmodel::published::read(&path).unwrap();
        serde_json::to_string(&generation.model).unwrap()
    }

    pub(crate) fn outcome(&self, number: u32) -> String {
        let history = self.json(&["history"]);
        let rows = history["generations"].as_array().unwrap();
        let row = rows.iter().find(|row| row["number"] == number).unwrap();
        row["outcome"]["kind"].as_str().unwrap().to_owned()
    }
}

/// A process of bulkhead, killed when this is dropped, at the latest.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub(crate) fn wait_until_it_says(&self, words: &str) {
        let said = wait_for(words, || self.said().contains(words).then_some(()));
        assert!(said.is_ok(), "`{words}` is not in:\n{}", self.said());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Tells how many files it has open.
    pub(crate) fn open_files(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        files.unwrap().count()
    }

    /// Kills it: it can do nothing any more.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> i32 {
        let status = wait_for("its end", || self.child.try_wait().unwrap());
        status.unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
