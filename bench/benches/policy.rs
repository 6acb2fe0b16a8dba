//! The pure policy core on the host: `from_trunk`, as the programs call it.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up must fail"
)]

use std::time::Duration;

use bench::frames::{Probe, ROUTER};
use bench::site::{self, FIRST_TENANT};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dataplane_common::host::{HostTables, Slice};
use dataplane_common::policy::Report;
use dataplane_common::reason::DropReason;
use dataplane_user::compile::{RouterFacts, compile};
use dataplane_user::loader::Trunk;
use netmodel::CONNECTIONS;
use netmodel::ids::MacAddr;

fn judge(tables: &HostTables, probe: &Probe) -> Result<(), DropReason> {
    let frame = Slice {
        bytes: &probe.bytes,
        tag: None,
    };
    tables.judge(&frame, &mut Report::default())
}

fn tables(segments: u16) -> HostTables {
    let facts = RouterFacts {
        mac: Some(MacAddr(ROUTER)),
        ..RouterFacts::default()
    };
    let tables = compile(&site::model(segments, 100).unwrap(), &facts).unwrap();
    let trunk = Trunk {
        ifindex: 1,
        mac: ROUTER,
    };
    tables.to_host(trunk.generation(&tables, 1, 250, CONNECTIONS))
}

/// A frame, and what becomes of it.
type Judged = (&'static str, Probe, Result<(), DropReason>);

fn cases(is_ipv4: bool) -> [Judged; 3] {
    let spoofed = Err(DropReason::SpoofedSource);
    let denied = Err(DropReason::PlatformAddress);
    [
        (
            "established",
            Probe::operated(FIRST_TENANT, is_ipv4, false),
            Ok(()),
        ),
        ("spoofed", Probe::spoofed(FIRST_TENANT, is_ipv4), spoofed),
        ("denied", Probe::denied(FIRST_TENANT, is_ipv4), denied),
    ]
}

/// One group per case, so that each size is compared with the smallest.
fn policy(criterion: &mut Criterion) {
    for segments in [3, 100, 4094] {
        let tables = tables(segments);
        for (family, is_ipv4) in [("ipv4", true), ("ipv6", false)] {
            let opening = Probe::operated(FIRST_TENANT, is_ipv4, true);
            assert_eq!(judge(&tables, &opening), Ok(()));
            for (name, probe, expected) in cases(is_ipv4) {
                assert_eq!(judge(&tables, &probe), expected, "{name}");
                let mut group = criterion.benchmark_group(format!("policy/{family}-{name}"));
                group
                    .sample_size(20)
                    .warm_up_time(Duration::from_secs(1))
                    .measurement_time(Duration::from_secs(2))
                    .throughput(Throughput::Elements(1));
                let id = BenchmarkId::new("segments", segments);
                group.bench_function(id, |bencher| bencher.iter(|| judge(&tables, &probe)));
                group.finish();
            }
        }
    }
}

criterion_group!(benches, policy);
criterion_main!(benches);
