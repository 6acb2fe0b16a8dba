//! Who sees what: every client segment × every name of every zone × type × trick.
//!
//! A hidden name must answer as a name that never was: the question is asked a second time with
//! the hidden part replaced by something of the same length that is nowhere, and but for that part the
//! two replies must be the same. Beside it, what is to be seen must be seen.

use std::collections::BTreeSet;

use dns::answer::Transport;
use dns::name::Name;
use dns::plan::{Plan, plan};
use dns::view::visible_tenants;
use dns::world::World;
use hickory_proto::op::Message;
use netmodel::model::{DnsRecord, Model, Owner, SegmentId, Tenant};
use netmodel::published::Published;

use super::support::*;

/// Who asks: (segment, address, tenants whose names are to be seen, is the whole site to be seen).
const CLIENTS: &[(&str, &str, &[&str], bool)] = &[
    ("grooveiq", "10.100.0.50", &["grooveiq"], false),
    ("grooveiq, v6", "fd00:100::50", &["grooveiq"], false),
    // It uses an offer of grooveiq's.
    (
        "vintronics",
        "10.101.0.50",
        &["vintronics", "grooveiq"],
        false,
    ),
    (
        "vintronics, v6",
        "fd00:101::50",
        &["vintronics", "grooveiq"],
        false,
    ),
    ("moneyrouter", "10.102.0.50", &["moneyrouter"], false),
    // It may reach the broker of grooveiq.
    ("iot", "10.20.30.50", &["grooveiq"], true),
    ("guest", "10.20.40.60", &[], true),
    ("storage", "10.20.20.5", &[], true),
    (
        "trusted",
        "10.20.10.5",
        &["grooveiq", "vintronics", "moneyrouter"],
        true,
    ),
    (
        "management",
        "10.20.99.5",
        &["grooveiq", "vintronics", "moneyrouter"],
        true,
    ),
];

const TENANTS: [&str; 3] = ["grooveiq", "vintronics", "moneyrouter"];
const VLANS: [(&str, &str); 3] = [
    ("100", "grooveiq"),
    ("101", "vintronics"),
    ("102", "moneyrouter"),
];

/// The end of the reverse names of `10.VLAN.0.0/16`.
fn v4_tail(vlan: &str) -> String {
    format!("0.{vlan}.10.in-addr.arpa")
}

/// The end of the reverse names of `fd00:VLAN::/32`.
fn v6_tail(vlan: &str) -> String {
    let nibbles: Vec<String> = vlan.chars().rev().map(String::from).collect();
    format!("{}.0.0.0.d.f.ip6.arpa", nibbles.join("."))
}

/// A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, DS, SSHFP, RRSIG, NSEC, DNSKEY, NSEC3, TLSA, CDS, CDNSKEY, SVCB, HTTPS, NXNAME,
/// IXFR, AXFR, ANY, TYPE65280.
const KINDS: &[u16] = &[
    1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 44, 46, 47, 48, 50, 52, 59, 60, 64, 65, 128, 251, 252, 255,
    65_280,
];
const SITE: &str = "east.lab.example";

/// The replies to a question in all its disguises.
fn replies(world: &World, client: &str, message: &[u8]) -> Vec<Option<Vec<u8>>> {
    let upper: Vec<u8> = message.iter().map(u8::to_ascii_uppercase).collect();
    // Signed with the key of a tenant who may see other names.
    let signed = super::rfc8945::signed(message, "grooveiq-tf", SECRET, NOW);
    vec![
        send(world, client, Transport::Udp, message),
        send(world, client, Transport::Tcp, message),
        send(
            world,
            client,
            Transport::Udp,
            &with_edns(message.to_vec(), 4096),
        ),
        send(world, client, Transport::Udp, &upper),
        send(
            world,
            client,
            Transport::Tcp,
            &with_flags(message.to_vec(), DO),
        ),
        send(
            world,
            client,
            Transport::Tcp,
            &with_flags(message.to_vec(), DO | CO),
        ),
        send(world, client, Transport::Tcp, &signed),
    ]
}

