//! The sysctls that isolation needs, and how they are read and written.
//!
//! # On the trunk and on each VLAN device, `net.ipvN.conf.DEV.KEY`
//!
//! Set after the device is made and before it comes up. "Effective" is what the kernel makes of `conf.all` and
//! `conf.DEV` ([`include/linux/inetdevice.h`]): where only one of them must be 0, only the device's is set.
//!
//! | key | value | why |
//! |---|---|---|
//! | 4 `forwarding` | 1 | the device is one of a router; off, the kernel drops what the program hands to it |
//! | 4 `rp_filter` | 1 | strict (RFC 3704): a source belongs to the one segment that has its subnet. The program has judged the source; this holds for what passes when no program is attached. Effective is the larger of both: `all` = 2 makes it loose |
//! | 4 `send_redirects` | 0 | a redirect tells a tenant to go around the router. Effective is OR, so `all` is set, too |
//! | 4 `accept_redirects` | 0 | nobody on a segment may bend the router's routes. Effective is AND while forwarding |
//! | 4 `secure_redirects` | 0 | its default is on; without `accept_redirects` it has no effect, and nobody should have to know that |
//! | 4 `accept_source_route` | 0 | the sender must not choose a way around the policy (RFC 6274 section 3.13.2.3). Effective is AND |
//! | 4 `arp_ignore` | 1 | answer only for an address of the device that was asked on: the router's addresses on other segments are none of a tenant's business. Not 2, which leaves ARP probes (RFC 5227, sender 0.0.0.0) for the gateway's address without an answer |
//! | 4 `arp_announce` | 2 | an ARP request of the router never carries an address of another segment |
//! | 4 `proxy_arp` | 0 | the router answers for nobody else |
//! | 4 `promote_secondaries` | 1 | without it, removing one address of a subnet removes all later ones of it, also foreign ones |
//! | 6 `disable_ipv6` | 0 | the program answers as the link-local address of the router: the kernel must have it |
//! | 6 `addr_gen_mode` | 0 | EUI-64: the link-local address is the one that the program derives from the trunk's MAC |
//! | 6 `forwarding` | 1 | as for IPv4 |
//! | 6 `accept_ra` | 0 | nobody on a segment is the router's router |
//! | 6 `autoconf` | 0 | as above |
//! | 6 `accept_redirects` | 0 | as for IPv4 |
//! | 6 `accept_source_route` | 0 | routing headers are dropped (RFC 5095) |
//! | 6 `proxy_ndp` | 0 | as `proxy_arp` |
//! | 6 `accept_dad` | 0 | the router's addresses are its own by the inventory: a host that claims one must not take the router off the link |
//!
//! Not set: `arp_filter` (it is for several devices in one subnet; there is one device for each), `log_martians`
//! (a tenant could fill the log), `rp_filter` of `all` (it would change uplinks that bulkhead does not judge).
//! The trunk has the same values but for both `forwarding`, `disable_ipv6` and `addr_gen_mode` ([`on_trunk`]).
//! IPv6 keys are left out where the MTU is below 1280: there is no IPv6 on such a link (RFC 8200 section 5).
//!
//! # For all devices, `net.ipvN.conf.all.KEY`
//!
//! | key | value | why |
//! |---|---|---|
//! | 4 `send_redirects` | 0 | see above |
//! | 4 `forwarding` (`net.ipv4.ip_forward`) | 1 | a router. Set last, when the program is attached |
//! | 6 `forwarding` | 1 | as above. Linux then ignores router advertisements on devices with `accept_ra` = 1, so an uplink that lives by them is a conflict until it has `accept_ra` = 2 |
//!
//! [`include/linux/inetdevice.h`]: https://github.com/torvalds/linux/blob/v6.12/include/linux/inetdevice.h#L92
//!
//! # Which network namespace
//!
//! `/proc/sys/net` shows the namespace of the thread that opens the file, whatever `/proc` was mounted for
//! (`net_ctl_header_lookup` in [`net/sysctl_net.c`]). A netlink socket stays in the one where it was opened. So a
//! [`super::Network`] refuses to touch a sysctl on a thread of another namespace.
//!
//! [`net/sysctl_net.c`]: https://github.com/torvalds/linux/blob/v6.12/net/sysctl_net.c#L31

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// An address family.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A sysctl that every device has.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// `net.ipv4` or `net.ipv6`.
    pub family: Family,
    /// The last word.
    pub name: &'static str,
}

