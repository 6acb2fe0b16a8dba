//! `cargo xtask bench apply`: what a plan and an apply cost, and whether they depend on what does not change.
//!
//! Everything is real but the trunk, which is a veth pair in a network namespace of its own: inventory files on a disk, the
//! eBPF programs and maps of this kernel, the store with its syncs. Links and addresses are not managed, since not every
//! kernel has VLAN devices: `manage = []`.
//!
//! For each number of tenants: the first plan and apply, then one tenant's edit, then a hundred tenants', each by the process
//! that did the one before, as `bulkhead run --watch` does. Wall-clock time.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use dataplane_user::controller::{ControlOptions, Controller, Desired, How, Recall, Review};
use dataplane_user::network::{Manage, NetworkSettings};
use dataplane_user::run::{Place, RunError, block_on};
use dataplane_user::store::Cause;
use mimalloc::MiMalloc;
use netmodel::Options;
use serde_json::json;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::netns::NetNs;

/// As in `bulkhead`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const TRUNK: &str = "eth0";

/// What is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// A list of `{bench, case, mode, metric, value, unit, baseline, ratio}`.
    Json,
}

/// Measures plan and apply.
#[derive(Debug, Parser)]
struct Args {
    /// What is printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Numbers of tenants.
    #[arg(long, value_delimiter = ',', default_values_t = [100_u16, 1000, 4093])]
    tenants: Vec<u16>,
    /// Hosts of each tenant.
    #[arg(long, default_value_t = 16)]
    hosts: u8,
}

/// One change, measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    tenants: u16,
    changed: u16,
    load: Duration,
    prepare: Duration,
    review: Duration,
    apply: Duration,
    /// Most memory that the process ever had, MiB.
    memory: u64,
}

impl Measured {
    fn plan(&self) -> Duration {
        self.load + self.prepare + self.review
    }
}

