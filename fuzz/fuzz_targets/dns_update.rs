//! Any octets as what a tenant may send to change its zone: as the message of an update, signed or not, and as a
//! request to the HTTP API. No panic; what is taken is in the tenant's own zone, and can be served.

#![no_main]

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use dns::journal::{Store, ZoneChanges};
use dns::keys::Keyring;
use dns::name::Name;
use dns::plan::plan;
use dns::tsig;
use dns::update::{Target, update};
use dns::world::World;
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use netmodel::published::Published;
use netmodel::{Options, load};

const ZONE: &str = "grooveiq.east.lab.example";
const KEYS: &str = "[keys.grooveiq-tf]\nalgorithm = \"hmac-sha256\"\nsecret = \"bm90IGEgc2VjcmV0LCBvbmx5IGFuIGV4YW1wbGUgISE=\"\n\
                    [api.fuzz]\ntenant = \"grooveiq\"\nkey = \"0123456789abcdef\"\n";

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
        let journal = std::env::temp_dir().join(format!("fuzz-updates-{}", std::process::id()));
        let store = Store::open(&journal).expect("the journal can be made");
        let _ = std::fs::remove_file(&journal);
        let plan = plan(&published).expect("the sample inventory has zones");
        let secrets = dns::keys::Secrets::parse(KEYS, &journal).expect("the keys are good");
        let keys = Keyring::new(&secrets, &plan.tenants);
        World::new(plan, keys, &store)
    })
}

/// The update itself, as if the signature had been good.
fn change(message: &[u8]) {
    let Ok(message) = Message::from_vec(message) else {
        return;
    };
    let world = world();
    let origin = Name::absolute(ZONE).expect("it is a name");
    let tenant: Arc<str> = "grooveiq".into();
    let (_, spec) = world.own_zone(&origin, &tenant).expect("the zone is there");
    let target = Target {
        key: &"grooveiq-tf".into(),
        others: &[],
        tenant: &tenant,
        origin: &origin,
        soa: &world.plan.soa.set(1),
        fixed: &spec.contents,
        dynamic: &ZoneChanges::default(),
        room: 1000,
        is_draining: false,
    };
    let Ok(change) = update(target, &message) else {
        return;
    };
    for ((name, kind), set) in change.sets {
        assert!(name.is_within(&origin));
        for data in set.into_iter().flat_map(|set| set.rdata) {
            let _ = dns::rdata::show(kind, &data);
        }
    }
}

/// A line for the method and path, and the rest as the body.
fn request(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let (line, body) = text.split_once('\n').unwrap_or((text, ""));
    let (method, path) = line.split_once(' ').unwrap_or(("PATCH", line));
    let zone = format!("/api/v1/servers/localhost/zones/{ZONE}");
    let source = IpAddr::from([127, 0, 0, 1]);
    for path in [path, &zone] {
        let key = b"0123456789abcdef".as_slice();
        let _ = dns::api::ask(world(), (key, source), (method, path), body.as_bytes());
    }
}

fuzz_target!(|octets: &[u8]| {
    let _ = tsig::check(octets, &world().keys, 1_700_000_000, |_| true);
    change(octets);
    request(octets);
});
