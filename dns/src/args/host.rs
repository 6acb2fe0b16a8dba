//! Which resolvers are asked: those that the command line names, and those of this host (`resolv.conf(5)`).

use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use thiserror::Error;

/// Where the host's resolvers stand.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// So many of them are asked, as the host itself does.
const MOST: usize = 3;
/// The port of DNS.
const PORT: u16 = 53;

/// A resolver, as the command line names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upstream {
    /// This one.
    Address(SocketAddr),
    /// Those of the host.
    Host,
}

impl FromStr for Upstream {
    type Err = AddrParseError;

    /// Reads `host`, or an address with or without a port.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "host" {
            return Ok(Self::Host);
        }
        let with_port = text.parse::<SocketAddr>();
        let address = with_port.or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, PORT).into()));
        address.map(Self::Address)
    }
}

/// The host has no resolvers to ask.
#[derive(Debug, Error)]
pub enum HostError {
    /// The file cannot be read.
    #[error("cannot read {} for `--upstream host` (remedy: --upstream ADDRESS)", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It names none.
    #[error(
        "{} has no `nameserver` that `--upstream host` can ask: none but this daemon's own addresses, \
         0.0.0.0 and link-local ones (remedy: name one there, or --upstream ADDRESS)",
        path.display()
    )]
    Nobody {
        /// The file.
        path: PathBuf,
    },
}

/// Returns whom to ask.
pub(super) fn resolve(
    upstreams: &[Upstream],
    listen: &[SocketAddr],
    path: &Path,
) -> Result<Vec<SocketAddr>, HostError> {
    let mut all = Vec::new();
    for upstream in upstreams {
        match upstream {
            Upstream::Address(address) => all.push(*address),
            Upstream::Host => all.extend(of_host(listen, path)?),
        }
    }
    Ok(all)
}

fn of_host(listen: &[SocketAddr], path: &Path) -> Result<Vec<SocketAddr>, HostError> {
    let text = fs::read_to_string(path).map_err(|source| HostError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut all = host_upstreams(&text);
    all.retain(|upstream| !listen.iter().any(|own| is_answered_by(*own, *upstream)));
    if all.is_empty() {
        return Err(HostError::Nobody {
            path: path.to_owned(),
        });
    }
    Ok(all)
}

/// Would the daemon ask itself? Of an address of all interfaces, only loopback's own is known here: another one of
/// 127.0.0.0/8 is usually another server's (systemd-resolved has 127.0.0.53).
fn is_answered_by(own: SocketAddr, upstream: SocketAddr) -> bool {
    let is_loopback = match upstream.ip() {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
    };
    let is_any = own.ip().is_unspecified() && own.is_ipv4() == upstream.is_ipv4();
    own.port() == upstream.port() && (own.ip() == upstream.ip() || (is_any && is_loopback))
}

/// Returns the resolvers of a `resolv.conf`, read as glibc does: the word begins the line.
fn host_upstreams(text: &str) -> Vec<SocketAddr> {
    text.lines().filter_map(nameserver).take(MOST).collect()
}

fn nameserver(line: &str) -> Option<SocketAddr> {
    let rest = line.strip_prefix("nameserver")?;
    let value = rest.trim_start_matches([' ', '\t']);
    if value.len() == rest.len() {
        return None;
    }
    let value = value.split([' ', '\t', '#', ';']).next()?;
    // Only link-local addresses need their scope.
    let address = value.split('%').next()?.parse::<IpAddr>().ok()?;
    let is_local = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    (!is_local && !address.is_unspecified()).then_some((address, PORT).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_of_the_host_are_read_as_the_host_does() {
        let rows: [(&str, &[&str]); 14] = [
            ("", &[]),
            ("search example.org\noptions edns0\n", &[]),
            ("nameserver 9.9.9.9\n", &["9.9.9.9:53"]),
            ("nameserver\t9.9.9.9 \t\r\n", &["9.9.9.9:53"]),
            (
                "nameserver 9.9.9.9# ours\nnameserver 1.1.1.1;b",
                &["9.9.9.9:53", "1.1.1.1:53"],
            ),
            (
                "# nameserver 9.9.9.9\n;nameserver 9.9.9.9\n nameserver 9.9.9.9\n",
                &[],
            ),
            ("nameservers 9.9.9.9\nnameserver9.9.9.9\nnameserver\n", &[]),
            ("nameserver 127.0.0.53\n", &["127.0.0.53:53"]),
            ("nameserver 2620:fe::fe\n", &["[2620:fe::fe]:53"]),
            ("nameserver 2620:fe::fe%eth0\n", &["[2620:fe::fe]:53"]),
            ("nameserver fe80::1%eth0\nnameserver fe80::1\n", &[]),
            ("nameserver 0.0.0.0\nnameserver ::\n", &[]),
            (
                "nameserver dns.example.org\nnameserver 9.9.9.9:53\nnameserver 9.9.9\n",
                &[],
            ),
            (
                "nameserver ::\nnameserver 9.9.9.9\nnameserver 1.1.1.1\nnameserver 8.8.8.8\nnameserver 4.4.4.4\n",
                &["9.9.9.9:53", "1.1.1.1:53", "8.8.8.8:53"],
            ),
        ];
        for (text, expected) in rows {
            let found = host_upstreams(text);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn the_daemon_is_no_upstream_of_its_own() {
        let rows = [
            ("0.0.0.0:53", "127.0.0.1:53", true),
            ("[::]:53", "[::1]:53", true),
            ("0.0.0.0:53", "[::1]:53", false),
            ("0.0.0.0:53", "127.0.0.53:53", false),
            ("0.0.0.0:5353", "127.0.0.1:53", false),
            ("0.0.0.0:53", "9.9.9.9:53", false),
            ("10.1.0.1:53", "10.1.0.1:53", true),
            ("10.1.0.1:53", "10.1.0.2:53", false),
            ("10.1.0.1:53", "127.0.0.1:53", false),
        ];
        for (own, upstream, expected) in rows {
            let is_own = is_answered_by(own.parse().unwrap(), upstream.parse().unwrap());
            assert_eq!(is_own, expected, "{upstream} at {own}");
        }
    }

    #[test]
    fn the_word_and_addresses_may_stand_together_and_nobody_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let read = |text: &str| text.parse::<Upstream>();
        assert!(read("hosts").is_err());
        let upstreams = [read("192.0.2.1:5353").unwrap(), read("host").unwrap()];
        let listen: [SocketAddr; 1] = ["0.0.0.0:53".parse().unwrap()];
        let told = |upstreams: &[Upstream]| match resolve(upstreams, &listen, &path) {
            Ok(all) => format!("{all:?}"),
            Err(reason) => crate::chain(&reason),
        };
        assert!(told(&upstreams).contains("resolv.conf"), "no file");
        assert_eq!(told(&upstreams[..1]), "[192.0.2.1:5353]");
        fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
        assert!(told(&upstreams).contains("remedy"), "the daemon only");
        fs::write(&path, "nameserver 127.0.0.1\nnameserver 9.9.9.9\n").unwrap();
        assert_eq!(told(&upstreams), "[192.0.2.1:5353, 9.9.9.9:53]");
    }
}
