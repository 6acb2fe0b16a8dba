//! Leases of the server that was there before: Kea's memfile (CSV) and dnsmasq's lease file.
//!
//! Neither says the VLAN: it is that of the scope whose subnet has the address. What cannot be taken over is
//! returned with its line and the reason: an import that passes over something in silence is a lease twice.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use indexmap::IndexMap;
use netmodel::ids::VlanId;
use netmodel::leases::{Lease, State, is_hostname};
use thiserror::Error;

use crate::engine::Change;
use crate::scope::Scopes;
use crate::store::{Store, StoreError};

/// A lease that was taken over.
pub type Imported = (VlanId, Ipv4Addr, Lease);

/// A line that was not.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("line {line}: {why}")]
pub struct NotImported {
    /// Its number, from 1.
    pub line: usize,
    /// Why not.
    pub why: &'static str,
}

/// What came out of a file: leases, the last one of an address last, and what was not understood.
pub type Outcome = (Vec<Imported>, Vec<NotImported>);

/// Writes leases down that were taken over, but for addresses that have a lease here already. Returns how many.
///
/// # Errors
///
/// [`StoreError`], also if the server runs.
pub fn write(state: &Path, imported: Vec<Imported>) -> Result<usize, StoreError> {
    let (mut store, known) = Store::open(state)?;
    let known: HashSet<_> = known
        .into_iter()
        .map(|(vlan, address, _)| (vlan, address))
        .collect();
    let new = imported
        .into_iter()
        .filter(|(vlan, at, _)| !known.contains(&(*vlan, IpAddr::V4(*at))));
    let changes: Vec<_> = new
        .map(|(vlan, address, after)| Change {
            vlan,
            address: address.into(),
            before: None,
            after,
        })
        .collect();
    store.append(&changes, std::iter::empty)?;
    Ok(changes.len())
}

/// Reads `kea-leases4.csv` (Kea 1.6 to 2.6). Like Kea, the last line of an address counts; leases that were
/// released, reclaimed or have ended by `now` (seconds since 1970-01-01 UTC) are not taken over.
#[must_use]
pub fn kea(text: &str, scopes: &Scopes, now: u64) -> Outcome {
    let mut lines = text.lines().enumerate();
    let head: Vec<_> = lines
        .next()
        .map_or(Vec::new(), |(_, head)| head.split(',').collect());
    let column = |name: &str| head.iter().position(|known| *known == name);
    let columns = [
        "address",
        "hwaddr",
        "client_id",
        "valid_lifetime",
        "expire",
        "hostname",
        "state",
    ];
    let columns = columns.map(column);
    let [Some(_), Some(_), _, Some(_), Some(_), _, _] = columns else {
        let why = "no head of a Kea lease file (address,hwaddr,client_id,valid_lifetime,expire,…)";
        return (Vec::new(), vec![NotImported { line: 1, why }]);
    };
    collect(lines, scopes, now, |line| {
        let fields: Vec<_> = line.split(',').collect();
        let [address, mac, id, lifetime, until, name, state] = columns.map(|at| {
            at.and_then(|at| fields.get(at).copied())
                .unwrap_or_default()
        });
        let until: u64 = until.parse().map_err(|_| "the expiry is no number")?;
        let lifetime: u64 = lifetime.parse().map_err(|_| "the lifetime is no number")?;
        let lease = Lease {
            mac: mac
                .parse()
                .map_err(|_| "the hardware address is not one of Ethernet")?,
            state: match state {
                "" | "0" => State::Bound,
                "1" => State::Declined,
                // Expired and reclaimed, released: the address is free.
                _ => State::Expired,
            },
            since: until.saturating_sub(lifetime),
            until: if lifetime == 0 { 0 } else { until },
            client_id: octets(id)?,
            hostname: hostname(name.trim_end_matches('.')),
        };
        Ok((address, lease))
    })
}

/// Reads `dnsmasq.leases`: expiry, hardware address, address, name, client identifier. Leases for IPv6,
/// which follow the line `duid …`, are not read.
#[must_use]
pub fn dnsmasq(text: &str, scopes: &Scopes, now: u64) -> Outcome {
    let lines = text.lines().enumerate();
    let lines = lines.take_while(|(_, line)| !line.starts_with("duid "));
    collect(lines, scopes, now, |line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [until, mac, address, name, id] = fields.as_slice() else {
            return Err("not five fields");
        };
        let until: u64 = until.parse().map_err(|_| "the expiry is no number")?;
        // An infinite lease is 0; it becomes one of a day, which the client renews.
        let until = if until == 0 { now + 86_400 } else { until };
        let lease = Lease {
            mac: mac
                .parse()
                .map_err(|_| "the hardware address is not one of Ethernet")?,
            state: State::Bound,
            since: now.min(until),
            until,
            client_id: if *id == "*" {
                Box::default()
            } else {
                octets(id)?
            },
            hostname: hostname(name),
        };
        Ok((*address, lease))
    })
}

fn collect<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
    scopes: &Scopes,
    now: u64,
    parse: impl Fn(&'a str) -> Result<(&'a str, Lease), &'static str>,
) -> Outcome {
    let mut leases: IndexMap<Ipv4Addr, (VlanId, Lease)> = IndexMap::new();
    let mut refused = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let outcome = parse(line).and_then(|(address, lease)| {
            let address: Ipv4Addr = address
                .parse()
                .map_err(|_| "the address is not one of IPv4")?;
            Ok((place(address, scopes)?, address, lease))
        });
        match outcome {
            Ok((vlan, address, lease)) => {
                leases.insert(address, (vlan, lease));
            }
            Err(why) => refused.push(NotImported {
                line: index + 1,
                why,
            }),
        }
    }
    leases.retain(|_, (_, lease)| {
        matches!(lease.state, State::Bound | State::Declined) && lease.until > now
    });
    let leases = leases
        .into_iter()
        .map(|(address, (vlan, lease))| (vlan, address, lease));
    (leases.collect(), refused)
}

