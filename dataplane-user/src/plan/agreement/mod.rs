//! Do the router and the ports of the hypervisors decide alike? Over all pairs of addresses, out of the tables themselves.
//!
//! # Guarantees
//!
//! * **All pairs.** Nothing is sampled: addresses are joined by what both walls' tables say of them, and every combination
//!   that either of them allows is compared. The cost is that of looking at every entry once.
//! * **All that binds.** Segments, bound hardware addresses, endpoints and prefixes must be the same, entry by entry; classes
//!   and services may be numbered otherwise, as long as the decisions are the same.
//! * **Who decides.** Between two segments both walls do; within a segment the hypervisors alone, since the router never sees
//!   such a frame. Where one wall refuses what the other allows, the one that refuses decides, and that is said.

mod entries;
mod pairs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use dataplane_common::abi::endpoint_flags;
use serde::Serialize;

use self::entries::entries;
pub use self::pairs::Pairs;
use super::Build;
use super::reachability::{self, Effect, ReachabilityChange, Within};
use crate::can::{Service, is_everything};
use crate::compile::{Tables, ip_of};

/// One of the two that a frame passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// The core router.
    Router,
    /// The ports of hypervisors' bridges.
    Hypervisors,
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Router => "the router",
            Self::Hypervisors => "the hypervisors",
        })
    }
}

/// Something that the two walls do not agree on.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Disagreement {
    /// Connections from one segment into another, or to the router, or out of the site.
    Between {
        /// Which wall refuses them, and so decides.
        decides: Wall,
        /// The connections, as a change from the router to the hypervisors.
        connections: ReachabilityChange,
    },
    /// Connections between hosts of one segment.
    Within {
        /// Name of the segment.
        segment: String,
        /// One of those who would open them.
        from: IpAddr,
        /// One of those to whom.
        to: IpAddr,
        /// Ports; empty: everything.
        services: Vec<String>,
        /// Do the hypervisors' tables allow them? Else the router's copy does.
        is_open: bool,
    },
    /// An entry of a table that must be the same.
    Entry {
        /// The table.
        table: &'static str,
        /// Its key.
        key: String,
        /// What the router has.
        router: String,
        /// What the hypervisors have.
        hypervisors: String,
    },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between {
                decides,
                connections,
            } => {
                let ReachabilityChange {
                    from, to, services, ..
                } = connections;
                let (from, to) = (from.join(", "), to.join(", "));
                let services = ports(services);
                let other = match decides {
                    Wall::Router => Wall::Hypervisors,
                    Wall::Hypervisors => Wall::Router,
                };
                let rule = &connections.rule;
                write!(
                    f,
                    "{from} to {to}, {services}: {decides} refuse{} it, {other} would not ({rule})",
                    if *decides == Wall::Router { "s" } else { "" }
                )
            }
            Self::Within {
                segment,
                from,
                to,
                services,
                is_open,
            } => {
                let services = ports(services);
                let what = match is_open {
                    true => "open at the ports, and should not be",
                    false => "closed at the ports, and should not be",
                };
                write!(f, "{from} to {to} in {segment}, {services}: {what}")
            }
            Self::Entry {
                table,
                key,
                router,
                hypervisors,
            } => write!(
                f,
                "{table} {key}: {router} at the router, {hypervisors} at the hypervisors"
            ),
        }
    }
}

fn ports(services: &[String]) -> String {
    match services {
        [] => "every port".to_owned(),
        services => services.join(", "),
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// Who decides on how many.
    pub pairs: Pairs,
    /// Addresses of the router that only the router knows: it refuses them, so it decides.
    pub router_only: Vec<IpAddr>,
    /// Where they do not agree; empty: they do.
    pub disagreements: Vec<Disagreement>,
}

impl Agreement {
    /// Compares the walls; both builds are of one model.
    #[must_use]
    pub fn of(router: &Build, hypervisors: &Build) -> Self {
        let (mut router, router_only) = (router.clone(), own(&router.tables, &hypervisors.tables));
        router
            .tables
            .endpoints
            .retain(|key, _| !router_only.contains(&ip_of(key.address)));
        let (ours, theirs) = (&router.tables, &hypervisors.tables);
        let mut disagreements = entries(ours, theirs);
        let changes = reachability::changes(Some(&router), hypervisors);
        disagreements.extend(changes.into_iter().map(between));
        let name = |vlan_id: u16| {
            let mut segments = router.model.segments.iter();
            let segment = segments.find(|segment| segment.vlan_id.as_u16() == vlan_id);
            segment.map_or_else(|| format!("VLAN {vlan_id}"), |s| s.name.to_string())
        };
        let inside = reachability::within(ours, theirs).into_iter();
        disagreements.extend(inside.map(|found| within(name(found.vlan_id), found)));
        Self {
            pairs: Pairs::of(ours),
            router_only: router_only.into_iter().collect(),
            disagreements,
        }
    }
}

/// Returns the addresses of the router's interfaces that the inventory does not have: only its kernel tells them.
fn own(router: &Tables, hypervisors: &Tables) -> BTreeSet<IpAddr> {
    let all = router.endpoints.iter();
    let own = all.filter(|(key, entry)| {
        let flags = endpoint_flags::ROUTER | endpoint_flags::DECLARED;
        entry.flags & flags == endpoint_flags::ROUTER && !hypervisors.endpoints.contains_key(*key)
    });
    own.map(|(key, _)| ip_of(key.address)).collect()
}

fn between(connections: ReachabilityChange) -> Disagreement {
    let decides = match connections.effect {
        // Possible at the first, not at the second.
        Effect::Cut | Effect::Moved => Wall::Hypervisors,
        Effect::Opened => Wall::Router,
    };
    Disagreement::Between {
        decides,
        connections,
    }
}

fn within(segment: String, found: Within) -> Disagreement {
    let services = match is_everything(&found.services) {
        true => Vec::new(),
        false => found.services.iter().map(Service::label).collect(),
    };
    Disagreement::Within {
        segment,
        from: found.from,
        to: found.to,
        services,
        is_open: found.is_gain,
    }
}
