//! Scenarios as text, for a person who looks for the reason of a disagreement.

use std::fmt::{self, Write as _};

use netmodel::Model;
use netmodel::model::{Host, Interface, Owner, PortSpec, Protocol, Segment, Tenant, ZonePolicy};

use super::{Case, Scenario, Step};
use crate::{State, from_trunk};

impl fmt::Display for Scenario {
    /// The router, the inventories that are used, and each step with the evaluator's verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let router = self.world(0, 1).router;
        writeln!(f, "scenario of seed {}", self.seed)?;
        writeln!(
            f,
            "router {} link-local {}",
            hex(&router.mac, ":"),
            router.link_local
        )?;
        writeln!(f, "router also has {:?}", router.extra_addresses)?;
        for (index, model) in self.models.iter().enumerate() {
            if index == 0 || self.steps.contains(&Step::Flip(index)) {
                writeln!(f, "\nmodel {index}")?;
                write_model(f, model)?;
            }
        }
        writeln!(f)?;
        self.write_steps(f)
    }
}

impl Scenario {
    fn write_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut world = self.world(0, 1);
        let mut state = State::default();
        let mut now = 0;
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Advance(seconds) => {
                    now += seconds;
                    writeln!(f, "{number:4} +{seconds} s: now {now} s")?;
                }
                Step::Flip(model) => {
                    world = self.world(*model, world.generation + 1);
                    writeln!(
                        f,
                        "{number:4} generation {}: model {model}",
                        world.generation
                    )?;
                }
                Step::Packet(case) => {
                    let verdict = from_trunk(&world, &mut state, &case.frame(), now);
                    writeln!(
                        f,
                        "{number:4} {case}\n       -> {} {verdict:?}",
                        verdict.name()
                    )?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Case {
    /// What it is and what was forged, then the octets in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} octets)", self.notes.join("; "), self.bytes.len())?;
        if let Some((tpid, tci)) = self.offloaded_tag {
            write!(f, ", offloaded tag {tpid:04x} {tci:04x}")?;
        }
        write!(f, "\n       {}", summary(&self.bytes))?;
        write!(f, "\n       {}", hex(&self.bytes, ""))
    }
}

/// MACs, and addresses where a header without options would have them.
fn summary(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (Some(destination), Some(source)) = (bytes.get(..6), bytes.get(6..12)) else {
        return "too short for MACs".to_owned();
    };
    // Writing to a String cannot fail.
    let _ = write!(text, "{} > {}", hex(source, ":"), hex(destination, ":"));
    let Some(tag) = bytes.get(12..16).filter(|tag| tag[..2] == [0x81, 0]) else {
        return text;
    };
    let _ = write!(
        text,
        " vlan {}",
        u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff
    );
    match bytes.get(16..18) {
        Some([0x08, 0x00]) => ip_summary(&mut text, bytes, 18 + 12, 4, 9),
        Some([0x86, 0xdd]) => ip_summary(&mut text, bytes, 18 + 8, 16, 6),
        Some(ether_type) => {
            let _ = write!(text, " type {}", hex(ether_type, ""));
        }
        None => {}
    }
    text
}

fn ip_summary(text: &mut String, bytes: &[u8], place: usize, length: usize, protocol: usize) {
    let address = |from: usize| {
        let octets = bytes.get(from..from + length)?;
        match <[u8; 4]>::try_from(octets) {
            Ok(octets) => Some(std::net::IpAddr::from(octets)),
            Err(_) => <[u8; 16]>::try_from(octets)
                .ok()
                .map(std::net::IpAddr::from),
        }
    };
    if let (Some(source), Some(destination)) = (address(place), address(place + length)) {
        let number = bytes.get(18 + protocol).copied().unwrap_or_default();
        let _ = write!(text, " {source} > {destination} protocol {number}");
    }
}

fn hex(bytes: &[u8], separator: &str) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(separator)
}

