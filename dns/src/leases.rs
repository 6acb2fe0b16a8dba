//! Names of DHCP clients: `<host name>.dhcp.<tenant's zone>`, for tenants that the admin says.
//!
//! They come from the file that `bulkhead-dhcpd` writes ([`netmodel::leases`]), which is durable already: nothing of
//! them is in our journal.
//!
//! # Guarantees
//!
//! * **By opt-in.** Without it, what a client calls itself is seen by nobody.
//! * **Never over others.** A name that the platform, the inventory, or an update has anything at is not a lease's;
//!   and a name that a lease has is refused to updates. Whoever was first keeps it.
//! * **One client.** Of two clients that call themselves the same, the one that has its lease for longer has the
//!   name, with a DHCID record that says which client it is (RFC 4701, RFC 4703).
//! * **In its own zone.** A lease gets names in the zones of the tenant whose segment it is on, and no others.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use netmodel::ids::MacAddr;
use netmodel::leases::{self, Entry, Follow, LeasesError, State, Step};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use crate::journal::Store;
use crate::name::Name;
use crate::plan::{Plan, TenantInfo, ZoneSpec};
use crate::rdata::rtype;
use crate::reverse;
use crate::server::Shared;
use crate::view::ZoneId;
use crate::zone::{Contents, RrOwner};

/// The label that the names are below.
pub const LABEL: &str = "dhcp";
/// TTL of the records, in seconds: a third of the shortest lease that there can be (RFC 4703, 3.1 by way of
/// RFC 4702, 5).
const TTL: u32 = 20;
/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// Which leases get names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// The file of leases.
    pub file: PathBuf,
    /// Tenants whose leases get names; none: the file is not read.
    pub tenants: BTreeSet<String>,
}

/// A lease that wants a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// What the client calls itself, in lower case.
    pub label: Box<str>,
    /// The client.
    pub mac: MacAddr,
    /// Its identifier (option 61), if it has one.
    pub client_id: Box<[u8]>,
    /// Since when it has the address, in seconds since 1970.
    pub since: u64,
}

/// All leases that want names.
#[derive(Clone, Debug, Default)]
pub struct Table {
    tenants: BTreeSet<String>,
    leases: BTreeMap<(u16, IpAddr), Named>,
    /// Number of the last change of a VLAN's names.
    touched: HashMap<u16, u64>,
    /// Number of the last change when the file was read first: whatever was served before is older.
    begun: u64,
}

impl Table {
    /// Makes one without leases, for these tenants.
    #[must_use]
    pub fn new(tenants: &BTreeSet<String>) -> Self {
        Self {
            tenants: tenants.clone(),
            ..Self::default()
        }
    }

    /// Takes over what a line of the file says; a renewal changes nothing.
    pub fn take(&mut self, entry: &Entry) {
        let lease = &entry.lease;
        let key = (entry.vlan.as_u16(), entry.address);
        // RFC 1123, 2.1: what the file has as a host name is one, and is checked all the same.
        let is_named = lease.state == State::Bound && leases::is_hostname(&lease.hostname);
        let named = is_named.then(|| Named {
            label: lease.hostname.to_ascii_lowercase().into(),
            mac: lease.mac,
            client_id: lease.client_id.clone(),
            since: lease.since,
        });
        if self.leases.get(&key) == named.as_ref() {
            return;
        }
        let touched = self.touched.entry(key.0).or_default();
        *touched = (*touched).max(entry.number);
        match named {
            Some(named) => self.leases.insert(key, named),
            None => self.leases.remove(&key),
        };
    }

    /// Do leases of this tenant get names?
    #[must_use]
    pub fn has(&self, tenant: &str) -> bool {
        self.tenants.contains(tenant)
    }

