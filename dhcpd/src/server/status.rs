//! What the server does, as a file: `/run/bulkhead/dhcpd.json`, replaced in one step every few seconds.

use std::path::Path;

use serde::Serialize;

use crate::Engine;
use crate::counters::Counters;
use crate::table::Usage;

/// Version of the format.
const FORMAT_VERSION: u32 = 1;

/// How long messages took from the socket to the socket, the disk included.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Latency {
    /// The nth counts answers that took less than 2^n microseconds, and not less than half of that.
    below_power_of_two_us: [u64; 24],
}

impl Latency {
    pub(super) fn add(&mut self, micros: u128, answers: u64) {
        let bits = (u128::BITS - micros.leading_zeros()) as usize;
        let last = self.below_power_of_two_us.len() - 1;
        if let Some(count) = self.below_power_of_two_us.get_mut(bits.min(last)) {
            *count += answers;
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
}

#[derive(Serialize)]
struct Segment<'a> {
    name: &'a str,
    vlan_id: u16,
    #[serde(flatten)]
    usage: Usage,
    #[serde(flatten)]
    counters: &'a Counters,
}

/// What the status says beside what the engine knows.
pub(super) struct About<'a> {
    pub(super) generation: u32,
    pub(super) change: u64,
    pub(super) durable: bool,
    pub(super) latency: &'a Latency,
}

/// Writes the file.
pub(super) fn write(path: &Path, engine: &Engine, about: &About<'_>) -> std::io::Result<()> {
    let segments = engine.segments().map(|(scope, usage, counters)| Segment {
        name: &scope.name,
        vlan_id: scope.vlan.as_u16(),
        usage,
        counters,
    });
    let status = Status {
        format_version: FORMAT_VERSION,
        generation: about.generation,
        change: about.change,
        durable: about.durable,
        latency: about.latency,
        segments: segments.collect(),
        elsewhere: engine.elsewhere(),
    };
    let draft = path.with_extension("new");
    std::fs::write(&draft, serde_json::to_vec(&status)?)?;
    std::fs::rename(&draft, path)
}
