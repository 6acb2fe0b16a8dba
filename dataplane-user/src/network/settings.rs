//! `[network]` of `bulkhead.toml`: what of the kernel's network bulkhead manages.

use serde::{Deserialize, Serialize};

/// The section. Every key may be absent.
///
/// ```toml
/// [network]
/// manage = ["links", "addresses", "sysctls", "offloads", "nat"]   # the default: everything
/// native_xdp = false                                       # the default
/// ```
///
/// `manage = []` is hands off: the operator makes VLAN devices and addresses, for example with systemd-networkd.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// What is managed. Default: everything.
    pub manage: Manage,
    /// The trunk's driver has native XDP, and it is wanted: the NIC then must not take VLAN tags out of the
    /// frames, so `rxvlan` is switched off. Default: false, which leaves the NIC alone; where it hides tags, the
    /// program is attached behind it (TC), and sees them.
    pub native_xdp: bool,
}

/// What is managed; what is not is neither changed nor reported.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Vec<Word>")]
pub struct Manage {
    /// VLAN devices, MTU, up; on hypervisors the bridge's VLANs.
    pub links: bool,
    /// The router's addresses on its segments.
    pub addresses: bool,
    /// The tables of [`super::sysctl`].
    pub sysctls: bool,
    /// `rxvlan` of the trunk.
    pub offloads: bool,
    /// The nftables table of the uplinks.
    pub nat: bool,
}

impl Manage {
    /// Hands off.
    pub const NOTHING: Self = Self {
        links: false,
        addresses: false,
        sysctls: false,
        offloads: false,
        nat: false,
    };
}

impl Default for Manage {
    fn default() -> Self {
        Self::from(vec![
            Word::Links,
            Word::Addresses,
            Word::Sysctls,
            Word::Offloads,
            Word::Nat,
        ])
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Links,
    Addresses,
    Sysctls,
    Offloads,
    Nat,
}

impl From<Vec<Word>> for Manage {
    fn from(words: Vec<Word>) -> Self {
        Self {
            links: words.contains(&Word::Links),
            addresses: words.contains(&Word::Addresses),
            sysctls: words.contains(&Word::Sysctls),
            offloads: words.contains(&Word::Offloads),
            nat: words.contains(&Word::Nat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NetworkSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn everything_is_managed_unless_said_otherwise() {
        assert_eq!(parse(""), NetworkSettings::default());
        let manage = parse("").manage;
        assert!(manage.links && manage.addresses && manage.sysctls && manage.offloads);
    }

    #[test]
    fn empty_list_is_hands_off() {
        let manage = parse("manage = []").manage;
        assert!(!(manage.links || manage.addresses || manage.sysctls || manage.offloads));
        assert!(parse("manage = [\"sysctls\"]").manage.sysctls);
    }

    #[test]
    fn unknown_word_is_refused_and_the_known_ones_are_named() {
        let error = toml::from_str::<NetworkSettings>("manage = [\"routes\"]").unwrap_err();
        assert!(error.to_string().contains("`offloads`"), "{error}");
    }
}
