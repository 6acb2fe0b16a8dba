//! `bulkhead leases`: what `bulkhead-dhcpd` has given to whom, also while it runs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netmodel::ids::VlanId;
use netmodel::leases::{DEFAULT_PATH, Entry, Follow, Lease, State, Step};
use serde_json::json;

use super::args::{Common, Format, LeasesArgs};
use super::history::utc;
use super::report::{CliError, Report, YES};

/// How often `--watch` looks.
const PERIOD: Duration = Duration::from_millis(200);

/// Prints the leases, or each change of one as it happens.
pub(super) fn run(common: &Common, args: &LeasesArgs) -> Result<Report, CliError> {
    let path = args.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    if args.watch {
        return watch(path, common.format);
    }
    let mut follow = Follow::open(path, 0)?;
    let mut leases = BTreeMap::new();
    while let Some(step) = follow.next()? {
        match step {
            Step::Restart => leases.clear(),
            Step::Entry(entry) => drop(leases.insert((entry.vlan, entry.address), entry.lease)),
        }
    }
    if !args.all {
        leases.retain(|_, lease| lease.state == State::Bound && lease.until > now());
    }
    Ok(match common.format {
        Format::Json => Report::json(&to_json(&leases), YES),
        Format::Text => Report::text(to_text(&leases), YES),
    })
}

/// By VLAN id and address.
type Leases = BTreeMap<(VlanId, IpAddr), Lease>;

fn to_json(leases: &Leases) -> serde_json::Value {
    let rows = leases.iter().map(|((vlan, address), lease)| {
        let mut row = json!(lease);
        row["vlan_id"] = json!(vlan);
        row["address"] = json!(address);
        row
    });
    json!({ "format_version": 1, "leases": rows.collect::<Vec<_>>() })
}

fn to_text(leases: &Leases) -> String {
    if leases.is_empty() {
        return "no leases\n".to_owned();
    }
    let mut text = head();
    for ((vlan, address), lease) in leases {
        text.push_str(&line(*vlan, *address, lease));
    }
    text
}

fn head() -> String {
    let (vlan, address, mac, state, until) = ("VLAN", "ADDRESS", "MAC", "STATE", "UNTIL");
    format!("{vlan:>4}  {address:<15}  {mac:<17}  {state:<8}  {until:<20}  NAME\n")
}

fn line(vlan: VlanId, address: IpAddr, lease: &Lease) -> String {
    // Padding is for text, and these are none.
    let (vlan, address, mac) = (vlan.to_string(), address.to_string(), lease.mac.to_string());
    let (state, until, name) = (lease.state, utc(lease.until), &lease.hostname);
    let line = format!("{vlan:>4}  {address:<15}  {mac:<17}  {state:<8}  {until:<20}  {name}");
    format!("{}\n", line.trim_end())
}

/// Ends when the reader goes away, or with the process.
fn watch(path: &Path, format: Format) -> Result<Report, CliError> {
    let mut follow = Follow::open(path, 0)?;
    let mut out = std::io::stdout().lock();
    if format == Format::Text && out.write_all(head().as_bytes()).is_err() {
        return Ok(Report::text("", YES));
    }
    loop {
        let Some(step) = follow.next()? else {
            std::thread::sleep(PERIOD);
            continue;
        };
        // A line of a summary says again what is so.
        let Step::Entry(entry) = step else { continue };
        if out.write_all(shown(&entry, format).as_bytes()).is_err() {
            return Ok(Report::text("", YES));
        }
    }
}

fn shown(entry: &Entry, format: Format) -> String {
    match format {
        Format::Text => line(entry.vlan, entry.address, &entry.lease),
        Format::Json => format!("{}\n", json!(entry)),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
