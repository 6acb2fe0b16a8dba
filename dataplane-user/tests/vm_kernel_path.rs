//! The kernel's own way: the real `bulkhead run` on a trunk with real VLAN devices, hosts behind a real
//! VLAN-filtering bridge. What bulkhead lets through and cannot forward itself (nobody told it the
//! receiver's MAC) is forwarded by the kernel, from one VLAN device to another.
//!
//! Needs root and a kernel with VLAN devices, so it runs in the virtual machines.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_user::network::device_name;
use serde_json::Value;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::netns::NetNs;
use testkit::site::{Site, SiteSpec, Wiring};
use testkit::wait::{PATIENCE, wait_for};
use testkit::{fixtures, lab};

const BULKHEAD: &str = env!("CARGO_BIN_EXE_bulkhead");
/// The service that the sample grants to tenants and to its trusted zone.
const PORT: u16 = 3100;
/// Where that service is; the inventory names its address and no MAC.
const LOGS: &str = "logs";
/// A machine of the trusted zone that the inventory does not list.
const WORKSTATION: &str = "workstation";
/// A machine of the guests, who may not reach the service.
const VISITOR: &str = "visitor";
/// Questions on one connection, and as many answers; each is a packet at least.
const EXCHANGES: u64 = 10;
/// A tenant's machine, whose MAC the inventory knows.
const TENANT: &str = "vintronics-web01";

/// Frames counted from each VLAN, by outcome.
type Counts = BTreeMap<(u64, String), u64>;

/// Addresses of the service.
struct Service {
    v4: IpAddr,
    v6: IpAddr,
}

/// The sample site with bulkhead on its trunk.
struct Lab {
    // In this order: the controller, then what it pinned, then the namespaces.
    controller: Child,
    _store: TempDir,
    fs: BpfFs,
    site: Site,
    spec: SiteSpec,
}

impl Lab {
    /// Builds the site and lets bulkhead enforce on it. `hides_tags`: does the trunk's NIC take tags out
    /// of the frames?
    fn build(mode: &str, hides_tags: bool) -> Result<Self> {
        let spec = lab::site(&lab::load(&fixtures::sample())?)?;
        let site = Site::build(&spec, Wiring::EmptyRouter)?;
        site.router.set_rx_vlan_offload(&spec.trunk, hides_tags)?;
        let fs = BpfFs::mount()?;
        let store = tempfile::tempdir()?;
        let config = store.path().join("bulkhead.toml");
        std::fs::write(&config, "")?;
        let at = |verb: &str| {
            let mut command = command(&site.router, &fs, verb);
            command
                .args(["--mode", mode])
                .arg("--store")
                .arg(store.path());
            command.arg("--config").arg(&config);
            command.arg("--publish").arg(store.path().join("published"));
            command.arg("--site").arg(fixtures::sample_site());
            command.arg("--tenants").arg(fixtures::sample_tenants());
            command
        };
        let applied = at("apply").arg("--yes").output()?;
        let said = String::from_utf8_lossy(&applied.stderr);
        ensure!(applied.status.success(), "bulkhead apply: {said}");
        let controller = at("run").stdout(Stdio::null()).spawn()?;
        let mut lab = Self {
            controller,
            _store: store,
            fs,
            site,
            spec,
        };
        wait_for("bulkhead to enforce", || match lab.controller.try_wait() {
            Ok(None) => lab.status().is_ok().then_some(Ok(())),
            Ok(Some(status)) => Some(Err(anyhow::anyhow!("bulkhead run ended: {status}"))),
            Err(error) => Some(Err(error.into())),
        })??;
        serve(lab.site.host(LOGS)?)?;
        Ok(lab)
    }