/// Returns the VLAN of the one scope whose subnet has the address.
fn place(address: Ipv4Addr, scopes: &Scopes) -> Result<VlanId, &'static str> {
    let mut found = scopes
        .by_vlan
        .values()
        .filter(|scope| scope.net.contains(&address));
    match (found.next(), found.next()) {
        (Some(scope), None) => Ok(scope.vlan),
        (None, _) => Err("no scope has the address in its subnet"),
        (Some(_), Some(_)) => Err("several scopes have the address in their subnets"),
    }
}

/// Reads `01:02:…`.
fn octets(text: &str) -> Result<Box<[u8]>, &'static str> {
    let why = "the client identifier is not hexadecimal";
    if text.is_empty() {
        return Ok(Box::default());
    }
    let parts = text.split(':').map(|part| match part.len() {
        1 | 2 => u8::from_str_radix(part, 16).map_err(|_| why),
        _ => Err(why),
    });
    parts.collect()
}

fn hostname(name: &str) -> Box<str> {
    let name = name
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    if is_hostname(&name) {
        name.into()
    } else {
        Box::default()
    }
}

#[cfg(test)]
mod tests {
    use netmodel::ids::MacAddr;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn scopes() -> Scopes {
        let folder = testkit::fixtures::sample();
        let model = testkit::lab::load(&folder).unwrap();
        Scopes::new(&model, &crate::settings::Settings::default()).unwrap()
    }

    #[test]
    fn a_kea_file_is_taken_over_with_its_last_state_of_each_address() {
        let text = "\
address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id
10.20.40.60,02:00:00:00:00:01,01:02:00:00:00:00:01,4000,1700001000,1,0,0,laptop.lab.example.,0,,0
10.20.40.61,02:00:00:00:00:02,,4000,1700001000,1,0,0,,0,,0
10.20.40.60,02:00:00:00:00:01,01:02:00:00:00:00:01,4000,1700003000,1,0,0,laptop.lab.example.,0,,0
10.20.40.61,02:00:00:00:00:02,,0,1700001000,1,0,0,,0,,0
10.20.40.62,02:00:00:00:00:03,,4000,1699999999,1,0,0,,0,,0
10.20.40.63,02:00:00:00:00:04,,4000,1700001000,1,0,0,,2,,0
10.20.40.64,,,4000,1700001000,1,0,0,,1,,0
192.0.2.1,02:00:00:00:00:05,,4000,1700001000,1,0,0,,0,,0
";
        let (leases, refused) = kea(text, &scopes(), NOW);
        let [(vlan, address, lease)] = leases.as_slice() else {
            panic!("one lease expected, got {leases:?}")
        };
        assert_eq!(
            (vlan.as_u16(), *address),
            (40, Ipv4Addr::new(10, 20, 40, 60))
        );
        assert_eq!((lease.until, lease.since), (1_700_003_000, 1_699_999_000));
        assert_eq!(
            (&*lease.hostname, lease.mac),
            ("laptop", MacAddr([2, 0, 0, 0, 0, 1]))
        );
        assert_eq!(&*lease.client_id, [1, 2, 0, 0, 0, 0, 1]);
        let lines: Vec<_> = refused.iter().map(|line| line.line).collect();
        assert_eq!(lines, [8, 9], "without a hardware address; in no subnet");
    }

    #[test]
    fn a_dnsmasq_file_is_taken_over() {
        let text = "\
1700001000 02:00:00:00:00:01 10.20.40.60 laptop 01:02:00:00:00:00:01
0 02:00:00:00:00:02 10.20.40.61 * *
1699999999 02:00:00:00:00:03 10.20.40.62 * *
1700001000 06-02:00:00:00:00:04 10.20.40.63 * *
duid 00:01:00:01:2c:00:00:00:02:00:00:00:00:01
1700001000 12345 fd00::1 laptop 00:01
";
        let (leases, refused) = dnsmasq(text, &scopes(), NOW);
        let found: Vec<_> = leases
            .iter()
            .map(|(_, at, lease)| (at.octets()[3], lease.until))
            .collect();
        assert_eq!(found, [(60, 1_700_001_000), (61, NOW + 86_400)]);
        assert_eq!(
            refused.iter().map(|line| line.line).collect::<Vec<_>>(),
            [4]
        );
    }

    #[test]
    fn what_is_taken_over_is_written_down_once() {
        let folder = tempfile::tempdir().unwrap();
        let text = "1700001000 02:00:00:00:00:01 10.20.40.60 laptop *\n";
        let (leases, _) = dnsmasq(text, &scopes(), NOW);
        assert_eq!(write(folder.path(), leases.clone()).unwrap(), 1);
        assert_eq!(write(folder.path(), leases.clone()).unwrap(), 0);
        let wanted = leases
            .into_iter()
            .map(|(vlan, at, lease)| (vlan, at.into(), lease));
        assert!(Store::open(folder.path()).unwrap().1.into_iter().eq(wanted));
    }

    #[test]
    fn another_file_is_not_taken_for_one_of_kea() {
        let (leases, refused) = kea("a,b,c\n1,2,3\n", &scopes(), NOW);
        assert_eq!((leases.len(), refused.len()), (0, 1));
    }
}
