//! Any octets as a DNS message, as they are and signed with a tenant's key, to zones that are not signed and to some that are: no panic, no reply over the limit, a reply that can be
//! read, and a transfer that ends.

#![no_main]

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use dns::answer::{Client, Outcome, Transport, answer};
use dns::cookie::Jar;
use dns::dnssec::folder::KeyFolder;
use dns::journal::Store;
use dns::keys::{Keyring, Secrets};
use dns::plan::plan;
use dns::world::World;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigner};
use libfuzzer_sys::fuzz_target;
use netmodel::model::Model;
use netmodel::published::Published;
use netmodel::{Options, load};

const KEYS: &str = "[keys.grooveiq-tf]\nalgorithm = \"hmac-sha256\"\nsecret = \"bm90IGEgc2VjcmV0LCBvbmx5IGFuIGV4YW1wbGUgISE=\"\n";
const SECRET: &[u8] = b"not a secret, only an example !!";
const NOW: u64 = 1_700_000_000;

/// The sample as it is, and with every zone signed; both have come from a generation with fewer records.
fn worlds() -> &'static [World; 2] {
    static WORLDS: OnceLock<[World; 2]> = OnceLock::new();
    WORLDS.get_or_init(|| {
        [false, true].map(|is_signed| {
            let before = world(1, is_signed, |model| {
                let half = model.records.len() / 2;
                model.records.truncate(half);
            });
            world(2, is_signed, |_| {}).after(&before)
        })
    })
}

fn world(number: u32, is_signed: bool, change: impl FnOnce(&mut Model)) -> World {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample");
    let tenants = Some(format!("{sample}/tenants").into());
    let model = load(&Options::new(format!("{sample}/site"), tenants)).model;
    let mut published = Published {
        number,
        inventory: String::new(),
        model: model.expect("the sample inventory is good"),
    };
    published.model.site_dnssec = is_signed;
    for tenant in &mut published.model.tenants {
        tenant.dnssec = is_signed;
    }
    change(&mut published.model);
    let folder = std::env::temp_dir().join(format!("fuzz-dns-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let mut store = Store::open(&folder.join("journal")).expect("the journal can be made");
    store.set_zone_keys(Arc::new(KeyFolder::open(&folder.join("zone-keys"))));
    let plan = plan(&published).expect("the sample inventory has zones");
    let secrets = Secrets::parse(KEYS, &folder).expect("the keys are good");
    let keys = Keyring::new(&secrets, &plan.tenants);
    // Always the same cookies, so that an input does always the same.
    let world = World::new(plan, keys, &store).with_cookies(Jar::new([7; 16]));
    let _ = std::fs::remove_dir_all(&folder);
    world
}

/// Signs it as the tenant does; at a time that is too long ago, if its id is odd.
fn signed(message: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(message).ok()?;
    let key = Name::from_ascii("grooveiq-tf.").ok()?;
    let signer = TSigner::new(SECRET.to_vec(), TsigAlgorithm::HmacSha256, key, 300).ok()?;
    let is_late = message.metadata.id % 2 == 1;
    let time = if is_late { NOW - 1000 } else { NOW };
    message.finalize(&signer, time).ok()?;
    message.to_vec().ok()
}

fn ask(world: &World, transport: Transport, message: &[u8]) {
    let client = Client::new(IpAddr::from([10, 100, 0, 50]), transport, NOW);
    let mut out = Vec::new();
    match answer(world, client, message, &mut out) {
        Outcome::Silence | Outcome::Update(..) | Outcome::Forward(_) => {}
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
        Outcome::Transfer(mut transfer) => {
            assert_eq!(transport, Transport::Tcp);
            let mut messages = 0;
            while let Some(octets) = transfer.next_message() {
                assert!(Message::from_vec(&octets).is_ok(), "{octets:?}");
                messages += 1;
                assert!(messages < 1000, "it goes on and on");
            }
            assert!(messages > 0);
        }
    }
}

fuzz_target!(|message: &[u8]| {
    let signed = signed(message);
    for world in worlds() {
        for transport in [Transport::Udp, Transport::Tcp] {
            ask(world, transport, message);
            if let Some(signed) = &signed {
                ask(world, transport, signed);
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
