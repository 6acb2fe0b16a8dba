//! Ports and protocols as the inventory writes them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::cx::{Cx, Text};
use crate::finding::{Code, Finding};
use crate::model::{PortSpec, Protocol};
use crate::source::Place;
use crate::yaml::{Entry, Kind, Value};

const ALL: RangeInclusive<u16> = 0..=u16::MAX;

/// Reads a list of `tcp/443`, `udp/5000-5100`, `icmp`. `None` if one of them cannot be read.
pub(crate) fn read_list(cx: &mut Cx<'_>, value: &Arc<Value>) -> Option<Vec<PortSpec>> {
    let items = cx.list(value, "`ports`")?;
    let ports: Vec<Option<PortSpec>> = items.iter().map(|item| read_one(cx, item)).collect();
    ports.into_iter().collect()
}

/// Reads a list that must not be empty.
pub(crate) fn read_some(cx: &mut Cx<'_>, entry: &Entry) -> Option<Vec<PortSpec>> {
    let ports = read_list(cx, &entry.value)?;
    if ports.is_empty() {
        cx.report(no_port(entry.value.place));
        return None;
    }
    Some(ports)
}

fn no_port(place: Place) -> Finding {
    Finding::new(Code::BadPort, "no port at all", place)
        .note("an empty list could be read as \"every port\" or as \"none\"")
        .help("name the ports: [tcp/443]")
}

/// Reads one port.
pub(crate) fn read_one(cx: &mut Cx<'_>, value: &Arc<Value>) -> Option<PortSpec> {
    let text = cx.text(value, "a port")?;
    let spec = parse(&text.text);
    if spec.is_none() {
        bad(cx, &text);
    }
    spec
}

fn bad(cx: &mut Cx<'_>, text: &Text) {
    let said = &text.text;
    let help = match said.split_once(['/', ':']) {
        None if port_range(said).is_some() => format!("say the protocol: `tcp/{said}`"),
        Some((ports, protocol)) if port_range(ports).is_some() && !protocol.is_empty() => {
            format!("the protocol comes first: `{protocol}/{ports}`")
        }
        _ => "write `tcp/443`, `udp/5000-5100`, `tcp` or `icmp`".to_owned(),
    };
    cx.report(
        Finding::new(Code::BadPort, format!("`{said}` is not a port"), text.place).help(help),
    );
}

fn parse(text: &str) -> Option<PortSpec> {
    let (protocol, ports) = match text.split_once('/') {
        Some((protocol, ports)) => (protocol, Some(ports)),
        None => (text, None),
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" if ports.is_none() => Protocol::Icmp,
        _ => return None,
    };
    let ports = match ports {
        None => ALL,
        Some(ports) => port_range(ports)?,
    };
    Some(PortSpec { protocol, ports })
}

/// Reads `443` or `5000-5100`; port 0 is none.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|&port: &u16| digits && port > 0)
    };
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last).then_some(first..=last)
}

/// Reads `destination_port`: `443`, `5000-5100`, `80,443` or a list of them.
pub(crate) fn read_destination(
    cx: &mut Cx<'_>,
    value: &Arc<Value>,
) -> Option<Vec<RangeInclusive<u16>>> {
    let value = cx.resolve(value)?;
    let place = value.place;
    let items = match &value.kind {
        Kind::List(items) => items.clone(),
        Kind::Scalar(_) | Kind::Map(_) | Kind::Opaque(_) => vec![value],
    };
    let items_are_empty = items.is_empty();
    let mut ranges = Vec::new();
    for item in items {
        let text = cx.text(&item, "`destination_port`")?;
        if text.text.eq_ignore_ascii_case("any") {
            continue;
        }
        for part in text.text.split(',') {
            let Some(range) = port_range(&part.trim().replace(':', "-")) else {
                cx.report(
                    Finding::new(Code::BadPort, format!("`{part}` is not a port"), text.place)
                        .help("write numbers: 443, 5000-5100 or [80, 443]"),
                );
                return None;
            };
            ranges.push(range);
        }
    }
    if items_are_empty {
        cx.report(no_port(place));
        return None;
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_with_their_protocol() {
        let tcp = |ports| {
            Some(PortSpec {
                protocol: Protocol::Tcp,
                ports,
            })
        };
        assert_eq!(parse("tcp/443"), tcp(443..=443));
        assert_eq!(parse("TCP/5000-5100"), tcp(5000..=5100));
        assert_eq!(parse("tcp"), tcp(0..=65535));
        assert_eq!(parse("icmp").unwrap().protocol, Protocol::Icmp);
        for bad in [
            "443",
            "tcp/",
            "tcp/0",
            "tcp/2-1",
            "tcp/65536",
            "icmp/8",
            "sctp/1",
            "tcp/+1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
