//! What upstream said, for as long as it said, in one view.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;

use super::{is_negative, rebinding};
use crate::name::Name;

/// Answers of one view at most.
const ENTRIES: usize = 1000;
/// Octets of the longest answer that is kept: so the number of answers is a bound on memory.
const LONGEST_KEPT: usize = 4096;
/// Records of the longest answer that is kept: in memory, a short one is some ten times as long as on the wire.
const MOST_KEPT: usize = 64;
/// Links of the longest chain of aliases that is followed, as resolvers do: each costs a look at all records that are left, and
/// a hostile answer over TCP has some four thousand.
const LINKS: usize = 16;
/// Longest time that anything is kept, in seconds.
const LONGEST: u32 = 86_400;
/// Longest time that "there is no such thing" is kept, in seconds (RFC 2308, 5 advises one to three hours at most).
const LONGEST_NEGATIVE: u32 = 900;

/// An answer from upstream, cleaned.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    /// The SOA of a negative answer.
    pub(super) authorities: Vec<Record>,
}

impl Found {
    /// Takes of a message what answers the question: the chain of aliases from `name`, and what is at its
    /// end; of the authority section the SOA of a negative answer. Nothing else is believed.
    pub(super) fn read(
        message: Message,
        name: &HickoryName,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Self {
        let mut links = HashSet::from([name.to_lowercase()]);
        let mut answers = Vec::new();
        let named = message.answers.into_iter();
        let mut rest: Vec<(HickoryName, Record)> = named
            .map(|record| (record.name.to_lowercase(), record))
            .collect();
        // Records may stand in any order; each round finds all of the next link.
        for _ in 0..LINKS {
            let (found, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|(owner, _)| links.contains(owner));
            if found.is_empty() {
                break;
            }
            links.clear();
            for (_, record) in found {
                if let RData::CNAME(alias) = &record.data {
                    links.insert(alias.0.to_lowercase());
                }
                answers.push(record);
            }
            rest = others;
        }
        answers.retain(|record| {
            record.dns_class == DNSClass::IN && !rebinding::is_forbidden(&record.data, &is_own)
        });
        let is_soa = |record: &Record| record.record_type() == RecordType::SOA;
        Self {
            code: message.metadata.response_code,
            answers,
            authorities: message
                .authorities
                .into_iter()
                .filter(is_soa)
                .take(1)
                .collect(),
        }
    }

    /// Returns how long it may be kept, in seconds.
    fn lifetime(&self) -> u32 {
        if !is_negative(self.code) {
            return 0;
        }
        let all = self.answers.iter().chain(&self.authorities);
        let shortest = all.map(|record| record.ttl).min().unwrap_or(0).min(LONGEST);
        let Some(soa) = self.authorities.first() else {
            return shortest;
        };
        // RFC 2308, 5: the smaller one of the SOA's TTL and its last field.
        let minimum = if let RData::SOA(soa) = &soa.data {
            soa.minimum
        } else {
            0
        };
        shortest.min(minimum).min(LONGEST_NEGATIVE)
    }

    /// Is it short enough to be kept?
    fn is_short(&self) -> bool {
        if self.answers.len() + self.authorities.len() > MOST_KEPT {
            return false;
        }
        // Each record by itself, with its whole name: that is what memory holds.
        let all = self.answers.iter().chain(&self.authorities);
        let lengths = all.map(|record| record.to_bytes().map_or(usize::MAX, |octets| octets.len()));
        lengths.fold(0, usize::saturating_add) <= LONGEST_KEPT
    }

    fn age(&mut self, seconds: u32) {
        for record in self.answers.iter_mut().chain(&mut self.authorities) {
            record.ttl = record.ttl.saturating_sub(seconds);
        }
    }
}

struct Entry {
    found: Found,
    stored: Instant,
    expires: Instant,
}

/// The cache of one view.
#[derive(Default)]
pub(super) struct Cache(HashMap<(Name, u16), Entry>);

impl Cache {
    /// Returns what is known, with the time that it may still be kept.
    pub(super) fn get(&self, name: &Name, kind: u16, now: Instant) -> Option<Found> {
        let entry = self
            .0
            .get(&(name.clone(), kind))
            .filter(|entry| entry.expires > now)?;
        let age = now.saturating_duration_since(entry.stored).as_secs();
        let mut found = entry.found.clone();
        found.age(u32::try_from(age).unwrap_or(u32::MAX));
        Some(found)
    }

