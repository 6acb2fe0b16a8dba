//! Which request means what: pure, but for the update that it may ask for.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{patch, shape};
use crate::keys::ApiKey;
use crate::name::Name;
use crate::plan::ZoneSpec;
use crate::updater::ApiUpdate;
use crate::view::{View, ViewId, ViewOwner, ZoneId};
use crate::world::World;

/// What a request may reach.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) world: &'a World,
    pub(crate) key: &'a ApiKey,
    pub(crate) place: Place<'a>,
}

/// Where a client is.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// On the router itself.
    Router,
    /// In a segment that has this view.
    View(&'a View),
}

impl<'a> Place<'a> {
    /// Finds a client; who is in no segment is nowhere.
    pub(crate) fn of(world: &'a World, peer: IpAddr) -> Option<Self> {
        if peer.to_canonical().is_loopback() {
            return Some(Self::Router);
        }
        world.plan.view_of(peer).map(Self::View)
    }

    /// Returns whose view it is; `None`: the router's own.
    pub(crate) fn owner(self) -> Option<ViewOwner> {
        match self {
            Self::Router => None,
            Self::View(view) => Some(view.owner.clone()),
        }
    }
}

impl<'a> Scope<'a> {
    /// Returns a zone of the key's tenant that the client's segment sees.
    fn zone(self, origin: &Name) -> Option<(ZoneId, &'a ZoneSpec)> {
        let found = self.world.own_zone(origin, &self.key.tenant)?;
        self.is_seen(origin, found.0).then_some(found)
    }

    fn is_seen(self, origin: &Name, id: ZoneId) -> bool {
        match self.place {
            Place::Router => true,
            Place::View(view) => view.zone_at(origin.as_wire()) == Some(id),
        }
    }

    /// Goes through the zones that it may reach.
    fn zones(self) -> impl Iterator<Item = (ZoneId, &'a ZoneSpec)> {
        let all = self.world.plan.zones.iter().enumerate();
        let own = move |spec: &ZoneSpec| spec.tenant.as_ref() == Some(&self.key.tenant);
        all.map(|(index, spec)| (ZoneId(index), spec))
            .filter(move |(id, spec)| own(spec) && self.is_seen(&spec.origin, *id))
    }

    /// Whose queue its updates wait in: the tenant's own.
    pub(crate) fn own_view(self) -> ViewOwner {
        ViewOwner::Tenant(Arc::clone(&self.key.tenant))
    }
}

/// What is to be done.
pub(crate) enum Action {
    Reply(Reply),
    /// A change; the reply says what became of it.
    Update(Box<ApiUpdate>),
    /// Secondaries are to be told of the zone again.
    Notify(Name, Reply),
}

/// A reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self {
            status,
            kind: "application/json",
            body: body.to_string(),
        }
    }

    pub(crate) fn error(status: StatusCode, why: &str) -> Self {
        Self::json(status, &json!({ "error": why }))
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            kind: "application/json",
            body: String::new(),
        }
    }

    pub(crate) fn unauthorized() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            kind: "text/plain; charset=utf-8",
            body: "Unauthorized".to_owned(),
        }
    }

    fn refused(why: &str) -> Self {
        Self::error(StatusCode::UNPROCESSABLE_ENTITY, why)
    }

    fn not_found() -> Self {
        Self::error(StatusCode::NOT_FOUND, "Not Found")
    }
}

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

fn ok(body: &Value) -> Action {
    Reply::json(StatusCode::OK, body).into()
}

/// Finds out what a request wants.
pub(crate) fn route(scope: Scope<'_>, method: &Method, uri: &Uri, body: &[u8]) -> Action {
    let segments: Option<Vec<String>> = uri
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(decode)
        .collect();
    let Some(segments) = segments else {
        return Reply::not_found().into();
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = uri.query().unwrap_or("");
    let is_get = method == Method::GET;
    let below = match segments.as_slice() {
        ["api"] if is_get => return ok(&shape::versions()),
        ["api", "v1"] if is_get => return ok(&shape::version()),
        ["api", "v1", "servers"] if is_get => return ok(&json!([shape::server()])),
        ["api", "v1", "servers", "localhost", below @ ..] => below,
        _ => return Reply::not_found().into(),
    };
    match (below, method) {
        ([], &Method::GET) => ok(&shape::server()),
        (["config"], &Method::GET) => ok(&json!([])),
        (["zones"], &Method::GET) => zones(scope, query),
        (["zones"], &Method::POST) => create(scope, body),
        (["zones", id], method) => zone(scope, (id, query), method, body),
        (["zones", id, "notify"], &Method::PUT) => notify(scope, id),
        (["zones", id, "metadata", kind @ ..], method) => metadata(scope, id, kind, method),
        (["tsigkeys", id @ ..], method) => tsig_keys(scope, id, method, body),
        (["config"] | ["zones"] | ["zones", _, "notify"] | [], _) => {
            Reply::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into()
        }
        _ => Reply::not_found().into(),
    }
}

/// Decodes `%2F`; `None` if it is not UTF-8.
fn decode(segment: &str) -> Option<String> {
    unescape(segment, b'%').map(Cow::into_owned)
}

fn unescape(text: &str, mark: u8) -> Option<Cow<'_, str>> {
    if !text.as_bytes().contains(&mark) {
        return Some(text.into());
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == mark);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        octets.push(escaped.unwrap_or(first));
        let taken = if escaped.is_some() { 2 } else { 0 };
        rest = after.get(taken..)?;
    }
    String::from_utf8(octets).ok().map(Cow::Owned)
}

