//! What a question is about: ports, each run of alike ones asked once.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use dataplane_common::abi::service_index;
use netmodel::model::{PortSpec, Protocol};

use super::party::protocol_name;
use super::{AskError, Site};
use crate::compile::Tables;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// A protocol without ports that no rule can name: SCTP.
const OTHER: u8 = 132;

/// Ports that the gateway itself serves, whether or not a rule names them.
const GATEWAY_PORTS: [u16; 4] = [53, 67, 123, 547];

/// Ports (or a protocol) that the tables treat alike; the first is asked for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Service {
    protocol: u8,
    first: u16,
    last: u16,
}

impl Service {
    fn ports(protocol: u8, ports: &RangeInclusive<u16>) -> Self {
        let (first, last) = (*ports.start(), *ports.end());
        Self {
            protocol,
            first,
            last,
        }
    }

    fn portless(protocol: u8) -> Self {
        Self {
            protocol,
            first: 0,
            last: u16::MAX,
        }
    }

    /// Is this a connection of the service, towards a destination of its family?
    #[cfg(test)]
    pub(crate) fn covers(&self, destination: IpAddr, protocol: u8, port: u16) -> bool {
        match protocol {
            TCP | UDP => self.protocol == protocol && (self.first..=self.last).contains(&port),
            _ if self.protocol == ICMP => protocol == self.protocol_of(destination),
            // Whatever no rule can name: every other protocol, and ICMP of the other family.
            _ => {
                self.protocol == OTHER && protocol != Self::portless(ICMP).protocol_of(destination)
            }
        }
    }

    /// Returns the name of the gateway service that it is, if it is one.
    pub(crate) fn gateway_name(&self) -> Option<&'static str> {
        match (self.protocol, self.first, self.last) {
            (UDP, 67, 67) | (UDP, 547, 547) => Some("dhcp"),
            (UDP | TCP, 53, 53) => Some("dns"),
            (UDP, 123, 123) => Some("ntp"),
            (ICMP, ..) => Some("icmp"),
            _ => None,
        }
    }

    /// Returns the port to ask for.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.first
    }

    /// Returns the IP protocol number, for the family of the destination.
    #[must_use]
    pub fn protocol_of(&self, destination: IpAddr) -> u8 {
        match (self.protocol, destination) {
            (ICMP, IpAddr::V6(_)) => ICMPV6,
            (protocol, _) => protocol,
        }
    }

    /// Returns `tcp/443`, `udp/5000-5100`, `tcp`, `icmp`, `other protocols`.
    #[must_use]
    pub fn label(&self) -> String {
        let ports = self.first..=self.last;
        match self.protocol {
            TCP => range_label("tcp", &ports, false),
            UDP => range_label("udp", &ports, false),
            ICMP => "icmp".to_owned(),
            _ => "other protocols".to_owned(),
        }
    }
}

/// Joins what is adjacent: the fewest services that mean the same.
#[must_use]
pub fn joined(services: impl IntoIterator<Item = Service>) -> Vec<Service> {
    let mut services: Vec<_> = services.into_iter().collect();
    services.sort();
    services.dedup();
    let mut joined: Vec<Service> = Vec::new();
    for service in services {
        match joined.last_mut() {
            Some(before)
                if before.protocol == service.protocol
                    && u32::from(service.first) <= u32::from(before.last) + 1 =>
            {
                before.last = before.last.max(service.last);
            }
            _ => joined.push(service),
        }
    }
    joined
}

/// Are these all protocols and ports?
#[must_use]
pub fn is_everything(joined: &[Service]) -> bool {
    let every = [ICMP, TCP, UDP, OTHER].map(Service::portless);
    every.iter().all(|service| joined.contains(service))
}

/// Returns `tcp/443`, `udp/5000-5100`, `tcp`, `icmp`.
#[must_use]
pub fn service_label(spec: &PortSpec) -> String {
    range_label(
        protocol_name(spec.protocol),
        &spec.ports,
        spec.protocol == Protocol::Icmp,
    )
}

fn range_label(protocol: &str, ports: &RangeInclusive<u16>, is_portless: bool) -> String {
    match (*ports.start(), *ports.end()) {
        _ if is_portless => protocol.to_owned(),
        (0, u16::MAX) => protocol.to_owned(),
        (first, last) if first == last => format!("{protocol}/{first}"),
        (first, last) => format!("{protocol}/{first}-{last}"),
    }
}

/// Reads `443`, `53/udp`, `udp/53`, `8000-8100/tcp`, `icmp`.
pub(super) fn parse_ports(text: &str) -> Result<Vec<PortSpec>, AskError> {
    let bad = || AskError::BadPort {
        text: text.to_owned(),
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, ""));
    let (ports, protocol) = match (protocol_named(ports), protocol) {
        (Some(named), "") => ("0-65535", named),
        (Some(named), ports) => (ports, named),
        (None, "") => (ports, Protocol::Tcp),
        (None, name) => (ports, protocol_named(name).ok_or_else(bad)?),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let first: u16 = first.parse().map_err(|_| bad())?;
    let last: u16 = last.parse().map_err(|_| bad())?;
    if first > last {
        return Err(bad());
    }
    Ok(vec![PortSpec {
        protocol,
        ports: first..=last,
    }])
}

fn protocol_named(text: &str) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "icmp" | "ping" => Some(Protocol::Icmp),
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

impl Site<'_> {
    /// Returns the services that a question is about: runs of ports that the tables treat alike.
    pub(super) fn services(&self, ports: &[PortSpec]) -> Vec<Service> {
        if ports.is_empty() {
            let mut services = self.runs(TCP, 0..=u16::MAX);
            services.extend(self.runs(UDP, 0..=u16::MAX));
            services.extend([ICMP, OTHER].map(Service::portless));
            return services;
        }
        let specs = ports.iter();
        specs
            .flat_map(|spec| match spec.protocol {
                Protocol::Icmp => vec![Service::portless(ICMP)],
                Protocol::Tcp => self.runs(TCP, spec.ports.clone()),
                Protocol::Udp => self.runs(UDP, spec.ports.clone()),
            })
            .collect()
    }

    /// Cuts a range of ports where the service class changes.
    fn runs(&self, protocol: u8, ports: RangeInclusive<u16>) -> Vec<Service> {
        runs(&[self.tables], protocol, ports)
    }
}

/// Cuts a range of ports where the service class changes in any of the tables.
fn runs(tables: &[&Tables], protocol: u8, ports: RangeInclusive<u16>) -> Vec<Service> {
    let is_alike = |a: u16, b: u16| {
        let is_gateway = GATEWAY_PORTS.contains(&a) || GATEWAY_PORTS.contains(&b);
        let class = |tables: &Tables, port| {
            let index = service_index(protocol, port) as usize;
            tables.services.get(index).copied()
        };
        !is_gateway
            && tables
                .iter()
                .all(|tables| class(tables, a) == class(tables, b))
    };
    let mut runs: Vec<RangeInclusive<u16>> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some(run) if is_alike(*run.end(), port) => *run = *run.start()..=port,
            _ => runs.push(port..=port),
        }
    }
    runs.iter()
        .map(|run| Service::ports(protocol, run))
        .collect()
}

/// Returns every service, cut where any of the tables tells ports apart.
pub(crate) fn every_service(tables: &[&Tables]) -> Vec<Service> {
    let mut services = runs(tables, TCP, 0..=u16::MAX);
    services.extend(runs(tables, UDP, 0..=u16::MAX));
    services.extend([ICMP, OTHER].map(Service::portless));
    services
}
