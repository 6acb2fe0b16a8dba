//! Who may see which tenant's names, and which segment a client is in.
//!
//! # Guarantees
//!
//! * **By segment.** What a client may see follows from the segment that its source address belongs to.
//!   The packet path drops forged sources before they reach the router.
//! * **Fail closed.** An address of no segment is no client. Segments with an address plan of their own
//!   (`kind: vpc`) are not enforced yet, and are no clients either.
//! * **Absence, not refusal.** A zone that a view does not have is not in it at all, so there is nothing
//!   that could tell it from one that does not exist (ADR 0010).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use netmodel::model::{
    Model, Owner, RuleAction, RuleFrom, SegmentId, TenantId, TenantUse, Zone as FirewallZone,
};

use crate::name::{self, Name};

/// Index of a zone in its world.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ZoneId(pub(crate) usize);

/// Index of a view in its generation. In the next one it may be another view's: what outlives a generation goes by
/// [`ViewOwner`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ViewId(pub(crate) usize);

/// Whose a view is: the same in every generation. A tenant and a segment of the platform may have one name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ViewOwner {
    /// A segment of the platform.
    Segment(Arc<str>),
    /// A tenant, with all of its segments.
    Tenant(Arc<str>),
}

impl ViewOwner {
    /// Returns what it is: `segment` or `tenant`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Segment(_) => "segment",
            Self::Tenant(_) => "tenant",
        }
    }

    /// Returns its name among its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Segment(name) | Self::Tenant(name) => name,
        }
    }
}

impl fmt::Display for ViewOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// The zones that a client sees.
#[derive(Clone, Debug)]
pub struct View {
    /// Whose it is.
    pub owner: ViewOwner,
    /// May its clients ask for names of others? Names follow reach: only who may open connections to the
    /// internet, so that questions are no way out for others.
    pub may_resolve: bool,
    zones: HashMap<Name, ZoneId>,
    /// How long the names of its zones are: bit n is set if one of them has n octets. A name of another length
    /// needs no look.
    lengths: [u64; 4],
}

impl View {
    pub(crate) fn new(owner: ViewOwner, may_resolve: bool) -> Self {
        Self {
            owner,
            may_resolve,
            zones: HashMap::new(),
            lengths: [0; 4],
        }
    }

    pub(crate) fn insert(&mut self, origin: Name, zone: ZoneId) {
        let length = origin.as_wire().len();
        if let Some(bits) = self.lengths.get_mut(length / 64) {
            *bits |= 1 << (length % 64);
        }
        self.zones.insert(origin, zone);
    }

    /// Returns the closest zone at or above a name (lower case).
    #[must_use]
    pub fn zone_of(&self, name: &[u8]) -> Option<ZoneId> {
        name::ancestors(name).find_map(|ancestor| self.zone_at(ancestor))
    }

    /// Returns the zone of exactly this name.
    #[must_use]
    pub fn zone_at(&self, name: &[u8]) -> Option<ZoneId> {
        let bits = self.lengths.get(name.len() / 64)?;
        if bits >> (name.len() % 64) & 1 == 0 {
            return None;
        }
        self.zones.get(name).copied()
    }

    /// Goes through the names of its zones.
    pub fn origins(&self) -> impl Iterator<Item = (&Name, ZoneId)> {
        self.zones.iter().map(|(name, id)| (name, *id))
    }
}

/// Which view an address has: for each family, ranges that do not overlap, sorted.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    four: Vec<Range<u32>>,
    six: Vec<Range<u128>>,
}

/// Addresses of one segment, as numbers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Range<A> {
    first: A,
    last: A,
    view: u32,
}

// Thousands of segments are looked through for each query.
const _: () = assert!(size_of::<Range<u32>>() == 12);

impl Clients {
    /// Makes the table out of the subnets of all segments. `view_of` gives each segment's view.
    pub(crate) fn new(model: &Model, view_of: impl Fn(SegmentId) -> Option<ViewId>) -> Self {
        let mut clients = Self::default();
        if !model.gateway_services.dns {
            return clients;
        }
        for (index, segment) in model.segments.iter().enumerate() {
            let view = view_of(SegmentId(index)).and_then(|view| u32::try_from(view.0).ok());
            let Some(view) = view else {
                continue;
            };
            if segment.vpc_id != 0 {
                continue;
            }
            clients.four.extend(segment.ipv4.map(|subnet| Range {
                first: subnet.net.network().to_bits(),
                last: subnet.net.broadcast().to_bits(),
                view,
            }));
            clients.six.extend(segment.ipv6.map(|subnet| Range {
                first: subnet.net.network().to_bits(),
                last: subnet.net.broadcast().to_bits(),
                view,
            }));
        }
        clients.four.sort();
        clients.six.sort();
        clients
    }

    /// Returns the view of a source address.
    #[must_use]
    pub fn view_of(&self, source: IpAddr) -> Option<ViewId> {
        match source {
            IpAddr::V4(source) => find(&self.four, source.to_bits()),
            IpAddr::V6(source) => find(&self.six, source.to_bits()),
        }
    }
}

fn find<A: Copy + Ord>(ranges: &[Range<A>], source: A) -> Option<ViewId> {
    let after = ranges.partition_point(|range| range.first <= source);
    let range = ranges.get(after.checked_sub(1)?)?;
    let view = usize::try_from(range.view).ok()?;
    (source <= range.last).then_some(ViewId(view))
}