/// Reads the id of a zone: its name with or without the final dot, `=2F` for a slash as PowerDNS has it.
fn zone_name(id: &str) -> Option<Name> {
    Name::absolute(&unescape(id, b'=')?).ok()
}

/// Returns a parameter behind the question mark.
fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| unescape(value, b'%'))?
    })
}

fn zones(scope: Scope<'_>, query: &str) -> Action {
    let wanted = parameter(query, "zone").map(|name| Name::absolute(&name).ok());
    let is_wanted = |spec: &ZoneSpec| match &wanted {
        None => true,
        Some(name) => name.as_ref() == Some(&spec.origin),
    };
    let mut list: Vec<(&Name, Value)> = scope
        .zones()
        .filter(|(_, spec)| is_wanted(spec))
        .filter_map(|(id, spec)| Some((&spec.origin, shape::zone(scope.world, id, spec)?)))
        .collect();
    list.sort_by_key(|(origin, _)| *origin);
    ok(&list.into_iter().map(|(_, zone)| zone).collect())
}

/// Zones are there because the inventory has them.
fn create(scope: Scope<'_>, body: &[u8]) -> Action {
    #[derive(Deserialize)]
    struct Wanted {
        name: String,
    }
    let Ok(wanted) = serde_json::from_slice::<Wanted>(body) else {
        return Reply::error(StatusCode::BAD_REQUEST, "The body has no `name`").into();
    };
    let found = Name::absolute(&wanted.name)
        .ok()
        .and_then(|name| scope.zone(&name));
    match found {
        Some((_, spec)) => {
            let why = format!("Domain '{}' already exists", spec.origin);
            Reply::error(StatusCode::CONFLICT, &why).into()
        }
        None => Reply::refused(
            "Zones follow the inventory: this key's tenant has only the zones that GET lists",
        )
        .into(),
    }
}

fn zone(scope: Scope<'_>, (id, query): (&str, &str), method: &Method, body: &[u8]) -> Action {
    let Some((zone_id, spec)) = zone_name(id).and_then(|name| scope.zone(&name)) else {
        return Reply::not_found().into();
    };
    match *method {
        Method::GET => {
            let is_whole = parameter(query, "rrsets").is_none_or(|value| value != "false");
            let only = (
                parameter(query, "rrset_name"),
                parameter(query, "rrset_type"),
            );
            let shown = shape::zone(scope.world, zone_id, spec);
            let Some(mut shown) = shown else {
                return Reply::not_found().into();
            };
            if let Some(shown) = shown.as_object_mut().filter(|_| is_whole) {
                let sets = shape::rrsets(scope.world, zone_id, &only);
                shown.insert("rrsets".to_owned(), sets);
            }
            ok(&shown)
        }
        Method::PATCH => match patch::read(&spec.origin, body) {
            Ok((message, expected)) => Action::Update(Box::new(ApiUpdate {
                key: scope.key.clone(),
                zone: spec.origin.clone(),
                message,
                expected,
            })),
            Err(problem) => Reply::error(problem.status, &problem.why).into(),
        },
        Method::PUT => put(body).into(),
        Method::DELETE => {
            Reply::refused("The zone is there because the inventory has it, and goes with it")
                .into()
        }
        _ => Reply::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into(),
    }
}

/// What a zone is follows the inventory. To say again what is so does no harm.
fn put(body: &[u8]) -> Reply {
    let Ok(Value::Object(wanted)) = serde_json::from_slice(body) else {
        return Reply::error(StatusCode::BAD_REQUEST, "The body is no JSON object");
    };
    for (key, value) in &wanted {
        let is_empty = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
        };
        let is_so = match key.as_str() {
            "kind" => value
                .as_str()
                .is_some_and(|kind| kind.eq_ignore_ascii_case(shape::KIND)),
            // How a serial is made is the server's own affair.
            "soa_edit" | "soa_edit_api" | "api_rectify" => true,
            _ => is_empty,
        };
        if !is_so {
            let why = format!("`{key}` cannot be changed: the zone is as the inventory has it");
            return Reply::refused(&why);
        }
    }
    Reply::empty(StatusCode::NO_CONTENT)
}