/// The sample, and in each tenant's zone aliases, MX, SRV and NS that lead to every other tenant, and
/// beside each of them one that leads nowhere.
fn published() -> Published {
    let mut published = sample();
    let origin = published.model.tenants[0].origin.clone();
    let mut more = Vec::new();
    for (zone, other) in pairs() {
        let hosts = host_names(&published.model, other);
        for (index, host) in hosts.iter().enumerate() {
            for (label, target) in [("real", host.clone()), ("ctrl", nowhere(host))] {
                let mut record = |name: String, kind: &str, value: String| {
                    more.push(DnsRecord {
                        zone: format!("{zone}.{SITE}"),
                        name: format!("{name}-{label}-{other}-{index}"),
                        record_type: kind.to_owned(),
                        value,
                        ttl: None,
                        origin: origin.clone(),
                    });
                };
                record("alias".into(), "CNAME", format!("{target}."));
                record("mail".into(), "MX", format!("10 {target}."));
                record("srv".into(), "SRV", format!("0 0 53 {target}."));
                record("cut".into(), "NS", format!("{target}."));
                record("*.wild".into(), "CNAME", format!("{target}."));
                record("svc".into(), "HTTPS", format!("1 {target}. port=443"));
                record("ptr".into(), "PTR", format!("{target}."));
            }
        }
    }
    published.model.records.extend(more);
    published
}

/// The same with every zone signed.
fn published_and_signed() -> Published {
    let mut published = published();
    published.model.site_dnssec = true;
    for tenant in &mut published.model.tenants {
        tenant.dnssec = true;
    }
    published
}

/// A reply with nothing in its signatures that no two of them have in common.
fn without_signatures(mut reply: Vec<u8>) -> Vec<u8> {
    let Ok(message) = Message::from_vec(&reply) else {
        return reply;
    };
    let all = message.all_sections();
    for signature in all.filter_map(super::dnssec::rrsig) {
        let octets = signature.sig();
        let at = reply.windows(64).position(|part| part == octets).unwrap();
        reply[at..at + 64].fill(0);
    }
    reply
}

fn pairs() -> Vec<(&'static str, &'static str)> {
    let all = TENANTS
        .iter()
        .flat_map(|a| TENANTS.iter().map(move |b| (*a, *b)));
    all.filter(|(a, b)| a != b).collect()
}

fn host_names(model: &Model, tenant: &str) -> Vec<String> {
    let zone = format!("{tenant}.{SITE}");
    let records = model.records.iter().filter(|record| record.zone == zone);
    records
        .map(|record| format!("{}.{zone}", record.name))
        .collect()
}

/// A name of the same shape that is nowhere.
fn nowhere(name: &str) -> String {
    let mut name = name.to_owned();
    for tenant in TENANTS {
        name = name.replace(
            &format!("{tenant}."),
            &format!("{}z.", &tenant[..tenant.len() - 1]),
        );
    }
    for (vlan, _) in VLANS {
        let other = format!("19{}", &vlan[2..]);
        name = name.replace(&v4_tail(vlan), &v4_tail(&other));
        name = name.replace(&v6_tail(vlan), &v6_tail(&other));
    }
    name
}

/// Every name that any view has, and a name below each.
fn names(world: &World) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for view in &world.plan.views {
        for (_, id) in view.origins() {
            for (name, _) in world.zone(id).unwrap().iter() {
                let name = name.to_string();
                let name = name.trim_end_matches('.').to_owned();
                names.insert(format!("below.{name}"));
                names.insert(name.replace('*', "star"));
            }
        }
    }
    names
}

/// Whose name is it? `None`: the site's.
fn tenant_of(name: &str) -> Option<&'static str> {
    let by_name = TENANTS.into_iter().find(|tenant| {
        name.ends_with(&format!(".{tenant}.{SITE}")) || *name == format!("{tenant}.{SITE}")
    });
    let by_address = VLANS
        .into_iter()
        .find(|(vlan, _)| name.ends_with(&v4_tail(vlan)) || name.ends_with(&v6_tail(vlan)));
    by_name.or(by_address.map(|(_, tenant)| tenant))
}

/// A reply as text, with nothing in it that may differ.
fn text(reply: &[u8]) -> String {
    let message = Message::from_vec(reply).unwrap_or_else(|error| panic!("{error}: {reply:?}"));
    let question = message
        .queries
        .first()
        .map(|query| query.name().to_string());
    let edns = message
        .edns
        .as_ref()
        .map(|edns| format!("{:?}", edns.options()));
    format!(
        "{} | {:?} | {:?} | {} octets",
        shown(&message),
        question,
        edns,
        reply.len()
    )
    .to_lowercase()
}

