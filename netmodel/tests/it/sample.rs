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
