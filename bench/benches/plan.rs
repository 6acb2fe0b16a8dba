//! What a change would do, at 4,092 tenants with 16 hosts each: nothing, one tenant's edit, everything.

use std::hint::black_box;

use bench::site;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dataplane_user::compile::RouterFacts;
use dataplane_user::plan::{Build, Difference, tenant};
use netmodel::Model;
use netmodel::ids::{HostName, MacAddr};
use netmodel::model::{Host, RuleAction};

const HOSTS: u8 = 16;
const SEGMENTS: u16 = 4_094;

/// A full site; every tenant has rules of its own, and `HOSTS` hosts.
fn model() -> Model {
    let mut model = site::model(SEGMENTS, usize::from(SEGMENTS)).expect("a site of that size");
    let hosts = std::mem::take(&mut model.hosts);
    for host in hosts {
        model
            .hosts
            .extend((0..HOSTS).map(|number| numbered(&host, number)));
    }
    model
}

/// Another host like the first one of its segment.
fn numbered(first: &Host, number: u8) -> Host {
    let mut host = first.clone();
    host.name = HostName::new(&format!("{}-{number:02}", first.name));
    for interface in &mut host.interfaces {
        let net = interface.ipv4.map(|address| address.octets());
        interface.ipv4 = net.map(|[a, b, c, d]| [a, b, c, d + number].into());
        let net = interface.ipv6.map(|address| address.segments());
        interface.ipv6 =
            net.map(|[a, b, c, d, e, f, g, h]| [a, b, c, d, e, f, g, h + u16::from(number)].into());
        interface.mac = interface
            .mac
            .map(|MacAddr([a, b, c, d, e, _])| MacAddr([a, b, c, d, e, number]));
    }
    host
}

fn build(model: Model) -> Build {
    Build::new(model, RouterFacts::default()).expect("a model that compiles")
}

/// One tenant gets a host, and denies what it allowed.
fn edited(model: &Model) -> Model {
    let mut edited = model.clone();
    let tenant = edited.tenants.len() / 2;
    for rule in &mut edited.tenants[tenant].rules {
        rule.action = RuleAction::Deny;
    }
    let place = edited.hosts.partition_point(|host| match host.owner {
        netmodel::model::Owner::Platform => true,
        netmodel::model::Owner::Tenant(id) => id.0 <= tenant,
    });
    let host = numbered(&edited.hosts[place - usize::from(HOSTS)], HOSTS);
    edited.hosts.insert(place, host);
    edited
}

fn plan(criterion: &mut Criterion) {
    let old = model();
    let new = edited(&old);
    let name = old.tenants[old.tenants.len() / 2].name.to_string();
    let (old, new) = (build(old), build(new));

    let difference = Difference::new(Some(&old), &new, 0);
    assert_eq!(difference.objects.len(), 2, "{:?}", difference.objects);
    assert_eq!(
        difference.reachability.len(),
        1,
        "{:?}",
        difference.reachability
    );

    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10);
    let what = |what| BenchmarkId::new("4092x16", what);
    group.bench_function(what("compile"), |bencher| {
        bencher.iter(|| build(black_box(new.model.clone())));
    });
    group.bench_function(what("nothing"), |bencher| {
        bencher.iter(|| Difference::new(Some(black_box(&old)), &old, 0));
    });
    group.bench_function(what("one-tenant"), |bencher| {
        bencher.iter(|| Difference::new(Some(black_box(&old)), &new, 0));
    });
    group.bench_function(what("merge-one-tenant"), |bencher| {
        bencher.iter(|| tenant::merged(black_box(&old.model), &new.model, &name));
    });
    group.bench_function(what("from-nothing"), |bencher| {
        bencher.iter(|| Difference::new(None, black_box(&new), 0));
    });
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
