//! A site as real labs are: it loads, and every oddity is named.

use crate::common::{codes, files, load_files, text};

const LAB: &str = include_str!("../fixtures/lab.txt");

#[test]
fn a_real_lab_is_reported_precisely() {
    let loaded = load_files(&files(LAB));
    insta::assert_snapshot!("lab", text(&loaded));
}

#[test]
fn every_oddity_of_a_real_lab_has_its_code() {
    let loaded = load_files(&files(LAB));
    let found = codes(&loaded);
    for (code, why) in [
        ("E0103", "an unquoted hardware address in base 60"),
        ("E0210", "a static address in the DHCP range"),
        ("E0301", "a host outside of its segment"),
        ("E0303", "a host that reserves the gateway's address"),
        ("E0401", "a policy for a zone that is gone"),
        ("E0601", "an alias with an underscore"),
        ("E0602", "two routers that claim the same aliases"),
        ("W0101", "a file that a folder hides"),
        ("W0102", "variables of a host that is gone"),
        ("W0104", "a misspelt key in a segment"),
        ("W0204", "tenant-like segments without DHCP"),
        ("W0301", "a reservation for an unknown hardware address"),
        ("W0302", "a reservation in a segment without a scope"),
        ("W0303", "a reservation for an address that DHCP gives"),
        ("W0304", "a record for an address that DHCP gives"),
        ("W0305", "an address in no segment"),
        ("W0401", "policies that can never match"),
    ] {
        assert!(found.contains(&code), "{code}: {why}");
    }
}
