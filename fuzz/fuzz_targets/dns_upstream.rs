//! Any octets as what an upstream resolver answers: no panic; what the client is told can be read, fits, and has no address of the site
//! and no private one.

#![no_main]

use std::net::IpAddr;
use std::sync::OnceLock;

use dns::answer::{Client, Outcome, Transport, answer};
use dns::forward;
use dns::journal::Store;
use dns::keys::Keyring;
use dns::plan::plan;
use dns::world::World;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
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
        let journal = std::env::temp_dir().join(format!("fuzz-upstream-{}", std::process::id()));
        let store = Store::open(&journal).expect("the journal can be made");
        let _ = std::fs::remove_file(&journal);
        let plan = plan(&published).expect("the sample inventory has zones");
        World::new(plan, Keyring::default(), &store).forwarding(true)
    })
}

/// `www.example.org A`, with RD and EDNS.
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03www\x07example\x03org\x00\x00\x01\x00\x01\
      \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

fuzz_target!(|octets: &[u8]| {
    let client = Client::new(
        IpAddr::from([10, 100, 0, 50]),
        Transport::Udp,
        1_700_000_000,
    );
    let Outcome::Forward(wanted) = answer(world(), client, QUESTION, &mut Vec::new()) else {
        panic!("the question is not asked upstream");
    };
    let Some(told) = forward::told(world(), (wanted, QUESTION), octets) else {
        return;
    };
    assert!(told.len() <= 1232);
    let told = Message::from_vec(&told).expect("it can be read");
    for record in &told.answers {
        if let RData::A(address) = &record.data {
            assert!(
                !address.0.is_private() && !address.0.is_loopback(),
                "{record}"
            );
            assert!(!world().plan.is_own_address(address.0.into()), "{record}");
        }
    }
});
