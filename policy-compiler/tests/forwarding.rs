//! What the policy core forwards, and what it makes of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod models;

use dataplane_common::abi::Mac;
use dataplane_common::host::{Buffer, HostTables, Slice};
use dataplane_common::policy::{self, Frame, Hop, Report, Scratch, Verdict};
use dataplane_common::rewrite;
use dataplane_common::wire::Wire;
use models::ROUTER_MAC;

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const VLAN_A: u16 = 100;
const VLAN_B: u16 = 101;
/// Octets of Ethernet header and tag.
const LINK: usize = 18;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Returns the ones' complement sum of an IPv4 header: 0xffff if its checksum is right (RFC 1071).
fn header_sum(header: &[u8]) -> u32 {
    let sum = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// Returns a frame from A to B: TCP with so many octets of options and of data.
fn tcp_frame(flags: u8, options: usize, data: usize) -> Vec<u8> {
    let length = u16::try_from(40 + options + data).unwrap();
    let mut frame = [ROUTER_MAC, MAC_A].concat();
    frame.extend([0x81, 0]);
    frame.extend(VLAN_A.to_be_bytes());
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0]);
    frame.extend([10, 1, 0, 10, 10, 1, 1, 10]);
    frame.extend([0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1]);
    frame.push(u8::try_from((20 + options) / 4).unwrap() << 4);
    frame.extend([flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(frame.len() + options, 1);
    frame.resize(frame.len() + data, 0);
    frame
}

/// A and B are hosts of one tenant, in segments of their own.
fn two_hosts(mtu_of_b: u16) -> HostTables {
    models::two_hosts([MAC_A, MAC_B], mtu_of_b, 1)
}

/// A socket buffer of several TCP segments, as GRO makes it: each has the headers and so many octets of data.
#[derive(Clone, Copy)]
struct Segments<'a> {
    slice: Slice<'a>,
    data: u16,
}

impl Frame for Segments<'_> {
    fn read<W: Wire>(&self, offset: usize) -> Option<W> {
        self.slice.read(offset)
    }

    fn length(&self) -> usize {
        self.slice.length()
    }

    fn again(&self) -> impl Frame {
        *self
    }

    fn offloaded_tag(&self) -> Option<(u16, u16)> {
        None
    }

    fn wire_length(&self, _length: u16, headers: u16) -> u16 {
        headers + self.data
    }
}

#[test]
fn forwarded_header_has_a_right_checksum_whatever_it_was() {
    for id in 0..=u16::MAX {
        let mut frame = tcp_frame(ACK, 0, 0);
        frame[LINK + 4..LINK + 6].copy_from_slice(&id.to_be_bytes());
        let checksum = !u16::try_from(header_sum(&frame[LINK..LINK + 20])).unwrap();
        frame[LINK + 10..LINK + 12].copy_from_slice(&checksum.to_be_bytes());
        let hop = Hop {
            mac: Mac::from_octets(MAC_B),
            vlan_id: VLAN_B,
            ipv4: true,
        };
        let mut buffer = Buffer {
            bytes: &mut frame,
            tag: None,
        };
        rewrite::forward(&mut buffer, &hop, LINK).unwrap();
        assert_eq!(frame[LINK + 8], 63);
        let sum = header_sum(&frame[LINK..LINK + 20]);
        assert_eq!(sum, 0xffff, "the checksum was {checksum:#06x}");
    }
}

/// Returns what happens to two segments of 1,448 octets with TCP's usual 12 octets of options: 1,500 octets each.
fn verdict_on_segments(mtu_of_b: u16, known: bool) -> Verdict {
    let tables = two_hosts(mtu_of_b);
    let (syn, bytes) = (tcp_frame(SYN, 0, 0), tcp_frame(ACK, 12, 2 * 1448));
    let slice = |bytes| Slice { bytes, tag: None };
    tables.judge(&slice(&syn), &mut Report::default()).unwrap();
    let segments = Segments {
        slice: slice(&bytes),
        data: 1448,
    };
    if known {
        return policy::established(&segments, &tables).unwrap().verdict;
    }
    let mut scratch = Box::<Scratch>::default();
    policy::from_trunk(&segments, &tables, &mut scratch).unwrap();
    scratch.report.verdict
}

#[test]
fn segments_of_a_socket_buffer_that_fit_the_destination_are_forwarded() {
    for known in [false, true] {
        let verdict = verdict_on_segments(1500, known);
        assert_eq!(verdict, Verdict::Forward, "known: {known}");
    }
}

#[test]
fn segments_whose_tcp_options_do_not_fit_the_destination_go_to_the_kernel() {
    for known in [false, true] {
        let verdict = verdict_on_segments(1499, known);
        assert_eq!(verdict, Verdict::ToKernel, "known: {known}");
    }
}