/// Asks a hidden question and its double; returns what differs.
fn leak(world: &World, client: &str, hidden: &str, double: &str, kind: u16) -> Option<String> {
    assert_eq!(hidden.len(), double.len());
    let shown = |name: &str| {
        let replies = replies(world, client, &question(name, kind));
        let replies = replies
            .into_iter()
            .map(|reply| reply.map(|reply| text(&without_signatures(reply))));
        replies.collect::<Vec<_>>()
    };
    let (real, control) = (shown(hidden), shown(double));
    real.into_iter().zip(control).find_map(|(real, control)| {
        let control = control.map(|text| text.replace(double, hidden));
        (real != control).then(|| format!("{client} {hidden} {kind}:\n  {real:?}\n  {control:?}"))
    })
}

/// What some client learns of what it must not see: everything, or as much as is enough.
fn leaks(world: &World, enough: usize) -> Vec<String> {
    let names = names(world);
    let mut found = Vec::new();
    for (_, client, tenants, _) in CLIENTS {
        for name in &names {
            let Some(owner) = tenant_of(name) else {
                continue;
            };
            if tenants.contains(&owner) {
                continue;
            }
            let double = nowhere(name);
            assert_ne!(double, *name, "{name}");
            for kind in KINDS {
                found.extend(leak(world, client, name, &double, *kind));
            }
            if found.len() > enough {
                return found;
            }
        }
    }
    found
}

fn worlds() -> (World, World) {
    worlds_of(&published())
}

fn worlds_of(published: &Published) -> (World, World) {
    let good = world_without_check(published, |_| {});
    // The mutation: every client has the view of who sees everything.
    let open = world_without_check(published, |plan| {
        let all = plan
            .views
            .iter()
            .find(|view| view.owner.name() == "management")
            .unwrap()
            .clone();
        for view in &mut plan.views {
            *view = all.clone();
        }
    });
    (good, open)
}

fn world_without_check(published: &Published, change: impl FnOnce(&mut Plan)) -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut store = dns::journal::Store::open(&folder.path().join("journal")).unwrap();
    let keys = dns::dnssec::folder::KeyFolder::open(&folder.path().join("zone-keys"));
    store.set_zone_keys(keys.into());
    let mut plan = plan(published).unwrap();
    change(&mut plan);
    let keys = dns::keys::Keyring::new(&secrets(&["grooveiq-tf"]), &plan.tenants);
    World::new(plan, keys, &store)
}

#[test]
fn no_view_tells_a_hidden_name_from_one_that_never_was() {
    let (good, open) = worlds();
    let found = leaks(&good, usize::MAX);
    assert!(
        found.is_empty(),
        "{} leaks, first: {}",
        found.len(),
        found[0]
    );
    // And this test sees a leak when there is one.
    assert!(
        leaks(&open, 1000).len() > 1000,
        "without views the matrix must be full of leaks"
    );
}

#[test]
fn no_view_tells_a_hidden_name_from_one_that_never_was_in_signed_zones() {
    let (good, open) = worlds_of(&published_and_signed());
    let found = leaks(&good, usize::MAX);
    assert!(
        found.is_empty(),
        "{} leaks, first: {}",
        found.len(),
        found[0]
    );
    assert!(
        leaks(&open, 1000).len() > 1000,
        "without views the matrix must be full of leaks"
    );
}

#[test]
fn what_is_to_be_seen_is_seen() {
    let (good, _) = worlds();
    let names = names(&good);
    let mut count = 0;
    for (who, client, tenants, sees_site) in CLIENTS {
        for name in names.iter().filter(|name| !name.starts_with("below.")) {
            let is_seen = match tenant_of(name) {
                Some(owner) => tenants.contains(&owner),
                None => *sees_site,
            };
            let reply = ask(&good, client, name, ANY);
            let is_referral = !reply.authorities.is_empty() && reply.answers.is_empty();
            if is_seen && !is_referral {
                assert!(!reply.answers.is_empty(), "{who} {name}: {}", shown(&reply));
                count += 1;
            }
        }
    }
    assert!(count > 200, "{count}");
}

