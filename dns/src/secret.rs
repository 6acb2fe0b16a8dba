//! What a key signs with: HMAC (RFC 2104) with the algorithms of RFC 8945, 6; the one place of it, for requests and replies of either side.
//!
//! hickory writes and reads the messages. Its own signer does without SHA-1, so what is computed here is ring's.

use hickory_proto::ProtoError;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::tsig::{
    TSIG, TsigAlgorithm, make_tsig_record, message_tbs, signed_bitmessage_to_buf,
};
use hickory_proto::rr::{Name, Record};
use hickory_proto::serialize::binary::BinEncoder;
use ring::hmac;
use serde::Deserialize;

use crate::keys::FUDGE;

/// What a key may be used with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Algorithm {
    /// Only if the file of keys has `hmac_sha1 = true`: RFC 8945, 6 says "NOT RECOMMENDED" of it.
    HmacSha1,
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl Algorithm {
    fn of_tsig(self) -> TsigAlgorithm {
        match self {
            Self::HmacSha1 => TsigAlgorithm::HmacSha1,
            Self::HmacSha256 => TsigAlgorithm::HmacSha256,
            Self::HmacSha384 => TsigAlgorithm::HmacSha384,
            Self::HmacSha512 => TsigAlgorithm::HmacSha512,
        }
    }

    fn of_hmac(self) -> hmac::Algorithm {
        match self {
            Self::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        }
    }
}

/// The secret of a key, its name and its algorithm. Its octets cannot be had back.
#[derive(Clone)]
pub(crate) struct Secret {
    name: Name,
    kind: Algorithm,
    hmac: hmac::Key,
}

impl Secret {
    /// Makes it of a key's name (a final dot is understood) and the octets of its secret.
    pub(crate) fn new(mut name: Name, kind: Algorithm, octets: &[u8]) -> Self {
        name.set_fqdn(true);
        let hmac = hmac::Key::new(kind.of_hmac(), octets);
        Self { name, kind, hmac }
    }

    pub(crate) fn kind(&self) -> Algorithm {
        self.kind
    }

    /// Returns the algorithm as messages have it.
    pub(crate) fn algorithm(&self) -> TsigAlgorithm {
        self.kind.of_tsig()
    }

    /// Computes a MAC, never shortened.
    pub(crate) fn mac(&self, signed: &[u8]) -> Vec<u8> {
        hmac::sign(&self.hmac, signed).as_ref().to_vec()
    }

    /// Checks a MAC in constant time. A MAC that was shortened is not taken: its length would be the sender's choice.
    pub(crate) fn verify(&self, signed: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.hmac, signed, mac).is_ok()
    }

    /// Checks what may be a MAC that was shortened; `None`: no MAC may be so long or so short (RFC 8945, 5.2.2.1).
    pub(crate) fn verify_shortened(&self, signed: &[u8], mac: &[u8]) -> Option<bool> {
        let whole = self.mac(signed);
        let shortest = (whole.len() / 2).max(10);
        let begin = whole.get(..mac.len()).filter(|_| mac.len() >= shortest)?;
        let differs = begin.iter().zip(mac).fold(0, |bits, (a, b)| bits | (a ^ b));
        Some(differs == 0)
    }

    /// Encodes what of a TSIG record is signed (RFC 8945, 4.3.3).
    pub(crate) fn variables(&self, tsig: &TSIG) -> Option<Vec<u8>> {
        let mut octets = Vec::new();
        let mut encoder = BinEncoder::new(&mut octets);
        tsig.emit_tsig_for_mac(&mut encoder, &self.name).ok()?;
        Some(octets)
    }

    /// Signs a request, which must not be changed any more; returns what its reply is checked with.
    ///
    /// # Errors
    ///
    /// The message cannot be encoded.
    pub(crate) fn sign(&self, request: &mut Message, now: u64) -> Result<Verifier, ProtoError> {
        let id = request.metadata.id;
        let tsig = TSIG::new(
            self.algorithm(),
            now,
            FUDGE,
            Vec::new(),
            id,
            None,
            Vec::new(),
        );
        let mac = self.mac(&message_tbs(request, &tsig, &self.name)?);
        let record = make_tsig_record(self.name.clone(), tsig.set_mac(mac.clone()));
        request.set_signature(Box::new(record));
        Ok(Verifier {
            secret: self.clone(),
            request: mac,
            time: now,
        })
    }
}

/// What the reply to one request must be signed with.
pub(crate) struct Verifier {
    secret: Secret,
    /// The request's MAC.
    request: Vec<u8>,
    /// When it was signed, in seconds since 1970.
    time: u64,
}

/// Returns what of a message is signed, behind the MAC of the request if it is a reply, and its TSIG record; `None` if it has none or
/// cannot be read.
pub(crate) fn signed_part(
    message: &[u8],
    request: Option<&[u8]>,
) -> Option<(Vec<u8>, Box<Record<TSIG>>)> {
    let count = |at: usize| {
        let octets = message.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*octets))
    };
    // hickory adds the counts of answers and authorities in 16 bits, and panics where they do not fit.
    count(6)?.checked_add(count(8)?)?;
    signed_bitmessage_to_buf(message, request, true).ok()
}