fn write_model(f: &mut fmt::Formatter<'_>, model: &Model) -> fmt::Result {
    let native = model
        .routers
        .first()
        .and_then(|router| router.native_segment);
    writeln!(
        f,
        "  native {native:?} gateway services {:?}",
        model.gateway_services
    )?;
    for (index, segment) in model.segments.iter().enumerate() {
        write_segment(f, index, segment)?;
    }
    for (index, host) in model.hosts.iter().enumerate() {
        write_host(f, index, host)?;
    }
    for (index, service) in model.services.iter().enumerate() {
        let ports = ports_text(&service.ports);
        let (v4, v6) = (service.ipv4, service.ipv6);
        writeln!(
            f,
            "  service {index} on {} {v4:?} {v6:?} {ports}",
            service.segment.0
        )?;
    }
    for (index, policy) in model.policies.iter().enumerate() {
        write_policy(f, index, policy)?;
    }
    let zones: Vec<_> = model
        .internet_zones
        .iter()
        .map(|entry| entry.zone)
        .collect();
    writeln!(
        f,
        "  internet zones {zones:?} excludes {:?}",
        model.internet_excludes
    )?;
    model
        .tenants
        .iter()
        .enumerate()
        .try_for_each(|(index, tenant)| write_tenant(f, index, tenant))
}

fn write_segment(f: &mut fmt::Formatter<'_>, index: usize, segment: &Segment) -> fmt::Result {
    let owner = match segment.owner {
        Owner::Platform => "platform".to_owned(),
        Owner::Tenant(tenant) => format!("tenant {}", tenant.0),
    };
    write!(
        f,
        "  segment {index} {owner} vlan {} mtu {}",
        segment.vlan_id, segment.mtu
    )?;
    if let Some(subnet) = segment.ipv4 {
        write!(f, " {} gateway {}", subnet.net, subnet.gateway)?;
    }
    if let Some(subnet) = segment.ipv6 {
        write!(f, " {} gateway {}", subnet.net, subnet.gateway)?;
    }
    writeln!(f)
}

fn write_host(f: &mut fmt::Formatter<'_>, index: usize, host: &Host) -> fmt::Result {
    let router = if host.is_router { " router" } else { "" };
    writeln!(f, "  host {index} {}{router}", host.name)?;
    host.interfaces
        .iter()
        .try_for_each(|interface| write_interface(f, interface))
}

fn write_interface(f: &mut fmt::Formatter<'_>, interface: &Interface) -> fmt::Result {
    let mac = interface
        .mac
        .map_or("UNKNOWN".to_owned(), |mac| mac.to_string());
    let segment = interface
        .segment
        .map_or("no segment".to_owned(), |id| id.0.to_string());
    writeln!(
        f,
        "    on {segment} {mac} {:?} {:?}",
        interface.ipv4, interface.ipv6
    )
}

fn write_policy(f: &mut fmt::Formatter<'_>, index: usize, policy: &ZonePolicy) -> fmt::Result {
    let nets = (policy.source_net, policy.destination_net);
    write!(
        f,
        "  policy {index} {:?} -> {:?} {:?}",
        policy.from, policy.to, policy.protocol
    )?;
    writeln!(f, " {nets:?} {:?}", policy.destination_ports)
}

fn write_tenant(f: &mut fmt::Formatter<'_>, index: usize, tenant: &Tenant) -> fmt::Result {
    let internet = if tenant.internet.is_some() {
        "nat"
    } else {
        "none"
    };
    let services: Vec<_> = tenant.services.iter().map(|(id, _)| id.0).collect();
    let operators: Vec<_> = tenant
        .trusted_operators
        .iter()
        .map(|(id, _)| id.0)
        .collect();
    writeln!(
        f,
        "  tenant {index} internet {internet} services {services:?} from {operators:?}"
    )?;
    for accept in &tenant.accepts {
        writeln!(
            f,
            "    accepts {} {}",
            accept.from.0,
            ports_text(&accept.ports)
        )?;
    }
    for rule in &tenant.rules {
        let ports = ports_text(&rule.ports);
        writeln!(
            f,
            "    rule {:?} {:?} -> {:?} {ports}",
            rule.action, rule.from, rule.to
        )?;
    }
    for offer in &tenant.offers {
        let ports = ports_text(&offer.ports);
        let consumers = &offer.consumers;
        writeln!(
            f,
            "    offers {} {:?} {ports} to {consumers:?}",
            offer.name, offer.to
        )?;
    }
    for half in &tenant.uses {
        writeln!(f, "    uses {} of tenant {}", half.offer, half.tenant.0)?;
    }
    Ok(())
}

fn ports_text(ports: &[PortSpec]) -> String {
    let text = |spec: &PortSpec| match spec.protocol {
        Protocol::Icmp => "icmp".to_owned(),
        Protocol::Tcp => format!("tcp/{}-{}", spec.ports.start(), spec.ports.end()),
        Protocol::Udp => format!("udp/{}-{}", spec.ports.start(), spec.ports.end()),
    };
    ports.iter().map(text).collect::<Vec<_>>().join(",")
}
