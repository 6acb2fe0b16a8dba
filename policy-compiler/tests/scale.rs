//! Table sizes and compile time for a full site: 4,092 tenants and two platform segments.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod models;

use std::time::Instant;

use policy_compiler::{RouterFacts, Tables, compile};

const TENANTS: u16 = 4_092;

fn sizes(tables: &Tables) -> [usize; 6] {
    [
        tables.segments.len(),
        tables.endpoints.len(),
        tables.prefixes.len(),
        tables.pairs.len(),
        tables.rules.len(),
        tables.trace.len(),
    ]
}

/// Compiles and reports; `cargo test -- --nocapture` shows the numbers.
fn measure(what: &str, tenants: u16, stride: usize) -> [usize; 6] {
    let model = models::many_tenants(tenants, stride);
    let start = Instant::now();
    let tables = compile(&model, &RouterFacts::default()).unwrap();
    let took = start.elapsed();
    let sizes = sizes(&tables);
    let [segments, endpoints, prefixes, pairs, rules, trace] = sizes;
    eprintln!(
        "{what}: segments {segments}, endpoints {endpoints}, prefixes {prefixes}, pairs {pairs}, \
         rules {rules}, trace {trace}: {took:?}"
    );
    sizes
}

#[test]
fn tables_grow_linearly_when_every_tenant_has_rules_of_its_own() {
    let half = measure("2046 tenants with rules", TENANTS / 2, 1);
    let full = measure("4092 tenants with rules", TENANTS, 1);
    for (half, full) in half.into_iter().zip(full) {
        assert!(full <= 2 * half + 16, "{half} -> {full}");
    }
}

#[test]
fn policy_tables_do_not_grow_with_tenants_that_have_no_rules() {
    let [.., pairs, rules, trace] = measure("4092 tenants alike", TENANTS, usize::MAX);
    assert!(pairs + rules + trace < 32, "{pairs} {rules} {trace}");
}