impl Verifier {
    /// Is this the reply of someone who has the secret, to this request, and of now?
    pub(crate) fn verify(&self, reply: &[u8]) -> bool {
        let Some((signed, record)) = signed_part(reply, Some(&self.request)) else {
            return false;
        };
        let tsig = &record.data;
        record.name == self.secret.name
            && tsig.algorithm.to_name() == self.secret.algorithm().to_name()
            && self.secret.verify(&signed, &tsig.mac)
            && self.time.abs_diff(tsig.time) <= u64::from(tsig.fudge.min(FUDGE))
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::{TSigResponseContext, TSigner};

    use super::*;

    fn secret(kind: Algorithm, octets: &[u8]) -> Secret {
        Secret::new(Name::from_ascii("key").unwrap(), kind, octets)
    }

    #[test]
    fn a_message_with_more_records_than_there_can_be_has_nothing_signed() {
        // Header: no question, 0xe4e4 answers and as many authorities.
        let message = [[0x40, 0x55, 0x54, 0x20, 0, 0].as_slice(), &[0xe4; 100]].concat();
        assert!(signed_part(&message, None).is_none());
        for length in 0..12 {
            assert!(signed_part(&message[..length], None).is_none());
        }
    }

    #[test]
    fn a_mac_is_as_rfc_2202_and_rfc_4231_say() {
        let hex = |octets: Vec<u8>| {
            octets
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect::<String>()
        };
        let rows = [
            (
                Algorithm::HmacSha1,
                "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            ),
            (
                Algorithm::HmacSha256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
        ];
        for (kind, expected) in rows {
            let mac = secret(kind, b"Jefe").mac(b"what do ya want for nothing?");
            assert_eq!(hex(mac), expected, "{kind:?}");
        }
    }

    const NOW: u64 = 1_700_000_000;

    /// hickory's signer of the same key.
    fn oracle(name: &str, kind: Algorithm, octets: &[u8]) -> TSigner {
        let name = Name::from_ascii(name).unwrap();
        TSigner::new(octets.to_vec(), kind.of_tsig(), name, FUDGE).unwrap()
    }

    /// The reply of a server that has a key and this time, to the request with this MAC.
    fn reply(signer: TSigner, request: &[u8], now: u64) -> Vec<u8> {
        let mut reply = Message::response(7, OpCode::Query);
        let octets = reply.to_vec().unwrap();
        let context = TSigResponseContext::new(7, now, signer, request.to_vec(), None);
        reply.set_signature(context.sign(&octets).unwrap());
        reply.to_vec().unwrap()
    }

    #[test]
    fn requests_and_replies_are_signed_as_hickory_signs_them() {
        for kind in [
            Algorithm::HmacSha256,
            Algorithm::HmacSha384,
            Algorithm::HmacSha512,
        ] {
            let own = secret(kind, b"a secret of the test");
            let mut request = Message::new(7, MessageType::Query, OpCode::Query);
            let verifier = own.sign(&mut request, NOW).unwrap();
            let theirs = || oracle("KEY.", kind, b"a secret of the test");
            let octets = request.to_vec().unwrap();
            theirs().verify_message_byte(&octets, None, true).unwrap();

            let mac = &verifier.request;
            let good = reply(theirs(), mac, NOW);
            assert!(verifier.verify(&good), "{kind:?}");
            let mut changed = good.clone();
            changed[3] ^= 1;
            let rows = [
                ("a changed one", changed),
                ("to another request", reply(theirs(), b"another", NOW)),
                ("an old one", reply(theirs(), mac, NOW - 301)),
                ("one of the future", reply(theirs(), mac, NOW + 301)),
                ("at the beginning of time", reply(theirs(), mac, 0)),
                (
                    "with another name",
                    reply(oracle("other.", kind, b"a secret of the test"), mac, NOW),
                ),
                (
                    "with another secret",
                    reply(oracle("key.", kind, b"another"), mac, NOW),
                ),
                (
                    "unsigned",
                    Message::response(7, OpCode::Query).to_vec().unwrap(),
                ),
                ("no message", vec![0; 5]),
            ];
            for (what, octets) in rows {
                assert!(!verifier.verify(&octets), "{kind:?}: {what}");
            }
        }
    }

    #[test]
    fn a_mac_that_is_shortened_or_of_another_secret_is_not_taken() {
        for kind in [Algorithm::HmacSha1, Algorithm::HmacSha512] {
            let own = secret(kind, b"a secret of the test");
            let mac = own.mac(b"octets");
            assert!(own.verify(b"octets", &mac), "{kind:?}");
            assert!(!own.verify(b"octetS", &mac), "{kind:?}");
            assert!(!own.verify(b"octets", &mac[..mac.len() - 1]), "{kind:?}");
            assert!(!own.verify(b"octets", b""), "{kind:?}");
            let other = secret(kind, b"another secret");
            assert!(!other.verify(b"octets", &mac), "{kind:?}");
        }
    }
}
