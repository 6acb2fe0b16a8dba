//! The table, as `nft` takes it (libnftables-json(5)).

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use ipnet::IpNet;
use nftables::expr::{
    CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix,
};
use nftables::schema::{Chain, NfListObject, Rule, Set, SetFlag, SetType, SetTypeValue, Table};
use nftables::stmt::{Counter, JumpTarget, Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::TABLE;
use super::desired::Ruleset;

/// A set of the table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum SetName {
    /// Interfaces of all uplinks.
    Uplinks,
    /// Interfaces of those that translate.
    NatUplinks,
    /// Subnets that may open connections to the internet.
    Internet4,
    /// The same in IPv6.
    Internet6,
    /// Subnets that are translated, in IPv6.
    Translated6,
    /// Subnets of the site.
    Site4,
    /// The same in IPv6.
    Site6,
    /// What is no part of the internet.
    Excluded4,
    /// The same in IPv6.
    Excluded6,
}

impl SetName {
    pub(super) const ALL: [Self; 9] = [
        Self::Uplinks,
        Self::NatUplinks,
        Self::Internet4,
        Self::Internet6,
        Self::Translated6,
        Self::Site4,
        Self::Site6,
        Self::Excluded4,
        Self::Excluded6,
    ];

    /// Returns the name in the kernel.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uplinks => "uplinks",
            Self::NatUplinks => "nat_uplinks",
            Self::Internet4 => "internet4",
            Self::Internet6 => "internet6",
            Self::Translated6 => "translated6",
            Self::Site4 => "site4",
            Self::Site6 => "site6",
            Self::Excluded4 => "excluded4",
            Self::Excluded6 => "excluded6",
        }
    }

    fn kind(self) -> SetType {
        match self {
            Self::Uplinks | Self::NatUplinks => SetType::Ifname,
            Self::Internet4 | Self::Site4 | Self::Excluded4 => SetType::Ipv4Addr,
            Self::Internet6 | Self::Translated6 | Self::Site6 | Self::Excluded6 => {
                SetType::Ipv6Addr
            }
        }
    }

    /// Returns what a ruleset puts into the set, as text.
    pub(super) fn elements(self, ruleset: &Ruleset) -> BTreeSet<String> {
        let uplinks = ruleset.uplinks.iter();
        let internet = &ruleset.internet;
        match self {
            Self::Uplinks => uplinks.map(|u| u.interface.clone()).collect(),
            Self::NatUplinks => {
                let translating = uplinks.filter(|u| u.nat);
                translating.map(|u| u.interface.clone()).collect()
            }
            Self::Internet4 => ipv4(&internet.sources),
            Self::Internet6 => ipv6(&internet.sources),
            Self::Translated6 => ipv6(&ruleset.translated().collect::<Vec<_>>()),
            Self::Site4 => ipv4(&internet.site),
            Self::Site6 => ipv6(&internet.site),
            Self::Excluded4 => ipv4(&internet.excluded),
            Self::Excluded6 => ipv6(&internet.excluded),
        }
    }
}

fn ipv4(nets: &[IpNet]) -> BTreeSet<String> {
    let nets = nets.iter().filter(|net| matches!(net, IpNet::V4(_)));
    nets.map(ToString::to_string).collect()
}

fn ipv6(nets: &[IpNet]) -> BTreeSet<String> {
    let nets = nets.iter().filter(|net| matches!(net, IpNet::V6(_)));
    nets.map(ToString::to_string).collect()
}

/// Returns the table itself.
pub(super) fn table() -> NfListObject<'static> {
    NfListObject::Table(Table {
        family: NfFamily::INet,
        name: TABLE.into(),
        handle: None,
    })
}

/// Returns what is in the table: sets, then chains, then rules. Nothing is named before it is there.
pub(super) fn objects(ruleset: &Ruleset) -> Vec<NfListObject<'static>> {
    let sets = SetName::ALL.map(|set| NfListObject::Set(Box::new(filled(set, ruleset))));
    let chains = chains().map(NfListObject::Chain);
    let rules = rules().into_iter().map(NfListObject::Rule);
    sets.into_iter().chain(chains).chain(rules).collect()
}

fn filled(name: SetName, ruleset: &Ruleset) -> Set<'static> {
    let elements = name.elements(ruleset);
    let elements: Vec<_> = elements.iter().map(|text| element(text)).collect();
    let is_interval = name.kind() != SetType::Ifname;
    Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.name().into(),
        set_type: SetTypeValue::Single(name.kind()),
        flags: is_interval.then(|| HashSet::from([SetFlag::Interval])),
        elem: (!elements.is_empty()).then(|| Cow::from(elements)),
        ..Set::default()
    }
}

pub(super) fn element(text: &str) -> Expression<'static> {
    match text.parse::<IpNet>() {
        Ok(net) => Expression::Named(NamedExpression::Prefix(Prefix {
            addr: Box::new(Expression::String(net.addr().to_string().into())),
            len: net.prefix_len().into(),
        })),
        Err(_) => Expression::String(text.to_owned().into()),
    }
}

/// Before connections are looked up (`raw`).
const BEFORE_CONNECTIONS: i32 = -300;
/// Where the kernel translates sources (`srcnat`).
const TRANSLATION: i32 = 100;

