//! Names that people write, and what they stand for.

use std::net::IpAddr;

use netmodel::Model;
use netmodel::model::{
    HostId, Owner, Peer, PeerKind, PortSpec, Protocol, SegmentId, ServiceId, TenantId, Zone,
};

use super::AskError;
use super::services::parse_ports;

/// One side of a question: as said, and what it stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Party {
    /// As said.
    pub text: String,
    /// What it stands for.
    pub kind: PartyKind,
}

/// What a [`Party`] stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartyKind {
    /// What inventories can name as well.
    Peer(PeerKind),
    /// One segment of a tenant.
    Segment(SegmentId),
    /// A platform service.
    Service(ServiceId),
}

impl From<&Peer> for Party {
    fn from(peer: &Peer) -> Self {
        Self {
            text: peer.text.clone(),
            kind: PartyKind::Peer(peer.kind),
        }
    }
}

/// Reads a name: host, `tenant/host`, `tenant/segment`, zone, tenant, service, address, `internet`.
///
/// # Errors
///
/// [`AskError::Unknown`] with names that are close, [`AskError::Ambiguous`] with what it can be.
pub fn resolve(model: &Model, text: &str) -> Result<Party, AskError> {
    let party = |kind| Party {
        text: text.to_owned(),
        kind,
    };
    if let Ok(address) = unbracketed(text).parse::<IpAddr>() {
        return Ok(party(PartyKind::Peer(PeerKind::Address(address))));
    }
    let mut found: Vec<_> = names(model)
        .into_iter()
        .filter(|name| name.is_called(text))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(name), true) => Ok(party(name.kind)),
        (Some(name), false) => {
            found.push(name);
            let candidates = found.iter().map(Name::describe).collect();
            Err(AskError::Ambiguous {
                name: text.to_owned(),
                candidates,
            })
        }
        (None, _) => Err(AskError::Unknown {
            name: text.to_owned(),
            candidates: closest(model, text),
        }),
    }
}

/// Reads `DST[:PORT[/PROTO]]`. A platform service without a port means its own ports.
///
/// # Errors
///
/// As [`resolve`], and [`AskError::BadPort`].
pub fn parse_destination(model: &Model, text: &str) -> Result<(Party, Vec<PortSpec>), AskError> {
    let (name, port) = split_port(text);
    let party = resolve(model, name)?;
    let ports = match (port, party.kind) {
        (Some(port), _) => parse_ports(port)?,
        (None, PartyKind::Service(id)) => model.service(id).ports.clone(),
        (None, _) => Vec::new(),
    };
    Ok((party, ports))
}

/// Splits at the last colon, unless the colons are an IPv6 address's.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if text.parse::<IpAddr>().is_ok() {
        return (text, None);
    }
    if let Some((address, rest)) = text.split_once(']') {
        let address = address.trim_start_matches('[');
        return (address, rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text)
}

/// A thing that has a name.
struct Name {
    /// In full: `tenant/host` for what a tenant owns.
    full: String,
    /// Without its owner.
    short: String,
    what: &'static str,
    kind: PartyKind,
}

impl Name {
    fn is_called(&self, text: &str) -> bool {
        self.full == text || self.short == text
    }

    fn describe(&self) -> String {
        format!("{} {}", self.what, self.full)
    }
}

fn names(model: &Model) -> Vec<Name> {
    let mut names = vec![
        name("internet", "the", PartyKind::Peer(PeerKind::Internet)),
        name(
            "tenants",
            "zone",
            PartyKind::Peer(PeerKind::Zone(Zone::Tenants)),
        ),
    ];
    for (i, tenant) in model.tenants.iter().enumerate() {
        let kind = PartyKind::Peer(PeerKind::Tenant(TenantId(i)));
        names.push(name(tenant.name.as_str(), "tenant", kind));
    }
    for (i, segment) in model.segments.iter().enumerate() {
        let id = SegmentId(i);
        names.push(match segment.owner {
            Owner::Platform => {
                let kind = PartyKind::Peer(PeerKind::Zone(Zone::Segment(id)));
                name(segment.name.as_str(), "zone", kind)
            }
            Owner::Tenant(_) => {
                let full = owned(model, segment.owner, segment.name.as_str());
                // `main` alone would be every tenant's.
                let short = full.clone();
                Name {
                    full,
                    short,
                    what: "segment",
                    kind: PartyKind::Segment(id),
                }
            }
        });
    }
    for (i, service) in model.services.iter().enumerate() {
        names.push(name(
            &service.name,
            "service",
            PartyKind::Service(ServiceId(i)),
        ));
    }
    for (i, host) in model.hosts.iter().enumerate() {
        names.push(Name {
            full: owned(model, host.owner, host.name.as_str()),
            short: host.name.as_str().to_owned(),
            what: "host",
            kind: PartyKind::Peer(PeerKind::Host(HostId(i))),
        });
    }
    names
}

fn name(text: &str, what: &'static str, kind: PartyKind) -> Name {
    Name {
        full: text.to_owned(),
        short: text.to_owned(),
        what,
        kind,
    }
}

/// Returns `tenant/name`, or the name alone for what the platform owns.
pub(super) fn owned(model: &Model, owner: Owner, name: &str) -> String {
    match owner {
        Owner::Platform => name.to_owned(),
        Owner::Tenant(tenant) => format!("{}/{name}", model.tenant(tenant).name),
    }
}

fn closest(model: &Model, text: &str) -> Vec<String> {
    let mut scored: Vec<_> = names(model)
        .into_iter()
        .map(|name| {
            let score = strsim::jaro_winkler(&name.short, text);
            (score.max(strsim::jaro_winkler(&name.full, text)), name.full)
        })
        .filter(|(score, _)| *score > 0.85)
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.truncate(3);
    scored.into_iter().map(|(_, name)| name).collect()
}

/// Returns the IP protocol's name in `PORT/PROTO`.
pub(super) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Icmp => "icmp",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}