fn main() -> ExitCode {
    match measure_all(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench apply: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(args: &Args) -> Result<()> {
    let mut all = Vec::new();
    for &tenants in &args.tenants {
        ensure!((1..=4093).contains(&tenants), "1 to 4093 tenants");
        eprintln!(
            "bench apply: {tenants} tenants with {} hosts each",
            args.hosts
        );
        all.extend(Site::new(tenants, args.hosts)?.measure()?);
    }
    #[expect(clippy::print_stdout, reason = "the result")]
    match args.format {
        Format::Text => print!("{}", table(&all)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&rows(&all))?),
    }
    Ok(())
}

/// A router, and an inventory of some size.
struct Site {
    tenants: u16,
    hosts: u8,
    // In this order: what holds a link goes before the namespace that the link is in.
    fs: BpfFs,
    folder: TempDir,
    router: NetNs,
    _far: NetNs,
}

impl Site {
    fn new(tenants: u16, hosts: u8) -> Result<Self> {
        let (router, far) = (NetNs::new("router")?, NetNs::new("far")?);
        router.add_veth(TRUNK, &far, "trunk")?;
        router.set_rx_vlan_offload(TRUNK, false)?;
        router.set_up(TRUNK)?;
        let site = Self {
            tenants,
            hosts,
            fs: BpfFs::mount()?,
            folder: tempfile::tempdir()?,
            router,
            _far: far,
        };
        site.write_platform()?;
        (0..tenants).try_for_each(|tenant| site.write_tenant(tenant, 22))?;
        Ok(site)
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        Ok(fs::write(path, text)?)
    }

    fn write_platform(&self) -> Result<()> {
        let mut registry = String::from(
            "tenant_defaults: { internet: nat, trusted_operators: [management] }\ntenants:\n",
        );
        for tenant in 0..self.tenants {
            let net = net(tenant);
            let vlan_id = vlan_id(tenant);
            writeln!(
                registry,
                "  t{vlan_id:04}: {{ vlan_id: {vlan_id}, subnet: {net}.0/24 }}"
            )?;
        }
        self.write("site/group_vars/all/tenants.yml", &registry)?;
        let main =
            "site_name: east\nsite_domain: lab.example\nfirewall_internet_zones: [tenants]\n";
        self.write("site/group_vars/all/main.yml", main)?;
        let segments = "site_segments:\n  management: { vlan_id: 1, subnet: 192.168.1.0/24, dhcp_enabled: false }\n";
        self.write("site/group_vars/all/segments.yml", segments)?;
        let router = "router_parent: eth0\nenv: { interfaces: { eth0: { ip: 192.168.1.1, segment: management } } }\n";
        self.write("site/host_vars/rt01.yml", router)?;
        let hosts = "all: { children: { routers: { hosts: { rt01: {} } } } }\n";
        self.write("site/hosts.yml", hosts)
    }

    /// Writes a tenant's files. Its hosts may reach the first of them on `port`.
    fn write_tenant(&self, tenant: u16, port: u16) -> Result<()> {
        let (net, [high, low]) = (net(tenant), vlan_id(tenant).to_be_bytes());
        let name = format!("t{:04}", vlan_id(tenant));
        let mut hosts = format!("all:\n  children:\n    {name}:\n      hosts:\n");
        for host in 0..self.hosts {
            let last = 10 + host;
            writeln!(
                hosts,
                "        {name}-h{host:02}:\n          infrastructure: {{ form: vm, interfaces: {{ eth0: {{ mac: \
                 \"02:00:{host:02x}:00:{high:02x}:{low:02x}\" }} }} }}\n          env: {{ interfaces: {{ eth0: {{ ip: {net}.{last}, \
                 dns: {{ host_a_record: true, dhcp_reservation: true }} }} }} }}"
            )?;
        }
        self.write(&format!("tenants/{name}/hosts.yml"), &hosts)?;
        let rules = format!(
            "tenant_name: {name}\ntenant_firewall_rules:\n  - {{ name: ssh, from: {{ zone: management }}, to: {{ host: {name}-h00, \
             ports: [tcp/{port}] }}, action: deny }}\n"
        );
        self.write(
            &format!("tenants/{name}/group_vars/{name}/network.yml"),
            &rules,
        )
    }

    fn measure(&self) -> Result<Vec<Measured>> {
        let mut place = Place::new(TRUNK, Some(&self.fs.path().join("bulkhead")), None);
        let at = |name: &str| self.folder.path().join(name);
        place.state = at("state.json");
        place.store = at("store");
        place.published = at("published");
        let mut options = ControlOptions::new(place);
        options.network = NetworkSettings {
            manage: Manage::NOTHING,
            native_xdp: false,
        };
        let mut controller = Controller::new(options);
        let mut measured = vec![self.once(&mut controller, self.tenants)?];
        for (round, changed) in (0_u16..).zip([1, 1, 1, 100]) {
            let changed = changed.min(self.tenants);
            for tenant in 0..changed {
                self.write_tenant(tenant, 1000 + round)?;
            }
            measured.push(self.once(&mut controller, changed)?);
        }
        Ok(measured)
    }

    /// Plans and applies what the files say.
    fn once(&self, controller: &mut Controller, changed: u16) -> Result<Measured> {
        let clock = Instant::now();
        // As `bulkhead plan` does.
        controller.remember(Recall::start(&controller.place().store));
        let site = self.folder.path().join("site");
        let tenants = self.folder.path().join("tenants");
        let loaded = netmodel::load(&Options::new(site, Some(tenants)));
        let findings = format!("{:?}", loaded.findings.first());
        let desired = Desired {
            model: loaded.model.context(findings)?,
            host: None,
            inventory: loaded.sources.digest(),
        };
        let load = clock.elapsed();
        let measured = self.router.run(|| {
            block_on(async {
                let clock = Instant::now();
                let prepared = controller.prepare(desired).await?;
                let prepare = clock.elapsed();
                let clock = Instant::now();
                let review = Review::new(&prepared, Some(0));
                let plan = review.to_text(dataplane_user::cli::Paint::PLAIN);
                let review_time = clock.elapsed();
                let clock = Instant::now();
                let how = How {
                    cause: Cause::Apply,
                    confirm_within: None,
                    summary: review.summary(),
                    plan,
                };
                controller.apply(&prepared, how).await?;
                Ok::<_, RunError>(Measured {
                    tenants: self.tenants,
                    changed,
                    load,
                    prepare,
                    review: review_time,
                    apply: clock.elapsed(),
                    memory: most_memory(),
                })
            })
        });
        Ok(measured?)
    }
}

fn vlan_id(tenant: u16) -> u16 {
    tenant + 2
}

fn net(tenant: u16) -> String {
    let [high, low] = vlan_id(tenant).to_be_bytes();
    format!("10.{high}.{low}")
}

/// `VmHWM` of this process, MiB.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) / 1024
}

