//! Any text as a master file, as `bulkhead-dns import` reads it: no panic, no record of another zone, and what is read can be
//! written down again.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use hickory_proto::rr::Name;
use libfuzzer_sys::fuzz_target;

fn zone() -> &'static Name {
    static ZONE: OnceLock<Name> = OnceLock::new();
    ZONE.get_or_init(|| Name::from_ascii("a.example.").expect("it is a name"))
}

fuzz_target!(|text: &str| {
    let Ok(records) = dns::import::read(text, Path::new("file"), zone()) else {
        return;
    };
    for record in &records {
        assert!(zone().zone_of(&record.name), "{record}");
        let _ = dns::rdata::encode(&record.data);
    }
});
