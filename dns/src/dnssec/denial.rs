//! Compact denial of existence (RFC 9824): one NSEC at the name that was asked for, which says what is there.
//!
//! A name that is not there is said to have nothing but the mark NXNAME. So one record is enough, and it tells of no other name.

use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_proto::rr::{RData, RecordType};

use super::key::hickory_name;
use crate::name::Name;
use crate::rdata::{self, rtype};
use crate::zone::{NEGATIVE_TTL, RrOwner, RrSet};

/// Returns the NSEC of a name with sets of these types (RFC 9824, 3.2), or of one that is not there (3.1).
pub(super) fn nsec(owner: &Name, origin: &Name, kinds: Option<&[u16]>) -> Option<RrSet> {
    let kinds = kinds.unwrap_or(&[rtype::NXNAME]);
    let all = kinds.iter().chain(&[rtype::RRSIG, rtype::NSEC]);
    let all = all.map(|kind| RecordType::from(*kind));
    let next = hickory_name(&successor(owner, origin)?)?;
    let data = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next, all)));
    Some(RrSet {
        rtype: rtype::NSEC,
        // RFC 9077, 3: that of negative answers.
        ttl: NEGATIVE_TTL,
        rdata: vec![rdata::encode(&data)?.into()],
        owner: RrOwner::Platform,
    })
}

/// Returns the next name in canonical order (RFC 4034, 6.1): with a label of one zero in front of it, unless it is too long for this.
fn successor(name: &Name, origin: &Name) -> Option<Name> {
    let longer = [b"\x01\x00", name.as_wire()].concat();
    match Name::from_wire(&longer) {
        Ok(longer) => Some(longer),
        Err(_) => behind(name, origin),
    }
}

/// Returns the next name that is not below a name (RFC 4471, 3.1.2): the first label grows by one octet; where it cannot, its last
/// octet does. Behind the last name of a zone comes its apex.
fn behind(name: &Name, origin: &Name) -> Option<Name> {
    if name == origin {
        return Some(origin.clone());
    }
    let (length, rest) = name.as_wire().split_first()?;
    let (label, rest) = rest.split_at_checked(usize::from(*length))?;
    let parent = Name::from_wire(rest).ok()?;
    if let Ok(grown) = Name::from_labels([[label, &[0]].concat()], &parent) {
        return Some(grown);
    }
    // 0xff is the last octet there is: then the one before it grows, and if there is none, the parent.
    let Some(last) = label.iter().rposition(|octet| *octet != 0xff) else {
        return behind(&parent, origin);
    };
    let mut label = label.get(..=last)?.to_vec();
    let last = label.last_mut()?;
    // Capitals are sorted as small letters: what follows `@` is what follows `Z`.
    *last = if *last == b'@' { b'[' } else { *last + 1 };
    Name::from_labels([label], &parent).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Name {
        Name::from_labels([b"x"], &Name::root()).unwrap()
    }

    fn name(label: &[u8], more: usize) -> Name {
        // Behind the label, and with it: 133 octets more.
        let long = vec![b'x'; 63];
        let labels = [label, &vec![b'y'; more], &long, &long, &long[..1]];
        Name::from_labels(labels, &Name::root()).unwrap()
    }

    fn first_label(name: &Name) -> Vec<u8> {
        let wire = name.as_wire();
        wire[1..=usize::from(wire[0])].to_vec()
    }

    #[test]
    fn the_name_behind_another_has_a_zero_in_front() {
        let name = Name::absolute("a.z.example").unwrap();
        let next = successor(&name, &origin()).unwrap();
        assert_eq!(next.as_wire(), b"\x01\x00\x01a\x01z\x07example\x00");
    }

    #[test]
    fn a_name_too_long_for_that_grows_in_its_first_label() {
        let rows: &[(&[u8], usize, &[u8])] = &[
            (&[b'a'; 60], 61, &[&[b'a'; 60][..], &[0]].concat()),
            (&[b'a'; 60], 62, &[&[b'a'; 59][..], b"b"].concat()),
            (&[b'a'; 63], 58, &[&[b'a'; 62][..], b"b"].concat()),
            (
                &[&[b'a'; 59][..], b"@"].concat(),
                62,
                &[&[b'a'; 59][..], b"["].concat(),
            ),
            (
                &[&[b'a'; 59][..], b"\xff"].concat(),
                62,
                &[&[b'a'; 58][..], b"b"].concat(),
            ),
            // Its parent grows.
            (&[0xff; 60], 62, &[&[b'y'; 62][..], &[0]].concat()),
        ];
        for (label, more, expected) in rows {
            let name = name(label, *more);
            let next = first_label(&successor(&name, &origin()).unwrap());
            assert_eq!(next, *expected, "{} octets", name.as_wire().len());
        }
    }

    #[test]
    fn behind_the_last_name_of_a_zone_comes_its_apex() {
        let labels = [[0xff; 63], [0xff; 63], [0xff; 63]];
        let last = Name::from_labels([[0xff; 59]], &Name::from_labels(labels, &origin()).unwrap());
        let last = last.unwrap();
        assert_eq!(last.as_wire().len(), 255);
        assert_eq!(successor(&last, &origin()), Some(origin()));
    }

    #[test]
    fn a_name_that_is_not_there_has_the_mark_and_nothing_else() {
        let owner = Name::absolute("no.z.example").unwrap();
        let shown = |kinds| {
            rdata::show(
                rtype::NSEC,
                &nsec(&owner, &origin(), kinds).unwrap().rdata[0],
            )
        };
        assert_eq!(
            shown(Some(&[1, 28])),
            "\\000.no.z.example. A AAAA RRSIG NSEC"
        );
        assert!(shown(None).starts_with("\\000.no.z.example. RRSIG NSEC"));
        let data = nsec(&owner, &origin(), None).unwrap().rdata[0].clone();
        // RFC 4034, 4.1.2: one block of 17 octets; types 46, 47 and 128.
        let bits = [0, 17, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80];
        assert!(data.ends_with(&bits), "{data:?}");
    }
}
