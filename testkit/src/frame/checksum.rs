//! The internet checksum (RFC 1071).

use std::net::IpAddr;

/// Adds octets to a running ones' complement sum.
fn sum(mut total: u32, bytes: &[u8]) -> u32 {
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        total += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    total
}

fn fold(total: u32) -> u16 {
    let once = (total & 0xffff) + (total >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    !u16::try_from(twice).expect("two folds leave 16 bits")
}

/// Returns the checksum of `bytes`; 0 if they already carry the right one.
pub(super) fn plain(bytes: &[u8]) -> u16 {
    fold(sum(0, bytes))
}

/// Returns the checksum of a transport segment under its pseudo-header (RFC 9293 section 3.1,
/// RFC 8200 section 8.1); 0 if the segment already carries the right one.
pub(super) fn transport(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let addresses = |address: IpAddr, total| match address {
        IpAddr::V4(v4) => sum(total, &v4.octets()),
        IpAddr::V6(v6) => sum(total, &v6.octets()),
    };
    let length = u32::try_from(segment.len())
        .expect("a segment fits a frame")
        .to_be_bytes();
    let total = addresses(destination, addresses(source, u32::from(protocol)));
    fold(sum(sum(total, &length), segment))
}
