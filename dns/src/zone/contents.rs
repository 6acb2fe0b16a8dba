//! The records that a zone is made of, and whose each of them is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::name::Name;
use crate::rdata::rtype;

/// TTL of records that say none, in seconds.
pub const DEFAULT_TTL: u32 = 300;
/// How long "there is no such thing" may be remembered, in seconds (RFC 2308).
pub const NEGATIVE_TTL: u32 = 60;

/// Who says a record set. The first owner of a set keeps it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RrOwner {
    /// bulkhead itself: SOA, NS, what RFC 2317 asks for.
    Platform,
    /// The inventory.
    Inventory,
    /// A DHCP lease.
    Dhcp,
    /// A dynamic update that was signed with this key.
    Key(Arc<str>),
}

impl fmt::Display for RrOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Inventory => f.write_str("inventory"),
            Self::Dhcp => f.write_str("dhcp"),
            Self::Key(key) => write!(f, "terraform:{key}"),
        }
    }
}

/// All records of one name and type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RrSet {
    /// The type's number.
    pub rtype: u16,
    /// Seconds; one for all (RFC 2181, 5.2).
    pub ttl: u32,
    /// The data, uncompressed; sorted, none twice.
    pub rdata: Vec<Box<[u8]>>,
    /// Who says it.
    pub owner: RrOwner,
}

/// The records that a zone is made of.
#[derive(Clone, Debug, Default)]
pub struct Contents(BTreeMap<Name, Vec<RrSet>>);

impl Contents {
    /// Adds a record. Of two TTLs in one set the shorter one stays.
    pub fn add(&mut self, name: Name, (kind, rdata): (u16, Box<[u8]>), ttl: u32, owner: RrOwner) {
        let sets = self.0.entry(name).or_default();
        let Some(set) = sets.iter_mut().find(|set| set.rtype == kind) else {
            sets.push(RrSet {
                rtype: kind,
                ttl,
                rdata: vec![rdata],
                owner,
            });
            return;
        };
        set.ttl = set.ttl.min(ttl);
        if let Err(place) = set.rdata.binary_search(&rdata) {
            set.rdata.insert(place, rdata);
        }
    }

    /// Adds a whole set, unless there is one of its type, or it or what is there is a CNAME. Tells
    /// whether it was added.
    pub fn add_set(&mut self, name: &Name, set: &RrSet) -> bool {
        let sets = self.0.entry(name.clone()).or_default();
        let clashes = sets.iter().any(|there| {
            there.rtype == set.rtype || there.rtype == rtype::CNAME || set.rtype == rtype::CNAME
        });
        if !clashes {
            sets.push(set.clone());
        }
        !clashes
    }

    /// Returns the sets at a name.
    #[must_use]
    pub fn sets(&self, name: &Name) -> &[RrSet] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Goes through all sets, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &RrSet)> {
        let all = self.0.iter();
        all.flat_map(|(name, sets)| sets.iter().map(move |set| (name, set)))
    }
}

/// What is the same for all zones of a site.
#[derive(Clone, Debug)]
pub struct Soa {
    /// The primary server.
    pub mname: Name,
    /// The mail address of who is responsible, as a name.
    pub rname: Name,
}

impl Soa {
    /// Returns the record (RFC 1035, 3.3.13).
    #[must_use]
    pub fn set(&self, serial: u32) -> RrSet {
        let mut wire = [self.mname.as_wire(), self.rname.as_wire()].concat();
        for number in [serial, 3600, 600, 604_800, NEGATIVE_TTL] {
            wire.extend(number.to_be_bytes());
        }
        RrSet {
            rtype: rtype::SOA,
            ttl: DEFAULT_TTL,
            rdata: vec![wire.into()],
            owner: RrOwner::Platform,
        }
    }
}
