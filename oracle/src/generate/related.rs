//! A second inventory, related to the first: what a change of the desired state looks like.

use netmodel::Model;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::model::{GatewayServices, Owner, RuleAction, RuleFrom, RuleTo, SegmentId, Zone};

use super::dice::{Dice, Rng};
use super::model::{free_vlan, ids, internet_zone, new_mac};
use super::policies;
use crate::build;

/// Returns the inventory with one to four changes, and often with less of everything.
pub fn related(rng: &mut Rng, model: &Model) -> Model {
    let mut changed = model.clone();
    for _ in 0..rng.usize(1..=4) {
        match rng.u8(0..6) {
            0 => change_platform(rng, &mut changed),
            1 | 2 => change_zones(rng, &mut changed),
            3 | 4 => change_tenant(rng, &mut changed),
            _ => change_addresses(rng, &mut changed),
        }
    }
    if rng.percent(60) {
        revoke(rng, &mut changed);
    }
    changed
}

fn change_platform(rng: &mut Rng, model: &mut Model) {
    let services = &mut model.gateway_services;
    match rng.u8(0..6) {
        0 => services.dhcp ^= true,
        1 => services.dns ^= true,
        2 => services.ntp ^= true,
        3 => services.icmp ^= true,
        4 => model.internet_excludes.push(build::net("8.0.0.0/8")),
        _ => {
            if let Some(segment) = pick_mut(rng, &mut model.segments) {
                segment.mtu = rng.one_of([1500, 9000, 100]);
            }
        }
    }
}

/// Takes away everything of one kind: live connections will be revoked.
fn revoke(rng: &mut Rng, model: &mut Model) {
    match rng.u8(0..8) {
        0 => model.policies.clear(),
        1 => model.internet_zones.clear(),
        2 => model.gateway_services = GatewayServices::default(),
        3 => model
            .tenants
            .iter_mut()
            .for_each(|tenant| tenant.uses.clear()),
        4 => model
            .tenants
            .iter_mut()
            .for_each(|tenant| tenant.services.clear()),
        5 => model
            .tenants
            .iter_mut()
            .for_each(|tenant| tenant.trusted_operators.clear()),
        6 => model
            .tenants
            .iter_mut()
            .for_each(|tenant| tenant.accepts.clear()),
        _ => isolate_segments(model),
    }
}

/// Every tenant denies everything to everybody, in its first rules.
fn isolate_segments(model: &mut Model) {
    let everything = [build::net("0.0.0.0/0"), build::net("::/0")];
    for tenant in &mut model.tenants {
        for segment in tenant.segments.clone() {
            for net in everything {
                let (from, to) = (RuleFrom::Cidr(net), RuleTo::Segment(segment));
                tenant
                    .rules
                    .insert(0, build::rule(from, to, Vec::new(), RuleAction::Deny));
            }
        }
    }
}

fn change_zones(rng: &mut Rng, model: &mut Model) {
    let platform = ids(model, |owner| owner == Owner::Platform);
    match rng.u8(0..4) {
        0 => remove_one(rng, &mut model.policies),
        1 => {
            let policy = policies::zone_policy(rng, model, &platform);
            model.policies.extend(policy);
        }
        2 => remove_one(rng, &mut model.internet_zones),
        _ => {
            let zone = rng
                .pick(&platform)
                .map_or(Zone::Tenants, |id| Zone::Segment(*id));
            model.internet_zones.push(internet_zone(zone));
        }
    }
}

fn change_tenant(rng: &mut Rng, model: &mut Model) {
    if model.tenants.is_empty() {
        return;
    }
    let index = rng.usize(..model.tenants.len());
    let platform = ids(model, |owner| owner == Owner::Platform);
    let new_rule = policies::tenant_rule(rng, model, index, &platform);
    let tenant = &mut model.tenants[index];
    match rng.u8(0..9) {
        0 => tenant.internet = tenant.internet.is_none().then(build::origin),
        1 => remove_one(rng, &mut tenant.services),
        2 => remove_one(rng, &mut tenant.trusted_operators),
        3 => remove_one(rng, &mut tenant.accepts),
        4 => remove_one(rng, &mut tenant.rules),
        5 => tenant.rules.splice(0..0, new_rule).for_each(drop),
        6 => {
            if let Some(rule) = pick_mut(rng, &mut tenant.rules) {
                rule.action = RuleAction::Deny;
            }
        }
        7 => remove_one(rng, &mut tenant.offers),
        _ => remove_one(rng, &mut tenant.uses),
    }
}

fn change_addresses(rng: &mut Rng, model: &mut Model) {
    let vlan = free_vlan(rng, model);
    match rng.u8(0..6) {
        0 => swap_vlans(rng, model),
        1 => {
            if let (Some(segment), Some(id)) =
                (pick_mut(rng, &mut model.segments), VlanId::new(vlan))
            {
                segment.vlan_id = id;
            }
        }
        _ => change_host(rng, model),
    }
}

/// Two segments exchange their VLAN ids.
fn swap_vlans(rng: &mut Rng, model: &mut Model) {
    let count = model.segments.len();
    let (SegmentId(a), SegmentId(b)) =
        (SegmentId(rng.usize(..count)), SegmentId(rng.usize(..count)));
    let (first, second) = (model.segments[a].vlan_id, model.segments[b].vlan_id);
    model.segments[a].vlan_id = second;
    model.segments[b].vlan_id = first;
}

/// A host gets another MAC, or loses its MAC or an address.
fn change_host(rng: &mut Rng, model: &mut Model) {
    let Some(host) = pick_mut(rng, &mut model.hosts) else {
        return;
    };
    let Some(interface) = pick_mut(rng, &mut host.interfaces) else {
        return;
    };
    match rng.u8(0..4) {
        0 => interface.mac = Some(MacAddr(new_mac(rng))),
        1 => interface.mac = None,
        2 => interface.ipv4 = None,
        _ => interface.ipv6 = None,
    }
}

fn pick_mut<'i, T>(rng: &mut Rng, items: &'i mut [T]) -> Option<&'i mut T> {
    if items.is_empty() {
        return None;
    }
    let index = rng.usize(..items.len());
    items.get_mut(index)
}

fn remove_one<T>(rng: &mut Rng, items: &mut Vec<T>) {
    if !items.is_empty() {
        items.remove(rng.usize(..items.len()));
    }
}
