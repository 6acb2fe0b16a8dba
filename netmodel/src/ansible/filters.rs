//! Ansible's own filters that network inventories use.

use std::net::IpAddr;

use ipnet::IpNet;
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

/// Prefixes of Ansible's collections: the engine knows the filters by their short names.
const COLLECTIONS: [&str; 3] = ["ansible.builtin.", "ansible.utils.", "ansible.netcommon."];

/// Takes the collection's name off filters: `ansible.utils.ipaddr` is `ipaddr`.
pub(super) fn short_names(template: &str) -> String {
    let shorten = |text: String, prefix: &&str| text.replace(prefix, "");
    COLLECTIONS.iter().fold(template.to_owned(), shorten)
}

/// Adds those that cannot build large values.
pub(super) fn add_small(env: &mut Environment<'static>) {
    env.add_filter("ipaddr", ip_address);
    env.add_filter("mandatory", mandatory);
    env.add_filter("ternary", ternary);
}

/// Adds those for trees that are trusted.
pub(super) fn add_trusted(env: &mut Environment<'static>) {
    env.add_filter("combine", combine);
    env.add_filter("dict2items", dict2items);
}

/// The error of a variable that is not there.
pub(super) fn undefined() -> Error {
    Error::new(ErrorKind::UndefinedError, "a variable in it is not defined")
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

fn mandatory(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(undefined());
    }
    Ok(value.clone())
}

fn ternary(value: &Value, yes: Value, no: Value) -> Value {
    if value.is_true() { yes } else { no }
}

/// Later maps win, as a whole, key by key.
fn combine(first: &Value, others: Rest<Value>) -> Result<Value, Error> {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for map in std::iter::once(first).chain(others.iter()) {
        if map.kind() != ValueKind::Map {
            return Err(refused("`combine` combines maps"));
        }
        for key in map.try_iter()? {
            let value = map.get_item(&key)?;
            pairs.retain(|(known, _)| *known != key);
            pairs.push((key, value));
        }
    }
    Ok(Value::from_pairs(pairs))
}

fn dict2items(map: &Value) -> Result<Value, Error> {
    let mut items = Vec::new();
    for key in map.try_iter()? {
        let value = map.get_item(&key)?;
        items.push(Value::from_pairs([("key", key), ("value", value)]));
    }
    Ok(Value::from(items))
}

/// `ipaddr`: an address or prefix, or a part of it; a number is the nth address with its prefix.
fn ip_address(value: &Value, query: Option<Value>) -> Result<Value, Error> {
    let text = value.to_string();
    let net: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| refused(format!("`{text}` is no address and no prefix")))?;
    let Some(query) = query else {
        return Ok(value.clone());
    };
    if let Some(index) = query.as_i64() {
        return nth(net, index);
    }
    let answer = match query.as_str().unwrap_or_default() {
        "address" => net.addr().to_string(),
        "network" => net.network().to_string(),
        "broadcast" => net.broadcast().to_string(),
        "netmask" => net.netmask().to_string(),
        "prefix" => return Ok(Value::from(net.prefix_len())),
        "subnet" | "network/prefix" => net.trunc().to_string(),
        other => return Err(refused(format!("`ipaddr('{other}')` is not supported"))),
    };
    Ok(Value::from(answer))
}

fn nth(net: IpNet, index: i64) -> Result<Value, Error> {
    let outside = || refused(format!("{net} has no address number {index}"));
    let offset = |first: u128, last: u128| {
        let from = if index < 0 {
            last.checked_add(1)?
        } else {
            first
        };
        from.checked_add_signed(index.into())
    };
    let address: IpAddr = match net {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let bits = offset(first.into(), last.into()).ok_or_else(outside)?;
            u32::try_from(bits)
                .map_err(|_| outside())?
                .to_be_bytes()
                .into()
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            offset(first, last)
                .ok_or_else(outside)?
                .to_be_bytes()
                .into()
        }
    };
    if !net.contains(&address) {
        return Err(outside());
    }
    Ok(Value::from(format!("{address}/{}", net.prefix_len())))
}
