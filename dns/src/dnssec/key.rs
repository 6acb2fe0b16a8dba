//! The key of a zone: one pair that signs everything in it, its own DNSKEY too (a CSK).

use std::fmt;

use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, DigestType, DnsSecError, SigningKey as _, TBS};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType, SerialNumber};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::name::Name;
use crate::rdata::{self, rtype};
use crate::zone::{DEFAULT_TTL, RrOwner, RrSet};

/// ECDSA on P-256 with SHA-256 (RFC 6605): short signatures that every validator knows (RFC 8624, 3.1).
const ALGORITHM: Algorithm = Algorithm::ECDSAP256SHA256;

/// From when to when a signature is good, in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// Not before.
    pub inception: u64,
    /// Not after.
    pub expiration: u64,
}

/// The key of one zone.
pub struct ZoneKey {
    origin: Name,
    signer: HickoryName,
    pair: EcdsaSigningKey,
    dnskey: Box<[u8]>,
    ds: Box<[u8]>,
    tag: u16,
}

impl ZoneKey {
    /// Makes a key pair, as PKCS#8.
    ///
    /// # Errors
    ///
    /// [`DnsSecError`] if the system has no randomness.
    pub fn generate() -> Result<PrivatePkcs8KeyDer<'static>, DnsSecError> {
        EcdsaSigningKey::generate_pkcs8(ALGORITHM)
    }

    /// Reads a key pair.
    ///
    /// # Errors
    ///
    /// [`DnsSecError`] if it is none, of another algorithm, or its halves do not fit together.
    pub fn from_pkcs8(origin: &Name, octets: &PrivatePkcs8KeyDer<'_>) -> Result<Self, DnsSecError> {
        let pair = EcdsaSigningKey::from_pkcs8(octets, ALGORITHM)?;
        let signer = hickory_name(origin).ok_or(DnsSecError::Message("the zone's name"))?;
        let dnskey = DNSKEY::new(true, true, false, pair.to_public_key()?);
        let tag = dnskey.calculate_key_tag()?;
        let digest = dnskey.to_digest(&signer, DigestType::SHA256)?;
        // RFC 4034, 5.1: the tag, the algorithm, the type of the digest, the digest.
        let mut ds = tag.to_be_bytes().to_vec();
        ds.extend([u8::from(ALGORITHM), u8::from(DigestType::SHA256)]);
        ds.extend_from_slice(digest.as_ref());
        let dnskey = rdata::encode(&RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)));
        Ok(Self {
            origin: origin.clone(),
            signer,
            pair,
            dnskey: dnskey.ok_or(DnsSecError::Message("the DNSKEY"))?.into(),
            ds: ds.into(),
            tag,
        })
    }

    /// Returns the zone's name.
    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// Returns the number by which signatures name the key (RFC 4034, B).
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Returns what stands at the zone's apex: DNSKEY, and CDS and CDNSKEY for a parent that looks for them (RFC 7344, 4).
    #[must_use]
    pub fn apex(&self) -> [RrSet; 3] {
        [
            made(rtype::DNSKEY, &self.dnskey),
            made(rtype::CDS, &self.ds),
            made(rtype::CDNSKEY, &self.dnskey),
        ]
    }

    /// Returns what the parent has: the digest of the key.
    #[must_use]
    pub fn ds(&self) -> RrSet {
        made(rtype::DS, &self.ds)
    }

    /// Signs a set; gives the data of an RRSIG (RFC 4034, 3.1). The set's data is in canonical order and form already.
    ///
    /// # Errors
    ///
    /// [`DnsSecError`] if the owner is no name that can be signed, or the system has no randomness.
    pub fn sign(
        &self,
        owner: &Name,
        set: &RrSet,
        validity: Validity,
    ) -> Result<Box<[u8]>, DnsSecError> {
        let owner = hickory_name(owner).ok_or(DnsSecError::Message("the owner's name"))?;
        let kind = RecordType::from(set.rtype);
        let input = SigInput {
            type_covered: kind,
            algorithm: ALGORITHM,
            num_labels: owner.num_labels(),
            original_ttl: set.ttl,
            sig_expiration: serial(validity.expiration),
            sig_inception: serial(validity.inception),
            key_tag: self.tag,
            signer_name: self.signer.clone(),
        };
        let record = |data: &[u8]| {
            let data = RData::Unknown {
                code: kind,
                rdata: NULL::with(data.to_vec()),
            };
            Record::from_rdata(owner.clone(), set.ttl, data)
        };
        let records: Vec<Record> = set.rdata.iter().map(|data| record(data)).collect();
        let signed = TBS::from_input(&owner, DNSClass::IN, &input, records.iter())?;
        let signature = RRSIG::from_sig(input, self.pair.sign(&signed)?);
        let data = rdata::encode(&RData::DNSSEC(DNSSECRData::RRSIG(signature)));
        Ok(data.ok_or(DnsSecError::Message("the RRSIG"))?.into())
    }
}