    /// Returns what names of leases add to the serial of a tenant's zones; it never falls while tenants keep their
    /// names.
    #[must_use]
    pub fn serial(&self, tenant: &str, info: &TenantInfo) -> u32 {
        if !self.has(tenant) {
            return 0;
        }
        let touched = info.vlans.iter().filter_map(|vlan| self.touched.get(vlan));
        let last = touched.copied().max().unwrap_or(0).max(self.begun);
        u32::try_from(last & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// Returns the VLANs whose names differ.
    fn differing(&self, other: &Self) -> BTreeSet<u16> {
        let mut vlans = BTreeSet::new();
        for (a, b) in [(self, other), (other, self)] {
            let differing = a
                .leases
                .iter()
                .filter(|(key, named)| b.leases.get(key) != Some(named));
            vlans.extend(differing.map(|((vlan, _), _)| *vlan));
        }
        vlans
    }
}

/// Returns what updates cannot change in a zone: what the generation says, and names of leases.
#[must_use]
pub fn fixed<'s>(plan: &Plan, spec: &'s ZoneSpec, store: &Store) -> Cow<'s, Contents> {
    let is_named = spec
        .tenant
        .as_ref()
        .is_some_and(|tenant| store.leases().has(tenant));
    if !is_named {
        return Cow::Borrowed(&spec.contents);
    }
    let mut contents = spec.contents.clone();
    add(plan, spec, store, &mut contents);
    Cow::Owned(contents)
}

/// A name that a lease has.
struct Granted<'t> {
    name: Name,
    address: IpAddr,
    named: &'t Named,
}

/// Adds the names of leases to a zone, where nobody else has them.
pub(crate) fn add(plan: &Plan, spec: &ZoneSpec, store: &Store, contents: &mut Contents) {
    let Some(tenant) = spec
        .tenant
        .as_ref()
        .filter(|tenant| store.leases().has(tenant))
    else {
        return;
    };
    let Some(info) = plan.tenants.get(tenant) else {
        return;
    };
    let mut has_id = HashSet::new();
    for lease in granted(plan, store, (tenant, info)) {
        let owner = RrOwner::Dhcp;
        if spec.origin == info.zone {
            let data = match lease.address {
                IpAddr::V4(address) => (rtype::A, address.octets().as_slice().into()),
                IpAddr::V6(address) => (rtype::AAAA, address.octets().as_slice().into()),
            };
            contents.add(lease.name.clone(), data, TTL, owner.clone());
            if has_id.insert(lease.name.clone()) {
                let data = (rtype::DHCID, dhcid(lease.named, &lease.name));
                contents.add(lease.name, data, TTL, owner);
            }
            continue;
        }
        let net = info.nets.iter().find(|net| net.contains(&lease.address));
        let Some(Ok(pointer)) = net.map(|net| reverse::owner_name(lease.address, *net)) else {
            continue;
        };
        let dynamic = store.zone(tenant, &spec.origin);
        let is_updated = dynamic.is_some_and(|zone| zone.at(&pointer).next().is_some());
        if pointer.is_within(&spec.origin) && !is_updated && contents.sets(&pointer).is_empty() {
            let data = (rtype::PTR, lease.name.as_wire().into());
            contents.add(pointer, data, TTL, owner);
        }
    }
}

/// Returns the leases of a tenant that have their names.
fn granted<'s>(
    plan: &Plan,
    store: &'s Store,
    (tenant, info): (&Arc<str>, &TenantInfo),
) -> Vec<Granted<'s>> {
    let spec = plan.zones.iter().find(|spec| spec.origin == info.zone);
    let dynamic = store.zone(tenant, &info.zone);
    let Ok(parent) = Name::from_labels([LABEL], &info.zone) else {
        return Vec::new();
    };
    let mut wanted: Vec<(&(u16, IpAddr), &Named)> = info
        .vlans
        .iter()
        .flat_map(|vlan| {
            let low = (*vlan, IpAddr::from([0; 4]));
            let all = store.leases().leases.range(low..);
            all.take_while(move |((of, _), _)| of == vlan)
        })
        .filter(|((_, address), _)| info.nets.iter().any(|net| net.contains(address)))
        .collect();
    wanted.sort_by_key(|(key, named)| (named.since, **key));
    let mut holders: HashMap<Name, MacAddr> = HashMap::new();
    let mut all = Vec::new();
    for ((_, address), named) in wanted {
        let Ok(name) = Name::from_labels([named.label.as_bytes()], &parent) else {
            continue;
        };
        let is_fixed = spec.is_none_or(|spec| !spec.contents.sets(&name).is_empty());
        let is_updated = dynamic.is_some_and(|zone| zone.at(&name).next().is_some());
        let holder = *holders.entry(name.clone()).or_insert(named.mac);
        if !is_fixed && !is_updated && holder == named.mac {
            all.push(Granted {
                name,
                address: *address,
                named,
            });
        }
    }
    all
}