#[test]
fn an_alias_to_a_hidden_name_ends_as_one_to_a_name_that_never_was() {
    let (good, open) = worlds();
    let check = |world: &World| {
        let mut found = Vec::new();
        for (zone, other) in pairs() {
            let (_, client, seen, _) = CLIENTS.iter().find(|(who, ..)| *who == zone).unwrap();
            if seen.contains(&other) {
                continue;
            }
            for (index, host) in host_names(&sample().model, other).iter().enumerate() {
                for prefix in [
                    "alias", "mail", "srv", "cut", "x.wild", "x.y.cut", "svc", "ptr",
                ] {
                    for kind in KINDS {
                        let ask = |label: &str| {
                            let name = format!("{prefix}-{label}-{other}-{index}.{zone}.{SITE}");
                            shown(&ask(world, client, &name, *kind)).to_lowercase()
                        };
                        let real = ask("real");
                        let control = ask("ctrl")
                            .replace(&nowhere(host), host)
                            .replace("ctrl", "real");
                        if real != control {
                            found.push(format!("{real}\n{control}"));
                        }
                    }
                }
            }
        }
        found
    };
    assert_eq!(check(&good), Vec::<String>::new());
    assert!(
        !check(&open).is_empty(),
        "without views the chains must leak"
    );
}

#[test]
fn a_tenant_sees_of_the_site_only_what_it_was_granted() {
    let (good, _) = worlds();
    let site = Name::absolute(SITE).unwrap();
    let view = |label: &str| {
        good.plan
            .views
            .iter()
            .find(|view| view.owner.name() == label)
            .unwrap()
    };
    let zone = |label: &str| {
        let id = view(label).zone_at(site.as_wire()).unwrap();
        let zone = good.zone(id).unwrap();
        let mut names: Vec<String> = zone
            .iter()
            .map(|(name, set)| format!("{name} {} {:?}", set.rtype, set.rdata))
            .filter(|line| !line.contains(" 6 "))
            .collect();
        names.sort();
        names.join("\n")
    };
    // grooveiq was granted `artifacts`, whose host has a name; nobody sees hypervisors.
    assert!(zone("grooveiq").contains("provisioner-ph01.east.lab.example. 1 [[10, 20, 99, 95]]"));
    assert!(zone("grooveiq").contains("ns.east.lab.example. 1 [[10, 100, 0, 1]]"));
    assert!(!zone("vintronics").contains("provisioner"));
    for tenant in TENANTS {
        assert!(!zone(tenant).contains("hv01") && !zone(tenant).contains("core-rt01"));
        let (.., seen, _) = CLIENTS.iter().find(|(who, ..)| *who == tenant).unwrap();
        for other in TENANTS {
            let delegation = format!("{other}.{SITE}. 2 ");
            assert_eq!(
                zone(tenant).contains(&delegation),
                seen.contains(&other),
                "{other}"
            );
        }
    }
    assert!(zone("management").contains("vintronics.east.lab.example. 2 "));
    assert!(!zone("guest").contains("vintronics"));
    // RFC 4035, 3.1.4.1: DS of a tenant's zone is the site's to say, and the name is there.
    let reply = says(&good, "10.100.0.50", "grooveiq.east.lab.example", DS);
    assert!(
        reply.starts_with("NOERROR aa |  | east.lab.example. SOA"),
        "{reply}"
    );
    let reply = ask(&good, "10.100.0.50", "95.99.20.10.in-addr.arpa", PTR);
    assert_eq!(reply.answers.len(), 1, "the reverse of what was granted");
    for hidden in ["21.99.20.10.in-addr.arpa", "1.99.20.10.in-addr.arpa"] {
        let reply = says(&good, "10.100.0.50", hidden, PTR);
        assert!(
            reply.starts_with("NXDOMAIN"),
            "{hidden} was not granted: {reply}"
        );
        assert_eq!(ask(&good, "10.20.40.60", hidden, PTR).answers.len(), 1);
    }
    let reply = says(&good, "10.101.0.50", "95.99.20.10.in-addr.arpa", PTR);
    assert!(reply.starts_with("REFUSED"), "{reply}");
}

/// Who sees the zones of whom, as `segment: tenants`.
fn seen(model: &Model, segment: &str) -> Vec<String> {
    let mut segments = model.segments.iter();
    let index = segments.position(|of| match of.owner {
        Owner::Platform => of.name.as_str() == segment,
        Owner::Tenant(id) => model.tenant(id).name.as_str() == segment,
    });
    let seen = visible_tenants(model, SegmentId(index.unwrap()));
    seen.into_iter()
        .map(|id| model.tenant(id).name.to_string())
        .collect()
}

