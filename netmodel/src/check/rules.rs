//! A tenant's rules, offers and uses.

use std::collections::HashMap;
use std::sync::Arc;

use super::cx::{Cx, Fields, Text, Unknown};
use super::draft::Draft;
use super::policy::find_platform_segment;
use super::ports;
use super::tenant::check_limit;
use super::words::{did_you_mean, listed};
use crate::ansible::Scope;
use crate::finding::{Code, Finding};
use crate::model::{
    Owner, PortSpec, RuleAction, RuleFrom, RuleTo, TenantId, TenantOffer, TenantRule, TenantUse,
};
use crate::source::Place;
use crate::yaml::{Entry, Kind, Value};

/// Reads rules, offers and uses of all tenants.
pub(crate) fn read_all(draft: &mut Draft) {
    for index in 0..draft.tenants.len() {
        let id = TenantId(index);
        let Some(scope) = draft.tenants[index].scope.clone() else {
            continue;
        };
        let mut tenant = TenantReader {
            draft,
            id,
            scope: &scope,
        };
        tenant.read_rules();
        tenant.read_offers();
        tenant.read_uses();
    }
}

struct TenantReader<'a> {
    draft: &'a mut Draft,
    id: TenantId,
    scope: &'a Scope,
}

impl TenantReader<'_> {
    fn cx(&mut self) -> Cx<'_> {
        self.draft.cx(self.scope)
    }

    fn list(&mut self, key: &str) -> Vec<Arc<Value>> {
        let mut cx = self.cx();
        let Some(var) = cx.var(key) else {
            return Vec::new();
        };
        cx.list(&var.value, &format!("`{key}`")).unwrap_or_default()
    }

    fn read_rules(&mut self) {
        let items = self.list("tenant_firewall_rules");
        let places: Vec<Place> = items.iter().map(|item| item.place).collect();
        check_limit(self.draft, self.id, "firewall_rules", &places);
        let mut names = HashMap::new();
        for item in items {
            if let Some((rule, name)) = self.read_rule(&item) {
                self.check_unique(&mut names, &name, "rule");
                let tenant = &mut self.draft.tenants[self.id.0];
                tenant.tenant.rules.push(rule);
                tenant.rule_places.push(name.place);
            }
        }
    }

    fn check_unique(&mut self, names: &mut HashMap<String, Place>, name: &Text, what: &str) {
        if let Some(first) = names.insert(name.text.clone(), name.place) {
            self.draft.findings.push(
                Finding::new(
                    Code::NameTwice,
                    format!("two {what}s are called `{}`", name.text),
                    name.place,
                )
                .also(first, "the first one")
                .help("names tell them apart in traces and counters: rename one"),
            );
        }
    }

    fn read_rule(&mut self, item: &Arc<Value>) -> Option<(TenantRule, Text)> {
        let keys = ["name", "from", "to", "action", "description"];
        let mut cx = self.cx();
        let fields = cx.fields(item, "a firewall rule", &keys, Unknown::Refuse)?;
        let name = cx.required(&fields, "name")?;
        let name = cx.text(&name.value, "`name`")?;
        let action = cx.required(&fields, "action")?;
        let words = [("allow", RuleAction::Allow), ("deny", RuleAction::Deny)];
        let action = cx.word(&action.value, "`action`", &words);
        let from = cx.required(&fields, "from");
        let to = cx.required(&fields, "to");
        let from = from.and_then(|entry| self.read_from(&entry));
        let to = to.and_then(|entry| self.read_to(&entry));
        let (to, ports) = to?;
        let rule = TenantRule {
            name: name.text.clone(),
            from: from?,
            to,
            ports,
            action: action?,
            origin: self.draft.sources.origin(name.place),
        };
        Some((rule, name))
    }

    fn read_from(&mut self, entry: &Entry) -> Option<RuleFrom> {
        const KEYS: &[&str] = &["zone", "segment", "host", "tenant", "cidr"];
        let mut cx = self.cx();
        let fields = cx.fields(&entry.value, "`from`", KEYS, Unknown::Refuse)?;
        let (key, said) = self.one_of(&fields, KEYS)?;
        match key {
            "zone" => find_platform_segment(self.draft, &said).map(RuleFrom::Zone),
            "segment" => self.own_segment(&said).map(|to| match to {
                RuleTo::Segment(id) => RuleFrom::Segment(id),
                RuleTo::Host(id) => RuleFrom::Host(id),
            }),
            "host" => self.own_host(&said).map(|to| match to {
                RuleTo::Host(id) => RuleFrom::Host(id),
                RuleTo::Segment(id) => RuleFrom::Segment(id),
            }),
            "tenant" => self.other_tenant(&said).map(RuleFrom::Tenant),
            _ => match said.text.parse::<ipnet::IpNet>() {
                Ok(net) => Some(RuleFrom::Cidr(net.trunc())),
                Err(_) => {
                    let message = format!("`{}` is not a prefix", said.text);
                    self.cx()
                        .invalid(said.place, message, "write a prefix: 192.0.2.0/24");
                    None
                }
            },
        }
    }

    fn read_to(&mut self, entry: &Entry) -> Option<(RuleTo, Vec<PortSpec>)> {
        const KEYS: &[&str] = &["host", "segment", "ports"];
        let mut cx = self.cx();
        let fields = cx.fields(&entry.value, "`to`", KEYS, Unknown::Refuse)?;
        cx.check_said(&fields, &["ports"])?;
        let ports = match fields.get("ports") {
            Some(entry) => ports::read_some(&mut cx, entry)?,
            None => Vec::new(),
        };
        let (key, said) = self.one_of(&fields, &["host", "segment"])?;
        let to = match key {
            "host" => self.own_host(&said)?,
            _ => self.own_segment(&said)?,
        };
        Some((to, ports))
    }

    /// Exactly one of several keys.
    fn one_of(&mut self, fields: &Fields, keys: &[&'static str]) -> Option<(&'static str, Text)> {
        let said: Vec<(&'static str, &Entry)> = keys
            .iter()
            .filter_map(|key| fields.get(key).map(|entry| (*key, entry)))
            .collect();
        match said.as_slice() {
            [(key, entry)] => {
                let text = self.cx().text(&entry.value, &format!("`{key}`"))?;
                Some((*key, text))
            }
            [] => {
                self.cx().report(
                    Finding::new(
                        Code::MissingKey,
                        format!("{} names nothing", fields.what),
                        fields.place,
                    )
                    .help(format!("write one of: {}", keys.join(", "))),
                );
                None
            }
            [_, (_, second), ..] => {
                let place = second.key_place;
                self.cx().report(
                    Finding::new(
                        Code::InvalidValue,
                        format!("{} names more than one thing", fields.what),
                        place,
                    )
                    .help("write one rule for each"),
                );
                None
            }
        }
    }

    fn own_host(&mut self, said: &Text) -> Option<RuleTo> {
        let key = (Owner::Tenant(self.id), said.text.clone());
        if let Some(&id) = self.draft.host_ids.get(&key) {
            return Some(RuleTo::Host(id));
        }
        let mut names: Vec<&str> = Vec::new();
        if self.draft.may_suggest() {
            names.extend(super::tenant::host_names(self.draft, self.id).into_keys());
        }
        names.sort_unstable();
        let finding = Finding::new(
            Code::UnknownHost,
            format!("the tenant has no host `{}`", said.text),
            said.place,
        )
        .note("a tenant's rules and offers are about its own hosts only");
        let finding = match did_you_mean(&said.text, names.iter().copied()) {
            Some(similar) => finding.help(format!("did you mean `{similar}`?")),
            None => finding.help(format!("its hosts are: {}", listed(names))),
        };
        self.draft.findings.push(finding);
        None
    }

    fn own_segment(&mut self, said: &Text) -> Option<RuleTo> {
        let zones = &self.draft.tenants[self.id.0].zones;
        if let Some(&id) = zones.get(&said.text) {
            return Some(RuleTo::Segment(id));
        }
        self.draft.findings.push(
            Finding::new(
                Code::UnknownSegment,
                format!("the tenant has no segment `{}`", said.text),
                said.place,
            )
            .help("a tenant's segment is called `main`"),
        );
        None
    }

    fn other_tenant(&mut self, said: &Text) -> Option<TenantId> {
        let found = self.draft.tenant_ids.get(&said.text).copied();
        let may_suggest = found.is_none() && self.draft.may_suggest();
        let finding = match found {
            Some(id) if id != self.id => return Some(id),
            Some(_) => Finding::new(
                Code::UnknownTenant,
                format!("`{}` is this tenant itself", said.text),
                said.place,
            )
            .help("between own hosts, write `host` or `segment`"),
            None if self.draft.unusable.contains(&said.text) => return None,
            None => {
                let names = self.draft.tenant_ids.keys().map(String::as_str);
                let similar = may_suggest
                    .then(|| did_you_mean(&said.text, names).map(str::to_owned))
                    .flatten();
                let finding = Finding::new(
                    Code::UnknownTenant,
                    format!("there is no tenant `{}`", said.text),
                    said.place,
                );
                match similar {
                    Some(similar) => finding.platform_help(format!("did you mean `{similar}`?")),
                    None => finding.help("ask the platform admin for the tenant's name"),
                }
            }
        };
        self.draft.findings.push(finding);
        None
    }

    fn read_offers(&mut self) {
        let mut names = HashMap::new();
        for item in self.list("tenant_offers") {
            if let Some((offer, name)) = self.read_offer(&item) {
                self.check_unique(&mut names, &name, "offer");
                let tenant = &mut self.draft.tenants[self.id.0];
                tenant.tenant.offers.push(offer);
                tenant.offer_places.push(name.place);
            }
        }
    }

    fn read_offer(&mut self, item: &Arc<Value>) -> Option<(TenantOffer, Text)> {
        let keys = ["name", "to", "consumers", "description"];
        let mut cx = self.cx();
        let fields = cx.fields(item, "an offer", &keys, Unknown::Refuse)?;
        let name = cx.required(&fields, "name")?;
        let name = cx.text(&name.value, "`name`")?;
        let to = cx.required(&fields, "to")?;
        let consumers = cx.required(&fields, "consumers")?;
        let consumers = cx.texts(&consumers.value, "`consumers`")?;
        let (to_value, to_place) = (&to.value, to.value.place);
        let has_ports = matches!(&to_value.kind, Kind::Map(_)) && to_value.get("ports").is_some();
        let (to, ports) = self.read_to(&to)?;
        if ports.is_empty() {
            let message = if has_ports {
                "an offer of no port"
            } else {
                "an offer without ports"
            };
            self.cx().report(
                Finding::new(Code::BadPort, message, to_place)
                    .help("name what is offered: ports: [tcp/443]"),
            );
            return None;
        }
        let consumers = consumers
            .iter()
            .filter_map(|said| self.other_tenant(said))
            .collect();
        let offer = TenantOffer {
            name: name.text.clone(),
            to,
            ports,
            consumers,
            origin: self.draft.sources.origin(name.place),
        };
        Some((offer, name))
    }

    fn read_uses(&mut self) {
        for item in self.list("tenant_uses") {
            if let Some(used) = self.read_use(&item) {
                let tenant = &mut self.draft.tenants[self.id.0];
                tenant.tenant.uses.push(used);
                tenant.use_places.push(item.place);
            }
        }
    }

    fn read_use(&mut self, item: &Arc<Value>) -> Option<TenantUse> {
        let keys = ["tenant", "offer", "description"];
        let mut cx = self.cx();
        let fields = cx.fields(item, "an entry of `tenant_uses`", &keys, Unknown::Refuse)?;
        let tenant = cx.required(&fields, "tenant")?;
        let tenant = cx.text(&tenant.value, "`tenant`")?;
        let offer = cx.required(&fields, "offer")?;
        let offer = cx.text(&offer.value, "`offer`")?;
        Some(TenantUse {
            tenant: self.other_tenant(&tenant)?,
            offer: offer.text,
            origin: self.draft.sources.origin(fields.place),
        })
    }
}