/// Returns the tenants whose names a segment's clients may see, its own among them.
#[must_use]
pub fn visible_tenants(model: &Model, segment: SegmentId) -> BTreeSet<TenantId> {
    let all = || (0..model.tenants.len()).map(TenantId);
    match model.segment(segment).owner {
        Owner::Tenant(own) => all()
            .filter(|other| *other == own || uses_an_offer(model, own, *other))
            .collect(),
        Owner::Platform => all()
            .filter(|tenant| may_reach(model, segment, *tenant))
            .collect(),
    }
}

/// May a segment's clients open connections to the internet? As `policy-compiler` says it.
#[must_use]
pub fn may_resolve(model: &Model, segment: SegmentId) -> bool {
    let (is_granted, is_tenant) = match model.segment(segment).owner {
        Owner::Platform => (true, false),
        Owner::Tenant(tenant) => (model.tenant(tenant).internet.is_some(), true),
    };
    let mut zones = model.internet_zones.iter();
    is_granted
        && zones.any(|entry| match entry.zone {
            FirewallZone::Segment(zone) => zone == segment,
            FirewallZone::Tenants => is_tenant,
        })
}

/// Have both tenants said their half of an offer?
fn uses_an_offer(model: &Model, consumer: TenantId, provider: TenantId) -> bool {
    let is_offered = |said: &&TenantUse| {
        let mut offers = model.tenant(provider).offers.iter();
        said.tenant == provider
            && offers.any(|offer| offer.name == said.offer && offer.consumers.contains(&consumer))
    };
    model
        .tenant(consumer)
        .uses
        .iter()
        .find(is_offered)
        .is_some()
}

/// May a platform segment open connections to something of the tenant's?
fn may_reach(model: &Model, segment: SegmentId, tenant: TenantId) -> bool {
    let tenant = model.tenant(tenant);
    let is_operator = tenant
        .trusted_operators
        .iter()
        .any(|(zone, _)| *zone == segment);
    let is_accepted = tenant.accepts.iter().any(|accept| accept.from == segment)
        && tenant
            .rules
            .iter()
            .any(|rule| rule.from == RuleFrom::Zone(segment) && rule.action == RuleAction::Allow);
    let by_policy = model.policies.iter().any(|policy| {
        policy.from == FirewallZone::Segment(segment) && policy.to == FirewallZone::Tenants
    });
    is_operator || is_accepted || by_policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::plan;
    use crate::support::two_tenants;

    #[test]
    fn an_address_has_the_view_of_the_segment_that_it_is_in_and_of_no_other() {
        let plan = plan(&two_tenants("")).unwrap();
        // Each segment's first and last address, and those beside them; also as IPv6 addresses that embed them.
        let rows = [
            ("0.0.0.0", None),
            ("10.0.98.255", None),
            ("10.0.99.0", Some("segment management")),
            ("10.0.99.255", Some("segment management")),
            ("10.0.100.0", None),
            ("10.0.255.255", None),
            ("10.1.0.0", Some("tenant a")),
            ("10.1.0.63", Some("tenant a")),
            ("10.1.0.64", Some("tenant b")),
            ("10.1.0.127", Some("tenant b")),
            ("10.1.0.128", None),
            ("255.255.255.255", None),
            ("::", None),
            ("::10.1.0.1", None),
            ("::ffff:10.1.0.1", None),
            ("fd00:0:ffff:ffff:ffff:ffff:ffff:ffff", None),
            ("fd00:1::", Some("tenant a")),
            ("fd00:1::ffff:ffff:ffff:ffff", Some("tenant a")),
            ("fd00:1:0:1::", None),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
        ];
        for (address, owner) in rows {
            let view = plan.clients.view_of(address.parse().unwrap());
            let view = view.map(|view| plan.view(view).unwrap().owner.to_string());
            assert_eq!(view.as_deref(), owner, "{address}");
        }
    }

    #[test]
    fn a_zone_is_found_whatever_the_length_of_its_name() {
        // "." and names of 3 to 255 octets, each of which is below the one before.
        let mut names = vec![Name::root()];
        while let Ok(longer) = Name::from_labels([b"a"], names.last().unwrap()) {
            names.push(longer);
        }
        assert_eq!(names.last().unwrap().as_wire().len(), name::MAX_NAME);
        let owner = || ViewOwner::Tenant("a".into());
        let mut all = View::new(owner(), false);
        for (id, name) in names.iter().enumerate() {
            let mut view = View::new(owner(), false);
            assert_eq!(view.zone_of(name.as_wire()), None);
            view.insert(name.clone(), ZoneId(id));
            all.insert(name.clone(), ZoneId(id));
            for (other_id, other) in names.iter().enumerate() {
                let wire = other.as_wire();
                assert_eq!(view.zone_at(wire), (id == other_id).then_some(ZoneId(id)));
                assert_eq!(view.zone_of(wire), (id <= other_id).then_some(ZoneId(id)));
            }
        }
        for (id, name) in names.iter().enumerate() {
            assert_eq!(all.zone_of(name.as_wire()), Some(ZoneId(id)));
        }
        let same_length = Name::absolute("b").unwrap();
        let mut view = View::new(owner(), false);
        view.insert(Name::absolute("a").unwrap(), ZoneId(0));
        assert_eq!(view.zone_of(same_length.as_wire()), None);
        assert_eq!(view.zone_of(&[0; 300]), None, "no name");
    }
}
