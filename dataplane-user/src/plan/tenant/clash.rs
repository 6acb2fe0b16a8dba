//! What a mix of two valid models can break: a thing that the tenant got from somebody who still has it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;
use netmodel::Model;
use netmodel::model::{Interface, Owner, Segment};

use super::MergeError;

/// Compares what the tenant has with what everybody else has.
pub(super) fn check(model: &Model, tenant: &str) -> Vec<MergeError> {
    let clash = Clash { model, tenant };
    let mut errors = clash.vlans();
    errors.extend(clash.subnets());
    errors.extend(clash.addresses());
    errors.extend(clash.macs());
    errors.extend(clash.zone());
    errors
}

struct Clash<'m> {
    model: &'m Model,
    tenant: &'m str,
}

impl<'m> Clash<'m> {
    fn is_ours(&self, owner: Owner) -> bool {
        match owner {
            Owner::Platform => false,
            Owner::Tenant(id) => self.model.tenant(id).name.as_str() == self.tenant,
        }
    }

    fn name(&self, owner: Owner, name: &str) -> String {
        match owner {
            Owner::Platform => name.to_owned(),
            Owner::Tenant(id) => format!("{}/{name}", self.model.tenant(id).name),
        }
    }

    fn segment_name(&self, segment: &Segment) -> String {
        self.name(segment.owner, segment.name.as_str())
    }

    /// Ours, then everybody else's.
    fn segments(&self) -> (Vec<&'m Segment>, Vec<&'m Segment>) {
        let segments = self.model.segments.iter();
        segments.partition(|segment| self.is_ours(segment.owner))
    }

    fn vlans(&self) -> Vec<MergeError> {
        let (ours, theirs) = self.segments();
        let taken: HashMap<_, _> = theirs.into_iter().map(|s| (s.vlan_id, s)).collect();
        let clashes = ours.into_iter().filter_map(|ours| {
            Some(MergeError::VlanTwice {
                vlan_id: ours.vlan_id,
                ours: self.segment_name(ours),
                theirs: self.segment_name(taken.get(&ours.vlan_id)?),
            })
        });
        clashes.collect()
    }

    fn subnets(&self) -> Vec<MergeError> {
        let (ours, theirs) = self.segments();
        let mut errors = Vec::new();
        for ours in ours {
            for theirs in theirs.iter().filter(|s| s.vpc_id == ours.vpc_id) {
                for net in nets(ours) {
                    let mut others = nets(theirs);
                    let overlapping =
                        others.find(|other| other.contains(&net) || net.contains(other));
                    errors.extend(overlapping.map(|other| MergeError::Overlap {
                        net,
                        ours: self.segment_name(ours),
                        other,
                        theirs: self.segment_name(theirs),
                    }));
                }
            }
        }
        errors
    }

    /// What the tenant's hosts share with others: a value of an interface, with both hosts' names.
    fn shared<T: Copy + Eq + Hash>(
        &self,
        values: impl Fn(&Interface) -> Vec<T>,
    ) -> Vec<(T, String, String)> {
        let all = self.model.hosts.iter().flat_map(|host| {
            let values: Vec<T> = host.interfaces.iter().flat_map(&values).collect();
            values.into_iter().map(move |value| (value, host))
        });
        let (ours, theirs): (Vec<_>, Vec<_>) = all.partition(|(_, host)| self.is_ours(host.owner));
        let ours: HashMap<T, _> = ours.into_iter().collect();
        let shared = theirs.into_iter().filter_map(|(value, theirs)| {
            let ours = ours.get(&value)?;
            Some((
                value,
                self.name(ours.owner, ours.name.as_str()),
                self.name(theirs.owner, theirs.name.as_str()),
            ))
        });
        shared.collect()
    }

    fn addresses(&self) -> Vec<MergeError> {
        let shared = self.shared(|interface| {
            // Address plans of their own may overlap.
            let segment = interface.segment.map(|id| self.model.segment(id));
            if segment.is_some_and(|segment| segment.vpc_id != 0) {
                return Vec::new();
            }
            let ipv4 = interface.ipv4.map(IpAddr::V4).into_iter();
            ipv4.chain(interface.ipv6.map(IpAddr::V6)).collect()
        });
        let errors = shared.into_iter();
        errors
            .map(|(address, ours, theirs)| MergeError::AddressTwice {
                address,
                ours,
                theirs,
            })
            .collect()
    }

    fn macs(&self) -> Vec<MergeError> {
        let shared = self.shared(|interface| interface.mac.into_iter().collect());
        let errors = shared.into_iter();
        errors
            .map(|(mac, ours, theirs)| MergeError::MacTwice { mac, ours, theirs })
            .collect()
    }

    /// The tenant's DNS zone must be no name in the site's.
    fn zone(&self) -> Option<MergeError> {
        let site = format!("{}.{}", self.model.site_name, self.model.site_domain);
        let mut tenants = self.model.tenants.iter();
        tenants.find(|tenant| tenant.name.as_str() == self.tenant)?;
        let below = format!(".{}", self.tenant);
        let mut records = self.model.records.iter();
        let clash = records.find(|record| {
            record.zone == site && (record.name == self.tenant || record.name.ends_with(&below))
        })?;
        Some(MergeError::NameTwice {
            name: clash.name.clone(),
        })
    }
}

fn nets(segment: &Segment) -> impl Iterator<Item = IpNet> + use<> {
    let ipv4 = segment.ipv4.map(|subnet| IpNet::V4(subnet.net));
    let ipv6 = segment.ipv6.map(|subnet| IpNet::V6(subnet.net));
    ipv4.into_iter().chain(ipv6)
}
