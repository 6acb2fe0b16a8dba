//! Padding of replies that are encrypted (RFC 7830), so that their length tells less: to the next multiple of 468 octets, as
//! RFC 8467, 4.1 recommends to servers.
//!
//! Only who asks with padding gets it, and only over TLS. A signed reply is sent as it is: padding would have to be
//! under the signature.

use crate::message::{HEADER, TCP_MAX, skip_name};
use crate::rdata::rtype;

/// Number of the EDNS option.
const OPTION: u16 = 12;
/// What the length of a reply is a multiple of.
const BLOCK: usize = 468;

/// Pads a reply, if its request has the option, and it ends with its OPT record.
pub(crate) fn pad(request: &[u8], reply: &mut Vec<u8>) {
    if !asks_for_padding(request) {
        return;
    }
    let Some(at) = Opt::last_of(reply).map(|opt| opt.length_at) else {
        return;
    };
    let padding = (reply.len() + 4).next_multiple_of(BLOCK) - reply.len() - 4;
    let Some(length) = reply
        .get(at..at + 2)
        .and_then(|length| length.try_into().ok())
    else {
        return;
    };
    let longer = usize::from(u16::from_be_bytes(length)) + 4 + padding;
    let (Ok(longer), Ok(zeros)) = (u16::try_from(longer), u16::try_from(padding)) else {
        return;
    };
    if reply.len() + 4 + padding > TCP_MAX {
        return;
    }
    if let Some(length) = reply.get_mut(at..at + 2) {
        length.copy_from_slice(&longer.to_be_bytes());
    }
    reply.extend(OPTION.to_be_bytes());
    reply.extend(zeros.to_be_bytes());
    reply.resize(reply.len() + padding, 0);
}

/// An OPT record in a message.
struct Opt<'m> {
    /// Where the length of its data is.
    length_at: usize,
    data: &'m [u8],
    /// Is it the message's last record?
    is_last: bool,
}

impl<'m> Opt<'m> {
    fn of(message: &'m [u8]) -> Option<Self> {
        let (header, mut rest) = message.split_first_chunk::<HEADER>()?;
        let [_, _, _, _, qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] = *header;
        for _ in 0..u16::from_be_bytes([qd0, qd1]) {
            rest = skip_name(rest)?.get(4..)?;
        }
        let mut found = None;
        for count in [[an0, an1], [ns0, ns1], [ar0, ar1]].map(u16::from_be_bytes) {
            for _ in 0..count {
                let (fixed, after) = skip_name(rest)?.split_first_chunk::<10>()?;
                let [k0, k1, .., l0, l1] = *fixed;
                let length = usize::from(u16::from_be_bytes([l0, l1]));
                let (data, after) = after.split_at_checked(length)?;
                rest = after;
                if u16::from_be_bytes([k0, k1]) == rtype::OPT {
                    found = Some(Self {
                        length_at: message.len() - rest.len() - length - 2,
                        data,
                        is_last: rest.is_empty(),
                    });
                }
            }
        }
        found
    }

    /// The OPT record that a message ends with.
    fn last_of(message: &'m [u8]) -> Option<Self> {
        Self::of(message).filter(|opt| opt.is_last)
    }
}

fn asks_for_padding(request: &[u8]) -> bool {
    let mut options = Opt::of(request).map_or(&[][..], |opt| opt.data);
    while let Some(([k0, k1, l0, l1], rest)) = options.split_first_chunk::<4>() {
        if u16::from_be_bytes([*k0, *k1]) == OPTION {
            return true;
        }
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        options = rest.get(length..).unwrap_or(&[]);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message about `a.` with these records in its additional section.
    fn message(records: &[Vec<u8>]) -> Vec<u8> {
        let count = u8::try_from(records.len()).unwrap();
        let mut message = vec![7, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, count];
        message.extend([1, b'a', 0, 0, 1, 0, 1]);
        message.extend(records.concat());
        message
    }

    fn record(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut record = vec![0];
        record.extend(kind.to_be_bytes());
        record.extend([4, 208, 0, 0, 0, 0]);
        record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        record.extend_from_slice(data);
        record
    }

    const COOKIE: [u8; 12] = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    const PADDING: [u8; 6] = [0, 12, 0, 2, 0, 0];

    #[test]
    fn a_reply_is_padded_to_a_block_and_stays_a_message() {
        let asks = message(&[record(rtype::OPT, &[&COOKIE[..], &PADDING].concat())]);
        for text in 0..BLOCK * 2 {
            let mut reply = message(&[record(16, &vec![1; text]), record(rtype::OPT, &COOKIE)]);
            let before = reply.clone();
            pad(&asks, &mut reply);
            assert_eq!(reply.len() % BLOCK, 0, "{text}");
            assert!(reply.len() - before.len() < BLOCK + 4, "{text}");
            let opt = Opt::last_of(&reply).unwrap();
            assert_eq!(opt.data.get(..12), Some(&COOKIE[..]));
            assert_eq!(opt.data.get(12..14), Some(&[0, 12][..]));
            assert!(opt.data.get(16..).unwrap().iter().all(|&octet| octet == 0));
        }
    }

    #[test]
    fn who_does_not_ask_or_gets_a_signature_is_not_padded() {
        let asks = message(&[record(rtype::OPT, &PADDING)]);
        let plain = message(&[record(rtype::OPT, &COOKIE)]);
        let reply = message(&[record(rtype::OPT, &[])]);
        let signed = message(&[record(rtype::OPT, &[]), record(rtype::TSIG, &[1, 2])]);
        let without = message(&[]);
        for (request, reply) in [
            (&plain, &reply),
            (&without, &reply),
            (&asks, &signed),
            (&asks, &without),
        ] {
            let mut padded = reply.clone();
            pad(request, &mut padded);
            assert_eq!(&padded, reply);
        }
    }

    #[test]
    fn no_octets_are_too_strange_and_a_message_stays_within_its_bound() {
        let asks = message(&[record(rtype::OPT, &PADDING)]);
        let mut reply = message(&[record(16, &vec![1; TCP_MAX - 50]), record(rtype::OPT, &[])]);
        let before = reply.clone();
        pad(&asks, &mut reply);
        assert_eq!(reply, before);
        for length in 0..asks.len() {
            let mut reply = asks.get(..length).unwrap().to_vec();
            pad(&asks, &mut reply);
            pad(&reply.clone(), &mut reply);
            assert_eq!(reply.len(), length);
        }
    }
}
