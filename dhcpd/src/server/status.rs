//! What the server does, as a file: `/run/bulkhead/dhcp/status.json`, replaced in one step every few seconds.

use std::collections::BTreeMap;
use std::path::Path;

use netmodel::ids::VlanId;
use serde::{Serialize, Serializer};

use super::engines::Engines;
use crate::counters::Counters;
use crate::table::Usage;

/// Version of the format.
const FORMAT_VERSION: u32 = 1;

/// How long messages took from the socket to the socket, the disk included.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Latency {
    /// The nth counts answers that took less than 2^n microseconds, and not less than half of that. Zeroes at the end are
    /// left out.
    #[serde(serialize_with = "without_last_zeroes")]
    below_power_of_two_us: [u64; 24],
}

fn without_last_zeroes<S: Serializer>(counts: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    let length = counts.iter().rposition(|count| *count > 0);
    let used = counts.get(..length.map_or(0, |last| last + 1));
    serializer.collect_seq(used.unwrap_or_default())
}

/// By the VLAN on which they came in, and of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    all: Latency,
    by_vlan: BTreeMap<VlanId, Latency>,
}

impl Latencies {
    pub(super) fn add(&mut self, vlan: VlanId, micros: u128) {
        self.all.add(micros);
        self.by_vlan.entry(vlan).or_default().add(micros);
    }
}

impl Latency {
    fn add(&mut self, micros: u128) {
        let bits = (u128::BITS - micros.leading_zeros()) as usize;
        let last = self.below_power_of_two_us.len() - 1;
        if let Some(count) = self.below_power_of_two_us.get_mut(bits.min(last)) {
            *count += 1;
        }
    }
}

#[derive(Serialize)]
struct Status<'a> {
    format_version: u32,
    generation: u32,
    /// Number of the last change in the lease file.
    change: u64,
    /// Are leases written down? If not, none is acknowledged.
    durable: bool,
    latency: &'a Latency,
    segments: Vec<Segment<'a>>,
    elsewhere: &'a Counters,
    elsewhere6: &'a Counters,
}

#[derive(Serialize)]
struct Segment<'a> {
    name: &'a str,
    vlan_id: u16,
    /// Of answers to frames of this VLAN, of both families; none so far if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<&'a Latency>,
    #[serde(flatten)]
    ipv4: Option<Family<'a>>,
    /// DHCPv6 and router advertisements.
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<Family<'a>>,
}

#[derive(Serialize)]
struct Family<'a> {
    #[serde(flatten)]
    usage: Usage,
    #[serde(flatten)]
    counters: &'a Counters,
}

fn segments<'a>(engines: &'a Engines, latencies: &'a Latencies) -> Vec<Segment<'a>> {
    let mut segments = BTreeMap::new();
    let latency = |vlan| latencies.by_vlan.get(&vlan);
    for (scope, usage, counters) in engines.four.segments() {
        let segment = Segment {
            name: &scope.name,
            vlan_id: scope.vlan.as_u16(),
            latency: latency(scope.vlan),
            ipv4: Some(Family { usage, counters }),
            ipv6: None,
        };
        segments.insert(scope.vlan, segment);
    }
    for (scope, usage, counters) in engines.six.segments() {
        let segment = segments.entry(scope.vlan).or_insert_with(|| Segment {
            name: &scope.name,
            vlan_id: scope.vlan.as_u16(),
            latency: latency(scope.vlan),
            ipv4: None,
            ipv6: None,
        });
        segment.ipv6 = Some(Family { usage, counters });
    }
    segments.into_values().collect()
}

/// What the status says beside what the engine knows.
pub(super) struct About<'a> {
    pub(super) generation: u32,
    pub(super) change: u64,
    pub(super) durable: bool,
    pub(super) latencies: &'a Latencies,
}

/// Writes the file.
pub(super) fn write(path: &Path, engines: &Engines, about: &About<'_>) -> std::io::Result<()> {
    let status = Status {
        format_version: FORMAT_VERSION,
        generation: about.generation,
        change: about.change,
        durable: about.durable,
        latency: &about.latencies.all,
        segments: segments(engines, about.latencies),
        elsewhere: engines.four.elsewhere(),
        elsewhere6: engines.six.elsewhere(),
    };
    let draft = path.with_extension("new");
    std::fs::write(&draft, serde_json::to_vec(&status)?)?;
    std::fs::rename(&draft, path)
}
