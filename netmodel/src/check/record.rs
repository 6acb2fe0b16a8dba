//! `tenant_dns_records`.

use std::sync::Arc;

use super::cx::{Cx, Text, Unknown};
use super::names::{bad_name, relative, why_not_record_name};
use super::values::{BadRecord, all_types, check_value};
use crate::finding::{Code, Finding};
use crate::source::Place;
use crate::yaml::{Entry, Value};

const RECORD_KEYS: &[&str] = &["name", "type", "value", "ttl", "description"];

/// A week, in seconds.
const MAX_TTL: u32 = 604_800;

/// A record as a tenant says it.
pub(crate) struct Said {
    /// Relative to the tenant's DNS zone.
    pub(crate) name: String,
    /// Its type.
    pub(crate) kind: String,
    /// Its value in presentation form.
    pub(crate) value: String,
    /// Seconds.
    pub(crate) ttl: Option<u32>,
    /// Where its name is written.
    pub(crate) place: Place,
}

/// Reads one record of the DNS zone.
pub(crate) fn read(cx: &mut Cx<'_>, item: &Arc<Value>, zone: &str) -> Option<Said> {
    let fields = cx.fields(item, "a DNS record", RECORD_KEYS, Unknown::Refuse)?;
    let name = cx.required(&fields, "name")?;
    let name = cx.text(&name.value, "`name`")?;
    let kind = cx.required(&fields, "type")?;
    let kind = cx.text(&kind.value, "`type`")?;
    let value = cx.required(&fields, "value")?;
    let value = cx.text(&value.value, "`value`")?;
    let ttl = match fields.get("ttl") {
        Some(entry) => Some(read_ttl(cx, entry)?),
        None => None,
    };
    let relative_name = relative_name(cx, &name, zone)?;
    let kind_name = kind.text.to_ascii_uppercase();
    if kind_name == "NS" && (relative_name == "@" || relative_name.starts_with('*')) {
        cx.report(bad_delegation(&name));
        return None;
    }
    let checked = match check_value(&kind_name, &value.text, zone) {
        Ok(checked) => checked,
        Err(bad) => {
            cx.report(bad_record(&bad, &kind, &value));
            return None;
        }
    };
    Some(Said {
        name: relative_name,
        kind: kind_name,
        value: checked,
        ttl,
        place: name.place,
    })
}

fn read_ttl(cx: &mut Cx<'_>, entry: &Entry) -> Option<u32> {
    let seconds = cx.count(&entry.value, "`ttl`")?;
    let ttl = u32::try_from(seconds.value)
        .ok()
        .filter(|ttl| *ttl <= MAX_TTL);
    if ttl.is_none() {
        cx.report(
            Finding::new(Code::DnsValue, "a TTL of more than a week", seconds.place)
                .help(format!("write seconds, at most {MAX_TTL}")),
        );
    }
    ttl
}

fn relative_name(cx: &mut Cx<'_>, name: &Text, zone: &str) -> Option<String> {
    let lower = name.text.to_ascii_lowercase();
    let bare = lower.trim_end_matches('.');
    if bare == zone {
        return Some("@".to_owned());
    }
    let relative_name = relative(&lower, zone);
    if lower.ends_with('.') && relative_name == bare {
        cx.report(
            Finding::new(
                Code::DnsValue,
                format!("`{}` is not in the tenant's own DNS zone", name.text),
                name.place,
            )
            .note(format!("the zone is {zone}"))
            .help("write names without a final dot: they are relative to the zone"),
        );
        return None;
    }
    if let Some(why) = why_not_record_name(&relative_name) {
        cx.report(bad_name(&name.text, why, name.place));
        return None;
    }
    Some(relative_name)
}

/// The zone is ours, and RFC 4592, 4.2 does not say what a wildcard delegation would be.
fn bad_delegation(name: &Text) -> Finding {
    let what = format!("`{}` cannot be given to another name server", name.text);
    Finding::new(Code::DnsValue, what, name.place)
        .note("the zone's own NS are the platform's, and a wildcard cannot be delegated")
        .help("write the NS of a name below the zone, for example `k8s`")
}

fn bad_record(bad: &BadRecord, kind: &Text, value: &Text) -> Finding {
    match bad {
        BadRecord::Type => Finding::new(
            Code::DnsValue,
            format!("`{}` records are not served", kind.text),
            kind.place,
        )
        .help(format!("the types are {}", all_types())),
        BadRecord::Value(help) => Finding::new(
            Code::DnsValue,
            format!("`{}` cannot be the value of type {}", value.text, kind.text),
            value.place,
        )
        .help(*help),
    }
}
