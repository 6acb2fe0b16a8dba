//! The file of a generation: what is written is read, what is damaged is refused.

use std::fs;

use netmodel::published::{self, Published, PublishedError};
use netmodel::{Loaded, Options};

fn sample() -> Loaded {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample");
    let tenants = format!("{folder}/tenants");
    netmodel::load(&Options::new(
        format!("{folder}/site"),
        Some(tenants.into()),
    ))
}

fn generation() -> Published {
    let loaded = sample();
    Published {
        number: 7,
        inventory: loaded.sources.digest(),
        model: loaded.model.expect("the sample has no errors"),
    }
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("generation");
    let written = generation();
    published::write(&path, &written.to_bytes(), 0o640).unwrap();
    let read = published::read(&path).unwrap();
    assert_eq!((read.number, &read.inventory), (7, &written.inventory));
    let text = |model| serde_json::to_string(model).unwrap();
    assert_eq!(text(&read.model), text(&written.model));
    assert_eq!(published::head(&path).unwrap().number, 7);
    // Nothing but the file is left behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn every_cut_and_every_changed_octet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("generation");
    let bytes = generation().to_bytes();
    let last = bytes.len() - 1;
    for length in (0..last).step_by(97).chain([last - 1]) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(published::read(&path).is_err(), "cut at {length}");
    }
    let head = bytes.iter().position(|&b| b == b'\n').unwrap();
    for at in (head + 1..last).step_by(97) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let error = published::read(&path).unwrap_err();
        assert!(matches!(error, PublishedError::Damaged { .. }), "{error}");
    }
}

#[test]
fn body_that_is_longer_than_its_head_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("generation");
    let bytes = generation().to_bytes();
    let at = bytes.iter().position(|&b| b == b'\n').unwrap();
    let mut head: serde_json::Value = serde_json::from_slice(&bytes[..at]).unwrap();
    head["bytes"] = serde_json::json!(head["bytes"].as_u64().unwrap() - 1);
    let changed = [head.to_string().as_bytes(), &bytes[at..]].concat();
    fs::write(&path, changed).unwrap();
    let error = published::read(&path).unwrap_err();
    assert!(error.to_string().contains("does not have"), "{error}");
}

#[test]
fn another_format_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("generation");
    fs::write(&path, "{\"format_version\":1,\"what\":\"ever\"}\n").unwrap();
    let error = published::read(&path).unwrap_err();
    assert!(error.to_string().contains("has format 1"), "{error}");
}

#[test]
fn absent_file_is_told_from_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = published::read(&folder.path().join("none")).unwrap_err();
    assert!(error.is_absent(), "{error}");
}

#[test]
fn failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("generation");
    published::write(&path, b"old", 0o640).unwrap();
    let error = published::write(&path.join("below-a-file"), b"new", 0o640).unwrap_err();
    assert!(error.to_string().starts_with("cannot write"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn digest_follows_texts_and_paths() {
    assert_eq!(sample().sources.digest(), sample().sources.digest());
    let folder = tempfile::tempdir().unwrap();
    let digest = |text: &str| {
        fs::write(folder.path().join("hosts.yml"), text).unwrap();
        netmodel::load(&Options::new(folder.path(), None))
            .sources
            .digest()
    };
    assert_ne!(
        digest("all: { hosts: {} }\n"),
        digest("all: { hosts: { a: } }\n")
    );
}