impl fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZoneKey({} {})", self.origin, self.tag)
    }
}

/// RFC 4034, 3.1.5: times are serial numbers of 32 bits.
fn serial(time: u64) -> SerialNumber {
    SerialNumber::new(u32::try_from(time & u64::from(u32::MAX)).unwrap_or(0))
}

fn made(rtype: u16, data: &[u8]) -> RrSet {
    RrSet {
        rtype,
        ttl: DEFAULT_TTL,
        rdata: vec![data.into()],
        owner: RrOwner::Platform,
    }
}

/// Returns a DS that no key has. It stands where a signed zone's key cannot be used: without any, the zone would pass for one
/// that nobody signs.
pub(crate) fn ds_of_nobody() -> RrSet {
    let mut data = vec![0, 0, ALGORITHM.into(), DigestType::SHA256.into()];
    data.extend([0; 32]);
    made(rtype::DS, &data)
}

/// Returns a name as hickory has it.
pub(crate) fn hickory_name(name: &Name) -> Option<HickoryName> {
    HickoryName::read(&mut BinDecoder::new(name.as_wire())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(origin: &str) -> ZoneKey {
        let octets = ZoneKey::generate().unwrap();
        ZoneKey::from_pkcs8(&Name::absolute(origin).unwrap(), &octets).unwrap()
    }

    /// RFC 6605, 6.1: a key, its tag and its DS. ring wants the public half beside the private one; it is the RFC's, too.
    #[test]
    fn the_ds_and_the_tag_are_those_of_rfc_6605_section_6_1() {
        use crate::keys::base64;
        let private = base64("GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=").unwrap();
        let public = "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==";
        let mut octets = b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20".to_vec();
        octets.extend(private);
        octets.extend(b"\xa1\x44\x03\x42\x00\x04");
        octets.extend(base64(public).unwrap());
        let origin = Name::absolute("example.net").unwrap();
        let key = ZoneKey::from_pkcs8(&origin, &PrivatePkcs8KeyDer::from(octets)).unwrap();
        assert_eq!(key.tag(), 55648);
        assert_eq!(
            rdata::show(rtype::DS, &key.ds().rdata[0]).to_ascii_lowercase(),
            "55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17"
        );
        let dnskey = rdata::show(rtype::DNSKEY, &key.apex()[0].rdata[0]);
        assert_eq!(dnskey, format!("257 3 13 {public}"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let origin = Name::absolute("z.example").unwrap();
        let good = ZoneKey::generate().unwrap();
        let mut bent = good.secret_pkcs8_der().to_vec();
        let last = bent.len() - 1;
        bent[last] ^= 1;
        let cut = good.secret_pkcs8_der()[..40].to_vec();
        for bad in [bent, cut, Vec::new()] {
            assert!(ZoneKey::from_pkcs8(&origin, &PrivatePkcs8KeyDer::from(bad)).is_err());
        }
    }

    #[test]
    fn a_signature_says_who_made_it_and_for_how_long() {
        let key = key("z.example");
        let set = key.ds();
        let validity = Validity {
            inception: 1000,
            expiration: (1 << 32) + 5,
        };
        let owner = Name::absolute("*.z.example").unwrap();
        let data = key.sign(&owner, &set, validity).unwrap();
        // Type DS, algorithm 13, two labels without the asterisk, TTL 300, until 5, from 1000.
        assert_eq!(
            data[..16],
            [0, 43, 13, 2, 0, 0, 1, 44, 0, 0, 0, 5, 0, 0, 3, 232]
        );
        assert_eq!(data[16..18], key.tag().to_be_bytes());
        assert_eq!(data[18..29], *b"\x01z\x07example\x00");
        assert_eq!(data.len(), 29 + 64);
    }
}
