//! Honest fragments of a whole packet.

use super::parse::ParsedFrame;
use super::{checksum, protocol};

/// Splits the IP packet in a frame into fragments that carry at most `octets` of what IP carries
/// each (rounded down to a multiple of 8). A frame without an unfragmented IP packet in it comes
/// back as it is.
#[must_use]
pub fn fragments(frame: &[u8], octets: usize) -> Vec<Vec<u8>> {
    let Some(parsed) = ParsedFrame::parse(frame) else {
        return vec![frame.to_vec()];
    };
    let Some(ip) = parsed.ip.filter(|ip| ip.fragment.is_none()) else {
        return vec![frame.to_vec()];
    };
    let start = parsed.packet_at;
    let packet = &frame[start..];
    let header = if ip.source.is_ipv4() {
        usize::from(packet[0] & 0xf) * 4
    } else {
        40
    };
    let end = ip.packet_length.min(packet.len());
    let (head, body) = (&packet[..header], &packet[header..end]);
    let step = (octets / 8 * 8).max(8);
    let count = body.len().div_ceil(step);
    let pieces = body.chunks(step).enumerate();
    pieces
        .map(|(number, piece)| {
            let place = (number * step, number + 1 < count);
            let split = if ip.source.is_ipv4() {
                fragment_v4
            } else {
                fragment_v6
            };
            [&frame[..start], &split(head, piece, place)].concat()
        })
        .collect()
}

fn field(number: usize) -> u16 {
    u16::try_from(number).expect("a length inside of a packet fits 16 bits")
}

fn fragment_v4(head: &[u8], piece: &[u8], (offset, more): (usize, bool)) -> Vec<u8> {
    let mut packet = head.to_vec();
    packet[2..4].copy_from_slice(&field(head.len() + piece.len()).to_be_bytes());
    packet[6..8].copy_from_slice(&(field(offset / 8) | u16::from(more) << 13).to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::plain(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(piece);
    packet
}

fn fragment_v6(head: &[u8], piece: &[u8], (offset, more): (usize, bool)) -> Vec<u8> {
    let mut packet = head.to_vec();
    packet[4..6].copy_from_slice(&field(8 + piece.len()).to_be_bytes());
    let next = std::mem::replace(&mut packet[6], protocol::FRAGMENT);
    packet.extend_from_slice(&[next, 0]);
    packet.extend_from_slice(&(field(offset) | u16::from(more)).to_be_bytes());
    packet.extend_from_slice(&1u32.to_be_bytes());
    packet.extend_from_slice(piece);
    packet
}
