//! Any octets as a DNS message, to zones that are not signed and to some that are: no panic, no reply over the limit, and a reply that can be read.

#![no_main]

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use dns::answer::{Client, Outcome, Transport, answer};
use dns::dnssec::folder::KeyFolder;
use dns::journal::Store;
use dns::keys::Keyring;
use dns::plan::plan;
use dns::world::World;
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use netmodel::published::Published;
use netmodel::{Options, load};

/// The sample as it is, and with every zone signed.
fn worlds() -> &'static [World; 2] {
    static WORLDS: OnceLock<[World; 2]> = OnceLock::new();
    WORLDS.get_or_init(|| [false, true].map(world))
}

fn world(is_signed: bool) -> World {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample");
    let tenants = Some(format!("{sample}/tenants").into());
    let model = load(&Options::new(format!("{sample}/site"), tenants)).model;
    let mut published = Published {
        number: 1,
        inventory: String::new(),
        model: model.expect("the sample inventory is good"),
    };
    published.model.site_dnssec = is_signed;
    for tenant in &mut published.model.tenants {
        tenant.dnssec = is_signed;
    }
    let folder = std::env::temp_dir().join(format!("fuzz-dns-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let mut store = Store::open(&folder.join("journal")).expect("the journal can be made");
    store.set_zone_keys(Arc::new(KeyFolder::open(&folder.join("zone-keys"))));
    let plan = plan(&published).expect("the sample inventory has zones");
    let world = World::new(plan, Keyring::default(), &store);
    let _ = std::fs::remove_dir_all(&folder);
    world
}

fuzz_target!(|message: &[u8]| {
    for (world, transport) in [
        (&worlds()[0], Transport::Udp),
        (&worlds()[0], Transport::Tcp),
        (&worlds()[1], Transport::Udp),
        (&worlds()[1], Transport::Tcp),
    ] {
        let client = Client::new(IpAddr::from([10, 100, 0, 50]), transport, 1_700_000_000);
        let mut out = Vec::new();
        match answer(world, client, message, &mut out) {
            Outcome::Silence | Outcome::Update(..) | Outcome::Forward(_) | Outcome::Transfer(_) => {
            }
            Outcome::Reply => {
                let limit = if transport == Transport::Udp {
                    2048
                } else {
                    65_535
                };
                assert!(out.len() <= limit);
                assert_eq!(out[..2], message[..2]);
                assert!(Message::from_vec(&out).is_ok(), "{out:?}");
                assert_ne!(out[3] & 0xf, 2, "nothing fails: {out:?}");
            }
        }
    }
    // What an update's sender controls is read by these.
    if let Ok(message) = Message::from_vec(message) {
        for record in message.authorities.iter().chain(&message.answers) {
            let _ = dns::rdata::encode(&record.data);
        }
    }
});
