//! The zones that are served, as a generation for bulkhead and as a list for the others, and the questions.

use std::net::Ipv4Addr;

use anyhow::Result;
use bench::site;
use netmodel::model::{DnsRecord, Model, Origin};
use netmodel::published::Published;

/// Where all servers listen, in the benchmark's own namespace.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 1);

/// A question, who asks, and what the answer begins with.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) octets: Vec<u8>,
    pub(crate) source: Ipv4Addr,
    /// The gateway of the one who asks: bulkhead's own address in that segment.
    pub(crate) gateway: Ipv4Addr,
}

/// A zone of addresses.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) origin: String,
    pub(crate) names: Vec<(String, Ipv4Addr)>,
    /// VLAN of the tenant whose zone it is.
    vlan_id: u16,
}

/// Zones, and the generation that says the same.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) zones: Vec<Zone>,
    pub(crate) published: Published,
    /// Are the zones signed?
    pub(crate) is_signed: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Names that are there: NOERROR, with an address.
    Found,
    /// Names that are not: NXDOMAIN.
    Absent,
    /// Names that are there, with a signature.
    Signed,
    /// Names that are not, with a proof.
    Denied,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Signed => "signed",
            Self::Denied => "denied",
        }
    }

    /// Is this the right answer?
    pub(crate) fn is_answered_by(self, reply: &[u8]) -> bool {
        let rcode = reply.get(3).map(|octet| octet & 0xf);
        let answers = reply.get(7).copied();
        match self {
            Self::Found => (rcode, answers) == (Some(0), Some(1)),
            Self::Absent => (rcode, answers) == (Some(3), Some(0)),
            Self::Signed => (rcode, answers) == (Some(0), Some(2)),
            // SOA, NSEC and their signatures at least; RFC 9824 has another code than RFC 4035.
            Self::Denied => answers == Some(0) && reply.get(9).is_some_and(|count| *count >= 4),
        }
    }
}

impl Site {
    /// One tenant with so many names.
    pub(crate) fn one_zone(names: u32) -> Result<Self> {
        Self::new("one-zone", site::FIRST_TENANT, names)
    }

    /// The same, signed.
    pub(crate) fn signed_zone(names: u32) -> Result<Self> {
        let mut site = Self::new("signed-zone", site::FIRST_TENANT, names)?;
        for tenant in &mut site.published.model.tenants {
            tenant.dnssec = true;
        }
        site.is_signed = true;
        Ok(site)
    }

    /// Returns what its names are asked for.
    pub(crate) fn kinds(&self) -> [Kind; 2] {
        if self.is_signed {
            [Kind::Signed, Kind::Denied]
        } else {
            [Kind::Found, Kind::Absent]
        }
    }

    /// As many tenants as there are VLANs, each with a zone of so many names.
    pub(crate) fn tenants(segments: u16, names: u32) -> Result<Self> {
        Self::new("tenants", segments, names)
    }

    fn new(name: &str, segments: u16, names: u32) -> Result<Self> {
        let mut model = site::model(segments, 0)?;
        let mut zones = Vec::new();
        for vlan_id in site::FIRST_TENANT..=segments {
            let zone = zone(&model, vlan_id, names);
            model.records.extend(records(&zone));
            zones.push(zone);
        }
        Ok(Self {
            name: format!("{name}-{}x{names}", zones.len()),
            zones,
            is_signed: false,
            published: Published {
                number: 1,
                inventory: "bench".into(),
                model,
            },
        })
    }

    /// Returns questions in a mixed order, each asked by a client of the zone's own tenant.
    pub(crate) fn questions(&self, kind: Kind, count: usize) -> Vec<Question> {
        let mut random = fastrand::Rng::with_seed(5);
        let pick = |random: &mut fastrand::Rng| {
            let zone = &self.zones[random.usize(..self.zones.len())];
            let (name, _) = &zone.names[random.usize(..zone.names.len())];
            let label = match kind {
                Kind::Found | Kind::Signed => name.clone(),
                Kind::Absent | Kind::Denied => format!("no{}", random.u32(..)),
            };
            Question {
                octets: question(
                    &format!("{label}.{}", zone.origin),
                    (random.u16(..), self.is_signed),
                ),
                source: site::ipv4(zone.vlan_id, 10),
                gateway: site::ipv4(zone.vlan_id, 1),
            }
        };
        (0..count).map(|_| pick(&mut random)).collect()
    }
}

fn zone(model: &Model, vlan_id: u16, names: u32) -> Zone {
    let tenant = &model.tenants[usize::from(vlan_id - site::FIRST_TENANT)];
    let address =
        |index: u32| Ipv4Addr::from(u32::from(site::ipv4(vlan_id, 0)) | (index % 250 + 2));
    Zone {
        origin: format!("{}.{}.{}", tenant.name, model.site_name, model.site_domain),
        names: (0..names)
            .map(|index| (format!("host{index:05}"), address(index)))
            .collect(),
        vlan_id,
    }
}

fn records(zone: &Zone) -> impl Iterator<Item = DnsRecord> {
    zone.names.iter().map(|(name, address)| DnsRecord {
        zone: zone.origin.clone(),
        name: name.clone(),
        record_type: "A".into(),
        value: address.to_string(),
        ttl: None,
        origin: Origin {
            file: "bench.yml".into(),
            line: 1,
            column: 1,
        },
    })
}

/// Returns the octets of a question for an address, with EDNS; and DO, if signatures are wanted.
fn question(name: &str, (id, wants_signatures): (u16, bool)) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        octets.extend(u8::try_from(label.len()));
        octets.extend(label.as_bytes());
    }
    // The root, type A, class IN; OPT with 1232 octets.
    let flags = u8::from(wants_signatures) << 7;
    octets.extend([0, 0, 1, 0, 1, 0, 0, 41, 0x04, 0xd0, 0, 0, flags, 0, 0, 0]);
    octets
}
