//! Hosts and their interfaces, out of `hosts.yml`, `host_vars` and the Terraform outputs.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::cx::{At, Cx, Text, Unknown};
use super::draft::{Draft, HostDraft, InterfaceFacts};
use super::words::{did_you_mean, listed};
use crate::ansible::{Scope, Target};
use crate::finding::{Code, Finding};
use crate::ids::{HostName, MacAddr};
use crate::model::{Host, HostId, Interface, Owner, SegmentId};
use crate::source::Place;
use crate::yaml::plain::{Plain, read as read_plain};
use crate::yaml::{Entry, Kind, Value};

const ENV_KEYS: &[&str] = &["ip", "ip6", "prefix", "segment", "purpose", "dns"];
const DNS_KEYS: &[&str] = &["host_a_record", "dhcp_reservation", "cnames"];

/// A host as its own tree says it is: nothing of it was looked up elsewhere.
pub(crate) struct ReadHost {
    name: HostName,
    place: Place,
    form: Option<String>,
    /// By name.
    interfaces: Vec<(Arc<str>, Read)>,
}

/// Reads all hosts of an inventory, by name. It needs nothing else, so that several trees are read at once.
pub(crate) fn read(tree: &Scope, findings: &mut Vec<Finding>) -> Vec<ReadHost> {
    let inventory = tree.inventory();
    let mut order: Vec<usize> = (0..inventory.hosts.len()).collect();
    order.sort_by(|&a, &b| inventory.hosts[a].name.cmp(&inventory.hosts[b].name));
    let hosts = order.into_iter().map(|index| {
        let scope = &tree.of(Target::Host(index));
        let mut cx = Cx { scope, findings };
        let listed = &inventory.hosts[index];
        ReadHost {
            name: HostName::new(&listed.name),
            place: listed.place,
            // Kept for all hosts: a map of one entry has room for eleven.
            interfaces: read_interfaces(&mut cx).into_iter().collect(),
            form: read_form(&mut cx),
        }
    });
    hosts.collect()
}

/// Finds the segments of hosts and adds them.
pub(crate) fn add_all(draft: &mut Draft, owner: Owner, hosts: Vec<ReadHost>) {
    for read in hosts {
        let mut host = HostDraft {
            host: Host {
                name: read.name,
                owner,
                form: read.form,
                is_router: false,
                interfaces: Vec::new(),
                origin: draft.sources.origin(read.place),
            },
            place: read.place,
            facts: Vec::new(),
        };
        for (name, read) in read.interfaces {
            add_interface(draft, &mut host, &name, read);
        }
        add(draft, host);
    }
}

/// Adds a host.
pub(crate) fn add(draft: &mut Draft, host: HostDraft) {
    let key = (host.host.owner, host.host.name.to_string());
    draft.host_ids.insert(key, HostId(draft.hosts.len()));
    draft.hosts.push(host);
}

/// What is said about an interface.
pub(crate) struct Read {
    pub(crate) key: Place,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) segment: Option<Text>,
    pub(crate) facts: InterfaceFacts,
}

impl Read {
    /// Nothing is said yet but that it exists.
    pub(crate) fn new(key: Place) -> Self {
        Self {
            key,
            mac: None,
            ipv4: None,
            ipv6: None,
            segment: None,
            facts: InterfaceFacts {
                mac: None,
                mac_unknown: false,
                ipv4: None,
                ipv6: None,
                unreadable: false,
                segment: None,
                record: None,
                reservation: None,
                reservation_implied: false,
                cnames: Vec::new(),
            },
        }
    }
}

fn read_form(cx: &mut Cx<'_>) -> Option<String> {
    let infrastructure = cx.var("infrastructure")?;
    let form = infrastructure.value.get("form")?.clone();
    if form.value.is_null() {
        return None;
    }
    Some(cx.text(&form.value, "`infrastructure.form`")?.text)
}

/// The map `interfaces` of a variable, if it is there.
fn interfaces_of(cx: &mut Cx<'_>, var: &str) -> Vec<Entry> {
    let Some(entry) = cx.var(var) else {
        return Vec::new();
    };
    let Some(value) = cx.resolve(&entry.value) else {
        return Vec::new();
    };
    let Some(interfaces) = value
        .get("interfaces")
        .filter(|entry| !entry.value.is_null())
    else {
        // `env: production` is somebody else's variable.
        if matches!(value.kind, Kind::List(_)) {
            cx.entries(&value, &format!("`{var}`"));
        }
        return Vec::new();
    };
    cx.named_entries(&interfaces.value, &format!("`{var}.interfaces`"))
        .unwrap_or_default()
}

