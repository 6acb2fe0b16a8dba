//! `cargo xtask bench dhcp -- --scale`: a site of 4,094 VLANs with a million leases, beside one of three: how long a start takes,
//! how much memory it needs, and how long one client waits for the acknowledgement of a renewal, the sync of the disk included.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bench::site;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::{self, Entry, Lease, State};
use netmodel::model::DhcpScope;
use netmodel::published::{self, Published};
use serde_json::json;
use testkit::frame::{BROADCAST, Frame, ParsedFrame};
use testkit::raw::RawSocket;

use crate::servers::Lab;

/// VLANs, each of which is a scope: the fewest that a site can have here, and the most that there are.
const SCOPES: [u16; 2] = [3, 4094];
/// The pool of each: 10.VLAN.VLAN.11 to .254, all of it bound.
const POOL: (u8, u8) = (11, 254);
/// Renewals that are timed, one after the other.
const RENEWALS: u16 = 2000;
/// Longest time for a start, and for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the daemon is asked while it starts.
const PERIOD: Duration = Duration::from_millis(20);

/// What was measured at one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    scopes: u16,
    leases: u32,
    /// From the start of the process to the first answer, in milliseconds.
    start: f64,
    /// Processor time until then, in milliseconds: what a machine that does nothing else would need.
    start_cpu: f64,
    /// Resident memory after the start, in MiB.
    memory: f64,
    /// The most that it was until the end, in MiB.
    peak: f64,
    /// Of the renewals, in milliseconds.
    median: f64,
    /// One of a hundred waits longer, in milliseconds.
    p99: f64,
    /// The longest wait, in milliseconds.
    longest: f64,
}

impl Scale {
    /// Name, value and unit of each figure.
    fn figures(&self) -> [(&'static str, f64, &'static str); 7] {
        [
            ("start", self.start, "ms"),
            ("start-cpu", self.start_cpu, "ms"),
            ("memory", self.memory, "MiB"),
            ("memory-peak", self.peak, "MiB"),
            ("renewal-median", self.median, "ms"),
            ("renewal-p99", self.p99, "ms"),
            ("renewal-longest", self.longest, "ms"),
        ]
    }

    fn case(&self) -> String {
        format!("{} scopes, {} leases", self.scopes, self.leases)
    }
}

/// Measures both sizes, the small one first.
pub(crate) fn measure_all(lab: &Lab) -> Result<Vec<Scale>> {
    let each = SCOPES.iter().map(|&scopes| {
        eprintln!("bench dhcp: a site of {scopes} VLANs");
        measure(lab, scopes)
    });
    each.collect()
}

/// The table, each figure with its ratio to that of the small site.
pub(crate) fn table(all: &[Scale]) -> Result<String> {
    let mut text = String::new();
    let (case, figure, value, ratio) = ("case", "figure", "value", "of small");
    writeln!(text, "{case:<28} {figure:<16} {value:>14} {ratio:>8}")?;
    for (scale, (name, value, unit), baseline) in lines(all) {
        let (case, value, ratio) = (
            scale.case(),
            format!("{value:.2} {unit}"),
            format!("{:.2}", value / baseline),
        );
        writeln!(text, "{case:<28} {name:<16} {value:>14} {ratio:>8}")?;
    }
    Ok(text)
}

/// The same for programs.
pub(crate) fn rows(all: &[Scale]) -> serde_json::Value {
    let rows = lines(all).map(|(scale, (name, value, unit), baseline)| {
        json!({
            "bench": "dhcp", "case": format!("{}-scopes/{}-leases", scale.scopes, scale.leases),
            "mode": "synced", "metric": name, "value": value, "unit": unit,
            "baseline": baseline, "ratio": value / baseline,
        })
    });
    rows.collect()
}

/// Each figure, with that of the small site.
fn lines(all: &[Scale]) -> impl Iterator<Item = (&Scale, (&'static str, f64, &'static str), f64)> {
    let small = all.first();
    all.iter().flat_map(move |scale| {
        let baselines = small.unwrap_or(scale).figures().map(|(_, value, _)| value);
        let figures = scale.figures().into_iter().zip(baselines);
        figures.map(move |(figure, baseline)| (scale, figure, baseline))
    })
}

fn mac(vlan: u16, last: u8) -> [u8; 6] {
    let [a, b] = vlan.to_be_bytes();
    [2, 1, 0, a, b, last]
}

