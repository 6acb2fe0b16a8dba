//! DNS cookies (RFC 7873) in the form that all servers understand (RFC 9018).
//!
//! # Guarantees
//!
//! * **Nothing is kept per client.** A server cookie says when it was made, and is good for the address that it
//!   was made for and nobody else: whoever shows it can receive at its address.
//! * **The secret changes each day.** What signs a cookie is derived from the day that the cookie says it was
//!   made on, and a seed that lives as long as the process: all threads agree without talking.
//! * A client without the option costs nothing.

use std::hash::Hasher as _;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// Number of the EDNS option.
pub const OPTION: u16 = 10;
/// Octets of a client's and our cookie together.
pub const BOTH: usize = 24;
/// Octets of a client's cookie.
const CLIENT: usize = 8;
/// Octets of our cookie: version, three reserved ones, time, hash (RFC 9018, 4).
const SERVER: usize = 16;
/// Version of our cookies, and what is reserved.
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// How old a cookie may be, in seconds (RFC 9018, 4.3).
const OLDEST: u32 = 3600;
/// From when on a client gets a new one, in seconds.
const RENEW: u32 = 1800;
/// How far in the future one may have been made, in seconds.
const AHEAD: u32 = 300;
/// How long one secret signs, in seconds.
const DAY: u32 = 86_400;

/// What a client sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie {
    /// Its own.
    pub client: [u8; CLIENT],
    /// The one that it says it got from us.
    pub server: Server,
}

/// A server's cookie in a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Server {
    /// It has none yet.
    None,
    /// It is as long as ours are.
    Like([u8; SERVER]),
    /// It is of another length: another server's.
    Foreign,
}

/// Reads the options of an OPT record. `None`: they are malformed.
pub(crate) fn read(mut options: &[u8]) -> Option<Option<Cookie>> {
    let mut found = None;
    while !options.is_empty() {
        let ([k0, k1, l0, l1], rest) = options.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (data, rest) = rest.split_at_checked(length)?;
        options = rest;
        // RFC 7873, 5.2: of more than one, the first counts.
        if u16::from_be_bytes([*k0, *k1]) == OPTION && found.is_none() {
            found = Some(Cookie::read(data)?);
        }
    }
    Some(found)
}

impl Cookie {
    /// RFC 7873, 5.2.2: other lengths are malformed.
    fn read(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk::<CLIENT>()?;
        let server = match (server.len(), server.first_chunk::<SERVER>()) {
            (0, _) => Server::None,
            (SERVER, Some(server)) => Server::Like(*server),
            (8..=32, _) => Server::Foreign,
            _ => return None,
        };
        Some(Self {
            client: *client,
            server,
        })
    }
}

/// Makes and checks cookies.
#[derive(Clone)]
pub struct Jar {
    seed: [u8; 16],
}

impl Jar {
    /// Makes one with a seed that nobody knows.
    ///
    /// # Errors
    ///
    /// The kernel has no random octets.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        Ok(Self { seed })
    }

    /// Makes one with this seed.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self { seed }
    }

    /// Returns the cookie that goes back, and whether the client's was good.
    pub(crate) fn answer(&self, cookie: &Cookie, source: IpAddr, now: u64) -> ([u8; BOTH], bool) {
        let now = u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0);
        let age = match cookie.server {
            Server::Like(server) => self.age(&cookie.client, &server, source, now),
            Server::None | Server::Foreign => None,
        };
        let server = match (age, cookie.server) {
            (Some(age), Server::Like(server)) if age < RENEW => server,
            _ => self.make(&cookie.client, source, now),
        };
        let mut both = [0; BOTH];
        let (front, back) = both.split_at_mut(CLIENT);
        front.copy_from_slice(&cookie.client);
        back.copy_from_slice(&server);
        (both, age.is_some())
    }

    /// Returns how old a good cookie is, in seconds; `None` if it is not good.
    fn age(&self, client: &[u8], server: &[u8], source: IpAddr, now: u32) -> Option<u32> {
        let (front, hash) = server.split_first_chunk::<8>()?;
        let [version, _, _, _, time @ ..] = *front;
        let time = u32::from_be_bytes(time);
        // Serial arithmetic (RFC 1982): the time wraps in 2106.
        let (past, ahead) = (now.wrapping_sub(time), time.wrapping_sub(now));
        let is_good = version == 1
            && (past <= OLDEST || ahead <= AHEAD)
            && *hash == sign(&self.key(time), client, front, source);
        is_good.then_some(if past <= OLDEST { past } else { 0 })
    }

    fn make(&self, client: &[u8], source: IpAddr, now: u32) -> [u8; SERVER] {
        let mut server = [0; SERVER];
        let (front, hash) = server.split_at_mut(8);
        let (version, time) = front.split_at_mut(4);
        version.copy_from_slice(&VERSION);
        time.copy_from_slice(&now.to_be_bytes());
        hash.copy_from_slice(&sign(&self.key(now), client, front, source));
        server
    }

    /// The secret of a day.
    fn key(&self, time: u32) -> [u8; 16] {
        let half = |which: u8| {
            let mut hasher = SipHasher24::new_with_key(&self.seed);
            hasher.write(&(time / DAY).to_be_bytes());
            hasher.write(&[which]);
            hasher.finish()
        };
        (u128::from(half(0)) << 64 | u128::from(half(1))).to_be_bytes()
    }
}

