//! What no plan may remove: `protected_flows`, and what `policy_tests` expect.
//!
//! A flow is between the addresses that its peers have now, since it is used now: to move one of them cuts it, too.
//! The list of the inventory that is in force counts beside the new one: to take an entry off the list
//! and to cut its flow are two plans, so that one mistake is not enough to lock oneself out.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netmodel::Model;
use netmodel::ids::VlanId;
use netmodel::model::{
    HostId, Owner, Peer, PeerKind, ProtectedFlow, Segment, SegmentId, TenantId, Zone,
};

use super::{Build, Refusal};
use crate::can::{Expectation, Site, Unmet, flow_text};

/// Returns every expectation that the new build does not meet.
pub(super) fn check(old: Option<&Build>, new: &Build) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = new
        .site()
        .unmet()
        .into_iter()
        .map(|unmet| match unmet.expectation {
            Expectation::TestAllow | Expectation::TestDeny => Refusal::PolicyTest(unmet),
            Expectation::Protected => Refusal::ProtectedFlow {
                unmet,
                is_listed: true,
            },
        })
        .collect();
    let flows = old.into_iter().flat_map(|old| {
        let flows = old.model.protected_flows.iter();
        flows.filter_map(move |flow| cut(old, new, flow))
    });
    for unmet in flows {
        let is_told = refusals.iter().any(|refusal| {
            matches!(refusal, Refusal::ProtectedFlow { unmet: told, .. } if told.flow == unmet.flow)
        });
        if !is_told {
            let is_listed = is_listed(&new.model, &unmet);
            refusals.push(Refusal::ProtectedFlow { unmet, is_listed });
        }
    }
    refusals
}

fn is_listed(new: &Model, unmet: &Unmet) -> bool {
    let mut flows = new.protected_flows.iter();
    flows.any(|flow| flow_text(&flow.from, &flow.to, &flow.ports) == unmet.flow)
}

/// Tells of a flow that the old build allows and the new one does not.
fn cut(old: &Build, new: &Build, flow: &ProtectedFlow) -> Option<Unmet> {
    let was_allowed = old
        .site()
        .ask_flow(flow)
        .is_ok_and(|answer| answer.is_allow());
    if !was_allowed {
        return None;
    }
    let text = flow_text(&flow.from, &flow.to, &flow.ports);
    let peers = [&flow.from, &flow.to].map(|peer| translated(&old.model, peer, &new.model));
    let [Some(from), Some(to)] = peers else {
        let gone = if peers[0].is_none() {
            &flow.from
        } else {
            &flow.to
        };
        return Some(Unmet {
            expectation: Expectation::Protected,
            flow: text,
            verdict: "gone",
            origin: flow.origin.clone(),
            notes: vec![format!("`{}` does not exist any more", gone.text)],
        });
    };
    let places = [(&flow.from, &from), (&flow.to, &to)];
    let moved = places.map(|(was, is)| left(&old.model, was, &new.model, is));
    let site: Site<'_> = new.site();
    let answer = site.ask_flow(&ProtectedFlow {
        from,
        to,
        ..flow.clone()
    });
    let unmet = site.judge(Expectation::Protected, text.clone(), &flow.origin, &answer);
    let notes: Vec<String> = moved.into_iter().flatten().collect();
    unmet.or_else(|| {
        (!notes.is_empty()).then(|| Unmet {
            expectation: Expectation::Protected,
            flow: text,
            verdict: "cut where it is used now",
            origin: flow.origin.clone(),
            notes,
        })
    })
}

/// Tells where a peer is no more: whoever uses the flow at this moment is there.
fn left(old: &Model, was: &Peer, new: &Model, is: &Peer) -> Vec<String> {
    let is = locations(new, is.kind);
    let locations = locations(old, was.kind).into_iter();
    let gone = locations.filter(|location| !is.contains(location));
    gone.map(|location| format!("`{}` was {location}", was.text))
        .collect()
}

