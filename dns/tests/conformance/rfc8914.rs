//! RFC 8914: extended errors.

use dns::answer::Transport;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use super::support::*;

const AXFR: u16 = 252;
/// "Prohibited".
const CODE: [u8; 2] = [0, 18];

fn refused(message: &[u8]) -> Message {
    let world = world(&two_tenants("  - {name: web, type: A, value: 10.1.0.10}"));
    let reply = send(&world, IN_A, Transport::Tcp, message).unwrap();
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), 5);
    reply
}

#[test]
fn section_2_the_opt_record_has_a_code_and_a_text() {
    let reply = refused(&with_edns(question("a.east.lab.example", AXFR), 1232));
    let options = reply.edns.as_ref().unwrap().options();
    let Some(EdnsOption::Unknown(_, data)) = options.get(EdnsCode::Unknown(15)) else {
        panic!("{reply}");
    };
    assert_eq!(data[..2], CODE);
    assert_eq!(&data[2..], b"zone transfers must be signed");
}

#[test]
fn section_3_who_has_no_edns_gets_the_code_of_the_header_alone() {
    let reply = refused(&question("a.east.lab.example", AXFR));
    assert!(reply.edns.is_none() && reply.additionals.is_empty());
}