/// RFC 4701, 3: the client's DUID, its identifier, or its hardware address, together with the name, as a digest.
fn dhcid(client: &Named, name: &Name) -> Box<[u8]> {
    // RFC 4361, 6.1: 255, four octets of IAID, and the DUID.
    let duid = client.client_id.split_first_chunk::<5>();
    let (kind, identifier): (u16, Vec<u8>) = match duid {
        Some(([255, ..], duid)) if !duid.is_empty() => (2, duid.to_vec()),
        _ if !client.client_id.is_empty() => (1, client.client_id.to_vec()),
        // Ethernet is type 1 of hardware.
        _ => (0, [&[1], client.mac.0.as_slice()].concat()),
    };
    let mut data = kind.to_be_bytes().to_vec();
    // SHA-256 is digest 1.
    data.push(1);
    data.extend(Sha256::digest([&identifier, name.as_wire()].concat()));
    data.into()
}

/// Follows the file.
pub(crate) struct Follower {
    config: Config,
    follow: Option<Follow>,
    table: Table,
    said: String,
}

impl Follower {
    /// Begins with what is there.
    pub(crate) fn new(config: &Config) -> Self {
        let mut follower = Self {
            table: Table::new(&config.tenants),
            config: config.clone(),
            follow: None,
            said: String::new(),
        };
        follower.read();
        follower
    }

    pub(crate) fn table(&self) -> Table {
        self.table.clone()
    }

    /// Reads to the end of the file.
    fn read(&mut self) {
        let mut table = self.table.clone();
        match self.read_into(&mut table) {
            Ok(()) => {
                self.table = table;
                self.said.clear();
            }
            // What was read stays: names do not go because a file cannot be read.
            Err(reason) => {
                self.follow = None;
                let text = crate::chain(&reason);
                if self.said != text {
                    warn!(error = text, "names of leases stay as they are");
                    self.said = text;
                }
            }
        }
    }

    fn read_into(&mut self, table: &mut Table) -> Result<(), LeasesError> {
        let is_first = self.follow.is_none();
        let follow = match &mut self.follow {
            Some(follow) => follow,
            none => none.insert(Follow::open(&self.config.file, 0)?),
        };
        if is_first {
            table.leases.clear();
        }
        while let Some(step) = follow.next()? {
            match step {
                Step::Restart => table.leases.clear(),
                Step::Entry(entry) => table.take(&entry),
            }
        }
        if is_first {
            table.begun = table.begun.max(follow.position());
        }
        // What a summary leaves out has ended.
        for vlan in table.differing(&self.table) {
            let touched = table.touched.entry(vlan).or_default();
            *touched = (*touched).max(follow.position());
        }
        Ok(())
    }

    /// Returns the VLANs whose names are others now.
    fn changed(&mut self) -> BTreeSet<u16> {
        let before = self.table.clone();
        self.read();
        before.differing(&self.table)
    }
}