fn table(all: &[Measured]) -> String {
    let mut text = String::from(
        "tenants  changed    load  prepare  review = plan, ms    apply, ms   ms per changed   memory, MiB\n",
    );
    for row in all {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let _ = writeln!(
            text,
            "{:>7}  {:>7}  {:>6.0}  {:>7.0}  {:>6.0} = {:>8.0}    {:>9.1}   {:>14.2}   {:>11}",
            row.tenants,
            row.changed,
            ms(row.load),
            ms(row.prepare),
            ms(row.review),
            ms(row.plan()),
            ms(row.apply),
            ms(row.apply) / f64::from(row.changed),
            row.memory
        );
    }
    for (tenants, each) in further(all) {
        let _ = writeln!(
            text,
            "{tenants:>7} tenants: each further change adds {:.3} ms to an apply",
            each.as_secs_f64() * 1e3
        );
    }
    text
}

/// By the size of the site: what a change adds to an apply that has others already. The rest of an apply is there for any change: one
/// file is written and synced, and the tables are compared, and both grow with the site.
fn further(all: &[Measured]) -> Vec<(u16, Duration)> {
    let sites: BTreeSet<u16> = all.iter().map(|row| row.tenants).collect();
    let each = sites.into_iter().filter_map(|tenants| {
        let of_site = || all.iter().filter(move |row| row.tenants == tenants);
        let mut ones: Vec<_> = of_site().filter(|row| row.changed == 1).collect();
        ones.sort_by_key(|row| row.apply);
        let one = ones.get(ones.len() / 2)?;
        // The first row is the first apply.
        let many = of_site().next_back().filter(|row| row.changed > 1)?;
        let more = many.apply.saturating_sub(one.apply);
        Some((tenants, more / u32::from(many.changed - one.changed)))
    });
    each.collect()
}

/// The baseline of a case is the same change on the smallest site.
fn rows(all: &[Measured]) -> serde_json::Value {
    let mut rows = Vec::new();
    for row in all {
        let base = all
            .iter()
            .find(|other| other.changed == row.changed)
            .unwrap_or(row);
        for (metric, value, baseline) in [
            ("plan", row.plan(), base.plan()),
            ("apply", row.apply, base.apply),
        ] {
            rows.push(json!({
                "bench": "apply",
                "case": format!("{}-tenants/{}-changed", row.tenants, row.changed),
                "mode": "wall",
                "metric": metric,
                "value": value.as_secs_f64() * 1e9,
                "unit": "ns",
                "baseline": baseline.as_secs_f64() * 1e9,
                "ratio": value.as_secs_f64() / baseline.as_secs_f64(),
            }));
        }
    }
    let all = further(all);
    for (tenants, each) in &all {
        let base = all.first().map_or(*each, |(_, each)| *each);
        rows.push(json!({
            "bench": "apply",
            "case": format!("{tenants}-tenants/each-further-change"),
            "mode": "wall",
            "metric": "apply",
            "value": each.as_secs_f64() * 1e9,
            "unit": "ns",
            "baseline": base.as_secs_f64() * 1e9,
            "ratio": each.as_secs_f64() / base.as_secs_f64(),
        }));
    }
    rows.into()
}