const fn v4(name: &'static str) -> Key {
    let family = Family::V4;
    Key { family, name }
}

const fn v6(name: &'static str) -> Key {
    let family = Family::V6;
    Key { family, name }
}

/// Of each VLAN device, in the order in which they are set; [`on_trunk`] of the trunk, too.
pub const DEVICE: &[(Key, i32)] = &[
    (v4("rp_filter"), 1),
    (v4("send_redirects"), 0),
    (v4("accept_redirects"), 0),
    (v4("secure_redirects"), 0),
    (v4("accept_source_route"), 0),
    (v4("arp_ignore"), 1),
    (v4("arp_announce"), 2),
    (v4("proxy_arp"), 0),
    (v4("promote_secondaries"), 1),
    (v4("forwarding"), 1),
    (v6("accept_ra"), 0),
    (v6("autoconf"), 0),
    (v6("accept_redirects"), 0),
    (v6("accept_source_route"), 0),
    (v6("proxy_ndp"), 0),
    (v6("accept_dad"), 0),
    (v6("addr_gen_mode"), 0),
    (v6("forwarding"), 1),
    (v6("disable_ipv6"), 0),
];

/// Is the sysctl of [`DEVICE`] also one of the trunk? Untagged frames are dropped there, so nothing needs an
/// address on it; whether it has IPv6 at all is left as it is.
#[must_use]
pub fn on_trunk(key: Key) -> bool {
    !matches!(key.name, "forwarding" | "addr_gen_mode" | "disable_ipv6")
}

/// Of `all`: what takes something away.
pub const ALL: &[(Key, i32)] = &[(v4("send_redirects"), 0)];

/// Of `all`: what opens the way, so it comes last.
pub const FORWARDING: &[(Key, i32)] = &[(v4("forwarding"), 1), (v6("forwarding"), 1)];

/// Turned on for any device, Linux forgets the default routes of router advertisements everywhere
/// (`addrconf_fixup_forwarding`, `rt6_purge_dflt_routers`).
pub const FORWARDING6: Key = v6("forwarding");

/// `accept_ra`, by which an uplink may live.
pub const ACCEPT_RA: Key = v6("accept_ra");

/// The pseudo device of [`ALL`] and [`FORWARDING`].
pub const ALL_DEVICES: &str = "all";

impl Key {
    /// Where the sysctl of a device is.
    #[must_use]
    pub fn path(self, device: &str) -> PathBuf {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        Path::new("/proc/sys/net")
            .join(family)
            .join("conf")
            .join(device)
            .join(self.name)
    }

    /// Reads the value; `None` if there is no such sysctl here, for example because IPv6 is off.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub(super) fn read(self, device: &str) -> io::Result<Option<i32>> {
        match std::fs::read_to_string(self.path(device)) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        write!(f, "{family}.{}", self.name)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_the_kernels() {
        let path = v6("accept_ra").path("eth1.100");
        assert_eq!(
            path,
            Path::new("/proc/sys/net/ipv6/conf/eth1.100/accept_ra")
        );
    }

    #[test]
    fn every_key_is_in_the_table_of_reasons_with_its_value() {
        let text = include_str!("sysctl.rs");
        for (key, value) in DEVICE.iter().chain(ALL) {
            let family = match key.family {
                Family::V4 => 4,
                Family::V6 => 6,
            };
            let row = format!("//! | {family} `{}` | {value} |", key.name);
            assert!(text.contains(&row), "no row {row}");
        }
    }
}