#[test]
fn half_a_grant_shows_nothing() {
    fn tenant<'m>(model: &'m mut Model, name: &str) -> &'m mut Tenant {
        let mut tenants = model.tenants.iter_mut();
        tenants.find(|tenant| tenant.name.as_str() == name).unwrap()
    }
    let with = |change: &dyn Fn(&mut Model)| {
        let mut model = sample().model;
        change(&mut model);
        (seen(&model, "vintronics"), seen(&model, "iot"))
    };
    let (both, iot) = with(&|_| {});
    assert_eq!(
        (both.len(), iot.as_slice()),
        (2, ["grooveiq".to_owned()].as_slice())
    );
    let only = ["vintronics".to_owned()];
    let no_use = with(&|model| tenant(model, "vintronics").uses.clear());
    assert_eq!(no_use.0, only);
    let no_consumer = with(&|model| {
        tenant(model, "grooveiq").offers[0].consumers.clear();
    });
    assert_eq!(no_consumer.0, only);
    let other_name = with(&|model| {
        "other".clone_into(&mut tenant(model, "grooveiq").offers[0].name);
    });
    assert_eq!(other_name.0, only);
    let no_accept = with(&|model| tenant(model, "grooveiq").accepts.clear());
    assert!(no_accept.1.is_empty());
    let no_rule = with(&|model| tenant(model, "grooveiq").rules.clear());
    assert!(no_rule.1.is_empty());
}

#[test]
fn segments_that_are_not_served_are_no_clients() {
    let ask = |change: &dyn Fn(&mut Model)| {
        let mut published = sample();
        change(&mut published.model);
        says(
            &world(&published),
            "10.100.0.50",
            "grooveiq.east.lab.example",
            SOA,
        )
    };
    assert!(ask(&|_| {}).starts_with("NOERROR"));
    assert!(ask(&|model| model.gateway_services.dns = false).starts_with("REFUSED"));
    let own_plan = |model: &mut Model| {
        for segment in &mut model.segments {
            segment.vpc_id = u32::from(matches!(segment.owner, Owner::Tenant(_)));
        }
    };
    assert!(ask(&own_plan).starts_with("REFUSED"));
}

#[test]
fn a_host_on_the_segment_of_another_gets_no_pointer_there() {
    let mut published = sample();
    let of = |name: &str| {
        let mut segments = published.model.segments.iter();
        let is = |owner| matches!(owner, Owner::Tenant(id) if published.model.tenant(id).name.as_str() == name);
        SegmentId(segments.position(|segment| is(segment.owner)).unwrap())
    };
    let (own, other) = (of("vintronics"), of("grooveiq"));
    let name = "vintronics-web01";
    let address = "10.100.0.77".parse().unwrap();
    let host = published
        .model
        .hosts
        .iter_mut()
        .find(|host| host.name.as_str() == name)
        .unwrap();
    for interface in &mut host.interfaces {
        assert_eq!(interface.segment, Some(own));
        (interface.segment, interface.ipv4) = (Some(other), Some(address));
    }
    let mut record = published.model.records[0].clone();
    record.zone = format!("vintronics.{SITE}");
    name.clone_into(&mut record.name);
    "A".clone_into(&mut record.record_type);
    record.value = address.to_string();
    published.model.records.push(record);
    let reply = says(
        &world(&published),
        "10.100.0.50",
        "77.0.100.10.in-addr.arpa",
        PTR,
    );
    assert!(reply.starts_with("NXDOMAIN"), "{reply}");
}

/// A key of the HTTP API for each tenant.
fn api_keys() -> String {
    let entry = |tenant: &&str| {
        format!(
            "[api.{tenant}-api]\ntenant = \"{tenant}\"\nkey = \"{}\"\n",
            api_key(tenant)
        )
    };
    TENANTS.iter().map(entry).collect()
}

fn api_key(tenant: &str) -> String {
    format!("not-a-key-of-{tenant}")
}

/// Everything that can be asked for about a zone: method, what follows the zone's id, body.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("GET", "", ""),
    ("GET", "?rrsets=false", ""),
    ("GET", "?rrset_name=ZONE&rrset_type=NS", ""),
    ("PUT", "", "{\"kind\": \"Master\"}"),
    ("DELETE", "", ""),
    ("POST", "", ""),
    ("PUT", "/notify", ""),
    ("GET", "/notify", ""),
    ("GET", "/metadata", ""),
    ("GET", "/metadata/TSIG-ALLOW-DNSUPDATE", ""),
    ("PUT", "/metadata/ALLOW-DNSUPDATE-FROM", "{}"),
    (
        "PATCH",
        "",
        "{\"rrsets\": [{\"name\": \"x.ZONE\", \"type\": \"A\", \"ttl\": 60, \"changetype\": \"REPLACE\", \
         \"records\": [{\"content\": \"192.0.2.1\"}]}]}",
    ),
];