    pub(super) fn put(&mut self, name: &Name, kind: u16, found: &Found, now: Instant) {
        let lifetime = found.lifetime();
        if lifetime == 0 || !found.is_short() {
            return;
        }
        if self.0.len() >= ENTRIES {
            self.0.retain(|_, entry| entry.expires > now);
        }
        if self.0.len() >= ENTRIES {
            // Of answers that are all good, any one.
            let any = self.0.keys().next().cloned();
            any.and_then(|key| self.0.remove(&key));
        }
        let entry = Entry {
            found: found.clone(),
            stored: now,
            expires: now + Duration::from_secs(lifetime.into()),
        };
        self.0.insert((name.clone(), kind), entry);
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use hickory_proto::op::{MessageType, OpCode};

    use super::*;

    fn record(name: &str, ttl: u32, kind: &str, data: &str) -> Record {
        let kind = RecordType::from_str(kind).unwrap();
        let name = HickoryName::from_ascii(name).unwrap();
        Record::from_rdata(name, ttl, RData::try_from_str(kind, data).unwrap())
    }

    fn read(answers: Vec<Record>, authorities: Vec<Record>) -> Found {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        (message.answers, message.authorities) = (answers, authorities);
        let name = HickoryName::from_ascii("WWW.example.org.").unwrap();
        Found::read(message, &name, |address| {
            address == IpAddr::from([198, 18, 0, 9])
        })
    }

    fn shown(found: &Found) -> Vec<String> {
        found
            .answers
            .iter()
            .map(|record| format!("{} {}", record.name, record.data))
            .collect()
    }

    #[test]
    fn only_the_chain_from_the_name_that_was_asked_is_believed() {
        let found = read(
            vec![
                record("b.example.net.", 60, "A", "198.18.0.1"),
                record("bank.example.", 60, "A", "198.18.0.66"),
                record("www.example.org.", 60, "CNAME", "b.example.net."),
            ],
            vec![record("example.", 60, "NS", "evil.example.")],
        );
        assert_eq!(
            shown(&found),
            [
                "www.example.org. b.example.net.",
                "b.example.net. 198.18.0.1"
            ]
        );
        assert!(found.authorities.is_empty());
    }

    #[test]
    fn a_chain_of_aliases_is_followed_so_far_and_no_further() {
        let link = |from: &str, to: &str| record(from, 60, "CNAME", to);
        let numbered = |number: usize| format!("n{number}.example.org.");
        let mut answers: Vec<Record> = (0..LINKS + 4)
            .map(|number| link(&numbered(number), &numbered(number + 1)))
            .collect();
        answers.push(link("www.example.org.", &numbered(0)));
        assert_eq!(read(answers, vec![]).answers.len(), LINKS);
        // One that bites its tail ends, too.
        let circle = vec![
            link("n1.example.org.", "www.example.org."),
            link("www.example.org.", "N1.example.org."),
        ];
        assert_eq!(read(circle, vec![]).answers.len(), 2);
    }

    #[test]
    fn addresses_of_the_site_private_ones_and_other_classes_are_taken_out() {
        let mut chaos = record("www.example.org.", 60, "A", "198.18.0.2");
        chaos.dns_class = DNSClass::CH;
        let found = read(
            vec![
                chaos,
                record("www.example.org.", 60, "A", "198.18.0.1"),
                record("www.example.org.", 60, "A", "198.18.0.9"),
                record("www.example.org.", 60, "A", "10.20.99.1"),
                record("www.example.org.", 60, "HTTPS", "1 . ipv4hint=127.0.0.1"),
            ],
            vec![],
        );
        assert_eq!(shown(&found), ["www.example.org. 198.18.0.1"]);
    }

    #[test]
    fn an_answer_lives_as_long_as_its_shortest_record_and_grows_old() {
        let found = read(
            vec![
                record("www.example.org.", 100, "CNAME", "b.example.net."),
                record("b.example.net.", 30, "A", "198.18.0.1"),
            ],
            vec![],
        );
        let (mut cache, start) = (Cache::default(), Instant::now());
        let name = Name::absolute("www.example.org").unwrap();
        cache.put(&name, 1, &found, start);
        let at = |seconds| {
            let found = cache.get(&name, 1, start + Duration::from_secs(seconds));
            found.map(|found| {
                found
                    .answers
                    .iter()
                    .map(|record| record.ttl)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(at(0), Some(vec![100, 30]));
        assert_eq!(at(12), Some(vec![88, 18]));
        assert_eq!(at(30), None);
        assert!(cache.get(&name, 28, start).is_none(), "another type");
    }

    #[test]
    fn a_negative_answer_lives_as_long_as_its_soa_says_and_no_soa_is_not_kept() {
        let soa = "ns.example.org. host.example.org. 1 2 3 4 20";
        let name = Name::absolute("www.example.org").unwrap();
        let start = Instant::now();
        let kept = |found: &Found, seconds| {
            let mut cache = Cache::default();
            cache.put(&name, 1, found, start);
            cache
                .get(&name, 1, start + Duration::from_secs(seconds))
                .is_some()
        };
        let negative = read(vec![], vec![record("example.org.", 3600, "SOA", soa)]);
        assert!(kept(&negative, 19) && !kept(&negative, 20));
        assert!(!kept(&read(vec![], vec![]), 0));
        let mut failed = negative;
        failed.code = ResponseCode::ServFail;
        assert!(!kept(&failed, 0));
    }

    #[test]
    fn a_very_long_answer_is_not_kept() {
        let name = Name::absolute("www.example.org").unwrap();
        let is_kept = |count: usize, length: usize| {
            let text = "x".repeat(length);
            let many = (0..count).map(|_| record("www.example.org.", 60, "TXT", &text));
            let found = read(many.collect(), vec![]);
            assert_eq!(found.answers.len(), count);
            let (mut cache, now) = (Cache::default(), Instant::now());
            cache.put(&name, 16, &found, now);
            cache.get(&name, 16, now).is_some()
        };
        assert!(is_kept(10, 200));
        assert!(!is_kept(300, 200));
        assert!(!is_kept(MOST_KEPT, 200));
        assert!(is_kept(MOST_KEPT, 1) && !is_kept(MOST_KEPT + 1, 1));
    }

    #[test]
    fn the_number_of_answers_is_bounded() {
        let found = read(
            vec![record("www.example.org.", 60, "A", "198.18.0.1")],
            vec![],
        );
        let mut cache = Cache::default();
        for number in 0..ENTRIES + 50 {
            let name = Name::absolute(&format!("n{number}.example.org")).unwrap();
            cache.put(&name, 1, &found, Instant::now());
        }
        assert_eq!(cache.0.len(), ENTRIES);
    }
}
