//! Views for `bulkhead show`.

use netmodel::show::{What, table};

use crate::common::{BASE, files, load_files};

#[test]
fn every_view_of_the_base_reads_as_in_its_snapshot() {
    let model = load_files(&files(BASE)).model.unwrap();
    for &what in What::ALL {
        insta::assert_snapshot!(format!("show_{what}"), table(what, &model).to_text());
    }
}

#[test]
fn json_has_a_version_and_the_same_content() {
    let model = load_files(&files(BASE)).model.unwrap();
    let json = table(What::Segments, &model).to_json();
    assert_eq!(json["format_version"], 1);
    assert_eq!(json["segments"][1]["segment"], "clients");
    assert_eq!(json["segments"][1]["vlan_id"], 10);
    assert_eq!(json["segments"][0]["subnet"], serde_json::Value::Null);
    let tenants = table(What::Tenants, &model).to_json();
    assert_eq!(tenants["tenants"][0]["services"][0], "logs");
    assert_eq!(tenants["tenants"][0]["internet"], true);
}

#[test]
fn words_and_views_belong_together() {
    for &what in What::ALL {
        assert_eq!(what.as_str().parse(), Ok(what));
    }
    assert!("nothing".parse::<What>().is_err());
}