    fn status(&self) -> Result<Value> {
        let mut status = command(&self.site.router, &self.fs, "status");
        status.args(["--format", "json", "--interface", &self.spec.trunk]);
        let output = status.output().context("starting bulkhead status")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "bulkhead status: {errors}");
        serde_json::from_slice(&output.stdout).context("reading what bulkhead status says")
    }

    fn counts(&self) -> Result<Counts> {
        let status = self.status()?;
        let rows = status["counters"].as_array().context("no counters")?;
        let from = rows.iter().filter(|row| row["direction"] == "from_tenant");
        from.map(|row| {
            let vlan = row["vlan_id"].as_u64().context("no VLAN id")?;
            let outcome = row["outcome"].as_str().context("no outcome")?;
            let packets = row["packets"].as_u64().context("no number")?;
            Ok(((vlan, outcome.to_owned()), packets))
        })
        .collect()
    }

    fn vlan(&self, host: &str) -> Result<u64> {
        let found = self.spec.hosts.iter().find(|spec| spec.name == host);
        Ok(found.context("no such host")?.vlan.into())
    }

    fn service(&self) -> Result<Service> {
        let found = self.spec.hosts.iter().find(|spec| spec.name == LOGS);
        let addresses = &found.context("no such host")?.addresses;
        let find = |is_wanted: fn(&IpAddr) -> bool| {
            let mut addresses = addresses.iter().map(|(address, _)| *address);
            addresses.find(is_wanted).context("no such address")
        };
        Ok(Service {
            v4: find(IpAddr::is_ipv4)?,
            v6: find(IpAddr::is_ipv6)?,
        })
    }

    /// Frames that a VLAN device of the router has received and sent.
    fn device_frames(&self, vlan: u64) -> Result<(u64, u64)> {
        let text = self
            .site
            .router
            .run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
        let device = device_name(&self.spec.trunk, u16::try_from(vlan)?);
        let line = text.lines().find_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            (name.trim() == device).then_some(numbers)
        });
        let line = line.with_context(|| format!("the router has no {device}"))?;
        let numbers: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| -> Result<u64> {
            let number = numbers.get(at).context("too few numbers")?;
            Ok(number.parse()?)
        };
        Ok((number(1)?, number(9)?))
    }

    /// Kills the controller; what it attached stays.
    fn kill(&mut self) -> Result<()> {
        self.controller.kill()?;
        self.controller.wait()?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

fn command(router: &NetNs, fs: &BpfFs, verb: &str) -> Command {
    let mut command = router.command(BULKHEAD);
    command.arg(verb);
    command.arg("--pins").arg(fs.path().join("bulkhead"));
    command
}

/// Sends back whatever comes, until the process ends.
fn serve(host: &NetNs) -> Result<()> {
    let listener = host.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    Ok(())
}

fn connect(from: &NetNs, to: IpAddr) -> Result<TcpStream> {
    let to = SocketAddr::new(to, PORT);
    let stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE));
    let stream = stream.with_context(|| format!("connecting {} to {to}", from.name()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Questions and answers, one after the other.
fn talk(stream: &mut TcpStream) -> Result<()> {
    for _ in 0..EXCHANGES {
        let (question, mut answer) = (b'?', [0]);
        stream.write_all(&[question])?;
        stream.read_exact(&mut answer)?;
        ensure!(answer == [question], "another answer than the question");
    }
    Ok(())
}

fn moved(after: &Counts, before: &Counts) -> Counts {
    let grown = after.iter().filter_map(|(key, count)| {
        let more = count - before.get(key).copied().unwrap_or(0);
        (more > 0).then(|| (key.clone(), more))
    });
    grown.collect()
}

/// Both ends are unknown to the inventory, so every packet of the connection is the kernel's to forward.
/// (In IPv6 that holds for every machine of the sample: it binds IPv4 addresses only.)
fn kernel_forwards_between_vlan_devices(lab: &Lab) -> Result<()> {
    let service = lab.service()?;
    kernel_forwards(lab, WORKSTATION, service.v4)?;
    kernel_forwards(lab, TENANT, service.v6)
}

fn kernel_forwards(lab: &Lab, client: &str, address: IpAddr) -> Result<()> {
    let vlans = [lab.vlan(client)?, lab.vlan(LOGS)?];
    let devices = || vlans.map(|vlan| lab.device_frames(vlan));
    let (before, counted) = (devices(), lab.counts()?);
    talk(&mut connect(lab.site.host(client)?, address)?)?;
    let moved = moved(&lab.counts()?, &counted);
    for ((vlan, before), after) in vlans.into_iter().zip(before).zip(devices()) {
        let (before, after) = (before?, after?);
        let (received, sent) = (after.0 - before.0, after.1 - before.1);
        ensure!(
            received >= EXCHANGES && sent >= EXCHANGES,
            "the device of VLAN {vlan} received {received} frames and sent {sent}"
        );
        let frames = |outcome: &str| moved.get(&(vlan, outcome.to_owned())).copied();
        let to_kernel = frames("to-kernel").unwrap_or(0);
        ensure!(to_kernel >= EXCHANGES, "VLAN {vlan}: {moved:?}");
        ensure!(frames("forwarded").is_none(), "VLAN {vlan}: {moved:?}");
    }
    Ok(())
}

/// There by the kernel, since nobody knows the server's MAC; back by the program, which knows the client's.
fn both_ways_of_forwarding_carry_one_connection(lab: &Lab) -> Result<()> {
    let counted = lab.counts()?;
    talk(&mut connect(lab.site.host(TENANT)?, lab.service()?.v4)?)?;
    let moved = moved(&lab.counts()?, &counted);
    for (vlan, outcome) in [
        (lab.vlan(TENANT)?, "to-kernel"),
        (lab.vlan(LOGS)?, "forwarded"),
    ] {
        let frames = moved.get(&(vlan, outcome.to_owned())).copied();
        ensure!(
            frames.unwrap_or(0) >= EXCHANGES,
            "{frames:?} {outcome} from VLAN {vlan} of {moved:?}"
        );
    }
    Ok(())
}

/// What is dropped does not get to the kernel, which would forward it.
fn denied_connection_is_dropped_before_the_kernel(lab: &Lab) -> Result<()> {
    let vlan = lab.vlan(VISITOR)?;
    let to = SocketAddr::new(lab.service()?.v4, PORT);
    let counted = lab.counts()?;
    let visitor = lab.site.host(VISITOR)?;
    let answer = visitor.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)));
    ensure!(answer.is_err(), "the visitor reached {to}");
    let moved = moved(&lab.counts()?, &counted);
    let dropped = moved.get(&(vlan, "no-policy".to_owned()));
    ensure!(dropped.is_some(), "no drop from VLAN {vlan}: {moved:?}");
    Ok(())
}

