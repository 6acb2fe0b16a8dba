//! What the server does, as a file: `/run/bulkhead/dns/status.json`, replaced in one step every few seconds, in the
//! form of `bulkhead-dhcpd`'s.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::warn;

use crate::metrics::{Counted, Latency, Metrics};
use crate::name::Name;
use crate::server::Shared;
use crate::view::{ViewId, ZoneId};
use crate::world::World;

/// Where the file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/bulkhead/dns/status.json";
/// Version of the format.
const FORMAT_VERSION: u32 = 1;
/// How often it is written.
const EVERY: Duration = Duration::from_secs(2);
/// How often the thread looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(200);

/// The whole file.
#[derive(Serialize)]
struct Status<'a> {
    format_version: u32,
    generation: u32,
    /// Are updates written down? If not, none is done.
    durable: bool,
    latency: Latencies<'a>,
    views: Vec<ViewStatus<'a>>,
    zones: Vec<ZoneStatus<'a>>,
    elsewhere: Counted,
}

#[derive(Serialize)]
struct Latencies<'a> {
    udp: &'a Latency,
    tcp: &'a Latency,
    updates: &'a Latency,
}

/// A tenant's segments, or one segment of the platform.
#[derive(Serialize)]
struct ViewStatus<'a> {
    kind: &'static str,
    name: &'a str,
    zones: usize,
    #[serde(flatten)]
    counted: Counted,
}

/// All zones of one name.
#[derive(Serialize)]
struct ZoneStatus<'a> {
    name: String,
    tenant: Option<&'a str>,
    serial: u32,
    /// Records in each part that differs by view, the most of them.
    records: usize,
    #[serde(flatten)]
    counted: Counted,
}

/// Writes the file until the server stops.
pub(crate) fn run(shared: &Shared, path: &Path) {
    let mut was_written = true;
    let mut due = Instant::now();
    while !shared.is_stopping() {
        if Instant::now() >= due {
            due = Instant::now() + EVERY;
            let durable = !shared.store().is_broken();
            let written = text(&shared.world(), shared.metrics(), durable)
                .and_then(|text| replace(path, &text));
            if let Err(error) = &written
                && was_written
            {
                warn!(path = %path.display(), %error, "the status cannot be written");
            }
            was_written = written.is_ok();
        }
        std::thread::sleep(PATIENCE);
    }
}

fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}

fn text(world: &World, metrics: &Metrics, durable: bool) -> std::io::Result<Vec<u8>> {
    let status = Status {
        format_version: FORMAT_VERSION,
        generation: world.plan.number,
        durable,
        latency: Latencies {
            udp: &metrics.udp,
            tcp: &metrics.tcp,
            updates: &metrics.updates,
        },
        views: views(world),
        zones: zones(world),
        elsewhere: metrics.elsewhere.read(),
    };
    Ok(serde_json::to_vec(&status)?)
}

fn views(world: &World) -> Vec<ViewStatus<'_>> {
    let all = world.plan.views.iter().enumerate();
    all.filter_map(|(index, view)| {
        Some(ViewStatus {
            kind: view.owner.kind(),
            name: view.owner.name(),
            zones: view.origins().count(),
            counted: world.view_counters(ViewId(index))?.read(),
        })
    })
    .collect()
}

fn zones(world: &World) -> Vec<ZoneStatus<'_>> {
    // Zones that no view has answer nobody.
    let seen: HashSet<ZoneId> = world
        .plan
        .views
        .iter()
        .flat_map(|view| view.origins().map(|(_, id)| id))
        .collect();
    let mut all: BTreeMap<&Name, ZoneStatus<'_>> = BTreeMap::new();
    for id in seen {
        let spec = world.plan.zones.get(id.0);
        let (Some(spec), Some(zone)) = (spec, world.zone(id)) else {
            continue;
        };
        let status = all.entry(&spec.origin).or_insert_with(|| ZoneStatus {
            name: spec.origin.to_string(),
            tenant: spec.tenant.as_deref(),
            serial: zone.serial(),
            records: 0,
            counted: world
                .zone_counters(id)
                .map(|counters| counters.read())
                .unwrap_or_default(),
        });
        status.records = status.records.max(zone.len());
    }
    all.into_values().collect()
}
