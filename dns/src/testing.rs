//! A daemon without its threads, for tests.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name as HickoryName, RData, Record, RecordType};
use netmodel::published::{self, Published};

use crate::answer::Transport;
use crate::follow::Follower;
use crate::journal::Store;
use crate::leases;
use crate::limit::Rates;
use crate::message::{self, Read};
use crate::name::Name;
use crate::plan::plan;
use crate::server::{Config, Shared};
use crate::support::two_tenants_and;
use crate::updater::{Job, Request, Work};
use crate::world::World;

/// As [`crate::support::two_tenants`], one generation later, with a tenant `0z` whose view is numbered before theirs.
pub(crate) fn three_tenants(records: &str) -> Published {
    let other = "  0z: {vlan_id: 102, subnet: 10.1.0.128/26}\n";
    let mut published = two_tenants_and("", other, records);
    published.number = 8;
    published
}

/// An address of it.
pub(crate) const IN_Z: &str = "10.1.0.130";

/// What all threads share, and the folder that it is in.
pub(crate) struct Site {
    pub(crate) shared: Arc<Shared>,
    _folder: tempfile::TempDir,
}

impl Site {
    /// Serves a generation with the keys `a-tf` and `b-tf`.
    pub(crate) fn new(published: &Published) -> Self {
        Self::with_store(published, |path| Store::open(path).unwrap())
    }

    /// The same with a journal that cannot be written.
    pub(crate) fn broken(published: &Published) -> Self {
        Self::with_store(published, |path| Store::read(path).unwrap())
    }

    fn with_store(published: &Published, open: impl FnOnce(&Path) -> Store) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        published::write(&path("generation"), &published.to_bytes(), 0o640).unwrap();
        let key = |name: &str| {
            let secret = crate::support::SECRET;
            format!("[keys.{name}]\nalgorithm = \"hmac-sha256\"\nsecret = \"{secret}\"\n")
        };
        let all = key("a-tf") + &key("b-tf");
        published::write(&path("keys"), all.as_bytes(), 0o600).unwrap();
        let config = Config {
            generation: path("generation"),
            keys: path("keys"),
            zone_keys: path("zone-keys"),
            journal: path("journal"),
            listen: Vec::new(),
            workers: 1,
            records_per_tenant: 1000,
            upstreams: Vec::new(),
            rates: Rates {
                client: 0,
                view: 0,
                signatures: 0,
            },
            status: None,
            tls: None,
            tls_listen: Vec::new(),
            api_listen: Vec::new(),
            leases: leases::Config::default(),
            reload: Arc::default(),
        };
        let store = open(&config.journal);
        let zone_keys = Arc::clone(store.zone_keys());
        let mut follower = Follower::new(&config.generation, &config.keys, zone_keys);
        let shared = Shared::new(&config, store, &mut follower).unwrap();
        Self {
            shared: Arc::new(shared),
            _folder: folder,
        }
    }

    /// Serves another generation from now on.
    pub(crate) fn replace(&self, published: &Published) {
        let keys = self.shared.world().keys.clone();
        self.shared
            .replace_world(|store| World::new(plan(published).unwrap(), keys, store));
    }

    /// Makes an update, signed with the key of tenant `a`, that sets the address of a name in a zone.
    pub(crate) fn update(
        &self,
        source: IpAddr,
        (zone, label): (&str, &str),
        replies: &Sender<Vec<u8>>,
    ) -> Job {
        let world = self.shared.world();
        let zone = HickoryName::from_ascii(zone).unwrap();
        let mut message = Message::new(7, MessageType::Query, OpCode::Update);
        message.add_query(Query::query(zone.clone(), RecordType::SOA));
        let data = RData::try_from_str(RecordType::A, "10.1.0.20").unwrap();
        let name = zone.prepend_label(label).unwrap();
        message.authorities = vec![Record::from_rdata(name, 60, data)];
        let key = world.keys.key(Name::absolute("a-tf").unwrap().as_wire());
        let now = self.shared.now();
        key.unwrap().secret.sign(&mut message, now).unwrap();
        let octets = message.to_vec().unwrap();
        let mut query = Box::<message::Query>::default();
        assert_eq!(message::read(&octets, &mut query), Read::Update);
        let replies = replies.clone();
        Job {
            work: Work::Message {
                request: Box::new(Request {
                    message: octets,
                    query,
                    source,
                    transport: Transport::Udp,
                }),
                reply_to: Box::new(move |reply| replies.send(reply).unwrap()),
            },
            view: world.plan.view_of(source).unwrap().owner.clone(),
            since: Instant::now(),
        }
    }
}
