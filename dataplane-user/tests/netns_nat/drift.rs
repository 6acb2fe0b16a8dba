//! Plans against the kernel: what is missing, what somebody edited, and that nothing else is touched.

use anyhow::Result;
use dataplane_user::nat::{self, Observed};

use crate::place::{Place, model, ruleset};

/// Tables of somebody else, one of them as like ours as can be.
const FOREIGN: [&str; 6] = [
    "add table ip bulkhead",
    "add chain ip bulkhead forward { type filter hook forward priority 0 ; policy accept ; }",
    "add rule ip bulkhead forward counter accept",
    "add table inet filter",
    "add set inet filter friends { type ipv4_addr ; flags interval ; elements = { 192.0.2.0/24 } ; }",
    "add table ip6 nat",
];

#[test]
fn second_plan_is_empty() -> Result<()> {
    let place = Place::build()?;
    let wanted = ruleset(&model()?);
    let first = place.plan(&wanted)?;
    assert_eq!(
        first,
        [
            "+ nat table bulkhead: 14 prefixes may reach the internet, 11 are not the internet",
            "+ nat masquerade 14 prefixes on eth1 (wan)",
        ]
    );
    place.apply(&wanted)?;
    assert_eq!(place.plan(&wanted)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn nothing_of_others_is_touched() -> Result<()> {
    let place = Place::build()?;
    for line in FOREIGN {
        place.nft(line)?;
    }
    // With handles: a table that was deleted and made again has others.
    let listing = || place.nft("-a list ruleset");
    let before = listing()?;
    let wanted = ruleset(&model()?);
    place.apply(&wanted)?;
    assert!(listing()?.starts_with(&before), "{before}\n{}", listing()?);
    place.apply(&wanted)?;
    assert!(listing()?.starts_with(&before), "{before}\n{}", listing()?);
    place.router.run(nat::remove)?;
    assert_eq!(listing()?, before);
    place.router.run(nat::remove)?;
    assert_eq!(listing()?, before);
    Ok(())
}

#[test]
fn every_edit_of_the_table_is_seen_and_undone() -> Result<()> {
    let place = Place::build()?;
    let wanted = ruleset(&model()?);
    let edits = [
        ("delete table inet bulkhead", "+ nat table bulkhead"),
        ("flush table inet bulkhead", "+ nat rules of chain arrival"),
        ("flush ruleset", "+ nat table bulkhead"),
        (
            "flush chain inet bulkhead to_uplink",
            "+ nat rules of chain to_uplink",
        ),
        (
            "insert rule inet bulkhead to_uplink accept",
            "~ nat rules of chain to_uplink",
        ),
        ("add chain inet bulkhead mine", "- nat chain mine"),
        (
            "add chain inet bulkhead forward { policy drop ; }",
            "~ nat chain forward",
        ),
        (
            "delete element inet bulkhead internet4 { 10.100.0.0/24 }",
            "+ nat 10.100.0.0/24 may reach the internet",
        ),
        (
            "add element inet bulkhead internet4 { 10.20.20.0/24 }",
            "- nat 10.20.20.0/24 may reach the internet",
        ),
        (
            "add element inet bulkhead nat_uplinks { eth7 }",
            "- nat masquerade on eth7",
        ),
        (
            "add counter inet bulkhead hits",
            "- nat object of another kind",
        ),
        ("add table inet bulkhead { flags dormant ; }", "~ nat table"),
    ];
    for (edit, expected) in edits {
        place.apply(&wanted)?;
        assert_eq!(place.plan(&wanted)?, Vec::<String>::new(), "before {edit}");
        place.nft(edit)?;
        let plan = place.plan(&wanted)?;
        let is_seen = plan.iter().any(|line| line.starts_with(expected));
        assert!(is_seen, "{edit}: {expected} is not in {plan:#?}");
    }
    place.apply(&wanted)?;
    assert_eq!(place.plan(&wanted)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn router_without_uplinks_has_no_table() -> Result<()> {
    let place = Place::build()?;
    let mut model = model()?;
    place.apply(&ruleset(&model))?;
    model.routers[0].uplinks.clear();
    let wanted = ruleset(&model);
    assert_eq!(
        place.plan(&wanted)?,
        ["- nat table bulkhead: there are no uplinks"]
    );
    place.apply(&wanted)?;
    assert_eq!(place.observe()?, Observed::Absent);
    assert_eq!(place.plan(&wanted)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn inventory_of_thousands_of_tenants_makes_no_more_rules() -> Result<()> {
    let place = Place::build()?;
    let mut model = model()?;
    let rules = |place: &Place| -> Result<usize> {
        Ok(place
            .nft("list table inet bulkhead")?
            .matches(" drop")
            .count())
    };
    place.apply(&ruleset(&model))?;
    let few = rules(&place)?;
    let like = model.segments.iter().find(|s| s.vlan_id.as_u16() == 100);
    let like = like.expect("a tenant of the sample").clone();
    for number in 0..4000_u32 {
        let mut segment = like.clone();
        // Every other /28, so that they do not join.
        let net = std::net::Ipv4Addr::from(0x0a80_0000 + number * 32);
        segment.ipv4 = segment.ipv4.map(|subnet| netmodel::model::Subnet4 {
            net: ipnet::Ipv4Net::new(net, 28).expect("a subnet"),
            ..subnet
        });
        segment.ipv6 = None;
        model.segments.push(segment);
    }
    let wanted = ruleset(&model);
    assert!(wanted.internet.sources.len() >= 4000);
    place.apply(&wanted)?;
    assert_eq!(rules(&place)?, few);
    assert_eq!(place.plan(&wanted)?, Vec::<String>::new());
    Ok(())
}
