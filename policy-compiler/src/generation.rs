//! What a generation is beside its tables, and the tables in memory.

use dataplane_common::abi::{ABI_VERSION, Address, Generation, Mac, PrefixLength};
use dataplane_common::host::HostTables;

use crate::Tables;

/// What the programs must know of the trunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trunk {
    /// Interface index.
    pub ifindex: u32,
    /// Hardware address.
    pub mac: [u8; 6],
}

impl Trunk {
    /// Returns the router's link-local address (RFC 4291 appendix A).
    #[must_use]
    pub fn link_local(&self) -> [u8; 16] {
        let [a, b, c, d, e, f] = self.mac;
        [
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ]
    }
}

impl Trunk {
    /// Returns what the programs must know of a generation beside its tables; for slot 0. `room`: connections that segments share.
    #[must_use]
    pub fn generation(
        &self,
        tables: &Tables,
        number: u32,
        ticks_per_second: u32,
        room: u32,
    ) -> Generation {
        Generation {
            abi_version: ABI_VERSION,
            number,
            slot: 0,
            ticks_per_second,
            share: tables.share(room),
            router_mac: Mac::from_octets(self.mac),
            _pad: 0,
            router_link_local: Address::from_ipv6(self.link_local()),
            prefixes4: PrefixLength::list(tables.prefix_lengths4, 96),
            prefixes6: PrefixLength::list(tables.prefix_lengths6, 0),
        }
    }
}

impl Tables {
    /// Returns how many connections are remembered for each segment that was promised none, where `room` are for all. They always have an
    /// eighth of it: a smaller table than the inventory was checked for must not cost the platform its connections.
    #[must_use]
    pub fn share(&self, room: u32) -> u32 {
        let quotas = self.segments.values().map(|entry| entry.limits.connections);
        let (mut left, mut others) = (room, 0);
        for quota in quotas {
            left = left.saturating_sub(quota);
            others += u32::from(quota == 0);
        }
        left = left.max(room / 8);
        left.checked_div(others).unwrap_or(left)
    }

    /// Returns the tables in memory, for the policy core outside of the kernel.
    #[must_use]
    pub fn to_host(&self, generation: Generation) -> HostTables {
        let mut host = HostTables {
            generation: Some(generation),
            endpoints: self.endpoints.iter().map(|(k, v)| (*k, *v)).collect(),
            bound_macs: self.bound_macs.iter().map(|(k, v)| (*k, *v)).collect(),
            prefixes: self.prefixes.iter().map(|(k, v)| (*k, *v)).collect(),
            pairs: self.pairs.iter().map(|(k, v)| (*k, *v)).collect(),
            rules: self.rules.iter().map(|(k, v)| (*k, *v)).collect(),
            services: self.services.clone(),
            ..HostTables::default()
        };
        for (&vlan_id, entry) in &self.segments {
            if let Some(place) = host.segments.get_mut(usize::from(vlan_id)) {
                *place = *entry;
            }
        }
        host
    }
}