/// What a tenant's key is told about a zone, from the router and from a segment.
fn told(world: &World, tenant: &str, source: &str, zone: &str) -> Vec<dns::api::Told> {
    let key = api_key(tenant);
    let ask = |method: &str, path: &str, body: &str| {
        let source = source.parse().unwrap();
        let body = body.replace("ZONE", zone);
        dns::api::ask(
            world,
            (key.as_bytes(), source),
            (method, path),
            body.as_bytes(),
        )
        .unwrap()
    };
    let base = "/api/v1/servers/localhost/zones";
    let id = zone.replace('/', "=2F");
    let mut all: Vec<_> = REQUESTS
        .iter()
        .map(|(method, rest, body)| {
            ask(
                method,
                &format!("{base}/{id}{}", rest.replace("ZONE", &id)),
                body,
            )
        })
        .collect();
    all.push(ask("GET", &format!("{base}?zone={id}"), ""));
    all.push(ask("POST", base, "{\"name\": \"ZONE\"}"));
    all
}

#[test]
fn the_api_says_of_zones_of_others_what_it_says_of_zones_that_never_were() {
    let plan = plan(&published()).unwrap();
    let zones: BTreeSet<(Name, Option<String>)> = plan
        .zones
        .iter()
        .map(|spec| {
            (
                spec.origin.clone(),
                spec.tenant.as_deref().map(str::to_owned),
            )
        })
        .collect();
    let ring = secrets_with(&["grooveiq-tf", "vintronics-tf"], &api_keys());
    let keys = dns::keys::Keyring::new(&ring, &plan.tenants);
    let folder = tempfile::tempdir().unwrap();
    let store = dns::journal::Store::open(&folder.path().join("journal")).unwrap();
    let world = World::new(plan, keys, &store);
    // From the router, from the tenant's own segment, and from a platform segment that sees all tenants.
    let (mut hidden, mut shown) = (0, 0);
    for (tenant, own) in [("grooveiq", "10.100.0.50"), ("vintronics", "10.101.0.50")] {
        for source in ["127.0.0.1", "::1", own, "10.20.99.5"] {
            for (zone, owner) in &zones {
                let is_own = owner.as_deref() == Some(tenant);
                let name = zone.to_string();
                let replies = told(&world, tenant, source, &name);
                if is_own {
                    shown += 1;
                    assert!(
                        replies.contains(&dns::api::Told::Change),
                        "{tenant} {source} {name}"
                    );
                    continue;
                }
                hidden += 1;
                let double = "never-was.example.";
                let controls = told(&world, tenant, source, double);
                for (reply, control) in replies.iter().zip(&controls) {
                    assert_eq!(reply, control, "{tenant} {source} {name}");
                }
                assert_eq!(
                    replies[0],
                    dns::api::Told::Reply(404, r#"{"error":"Not Found"}"#.into())
                );
            }
        }
    }
    assert!(hidden > 50 && shown > 8, "{hidden} {shown}");
}

#[test]
fn the_api_reaches_no_zone_that_the_clients_segment_does_not_see() {
    let plan = plan(&published()).unwrap();
    let ring = secrets_with(&[], &api_keys());
    let keys = dns::keys::Keyring::new(&ring, &plan.tenants);
    let folder = tempfile::tempdir().unwrap();
    let store = dns::journal::Store::open(&folder.path().join("journal")).unwrap();
    let world = World::new(plan, keys, &store);
    let zone = format!("grooveiq.{SITE}.");
    let from = |source: &str| told(&world, "grooveiq", source, &zone)[0].clone();
    // (who, sees the zone)
    for (source, is_seen) in [
        ("10.100.0.50", true),
        ("10.20.99.5", true),
        ("10.102.0.50", false),
    ] {
        let is_found = matches!(from(source), dns::api::Told::Reply(200, _));
        assert_eq!(is_found, is_seen, "{source}");
    }
    assert!(matches!(from("192.0.2.1"), dns::api::Told::Reply(401, _)));
    let wrong = dns::api::ask(
        &world,
        (b"", "127.0.0.1".parse().unwrap()),
        ("GET", "/api"),
        b"",
    );
    assert!(matches!(wrong, Some(dns::api::Told::Reply(401, _))));
}
