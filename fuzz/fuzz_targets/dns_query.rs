//! Any octets as a DNS message: no panic, no reply over the limit, and a reply that can be read.

#![no_main]

use std::net::IpAddr;
use std::sync::OnceLock;

use dns::answer::{Client, Outcome, Transport, answer};
use dns::journal::Store;
use dns::keys::Keyring;
use dns::plan::plan;
use dns::world::World;
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use netmodel::published::Published;
use netmodel::{Options, load};

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample");
        let tenants = Some(format!("{sample}/tenants").into());
        let model = load(&Options::new(format!("{sample}/site"), tenants)).model;
        let published = Published {
            number: 1,
            inventory: String::new(),
            model: model.expect("the sample inventory is good"),
        };
        let journal = std::env::temp_dir().join(format!("fuzz-journal-{}", std::process::id()));
        let store = Store::open(&journal).expect("the journal can be made");
        let _ = std::fs::remove_file(&journal);
        let plan = plan(&published).expect("the sample inventory has zones");
        World::new(plan, Keyring::default(), &store)
    })
}

fuzz_target!(|message: &[u8]| {
    for transport in [Transport::Udp, Transport::Tcp] {
        let client = Client::new(IpAddr::from([10, 100, 0, 50]), transport, 1_700_000_000);
        let mut out = Vec::new();
        match answer(world(), client, message, &mut out) {
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