/// Runs until the server stops.
pub(crate) fn run(shared: &Shared, mut follower: Follower) {
    while !shared.is_stopping() {
        let vlans = follower.changed();
        if !vlans.is_empty() {
            serve(shared, follower.table(), &vlans);
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Makes the zones anew whose names changed.
fn serve(shared: &Shared, table: Table, vlans: &BTreeSet<u16>) {
    let mut store = shared.store();
    store.set_leases(table);
    let world = shared.world();
    let mut count = 0;
    for (index, spec) in world.plan.zones.iter().enumerate() {
        let tenant = spec
            .tenant
            .as_ref()
            .filter(|tenant| store.leases().has(tenant));
        let info = tenant.and_then(|tenant| world.plan.tenants.get(tenant));
        if info.is_some_and(|info| info.vlans.iter().any(|vlan| vlans.contains(vlan))) {
            world.refresh(ZoneId(index), &store);
            count += 1;
        }
    }
    drop(store);
    if count > 0 {
        info!(zones = count, "names of leases changed");
        shared.mark_changed();
    }
}

/// Says which tenants of the configuration there are not.
pub(crate) fn warn_of_strangers(config: &Config, plan: &Plan) {
    let strangers = config
        .tenants
        .iter()
        .filter(|name| !plan.tenants.contains_key(name.as_str()));
    for tenant in strangers {
        warn!(tenant, "--lease-names: there is no such tenant (yet)");
    }
}

#[cfg(test)]
mod tests {
    use netmodel::ids::VlanId;

    use super::*;
    use crate::keys::base64;

    fn named(client_id: &[u8], mac: [u8; 6]) -> Named {
        Named {
            label: "x".into(),
            mac: MacAddr(mac),
            client_id: client_id.into(),
            since: 0,
        }
    }

    #[test]
    fn rfc_4701_section_3_6_has_these_examples() {
        let duid = [0, 1, 0, 6, 0x41, 0x2d, 0xf1, 0x66, 1, 2, 3, 4, 5, 6];
        let with_iaid = [&[255, 0, 0, 0, 1], duid.as_slice()].concat();
        let rows: [(&[u8], [u8; 6], &str, &str); 3] = [
            (
                &with_iaid,
                [0; 6],
                "chi6.example.com",
                "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=",
            ),
            (
                &[1, 7, 8, 9, 10, 11, 12],
                [0; 6],
                "chi.example.com",
                "AAEBOSD+XR3Os/0LozeXVqcNc7FwCfQdWL3b/NaiUDlW2No=",
            ),
            (
                &[],
                [1, 2, 3, 4, 5, 6],
                "client.example.com",
                "AAABxLmlskllE0MVjd57zHcWmEH3pCQ6VytcKD//7es/deY=",
            ),
        ];
        for (client_id, mac, name, expected) in rows {
            let found = dhcid(&named(client_id, mac), &Name::absolute(name).unwrap());
            assert_eq!(*found, *base64(expected).unwrap(), "{name}");
        }
    }

    fn entry(number: u64, state: State, hostname: &str) -> Entry {
        Entry {
            number,
            vlan: VlanId::new(100).unwrap(),
            address: [10, 1, 0, 20].into(),
            lease: leases::Lease {
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                state,
                since: 1000,
                until: 2000,
                client_id: Box::default(),
                hostname: hostname.into(),
            },
        }
    }

    #[test]
    fn a_renewal_changes_no_serial_and_an_end_does() {
        let info = TenantInfo {
            key: None,
            is_draining: false,
            nets: Vec::new(),
            vlans: vec![100],
            gateways: Vec::new(),
            zone: Name::absolute("a.example").unwrap(),
        };
        let mut table = Table::new(&["a".to_owned()].into());
        let mut serial = |number, state, hostname| {
            table.take(&entry(number, state, hostname));
            (table.serial("a", &info), table.leases.len())
        };
        assert_eq!(serial(1, State::Bound, "Web"), (1, 1));
        assert_eq!(
            serial(2, State::Bound, "web"),
            (1, 1),
            "a renewal, in other letters"
        );
        assert_eq!(serial(3, State::Bound, "db"), (3, 1));
        assert_eq!(serial(4, State::Expired, "db"), (4, 0));
        assert_eq!(serial(5, State::Released, "db"), (4, 0));
        assert_eq!(serial(6, State::Bound, ""), (4, 0), "without a name");
        assert_eq!(serial(7, State::Bound, "a.b"), (4, 0), "not a label");
        assert_eq!(table.serial("b", &info), 0, "who did not ask for it");
    }

    #[test]
    fn a_file_is_read_again_from_its_summary_and_serials_do_not_fall() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leases");
        let write = |base: u64, entries: &[Entry]| {
            let mut text = leases::head_line(base);
            for entry in entries {
                leases::push_line(&mut text, entry);
            }
            let draft = folder.path().join("draft");
            std::fs::write(&draft, text).unwrap();
            std::fs::rename(&draft, &file).unwrap();
        };
        let config = Config {
            file: file.clone(),
            tenants: ["a".to_owned()].into(),
        };
        let mut follower = Follower::new(&config);
        assert!(follower.changed().is_empty(), "there is no file yet");
        write(0, &[entry(1, State::Bound, "web")]);
        assert_eq!(follower.changed(), [100].into());
        assert!(follower.changed().is_empty());
        // A summary without the lease: it ended while nobody looked.
        write(9, &[]);
        assert_eq!(follower.changed(), [100].into());
        assert_eq!(follower.table.touched.get(&100), Some(&9));
        let again = Follower::new(&config);
        assert!(again.table.begun >= 9, "after a restart");
    }
}
