//! Who talks to whom, read out of the first octets of a frame. Whatever does not parse is left out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netmodel::ids::MacAddr;
use serde::Serialize;

const TAG: [u8; 2] = [0x81, 0x00];
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// What the octets say.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Frame {
    /// Source MAC.
    pub source_mac: Option<String>,
    /// Destination MAC.
    pub destination_mac: Option<String>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, a protocol number, or an EtherType like `0x88cc`.
    pub protocol: Option<String>,
    /// Source address; of ARP, the sender.
    pub source: Option<IpAddr>,
    /// Destination address; of ARP, the target.
    pub destination: Option<IpAddr>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
}

impl Frame {
    /// Reads them; the tag may be among them or not.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut frame = Self {
            destination_mac: octets(bytes, 0).map(|mac| MacAddr(mac).to_string()),
            source_mac: octets(bytes, 6).map(|mac| MacAddr(mac).to_string()),
            ..Self::default()
        };
        let at = if octets(bytes, 12) == Some(TAG) {
            16
        } else {
            12
        };
        let Some(ether_type) = octets::<2>(bytes, at) else {
            return frame;
        };
        let packet = bytes.get(at + 2..).unwrap_or_default();
        match ether_type {
            IPV4 => frame.read_ipv4(packet),
            IPV6 => frame.read_ipv6(packet),
            ARP => {
                frame.protocol = Some("arp".into());
                frame.source = octets(packet, 14).map(|ip: [u8; 4]| Ipv4Addr::from(ip).into());
                frame.destination = octets(packet, 24).map(|ip: [u8; 4]| Ipv4Addr::from(ip).into());
            }
            other => frame.protocol = Some(format!("{:#06x}", u16::from_be_bytes(other))),
        }
        frame
    }

    fn read_ipv4(&mut self, packet: &[u8]) {
        self.protocol = Some("ipv4".into());
        let (Some([first]), Some(fragment)) = (octets(packet, 0), octets::<2>(packet, 6)) else {
            return;
        };
        self.source = octets(packet, 12).map(|ip: [u8; 4]| Ipv4Addr::from(ip).into());
        self.destination = octets(packet, 16).map(|ip: [u8; 4]| Ipv4Addr::from(ip).into());
        let header = usize::from(first & 0x0f) * 4;
        let is_first = u16::from_be_bytes(fragment) & 0x1fff == 0;
        if let Some([protocol]) = octets(packet, 9) {
            let transport = packet.get(header..).filter(|_| is_first && header >= 20);
            self.read_transport(protocol, transport.unwrap_or_default());
        }
    }

    /// Extension headers are not walked: the protocol is the number of the first.
    fn read_ipv6(&mut self, packet: &[u8]) {
        self.protocol = Some("ipv6".into());
        self.source = octets(packet, 8).map(|ip: [u8; 16]| Ipv6Addr::from(ip).into());
        self.destination = octets(packet, 24).map(|ip: [u8; 16]| Ipv6Addr::from(ip).into());
        if let Some([protocol]) = octets(packet, 6) {
            self.read_transport(protocol, packet.get(40..).unwrap_or_default());
        }
    }

    fn read_transport(&mut self, protocol: u8, bytes: &[u8]) {
        self.protocol = Some(match protocol {
            1 => "icmp".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            58 => "icmpv6".into(),
            other => format!("protocol {other}"),
        });
        if matches!(protocol, 6 | 17) {
            self.source_port = octets(bytes, 0).map(u16::from_be_bytes);
            self.destination_port = octets(bytes, 2).map(u16::from_be_bytes);
        }
    }
}

/// `10.0.0.1:4000 -> 10.0.0.2:443 tcp`; without addresses, the MACs.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: Option<IpAddr>, port: Option<u16>, mac: &Option<String>| match (
            address, port,
        ) {
            (Some(IpAddr::V6(ip)), Some(port)) => format!("[{ip}]:{port}"),
            (Some(ip), Some(port)) => format!("{ip}:{port}"),
            (Some(ip), None) => ip.to_string(),
            (None, _) => mac.clone().unwrap_or_else(|| "?".into()),
        };
        let from = end(self.source, self.source_port, &self.source_mac);
        let to = end(
            self.destination,
            self.destination_port,
            &self.destination_mac,
        );
        let protocol = self.protocol.as_deref().unwrap_or("?");
        write!(f, "{from} -> {to} {protocol}")
    }
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, an optional tag, IPv4, UDP 4000 to 53.
    fn udp(is_tagged: bool) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if is_tagged {
            bytes.extend([0x81, 0x00, 0x00, 0x64]);
        }
        bytes.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([0x0f, 0xa0, 0, 53, 0, 8, 0, 0]);
        bytes
    }

    #[test]
    fn frame_is_read_with_the_tag_in_its_octets_and_without() {
        for is_tagged in [true, false] {
            let text = Frame::parse(&udp(is_tagged)).to_string();
            assert_eq!(text, "10.0.0.1:4000 -> 10.0.0.2:53 udp");
        }
    }

    #[test]
    fn later_fragment_has_no_ports() {
        let mut bytes = udp(false);
        bytes[21] = 1;
        let text = Frame::parse(&bytes).to_string();
        assert_eq!(text, "10.0.0.1 -> 10.0.0.2 udp");
    }

    #[test]
    fn every_beginning_of_a_frame_is_read_as_far_as_it_goes() {
        let whole = udp(true);
        for length in 0..whole.len() {
            let frame = Frame::parse(&whole[..length]);
            assert_eq!(frame.destination_port.is_some(), length >= 42, "{length}");
            assert_eq!(frame.source.is_some(), length >= 34, "{length}");
        }
    }

    #[test]
    fn unknown_ether_type_is_told_with_the_macs() {
        let mut bytes = udp(false);
        bytes[12..14].copy_from_slice(&[0x88, 0xcc]);
        let text = Frame::parse(&bytes).to_string();
        assert_eq!(text, "02:00:00:00:00:02 -> 02:00:00:00:00:01 0x88cc");
    }
}
