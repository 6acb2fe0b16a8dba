//! Two processors on one connection while the next generation comes into force.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod models;

use std::cell::{Cell, RefMut};

use dataplane_common::abi::*;
use dataplane_common::host::{HostTables, Slice};
use dataplane_common::policy::{self, Report, Scratch, Tables};
use dataplane_common::reason::DropReason;
use models::ROUTER_MAC;

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const NEW_MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];
const A: (u16, [u8; 4], u16) = (100, [10, 1, 0, 10], 5000);
const B: (u16, [u8; 4], u16) = (101, [10, 1, 1, 10], 6000);

/// A and B are hosts of one tenant, in segments of their own.
fn generation(number: u32, mac_b: [u8; 6]) -> HostTables {
    models::two_hosts([MAC_A, mac_b], 1500, number)
}

/// Returns a UDP datagram in a frame.
fn udp(mac: [u8; 6], from: (u16, [u8; 4], u16), to: (u16, [u8; 4], u16)) -> Vec<u8> {
    let mut frame = [ROUTER_MAC, mac].concat();
    frame.extend([0x81, 0]);
    frame.extend(from.0.to_be_bytes());
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(from.1);
    frame.extend(to.1);
    frame.extend(from.2.to_be_bytes());
    frame.extend(to.2.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame
}

fn judge(tables: &HostTables, bytes: &[u8]) -> Result<(), DropReason> {
    tables.judge(&Slice { bytes, tag: None }, &mut Report::default())
}

/// Tables of a processor that is held up right before it looks at a connection for the second time.
struct HeldUp<'a> {
    tables: &'a HostTables,
    looks: Cell<u32>,
    meanwhile: &'a dyn Fn(),
}

impl Tables for HeldUp<'_> {
    type Flow<'a>
        = RefMut<'a, FlowEntry>
    where
        Self: 'a;
    type Holder<'a>
        = RefMut<'a, HolderEntry>
    where
        Self: 'a;

    fn generation(&self) -> Option<&Generation> {
        self.tables.generation()
    }
    fn segment(&self, slot: u32, vlan_id: u16) -> Option<&SegmentEntry> {
        self.tables.segment(slot, vlan_id)
    }
    fn endpoint(&self, slot: u32, key: &EndpointKey) -> Option<&EndpointEntry> {
        self.tables.endpoint(slot, key)
    }
    fn bound_mac(&self, slot: u32, key: &BoundMacKey) -> Option<u32> {
        self.tables.bound_mac(slot, key)
    }
    fn prefix(&self, slot: u32, key: &PrefixKey) -> Option<&PrefixEntry> {
        self.tables.prefix(slot, key)
    }
    fn pair(&self, slot: u32, key: &PairKey) -> Option<&PairEntry> {
        self.tables.pair(slot, key)
    }
    fn rule(&self, slot: u32, key: &RuleKey) -> Option<u32> {
        self.tables.rule(slot, key)
    }
    fn service(&self, slot: u32, index: u32) -> Option<u32> {
        self.tables.service(slot, index)
    }
    fn flow(&self, key: &FlowKey) -> Option<RefMut<'_, FlowEntry>> {
        self.looks.set(self.looks.get() + 1);
        if self.looks.get() == 2 {
            (self.meanwhile)();
        }
        self.tables.flow(key)
    }
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        self.tables.insert_flow(key, entry)
    }
    fn remove_flow(&self, key: &FlowKey) {
        self.tables.remove_flow(key);
    }
    fn ticket(&self, ticket: &Ticket, whose: &mut FlowKey) -> bool {
        self.tables.ticket(ticket, whose)
    }
    fn insert_ticket(&self, ticket: &Ticket, key: &FlowKey) -> bool {
        self.tables.insert_ticket(ticket, key)
    }
    fn holder(&self, number: u32, nothing: &HolderEntry) -> Option<RefMut<'_, HolderEntry>> {
        self.tables.holder(number, nothing)
    }
    fn known_holder(&self, number: u32) -> Option<RefMut<'_, HolderEntry>> {
        self.tables.known_holder(number)
    }
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry> {
        self.tables.fragment(key)
    }
    fn insert_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool {
        self.tables.insert_fragment(key, entry)
    }
    fn now(&self) -> u64 {
        self.tables.now()
    }
    fn nanoseconds(&self) -> u64 {
        self.tables.nanoseconds()
    }
}

#[test]
fn processor_of_the_old_generation_does_not_bring_back_an_old_place() {
    let (old, new) = (generation(1, MAC_B), generation(2, NEW_MAC_B));
    judge(&old, &udp(MAC_A, A, B)).unwrap();
    judge(&old, &udp(MAC_B, B, A)).unwrap();
    // The other processor is in the new generation, in which B's address is another host's, who answers.
    let meanwhile = || {
        new.flows.replace(old.flows.take());
        judge(&new, &udp(NEW_MAC_B, B, A)).unwrap();
        old.flows.replace(new.flows.take());
    };
    let held_up = HeldUp {
        tables: &old,
        looks: Cell::new(0),
        meanwhile: &meanwhile,
    };
    let frame = udp(MAC_A, A, B);
    let frame = Slice {
        bytes: &frame,
        tag: None,
    };
    policy::from_trunk(&frame, &held_up, &mut Box::<Scratch>::default()).unwrap();
    assert_eq!(held_up.looks.get(), 2);
    new.flows.replace(old.flows.take());
    let spoofed = judge(&new, &udp(MAC_B, B, A));
    assert_eq!(spoofed, Err(DropReason::SpoofedSource));
    assert_eq!(judge(&new, &udp(NEW_MAC_B, B, A)), Ok(()));
}
