//! What a validator does with a reply, with hickory's types for signatures: keys by the chain of DS, then every set.

use std::collections::BTreeMap;

use dns::world::World;
use hickory_proto::dnssec::Verifier as _;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG};
use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::support::*;

pub(crate) const DNSKEY_TYPE: u16 = 48;

/// The key of a zone, as a client is told.
pub(crate) fn dnskey(world: &World, source: &str, zone: &str) -> DNSKEY {
    let reply = ask(world, source, zone, DNSKEY_TYPE);
    let keys = reply.answers.iter().find_map(|record| {
        let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &record.data else {
            return None;
        };
        Some(key.clone())
    });
    keys.unwrap_or_else(|| panic!("{zone} has no key: {}", shown(&reply)))
}

pub(crate) fn rrsig(record: &Record) -> Option<&RRSIG> {
    let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data else {
        return None;
    };
    Some(signature)
}

pub(crate) fn nsec(record: &Record) -> Option<&NSEC> {
    let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &record.data else {
        return None;
    };
    Some(nsec)
}

/// The NSECs of a reply: `owner: types`.
pub(crate) fn denials(reply: &Message) -> Vec<String> {
    let all = reply.authorities.iter().chain(&reply.answers);
    let all = all.filter_map(|record| Some((record, nsec(record)?)));
    all.map(|(record, nsec)| {
        let shown = |kind: RecordType| {
            if let RecordType::Unknown(number) = kind {
                return number.to_string();
            }
            kind.to_string()
        };
        let kinds: Vec<String> = nsec.type_bit_maps().map(shown).collect();
        format!("{}: {}", record.name, kinds.join(" "))
    })
    .collect()
}

/// Checks all sets of a section; returns those that have no signature, as `name type`.
fn check(world: &World, source: &str, records: &[Record]) -> Vec<String> {
    let mut sets: BTreeMap<(Name, u16), Vec<Record>> = BTreeMap::new();
    for record in records.iter().filter(|record| rrsig(record).is_none()) {
        let key = (record.name.to_lowercase(), u16::from(record.record_type()));
        sets.entry(key).or_default().push(record.clone());
    }
    let mut unsigned = Vec::new();
    for ((name, kind), mut set) in sets {
        for record in &mut set {
            record.name = name.clone();
        }
        let covers = |record: &&Record| {
            record.name.to_lowercase() == name
                && rrsig(record).is_some_and(|sig| u16::from(sig.input().type_covered) == kind)
        };
        let Some(record) = records.iter().find(covers) else {
            unsigned.push(format!("{name} {}", RecordType::from(kind)));
            continue;
        };
        let signature = rrsig(record).unwrap();
        let input = signature.input();
        assert_eq!(record.ttl, set[0].ttl, "RFC 4034, 3: the TTL is the set's");
        assert!(
            u64::from(input.sig_inception.get()) < NOW
                && NOW < u64::from(input.sig_expiration.get())
        );
        let zone = input.signer_name.to_string().replace("\\/", "/");
        let key = dnskey(world, source, &zone);
        assert_eq!(key.calculate_key_tag().unwrap(), input.key_tag);
        key.verify_rrsig(&name, DNSClass::IN, signature, set.iter())
            .unwrap_or_else(|error| panic!("{name} {kind}: {error}"));
    }
    unsigned
}

/// Checks every signature of a reply; returns the sets that have none.
pub(crate) fn verify(world: &World, source: &str, reply: &Message) -> Vec<String> {
    [&reply.answers, &reply.authorities, &reply.additionals]
        .into_iter()
        .flat_map(|section| check(world, source, section))
        .collect()
}