/// Joins `infrastructure.interfaces` and `env.interfaces` by name.
fn read_interfaces(cx: &mut Cx<'_>) -> BTreeMap<Arc<str>, Read> {
    let mut interfaces = BTreeMap::new();
    for entry in interfaces_of(cx, "env") {
        let mut read = Read::new(entry.key_place);
        let what = format!("the interface `{}`", entry.key);
        if !entry.value.is_null() {
            read_env(cx, &entry.value, &what, &mut read);
        }
        interfaces.insert(entry.key, read);
    }
    for entry in interfaces_of(cx, "infrastructure") {
        let read = interfaces
            .entry(Arc::clone(&entry.key))
            .or_insert_with(|| Read::new(entry.key_place));
        if entry.value.is_null() {
            continue;
        }
        let Some(value) = cx.resolve(&entry.value) else {
            continue;
        };
        match value.get("mac") {
            Some(mac) if !mac.value.is_null() => read_mac(cx, &mac.value, read),
            Some(_) | None => {}
        }
    }
    interfaces
}

fn read_env(cx: &mut Cx<'_>, value: &Arc<Value>, what: &str, read: &mut Read) {
    let Some(fields) = cx.fields(value, what, ENV_KEYS, Unknown::Suspect) else {
        return;
    };
    if let Some(entry) = fields.get("ip") {
        read.facts.ipv4 = Some(entry.value.place);
        let address = read_address(cx, entry, "an IPv4 address, `dhcp` or null");
        read.facts.unreadable |= address.is_none();
        read.ipv4 = address.flatten();
    }
    if let Some(entry) = fields.get("ip6") {
        read.facts.ipv6 = Some(entry.value.place);
        let address = read_address(cx, entry, "an IPv6 address, `auto`, `dhcp` or null");
        read.facts.unreadable |= address.is_none();
        read.ipv6 = address.flatten();
    }
    if let Some(entry) = fields.get("segment") {
        read.segment = cx.text(&entry.value, "a segment's name");
        read.facts.segment = Some(entry.value.place);
    }
    if let Some(entry) = fields.get("dns") {
        read_dns(cx, entry, read);
    }
}

/// `Some(None)` is an address that somebody else gives out.
fn read_address<T: std::str::FromStr>(
    cx: &mut Cx<'_>,
    entry: &Entry,
    form: &str,
) -> Option<Option<T>> {
    let text = cx.text(&entry.value, "an address")?;
    if matches!(
        text.text.to_ascii_lowercase().as_str(),
        "dhcp" | "auto" | "slaac" | "none" | ""
    ) {
        return Some(None);
    }
    if let Ok(address) = text.text.parse() {
        return Some(Some(address));
    }
    let help = match text.text.split_once('/') {
        Some((address, prefix)) if address.parse::<T>().is_ok() => {
            format!("write `{address}`: the prefix /{prefix} is the segment's")
        }
        _ => format!("write {form}"),
    };
    cx.invalid(
        text.place,
        format!("`{}` is not an address", text.text),
        &help,
    );
    None
}

fn read_dns(cx: &mut Cx<'_>, entry: &Entry, read: &mut Read) {
    let Some(fields) = cx.fields(&entry.value, "`dns`", DNS_KEYS, Unknown::Suspect) else {
        return;
    };
    let mut flag = |key: &str| {
        let entry = fields.get(key)?;
        let set = cx.boolean(&entry.value, &format!("`{key}`"))?;
        set.then_some(entry.value.place)
    };
    read.facts.record = flag("host_a_record");
    read.facts.reservation = flag("dhcp_reservation");
    if let Some(entry) = fields.get("cnames") {
        read.facts.cnames = cx.texts(&entry.value, "`cnames`").unwrap_or_default();
    }
}

/// Reads a hardware address; `UNKNOWN` is one that is not known yet.
pub(crate) fn read_mac(cx: &mut Cx<'_>, value: &Arc<Value>, read: &mut Read) {
    let Some(value) = cx.resolve(value) else {
        return;
    };
    read.facts.mac = Some(value.place);
    if let Kind::Scalar(scalar) = &value.kind
        && scalar.plain
        && matches!(read_plain(&scalar.text), Plain::Sexagesimal(_))
    {
        let text = &scalar.text;
        cx.report(
            Finding::new(
                Code::SexagesimalMac,
                format!("`{text}` without quotes is a number, not a hardware address"),
                value.place,
            )
            .label("YAML 1.1 reads digits joined by `:` in base 60")
            .help(format!("quote it: \"{text}\"")),
        );
        return;
    }
    let Some(text) = cx.text(&value, "a hardware address") else {
        return;
    };
    if text.text.eq_ignore_ascii_case("unknown") {
        read.facts.mac_unknown = true;
        return;
    }
    read.mac = check_mac(cx, &text.text, text.place);
}