fn measure(lab: &Lab, scopes: u16) -> Result<Scale> {
    let folder = lab.folder()?;
    write_generation(folder.path(), scopes)?;
    let count = write_leases(&folder.path().join("state"), scopes)?;
    // The file is in the cache after this, as after a restart of the daemon alone.
    fs::read(folder.path().join("state").join(leases::FILE))?;
    let raw = lab.client()?;
    let begun = Instant::now();
    let running = lab.start_trunk(folder)?;
    while renew(&raw, (scopes, POOL.0), PERIOD)?.is_none() {
        let is_late = begun.elapsed() > PATIENCE;
        ensure!(!is_late, "the daemon does not answer: {}", running.log());
    }
    let (start, start_cpu) = (begun.elapsed(), running.processor_time()?);
    let (memory, _) = running.memory()?;
    let mut times = Vec::new();
    for number in 0..RENEWALS {
        let vlan = number.wrapping_mul(7919) % scopes + 1;
        let last = POOL.0 + u8::try_from(number % u16::from(POOL.1 - POOL.0))?;
        let time = renew(&raw, (vlan, last), PATIENCE)?;
        times.push(time.context("a renewal was not answered")?);
    }
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last());
    let millis = |time: &Duration| time.as_secs_f64() * 1000.0;
    let [median, p99, longest] = [50, 99, 100].map(|part| at(part).map_or(f64::NAN, millis));
    let (_, peak) = running.memory()?;
    Ok(Scale {
        scopes,
        leases: count,
        start: millis(&start),
        start_cpu: millis(&start_cpu),
        memory: mebibytes(memory)?,
        peak: mebibytes(peak)?,
        median,
        p99,
        longest,
    })
}

fn mebibytes(octets: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(octets >> 10)?) / 1024.0)
}

fn write_generation(folder: &Path, scopes: u16) -> Result<()> {
    let mut model = site::model(scopes, 0)?;
    for segment in &mut model.segments {
        let vlan = segment.vlan_id.as_u16();
        segment.dhcp = Some(DhcpScope {
            pool: Some((site::ipv4(vlan, POOL.0), site::ipv4(vlan, POOL.1))),
            dns_servers: vec![],
        });
    }
    let published = Published {
        number: 1,
        inventory: "bench".to_owned(),
        model,
    };
    published::write(&folder.join("generation"), &published.to_bytes(), 0o640)?;
    // One client asks again and again until the daemon is there.
    fs::write(folder.join("dhcpd.toml"), "messages_per_mac = 0\n")?;
    Ok(())
}

/// Writes a lease file with every address of every pool bound. Returns how many.
fn write_leases(state: &Path, scopes: u16) -> Result<u32> {
    fs::create_dir(state)?;
    let mut file = BufWriter::new(File::create(state.join(leases::FILE))?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let (mut text, mut number) = (leases::head_line(0), 0);
    for vlan in 1..=scopes {
        for last in POOL.0..=POOL.1 {
            number += 1;
            let mac = mac(vlan, last);
            let entry = Entry {
                number,
                vlan: VlanId::new(vlan).context("a VLAN id")?,
                address: site::ipv4(vlan, last).into(),
                lease: Lease {
                    mac: MacAddr(mac),
                    state: State::Bound,
                    since: now.as_secs(),
                    until: now.as_secs() + 3600,
                    client_id: [&[1], &mac[..]].concat().into(),
                    hostname: format!("host-{number}").into(),
                },
            };
            leases::push_line(&mut text, &entry);
        }
        file.write_all(text.as_bytes())?;
        text.clear();
    }
    file.flush()?;
    Ok(u32::try_from(number)?)
}

/// Renews one lease; returns how long the acknowledgement took, if it came in time.
fn renew(raw: &RawSocket, (vlan, last): (u16, u8), patience: Duration) -> Result<Option<Duration>> {
    let (mac, address) = (mac(vlan, last), site::ipv4(vlan, last));
    let frame = Frame::new(mac, BROADCAST)
        .vlan(vlan)
        .ipv4(address, Ipv4Addr::BROADCAST)
        .udp(68, 67)
        .payload(&request(mac, address))
        .build();
    raw.drain()?;
    let begun = Instant::now();
    raw.send(&frame)?;
    let answer = raw.receive_where(begun + patience, |frame| {
        let parsed = ParsedFrame::parse(frame)?;
        // Behind IPv4 and UDP: the type of the message is the first option.
        let kind = frame.get(parsed.packet_at + 28 + 240..)?;
        (parsed.destination == mac && kind.starts_with(&[53, 1, 5])).then_some(())
    })?;
    Ok(answer.map(|()| begun.elapsed()))
}

/// DHCPREQUEST of a client that renews.
fn request(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[12..16].copy_from_slice(&address.octets());
    message[28..34].copy_from_slice(&mac);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, 3, 61, 7, 1]);
    message.extend(mac);
    message.extend([55, 5, 1, 3, 6, 15, 51, 255]);
    message
}