/// RFC 9018, 4.4: "Hash = SipHash-2-4( Client Cookie | Version | Reserved | Timestamp | Client-IP, Server
/// Secret )".
fn sign(key: &[u8; 16], client: &[u8], front: &[u8], source: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(client);
    hasher.write(front);
    match source {
        IpAddr::V4(source) => hasher.write(&source.octets()),
        IpAddr::V6(source) => hasher.write(&source.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    /// RFC 9018, appendix A: (secret, client's address, both cookies).
    const APPENDIX_A: &[(&str, &str, &str)] = &[
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            "198.51.100.100",
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
        ),
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            "198.51.100.100",
            "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
        ),
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            "203.0.113.203",
            "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
        ),
        (
            "445536bcd2513298075a5d379663c962",
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
        ),
    ];

    #[test]
    fn rfc_9018_appendix_a_is_signed_as_it_is_written_there() {
        for (secret, source, both) in APPENDIX_A {
            let (secret, both) = (octets(secret), octets(both));
            let source = source.parse().unwrap();
            let key = secret.as_slice().try_into().unwrap();
            let hash = sign(key, &both[..8], &both[8..16], source);
            assert_eq!(hash, both[16..], "{source}");
        }
    }

    const CLIENT_COOKIE: [u8; 8] = [7; 8];
    const NOW: u64 = 1_700_000_000;

    fn with(server: Server) -> Cookie {
        Cookie {
            client: CLIENT_COOKIE,
            server,
        }
    }

    fn given(jar: &Jar, source: &str, now: u64) -> Server {
        let (both, _) = jar.answer(&with(Server::None), source.parse().unwrap(), now);
        Server::Like(both[8..].try_into().unwrap())
    }

    #[test]
    fn a_cookie_is_good_for_its_address_its_client_and_an_hour() {
        let jar = Jar::new([1; 16]);
        let server = given(&jar, "192.0.2.1", NOW);
        let is_good = |jar: &Jar, cookie: &Cookie, source: &str, now: u64| {
            jar.answer(cookie, source.parse().unwrap(), now).1
        };
        let mine = with(server);
        for now in [NOW, NOW + 3600, NOW - 300] {
            assert!(is_good(&jar, &mine, "192.0.2.1", now), "{now}");
        }
        for now in [NOW + 3601, NOW - 301] {
            assert!(!is_good(&jar, &mine, "192.0.2.1", now), "{now}");
        }
        assert!(!is_good(&jar, &mine, "192.0.2.2", NOW), "another address");
        let other = Cookie {
            client: [8; 8],
            server,
        };
        assert!(!is_good(&jar, &other, "192.0.2.1", NOW), "another client");
        let elsewhere = Jar::new([2; 16]);
        assert!(
            !is_good(&elsewhere, &mine, "192.0.2.1", NOW),
            "another seed"
        );
        assert!(!is_good(&jar, &with(Server::Foreign), "192.0.2.1", NOW));
        assert!(!is_good(&jar, &with(Server::None), "192.0.2.1", NOW));
    }

    #[test]
    fn a_cookie_is_given_back_for_half_an_hour_and_then_renewed() {
        let jar = Jar::new([1; 16]);
        let Server::Like(first) = given(&jar, "192.0.2.1", NOW) else {
            panic!("it is ours");
        };
        let back = |now| {
            let (both, is_good) =
                jar.answer(&with(Server::Like(first)), [192, 0, 2, 1].into(), now);
            assert!(is_good);
            both[8..] == first
        };
        assert!(back(NOW + 1799));
        assert!(!back(NOW + 1800));
    }

    #[test]
    fn each_day_has_a_secret_of_its_own_and_cookies_outlive_midnight() {
        let jar = Jar::new([1; 16]);
        assert_ne!(jar.key(DAY - 1), jar.key(DAY));
        let midnight = NOW - NOW % u64::from(DAY);
        let server = given(&jar, "2001:db8::1", midnight - 10);
        let (_, is_good) = jar.answer(&with(server), "2001:db8::1".parse().unwrap(), midnight + 10);
        assert!(is_good);
    }

    #[test]
    fn rfc_7873_section_5_2_2_other_lengths_are_malformed() {
        for length in 0..50_u8 {
            let mut options = vec![0, 10, 0, length];
            options.extend(vec![1; usize::from(length)]);
            let is_good = matches!(length, 8 | 16..=40);
            assert_eq!(read(&options).is_some(), is_good, "{length}");
            options.pop();
            assert!(read(&options).is_none(), "cut off");
        }
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&[0, 3, 0, 1, 9]), Some(None), "another option");
    }
}