fn check_mac(cx: &mut Cx<'_>, text: &str, place: Place) -> Option<MacAddr> {
    let finding = match text.parse::<MacAddr>() {
        Err(error) => Finding::new(
            Code::MacMalformed,
            format!("`{text}` is not a hardware address"),
            place,
        )
        .label(error.to_string())
        .help("write it as \"02:00:5e:00:53:01\", or \"UNKNOWN\" if it is not known yet"),
        Ok(MacAddr([0, 0, 0, 0, 0, 0])) => Finding::new(
            Code::MacMalformed,
            "no host has the hardware address of zeros",
            place,
        )
        .help("write \"UNKNOWN\" if it is not known yet"),
        Ok(mac) if mac.0[0] & 1 == 1 => Finding::new(
            Code::MacMalformed,
            format!("{mac} is a group address, no host has it"),
            place,
        )
        .label("the lowest bit of the first octet is set")
        .help("look it up on the host: `ip link`"),
        Ok(mac) => return Some(mac),
    };
    cx.report(finding);
    None
}

/// Finds the segment of an interface and adds it to its host.
pub(crate) fn add_interface(draft: &mut Draft, host: &mut HostDraft, name: &str, read: Read) {
    let owner = host.host.owner;
    let segment = match &read.segment {
        Some(said) => find_segment(draft, owner, said),
        None => derive_segment(draft, owner, &read),
    };
    let origin = draft.sources.origin(read.facts.ipv4.unwrap_or(read.key));
    let mut facts = read.facts;
    facts.unreadable |= facts.segment.is_some() && segment.is_none();
    host.host.interfaces.push(Interface {
        name: name.to_owned(),
        mac: read.mac,
        segment,
        ipv4: read.ipv4,
        ipv6: read.ipv6,
        origin,
    });
    host.facts.push(facts);
}

fn find_segment(draft: &mut Draft, owner: Owner, said: &Text) -> Option<SegmentId> {
    let zones = zones_of(draft, owner);
    let found = zones.get(&said.text).copied();
    if found.is_none() && !draft.unusable.contains(&said.text) {
        let mut names: Vec<&str> = zones.keys().map(String::as_str).collect();
        names.sort_unstable();
        let help = match did_you_mean(&said.text, names.iter().copied()) {
            Some(similar) => format!("did you mean `{similar}`?"),
            None => format!("the segments are: {}", listed(&names)),
        };
        let whose = match owner {
            Owner::Platform => "the site",
            Owner::Tenant(_) => "the tenant",
        };
        let message = format!("{whose} has no segment `{}`", said.text);
        draft
            .findings
            .push(Finding::new(Code::UnknownSegment, message, said.place).help(help));
    }
    found
}

fn zones_of(draft: &Draft, owner: Owner) -> &HashMap<String, SegmentId> {
    match owner {
        Owner::Platform => &draft.zones,
        Owner::Tenant(id) => &draft.tenants[id.0].zones,
    }
}

/// The owner's segment that has one of the addresses in its subnet.
fn derive_segment(draft: &Draft, owner: Owner, read: &Read) -> Option<SegmentId> {
    let has = |&&id: &&SegmentId| {
        let segment = &draft.segment(id).segment;
        let ipv4 = segment.ipv4.zip(read.ipv4);
        let ipv6 = segment.ipv6.zip(read.ipv6);
        ipv4.is_some_and(|(subnet, address)| subnet.net.contains(&address))
            || ipv6.is_some_and(|(subnet, address)| subnet.net.contains(&address))
    };
    // By id: with overlapping subnets (an error) the choice must not depend on a hash.
    zones_of(draft, owner).values().filter(has).min().copied()
}

/// An address of an interface with its place, for checks.
pub(crate) fn addresses(
    interface: &Interface,
    facts: &InterfaceFacts,
) -> impl Iterator<Item = At<std::net::IpAddr>> {
    let ipv4 = interface.ipv4.zip(facts.ipv4).map(|(value, place)| At {
        value: value.into(),
        place,
    });
    let ipv6 = interface.ipv6.zip(facts.ipv6).map(|(value, place)| At {
        value: value.into(),
        place,
    });
    ipv4.into_iter().chain(ipv6)
}