fn kernel_path(mode: &str) -> Result<()> {
    let mut lab = Lab::build(mode, false)?;
    let status = lab.status()?;
    ensure!(status["mode"] == mode, "{status}");
    kernel_forwards_between_vlan_devices(&lab)?;
    both_ways_of_forwarding_carry_one_connection(&lab)?;
    denied_connection_is_dropped_before_the_kernel(&lab)?;
    // Open connections and new ones go on without the controller, and so do drops.
    let mut open = connect(lab.site.host(WORKSTATION)?, lab.service()?.v4)?;
    talk(&mut open)?;
    lab.kill()?;
    talk(&mut open)?;
    kernel_forwards_between_vlan_devices(&lab)?;
    denied_connection_is_dropped_before_the_kernel(&lab)
}

#[test]
fn traffic_that_the_program_cannot_forward_takes_the_vlan_devices_native_xdp() {
    kernel_path("xdp-native").unwrap();
}

#[test]
fn traffic_that_the_program_cannot_forward_takes_the_vlan_devices_tcx() {
    kernel_path("tcx").unwrap();
}

#[test]
fn traffic_that_the_program_cannot_forward_takes_the_vlan_devices_clsact() {
    kernel_path("clsact").unwrap();
}

/// Whether this kernel has TCX: Linux 6.6 and newer.
fn kernel_has_tcx() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        bail!("the kernel is called {release}")
    };
    Ok((major, minor) >= (6, 6))
}

/// Where the NIC hides tags from XDP, the program is attached behind it, in the best mode that the
/// kernel has, and finds the tags where they are.
#[test]
fn behind_a_nic_that_hides_tags_the_best_mode_of_tc_is_chosen() {
    let lab = Lab::build("auto", true).unwrap();
    let (best, why) = if kernel_has_tcx().unwrap() {
        ("tcx", "rxvlan")
    } else {
        ("clsact", "this kernel has no TCX")
    };
    let status = lab.status().unwrap();
    assert_eq!(status["mode"], best, "{status}");
    assert!(status["why"].to_string().contains(why), "{status}");
    assert_eq!(status["rx_vlan_offload"], true, "{status}");
    kernel_forwards_between_vlan_devices(&lab).unwrap();
    both_ways_of_forwarding_carry_one_connection(&lab).unwrap();
    denied_connection_is_dropped_before_the_kernel(&lab).unwrap();
}