pub(super) fn chains() -> [Chain<'static>; 6] {
    let jumped_to = |name: &'static str| Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        ..Chain::default()
    };
    let hooked = |name, kind, hook, priority| Chain {
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..jumped_to(name)
    };
    let (filter, nat) = (NfChainType::Filter, NfChainType::NAT);
    let (before, after) = (BEFORE_CONNECTIONS, TRANSLATION + 1);
    [
        jumped_to("from_uplink"),
        jumped_to("to_uplink"),
        hooked("arrival", filter, NfHook::Prerouting, before),
        hooked("forward", filter, NfHook::Forward, 0),
        hooked("masquerade", nat, NfHook::Postrouting, TRANSLATION),
        hooked("departure", filter, NfHook::Postrouting, after),
    ]
}

pub(super) fn rules() -> Vec<Rule<'static>> {
    use SetName::{
        Excluded4, Excluded6, Internet4, Internet6, NatUplinks, Site4, Site6, Translated6, Uplinks,
    };
    let (from, to) = (MetaKey::Iifname, MetaKey::Oifname);
    let jump = |target: &'static str| {
        Statement::Jump(JumpTarget {
            target: target.into(),
        })
    };
    vec![
        guard(
            "arrival",
            "site-source",
            vec![link(from, Uplinks), source(Site4)],
        ),
        guard(
            "arrival",
            "site-source",
            vec![link(from, Uplinks), source(Site6)],
        ),
        rule("forward", vec![link(from, Uplinks), jump("from_uplink")]),
        rule("forward", vec![link(to, Uplinks), jump("to_uplink")]),
        // A reply to a segment that lost the internet is no longer wanted.
        guard(
            "from_uplink",
            "unsolicited",
            vec![not_destination(Internet4)],
        ),
        guard(
            "from_uplink",
            "unsolicited",
            vec![not_destination(Internet6)],
        ),
        // Errors come from routers on the way, whose addresses are often private.
        rule(
            "from_uplink",
            vec![is_reply(), has_state("related"), Statement::Return(None)],
        ),
        guard("from_uplink", "excluded-source", vec![source(Excluded4)]),
        guard("from_uplink", "excluded-source", vec![source(Excluded6)]),
        rule(
            "from_uplink",
            vec![
                is_reply(),
                has_state("established"),
                Statement::Return(None),
            ],
        ),
        guard("from_uplink", "unsolicited", vec![]),
        guard(
            "to_uplink",
            "source-not-granted",
            vec![not_source(Internet4)],
        ),
        guard(
            "to_uplink",
            "source-not-granted",
            vec![not_source(Internet6)],
        ),
        guard("to_uplink", "not-internet", vec![destination(Excluded4)]),
        guard("to_uplink", "not-internet", vec![destination(Excluded6)]),
        rule(
            "masquerade",
            vec![
                link(to, NatUplinks),
                source(Internet4),
                Statement::Masquerade(None),
            ],
        ),
        rule(
            "masquerade",
            vec![
                link(to, NatUplinks),
                source(Translated6),
                Statement::Masquerade(None),
            ],
        ),
        // A connection that is older than the table, or a packet of none, is not translated.
        guard(
            "departure",
            "untranslated",
            vec![link(to, NatUplinks), source(Internet4)],
        ),
        guard(
            "departure",
            "untranslated",
            vec![link(to, NatUplinks), source(Translated6)],
        ),
    ]
}

fn rule(chain: &'static str, statements: Vec<Statement<'static>>) -> Rule<'static> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: statements.into(),
        ..Rule::default()
    }
}

/// Makes a rule that counts and drops; its comment is the guard's name.
fn guard(
    chain: &'static str,
    name: &'static str,
    mut statements: Vec<Statement<'static>>,
) -> Rule<'static> {
    statements.push(Statement::Counter(Counter::Anonymous(None)));
    statements.push(Statement::Drop(None));
    Rule {
        comment: Some(name.into()),
        ..rule(chain, statements)
    }
}

fn link(key: MetaKey, set: SetName) -> Statement<'static> {
    matches(
        NamedExpression::Meta(Meta { key }),
        Operator::EQ,
        named(set),
    )
}

fn source(set: SetName) -> Statement<'static> {
    matches(address("saddr", set), Operator::EQ, named(set))
}

fn not_source(set: SetName) -> Statement<'static> {
    matches(address("saddr", set), Operator::NEQ, named(set))
}

fn destination(set: SetName) -> Statement<'static> {
    matches(address("daddr", set), Operator::EQ, named(set))
}

fn not_destination(set: SetName) -> Statement<'static> {
    matches(address("daddr", set), Operator::NEQ, named(set))
}

fn address(field: &'static str, set: SetName) -> NamedExpression<'static> {
    let is_ipv4 = set.kind() == SetType::Ipv4Addr;
    NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: if is_ipv4 { "ip" } else { "ip6" }.into(),
        field: field.into(),
    }))
}

fn named(set: SetName) -> String {
    format!("@{}", set.name())
}

fn is_reply() -> Statement<'static> {
    of_connection("direction", "reply", Operator::EQ)
}

fn has_state(state: &'static str) -> Statement<'static> {
    of_connection("state", state, Operator::IN)
}

fn of_connection(key: &'static str, value: &'static str, op: Operator) -> Statement<'static> {
    let key = CT {
        key: key.into(),
        family: None,
        dir: None,
    };
    matches(NamedExpression::CT(key), op, value.to_owned())
}

fn matches(left: NamedExpression<'static>, op: Operator, right: String) -> Statement<'static> {
    Statement::Match(Match {
        left: Expression::Named(left),
        right: Expression::String(right.into()),
        op,
    })
}
