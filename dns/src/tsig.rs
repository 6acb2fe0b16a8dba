//! Signed requests and replies (RFC 8945), on the server's side.

use hickory_proto::rr::rdata::tsig::{TSIG, TsigError};

use crate::keys::{FUDGE, Key, Keyring};
use crate::message::rcode;
use crate::name::Name;
use crate::rdata::rtype;
use crate::secret::{Secret, signed_part};

/// How a reply is to be signed.
pub struct Signer {
    key: KeyName,
    /// `None`: the signature is empty, because the request's was not good (RFC 8945, 5.3.2).
    secret: Option<Secret>,
    request: TSIG,
    error: Option<TsigError>,
    now: u64,
}

enum KeyName {
    Known(Name),
    /// As the request had it.
    Unknown(Vec<u8>),
}

/// What a signature is worth.
pub enum Checked<'k> {
    /// It is good: whose it is, and how to sign the reply.
    Good(&'k Key, Signer),
    /// It is not: reply with this code, and so signed.
    Bad(u16, Signer),
    /// The record itself is not good.
    Malformed,
}

/// Checks the signature of a message, in the order of RFC 8945, 5.2: key, MAC, time. `may_know`: may the sender, who has not shown
/// that the key is his, be told that there is such a key?
#[must_use]
pub fn check<'k>(
    message: &[u8],
    keys: &'k Keyring,
    now: u64,
    may_know: impl Fn(&Key) -> bool,
) -> Checked<'k> {
    let Some((signed, record)) = signed_part(message, None) else {
        return Checked::Malformed;
    };
    let request = record.data;
    let key_wire: Vec<u8> = wire_of(&record.name);
    let answer = |key: Option<&Key>, error| {
        let name = Name::from_wire(&key_wire);
        Signer {
            key: name.map_or_else(|_| KeyName::Unknown(key_wire.clone()), KeyName::Known),
            secret: key.map(|key| key.secret.clone()),
            request: request.clone(),
            error,
            now,
        }
    };
    let bad = |key, error| Checked::Bad(rcode::NOTAUTH, answer(key, Some(error)));
    let lower: Vec<u8> = key_wire.to_ascii_lowercase();
    let Some(key) = keys.key(&lower) else {
        return bad(None, TsigError::BadKey);
    };
    if request.algorithm.to_name() != key.secret.algorithm().to_name() {
        return bad(None, TsigError::BadKey);
    }
    if !key.secret.verify(&signed, &request.mac) {
        if !may_know(key) {
            return bad(None, TsigError::BadKey);
        }
        return match key.secret.verify_shortened(&signed, &request.mac) {
            None => Checked::Malformed,
            Some(false) => bad(None, TsigError::BadSig),
            Some(true) => bad(Some(key), TsigError::BadTrunc),
        };
    }
    if now.abs_diff(request.time) > u64::from(request.fudge.min(FUDGE)) {
        return bad(Some(key), TsigError::BadTime);
    }
    Checked::Good(key, answer(Some(key), None))
}

fn wire_of(name: &hickory_proto::rr::Name) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name {
        wire.extend(u8::try_from(label.len()));
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire
}

impl Signer {
    /// Adds the TSIG record to a reply; returns its MAC.
    pub fn sign(&self, reply: &mut Vec<u8>) -> Vec<u8> {
        self.sign_with(reply, |secret, reply, tsig| {
            let mut signed = Vec::with_capacity(reply.len() + 256);
            put_block(&mut signed, &self.request.mac);
            signed.extend_from_slice(reply);
            signed.extend(secret.variables(tsig)?);
            Some(signed)
        })
    }

    /// Adds the TSIG record to a further message of one reply; returns its MAC. RFC 8945, 5.3.1: it covers the
    /// MAC of the message before, the message, and the time.
    pub fn sign_next(&self, reply: &mut Vec<u8>, before: &[u8]) -> Vec<u8> {
        self.sign_with(reply, |_, reply, tsig| {
            let mut signed = Vec::with_capacity(before.len() + reply.len() + 10);
            put_block(&mut signed, before);
            signed.extend_from_slice(reply);
            signed.extend(time48(tsig.time));
            signed.extend(tsig.fudge.to_be_bytes());
            Some(signed)
        })
    }

    fn sign_with(
        &self,
        reply: &mut Vec<u8>,
        signed_of: impl FnOnce(&Secret, &[u8], &TSIG) -> Option<Vec<u8>>,
    ) -> Vec<u8> {
        let mut tsig = TSIG::new(
            self.request.algorithm.clone(),
            self.now,
            FUDGE,
            Vec::new(),
            self.request.oid,
            self.error,
            Vec::new(),
        );
        if self.error == Some(TsigError::BadTime) {
            // RFC 8945, 5.2.3: the client's own time, so that it can check the reply, and ours in it.
            tsig.time = self.request.time;
            tsig.fudge = self.request.fudge;
            tsig.other = time48(self.now).to_vec();
        }
        if let Some(secret) = &self.secret {
            let signed = self.with_own_id(reply);
            let signed = signed.and_then(|reply| signed_of(secret, &reply, &tsig));
            tsig.mac = signed.map_or_else(Vec::new, |signed| secret.mac(&signed));
        }
        let mut rdata = wire_of(&tsig.algorithm.to_name());
        rdata.extend(time48(tsig.time));
        rdata.extend(tsig.fudge.to_be_bytes());
        put_block(&mut rdata, &tsig.mac);
        rdata.extend(tsig.oid.to_be_bytes());
        rdata.extend(tsig.error.map_or(0, u16::from).to_be_bytes());
        put_block(&mut rdata, &tsig.other);
        match &self.key {
            KeyName::Known(name) => reply.extend_from_slice(name.as_wire()),
            KeyName::Unknown(wire) => reply.extend_from_slice(wire),
        }
        reply.extend(rtype::TSIG.to_be_bytes());
        reply.extend(rtype::ANY.to_be_bytes());
        reply.extend([0; 4]);
        put_block(reply, &rdata);
        count_record(reply);
        tsig.mac
    }

    /// Returns how many octets the record adds at most.
    #[must_use]
    pub fn room(&self) -> usize {
        let name = match &self.key {
            KeyName::Known(name) => name.as_wire().len(),
            KeyName::Unknown(wire) => wire.len(),
        };
        let algorithm = wire_of(&self.request.algorithm.to_name()).len();
        // Ten octets of every record, sixteen of this type, the longest MAC, the time.
        name + algorithm + 10 + 16 + 64 + 6
    }

    /// The MAC covers the reply with the request's own id.
    fn with_own_id(&self, reply: &[u8]) -> Option<Vec<u8>> {
        let mut reply = reply.to_vec();
        let id = self.request.oid.to_be_bytes();
        reply.get_mut(..2)?.copy_from_slice(&id);
        Some(reply)
    }
}

fn time48(seconds: u64) -> [u8; 6] {
    let [_, _, time @ ..] = seconds.to_be_bytes();
    time
}

fn put_block(out: &mut Vec<u8>, block: &[u8]) {
    out.extend(u16::try_from(block.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(block);
}

/// One more record in the additional section.
fn count_record(reply: &mut [u8]) {
    if let Some([high, low]) = reply.get_mut(10..12) {
        let count = u16::from_be_bytes([*high, *low]).wrapping_add(1);
        [*high, *low] = count.to_be_bytes();
    }
}