fn notify(scope: Scope<'_>, id: &str) -> Action {
    let Some((zone_id, spec)) = zone_name(id).and_then(|name| scope.zone(&name)) else {
        return Reply::not_found().into();
    };
    let copies = |view: ViewId| {
        let view = scope.world.plan.view(view);
        view.is_some_and(|view| view.zone_at(spec.origin.as_wire()) == Some(zone_id))
    };
    let mut secondaries = scope.world.secondaries().iter();
    let result = if secondaries.any(|secondary| copies(secondary.view)) {
        "Notification queued"
    } else {
        "No secondary copies this zone"
    };
    let reply = Reply::json(StatusCode::OK, &json!({ "result": result }));
    Action::Notify(spec.origin.clone(), reply)
}

fn metadata(scope: Scope<'_>, id: &str, kind: &[&str], method: &Method) -> Action {
    if zone_name(id).and_then(|name| scope.zone(&name)).is_none() {
        return Reply::not_found().into();
    }
    match (kind, method) {
        ([], &Method::GET) => ok(&json!(shape::METADATA.map(|kind| shape::metadata(
            scope.world,
            scope.key,
            kind
        )))),
        ([kind], &Method::GET) => ok(&shape::metadata(scope.world, scope.key, kind)),
        ([] | [_], &Method::POST | &Method::PUT | &Method::DELETE) => {
            Reply::refused("Metadata follow the inventory, and the file of keys").into()
        }
        ([] | [_], _) => Reply::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into(),
        _ => Reply::not_found().into(),
    }
}

fn tsig_keys(scope: Scope<'_>, id: &[&str], method: &Method, body: &[u8]) -> Action {
    let keys = shape::tsig_keys(scope.world, scope.key);
    let find = |id: &str| {
        let id = format!("{}.", id.trim_end_matches('.').to_ascii_lowercase());
        keys.iter()
            .find(|key| key.get("id").and_then(Value::as_str) == Some(&id))
    };
    let refused = || Reply::refused("Keys are set by the platform's admin, in the file of keys");
    match (id, method) {
        ([], &Method::GET) => ok(&json!(keys)),
        ([], &Method::POST) => {
            let wanted: Option<Value> = serde_json::from_slice(body).ok();
            let name = wanted
                .as_ref()
                .and_then(|wanted| wanted.get("name")?.as_str());
            match name.map(find) {
                None => Reply::error(StatusCode::BAD_REQUEST, "The body has no `name`").into(),
                Some(Some(_)) => {
                    Reply::error(StatusCode::CONFLICT, "A TSIG key of this name exists").into()
                }
                Some(None) => refused().into(),
            }
        }
        ([id], _) => match (find(id), method) {
            (None, _) => Reply::not_found().into(),
            (Some(key), &Method::GET) => ok(key),
            (Some(_), &Method::PUT | &Method::DELETE) => refused().into(),
            (Some(_), _) => {
                Reply::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into()
            }
        },
        ([], _) => Reply::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into(),
        _ => Reply::not_found().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_named_with_or_without_its_dot_and_with_either_slash() {
        let rows = [
            ("a.example", "a.example."),
            ("A.example.", "a.example."),
            ("0=2F26.0.1.10.in-addr.arpa.", "0/26.0.1.10.in-addr.arpa."),
        ];
        for (id, name) in rows {
            assert_eq!(zone_name(id).unwrap().to_string(), name);
        }
        assert_eq!(decode("0%2F26.arpa"), Some("0/26.arpa".to_owned()));
        assert_eq!(decode("%FF"), None);
        assert_eq!(decode("100%"), Some("100%".to_owned()));
        assert!(zone_name("a..b").is_none());
    }

    #[test]
    fn parameters_are_read_by_name() {
        let query = "rrsets=false&zone=a%2Eexample.";
        assert_eq!(parameter(query, "zone").as_deref(), Some("a.example."));
        assert_eq!(parameter(query, "rrsets").as_deref(), Some("false"));
        assert_eq!(parameter(query, "other"), None);
    }

    #[test]
    fn a_zone_can_be_said_to_be_as_it_is_and_not_otherwise() {
        let rows = [
            (
                r#"{"kind": "Master", "soa_edit_api": "DEFAULT", "masters": []}"#,
                204,
            ),
            (
                r#"{"account": "", "dnssec": false, "api_rectify": true}"#,
                204,
            ),
            (r#"{"kind": "Slave"}"#, 422),
            (r#"{"masters": ["192.0.2.1"]}"#, 422),
            (r#"{"dnssec": true}"#, 422),
            ("[]", 400),
        ];
        for (body, status) in rows {
            assert_eq!(put(body.as_bytes()).status.as_u16(), status, "{body}");
        }
    }
}
