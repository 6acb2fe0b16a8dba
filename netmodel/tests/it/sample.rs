//! The sample inventory loads, without any finding.

use std::path::PathBuf;

use netmodel::finding::{Audience, Style, to_text};
use netmodel::{Options, load};

fn sample(part: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../sample")).join(part)
}

#[test]
fn sample_is_clean() {
    let loaded = load(&Options::new(sample("site"), Some(sample("tenants"))));
    let text = to_text(
        &loaded.findings,
        &loaded.sources,
        Audience::Platform,
        Style::Plain,
    );
    assert_eq!(text, "");
    let model = loaded.model.unwrap();
    assert_eq!(model.tenants.len(), 3);
    assert_eq!(model.segments.len(), 12);
}

#[test]
fn hypervisors_have_their_bridge_and_uplink_port() {
    let loaded = load(&Options::new(sample("site"), Some(sample("tenants"))));
    let model = loaded.model.unwrap();
    let said: Vec<_> = model
        .hypervisors
        .iter()
        .map(|hypervisor| {
            let host = model.host(hypervisor.host).name.as_str();
            (
                host,
                hypervisor.bridge.as_str(),
                hypervisor.uplink_port.as_deref(),
            )
        })
        .collect();
    let expected = ["hv01", "hv02"].map(|host| (host, "vmbr0", Some("nic0")));
    assert_eq!(said, expected);
    assert!(
        model.hypervisors[0]
            .origin
            .file
            .ends_with("group_vars/hypervisors/bridge.yml")
    );
}
