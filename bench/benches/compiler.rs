//! Model to tables, at 3, 100 and 4,094 segments, with a rule per tenant.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up must fail"
)]

use bench::site;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dataplane_user::compile::{RouterFacts, compile};

fn compiler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compiler");
    group.sample_size(10);
    for segments in [3_u16, 100, 4094] {
        let model = site::model(segments, usize::from(segments) - 2).unwrap();
        let facts = RouterFacts::default();
        group.bench_function(BenchmarkId::new("segments", segments), |bencher| {
            bencher.iter(|| compile(&model, &facts).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, compiler);
criterion_main!(benches);
