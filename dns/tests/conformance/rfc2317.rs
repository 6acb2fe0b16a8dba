//! RFC 2317: reverse zones of subnets smaller than /24.

use super::support::*;

fn published() -> netmodel::published::Published {
    let mut published = two_tenants("  - {name: web, type: A, value: 10.1.0.10}");
    // A host of each tenant, by hand: the small inventory has none.
    for (tenant, label, address) in [(0, "web", "10.1.0.10"), (1, "only-b", "10.1.0.70")] {
        let segment = published.model.tenants[tenant].segments[0];
        let origin = published.model.tenants[tenant].origin.clone();
        published.model.hosts.push(netmodel::model::Host {
            name: netmodel::ids::HostName::new(label),
            owner: netmodel::model::Owner::Tenant(netmodel::model::TenantId(tenant)),
            form: None,
            is_router: false,
            interfaces: vec![netmodel::model::Interface {
                name: "eth0".into(),
                mac: None,
                segment: Some(segment),
                ipv4: Some(address.parse().unwrap()),
                ipv6: None,
                origin: origin.clone(),
            }],
            origin,
        });
    }
    published
}

#[test]
fn section_4_the_plain_name_is_an_alias_into_the_smaller_zone() {
    assert_eq!(
        says(&world(&published()), IN_A, "10.0.1.10.in-addr.arpa", PTR),
        "NOERROR aa | 10.0.1.10.in-addr.arpa. CNAME 10.0\\/26.0.1.10.in-addr.arpa.; \
         10.0\\/26.0.1.10.in-addr.arpa. PTR web.a.east.lab.example. |  | "
    );
}

#[test]
fn the_neighbour_in_the_same_24_is_not_there() {
    let world = world(&published());
    let theirs = says(&world, IN_A, "70.0.1.10.in-addr.arpa", PTR);
    let nobodys = says(&world, IN_A, "170.0.1.10.in-addr.arpa", PTR);
    assert_eq!(theirs, nobodys);
    assert!(theirs.starts_with("NXDOMAIN"), "{theirs}");
    for name in ["64/26.0.1.10.in-addr.arpa", "70.64/26.0.1.10.in-addr.arpa"] {
        assert_eq!(says(&world, IN_A, name, PTR), theirs);
        assert_eq!(says(&world, IN_A, name, NS), theirs);
    }
    let own = says(&world, IN_B, "70.0.1.10.in-addr.arpa", PTR);
    assert!(own.contains("PTR only-b.b.east.lab.example."), "{own}");
}
