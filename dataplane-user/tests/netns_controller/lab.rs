//! A router with a trunk, a copy of the sample inventory to edit, and bulkhead on the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use aya::maps::{ArrayOfMaps, HashMap, Map, MapData};
use dataplane_common::abi::{EndpointEntry, EndpointKey};
use dataplane_user::loader::Pins;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::fixtures;
use testkit::netns::NetNs;
use testkit::wait::wait_at_most;

/// The trunk, in the router's namespace.
pub(crate) const TRUNK: &str = "eth0";
/// How long a daemon may take for what it does by itself. The machine is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A router, and all that bulkhead keeps for it.
pub(crate) struct Lab {
    // In this order: what holds a link goes before the namespace that the link is in.
    fs: BpfFs,
    pub(crate) folder: TempDir,
    pub(crate) router: NetNs,
    far: NetNs,
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
    pub(crate) fn new() -> Self {
        let (router, far) = (NetNs::new("router").unwrap(), NetNs::new("far").unwrap());
        router.add_veth(TRUNK, &far, "trunk").unwrap();
        router.set_rx_vlan_offload(TRUNK, false).unwrap();
        router.set_up(TRUNK).unwrap();
        far.set_up("trunk").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lab = Self {
            fs: BpfFs::mount().unwrap(),
            folder,
            router,
            far,
        };
        copy(Path::new(&fixtures::sample_site()), &lab.path("site"));
        copy(Path::new(&fixtures::sample_tenants()), &lab.path("tenants"));
        lab.configure("");
        lab
    }

    /// Writes the settings: the folders, and what else is said.
    pub(crate) fn configure(&self, more: &str) {
        // No VLAN devices: not every kernel that these tests run on has them.
        let network = "[network]\nmanage = []\n";
        let text = format!("site = \"site\"\ntenants = \"tenants\"\n{more}{network}");
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
        let mut command = self.router.command(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(words).args(["--interface", TRUNK]);
        command.arg("--pins").arg(self.pins().folder());
        command.arg("--config").arg(self.path("bulkhead.toml"));
        for (option, name) in [
            ("--state", "state.json"),
            ("--store", "store"),
            ("--publish", "published"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn bulkhead(&self, words: &[&str]) -> Said {
        Said::of(&self.command(words).output().unwrap())
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
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.command(words);
        command.stdout(Stdio::null()).stderr(log);
        Running {
            child: command.spawn().unwrap(),
            log: self.path("log"),
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

    /// Takes an endpoint out of the enforced tables, behind bulkhead's back.
    pub(crate) fn lose_an_endpoint(&self) {
        let slot = self.pins().generation().unwrap().slot;
        let outer = MapData::from_pin(self.pins().map("ENDPOINTS")).unwrap();
        let outer: ArrayOfMaps<_, HashMap<MapData, EndpointKey, EndpointEntry>> =
            Map::ArrayOfMaps(outer).try_into().unwrap();
        let mut inner = outer.get(&slot, 0).unwrap();
        let key = inner.keys().next().unwrap().unwrap();
        inner.remove(&key).unwrap();
    }

    /// Replaces the trunk by a new interface of its name.
    pub(crate) fn renew_trunk(&self) {
        self.router.delete_link(TRUNK).unwrap();
        self.router.add_veth(TRUNK, &self.far, "trunk").unwrap();
        self.router.set_rx_vlan_offload(TRUNK, false).unwrap();
        self.router.set_up(TRUNK).unwrap();
        self.far.set_up("trunk").unwrap();
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
        let said = wait_at_most(PATIENCE, words, || {
            self.said().contains(words).then_some(())
        });
        assert!(said.is_ok(), "`{words}` is not in:\n{}", self.said());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Kills it: it can do nothing any more.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> i32 {
        let status = wait_at_most(PATIENCE, "its end", || self.child.try_wait().unwrap());
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

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
