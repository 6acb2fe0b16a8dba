//! The pure policy core on the host: `from_trunk`, as the programs call it.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up must fail"
)]

use bench::frames::{Probe, ROUTER};
use bench::site::{self, FIRST_TENANT};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataplane_common::host::{HostTables, Slice};
use dataplane_common::policy::Report;
use dataplane_common::reason::DropReason;
use dataplane_user::compile::{RouterFacts, compile};
use dataplane_user::loader::Trunk;
use netmodel::ids::MacAddr;

fn judge(tables: &HostTables, probe: &Probe) -> Result<(), DropReason> {
    let frame = Slice {
        bytes: &probe.bytes,
        tag: None,
    };
    tables.judge(&frame, &mut Report::default())
}

fn tables() -> HostTables {
    let facts = RouterFacts {
        mac: Some(MacAddr(ROUTER)),
        ..RouterFacts::default()
    };
    let tables = compile(&site::model(100, 100).unwrap(), &facts).unwrap();
    let trunk = Trunk {
        ifindex: 1,
        mac: ROUTER,
    };
    tables.to_host(trunk.generation(&tables, 1, 250))
}

fn policy(criterion: &mut Criterion) {
    let tables = tables();
    let mut group = criterion.benchmark_group("policy/from_trunk");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for (family, is_ipv4) in [("ipv4", true), ("ipv6", false)] {
        let opening = Probe::operated(FIRST_TENANT, is_ipv4, true);
        assert_eq!(judge(&tables, &opening), Ok(()));
        let cases = [
            (
                "established",
                Probe::operated(FIRST_TENANT, is_ipv4, false),
                Ok(()),
            ),
            (
                "spoofed",
                Probe::spoofed(FIRST_TENANT, is_ipv4),
                Err(DropReason::SpoofedSource),
            ),
            (
                "denied",
                Probe::denied(FIRST_TENANT, is_ipv4),
                Err(DropReason::PlatformAddress),
            ),
        ];
        for (name, probe, expected) in cases {
            assert_eq!(judge(&tables, &probe), expected, "{name}");
            group.bench_function(format!("{family}-{name}"), |bencher| {
                bencher.iter(|| judge(&tables, &probe));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, policy);
criterion_main!(benches);