/// Where a peer is; a running connection depends on all of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Location {
    Host(IpAddr, VlanId),
    Subnet {
        net: IpNet,
        vlan_id: VlanId,
        gateway: IpAddr,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address, vlan_id) => write!(f, "{address} in VLAN {vlan_id}"),
            Self::Subnet {
                net,
                vlan_id,
                gateway,
            } => write!(f, "{net} in VLAN {vlan_id}, behind {gateway}"),
        }
    }
}

fn locations(model: &Model, kind: PeerKind) -> Vec<Location> {
    match kind {
        PeerKind::Host(id) => {
            let interfaces = model.host(id).interfaces.iter();
            let on_segments = interfaces.filter_map(|interface| {
                let vlan_id = model.segment(interface.segment?).vlan_id;
                let v4 = interface.ipv4.map(IpAddr::V4);
                let v6 = interface.ipv6.map(IpAddr::V6);
                let addresses = v4.into_iter().chain(v6);
                Some(addresses.map(move |address| Location::Host(address, vlan_id)))
            });
            on_segments.flatten().collect()
        }
        PeerKind::Zone(Zone::Segment(id)) => subnets(model.segment(id)).collect(),
        PeerKind::Tenant(id) => {
            let mut segments: Vec<_> = model.segments.iter().collect();
            segments.retain(|segment| segment.owner == Owner::Tenant(id));
            segments.into_iter().flat_map(subnets).collect()
        }
        PeerKind::Zone(Zone::Tenants) | PeerKind::Address(_) | PeerKind::Internet => Vec::new(),
    }
}

fn subnets(segment: &Segment) -> impl Iterator<Item = Location> {
    let vlan_id = segment.vlan_id;
    let v4 = segment.ipv4.map(|v4| Location::Subnet {
        net: v4.net.into(),
        vlan_id,
        gateway: v4.gateway.into(),
    });
    let v6 = segment.ipv6.map(|v6| Location::Subnet {
        net: v6.net.into(),
        vlan_id,
        gateway: v6.gateway.into(),
    });
    v4.into_iter().chain(v6)
}

/// Returns the peer as the other model knows it.
fn translated(old: &Model, peer: &Peer, new: &Model) -> Option<Peer> {
    let kind = match peer.kind {
        PeerKind::Host(id) => PeerKind::Host(host(old, id, new)?),
        PeerKind::Zone(Zone::Segment(id)) => PeerKind::Zone(Zone::Segment(segment(old, id, new)?)),
        PeerKind::Tenant(id) => PeerKind::Tenant(tenant(old, id, new)?),
        kind @ (PeerKind::Zone(Zone::Tenants) | PeerKind::Address(_) | PeerKind::Internet) => kind,
    };
    Some(Peer {
        kind,
        ..peer.clone()
    })
}

fn tenant(old: &Model, id: TenantId, new: &Model) -> Option<TenantId> {
    let name = &old.tenant(id).name;
    let mut tenants = new.tenants.iter();
    tenants
        .position(|tenant| tenant.name == *name)
        .map(TenantId)
}

fn owner(old: &Model, owner: Owner, new: &Model) -> Option<Owner> {
    match owner {
        Owner::Platform => Some(Owner::Platform),
        Owner::Tenant(id) => tenant(old, id, new).map(Owner::Tenant),
    }
}

fn segment(old: &Model, id: SegmentId, new: &Model) -> Option<SegmentId> {
    let segment = old.segment(id);
    let owner = owner(old, segment.owner, new)?;
    let mut segments = new.segments.iter();
    let place = segments.position(|other| other.owner == owner && other.name == segment.name)?;
    Some(SegmentId(place))
}

fn host(old: &Model, id: HostId, new: &Model) -> Option<HostId> {
    let host = old.host(id);
    let owner = owner(old, host.owner, new)?;
    let mut hosts = new.hosts.iter();
    let place = hosts.position(|other| other.owner == owner && other.name == host.name)?;
    Some(HostId(place))
}
