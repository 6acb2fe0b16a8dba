//! The address plan: VLAN ids and subnets of all segments together.

use std::collections::HashMap;
use std::net::IpAddr;

use super::cx::At;
use super::draft::Draft;
use crate::finding::{Code, Finding};
use crate::ids::VlanId;
use crate::model::{Owner, SegmentId};
use crate::source::Place;

/// Checks that VLAN ids are unique and subnets do not overlap.
pub(crate) fn check(draft: &mut Draft) {
    check_vlans(draft);
    check_native(draft);
    check_overlaps(draft);
}

fn check_vlans(draft: &mut Draft) {
    let native = draft
        .native
        .map(|at| draft.segment(at.value).segment.vlan_id);
    let mut first_use: HashMap<VlanId, SegmentId> = HashMap::new();
    for index in 0..draft.segments.len() {
        let id = SegmentId(index);
        let vlan = draft.segments[index].segment.vlan_id;
        let Some(first) = first_use.get(&vlan).copied() else {
            first_use.insert(vlan, id);
            continue;
        };
        let finding = if native == Some(vlan) {
            native_taken(draft, vlan, id)
        } else {
            let (name, other) = (draft.segment_name(id), draft.segment_name(first));
            Finding::new(
                Code::VlanTwice,
                format!("VLAN {vlan} is used twice: for `{other}` and for `{name}`"),
                draft.segments[index].vlan,
            )
            .also(draft.segment(first).vlan, format!("`{other}` has it"))
            .note("one VLAN is one segment: both would be one broadcast domain")
            .help("choose another VLAN id for one of the two")
        };
        draft.findings.push(finding);
    }
}

fn native_taken(draft: &Draft, vlan: VlanId, id: SegmentId) -> Finding {
    let name = draft.segment_name(id);
    let finding = Finding::new(
        Code::VlanNative,
        format!("VLAN {vlan} of `{name}` is the trunk's native VLAN"),
        draft.segment(id).vlan,
    )
    .note("untagged frames belong to the native VLAN; it must lead nowhere")
    .help("choose another VLAN id");
    match draft.native {
        Some(native) => finding.also(native.place, "the native segment"),
        None => finding,
    }
}

fn check_native(draft: &mut Draft) {
    let Some(native) = draft.native else {
        return;
    };
    let segment = draft.segment(native.value);
    if segment.segment.ipv4.is_none() && segment.segment.ipv6.is_none() {
        return;
    }
    let net = segment.net4.or(segment.net6).unwrap_or(segment.key);
    let finding = Finding::new(
        Code::VlanNative,
        format!("the native segment `{}` has a subnet", segment.segment.name),
        native.place,
    )
    .also(net, "so untagged frames would be routed")
    .note("frames without a tag come from misconfigured ports; they must lead nowhere")
    .help("name a segment without `subnet` as `router_native_segment`");
    draft.findings.push(finding);
}

/// First address, last address, whose, where.
type Range = (IpAddr, IpAddr, SegmentId, Place);

fn check_overlaps(draft: &mut Draft) {
    let mut plans: HashMap<(u32, bool), Vec<Range>> = HashMap::new();
    for (index, segment) in draft.segments.iter().enumerate() {
        let (id, plan) = (SegmentId(index), segment.segment.vpc_id);
        if let (Some(subnet), Some(place)) = (segment.segment.ipv4, segment.net4) {
            let (first, last) = (subnet.net.network().into(), subnet.net.broadcast().into());
            plans
                .entry((plan, false))
                .or_default()
                .push((first, last, id, place));
        }
        if let (Some(subnet), Some(place)) = (segment.segment.ipv6, segment.net6) {
            let (first, last) = (subnet.net.network().into(), subnet.net.broadcast().into());
            plans
                .entry((plan, true))
                .or_default()
                .push((first, last, id, place));
        }
    }
    for ranges in plans.into_values() {
        check_plan(draft, ranges);
    }
}

/// Sorted by first address, a range overlaps an earlier one exactly if it starts before the latest
/// end so far.
fn check_plan(draft: &mut Draft, mut ranges: Vec<Range>) {
    ranges.sort_unstable_by_key(|(first, last, id, _)| (*first, *last, *id));
    let mut reaching: Option<Range> = None;
    for range in ranges {
        if let Some(earlier) = reaching
            && range.0 <= earlier.1
        {
            overlap(draft, earlier, range);
        }
        if reaching.is_none_or(|earlier| range.1 > earlier.1) {
            reaching = Some(range);
        }
    }
}

fn overlap(draft: &mut Draft, earlier: Range, later: Range) {
    // The tenant's subnet is the one to move, and the later entry of two of a kind.
    let rank = |range: &Range| {
        let is_tenant = draft.segment(range.2).segment.owner != Owner::Platform;
        (is_tenant, range.3)
    };
    let (kept, moved) = if rank(&earlier) > rank(&later) {
        (later, earlier)
    } else {
        (earlier, later)
    };
    let (name, other) = (draft.segment_name(moved.2), draft.segment_name(kept.2));
    draft.findings.push(
        Finding::new(
            Code::SubnetOverlap,
            format!("the subnet of `{name}` overlaps the one of `{other}`"),
            moved.3,
        )
        .also(kept.3, format!("`{other}` is {} to {}", kept.0, kept.1))
        .note("segments of the platform and of tenants of `kind: vlan` share one address plan")
        .help("choose a free subnet"),
    );
}

/// Finds the segment that an address belongs to. Built once: segments may be many.
pub(crate) struct Addresses {
    ranges: std::collections::BTreeMap<IpAddr, (IpAddr, SegmentId)>,
}

impl Addresses {
    /// Indexes all subnets of the site's address plan.
    pub(crate) fn new(draft: &Draft) -> Self {
        let mut ranges = std::collections::BTreeMap::new();
        for (index, segment) in draft.segments.iter().enumerate() {
            let (id, segment) = (SegmentId(index), &segment.segment);
            if segment.vpc_id != 0 {
                continue;
            }
            if let Some(s) = segment.ipv4 {
                ranges.insert(s.net.network().into(), (s.net.broadcast().into(), id));
            }
            if let Some(s) = segment.ipv6 {
                ranges.insert(s.net.network().into(), (s.net.broadcast().into(), id));
            }
        }
        Self { ranges }
    }

    /// Returns the segment whose subnet has the address.
    pub(crate) fn segment_of(&self, address: IpAddr) -> Option<SegmentId> {
        let (first, (last, id)) = self.ranges.range(..=address).next_back()?;
        (first.is_ipv4() == address.is_ipv4() && address <= *last).then_some(*id)
    }
}

/// An address that somebody has said to have.
pub(crate) type Claim = At<IpAddr>;
