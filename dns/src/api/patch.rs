//! `PATCH` of a zone: from JSON to an update as RFC 2136 has it.

use std::collections::BTreeSet;

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};
use hyper::StatusCode;
use serde::Deserialize;

use crate::name::Name;
use crate::rdata::{self, rtype};

/// What is wrong with a request.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Problem {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

/// A set as it must be when all is done. An update that RFC 2136 has silently ignored is an error here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Expected {
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) rdata: Vec<Box<[u8]>>,
}

#[derive(Deserialize)]
struct Patch {
    rrsets: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    changetype: String,
    ttl: Option<u32>,
    #[serde(default)]
    records: Vec<Content>,
    #[serde(default)]
    comments: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Content {
    content: String,
    #[serde(default)]
    disabled: bool,
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Problem> {
    Err(Problem {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        why: why.into(),
    })
}

/// What is to be done with one set.
struct Edit {
    name: Name,
    kind: u16,
    /// Empty: it goes.
    rdata: Vec<Box<[u8]>>,
    ttl: u32,
}

/// Reads a body; returns the update, and what must come out of it. What goes comes first, so that one type can
/// take another's place.
pub(crate) fn read(origin: &Name, body: &[u8]) -> Result<(Message, Vec<Expected>), Problem> {
    let patch: Patch = serde_json::from_slice(body).map_err(|error| Problem {
        status: StatusCode::BAD_REQUEST,
        why: format!("The body is not understood: {error}"),
    })?;
    let mut seen = BTreeSet::new();
    let mut edits = Vec::new();
    for entry in patch.rrsets {
        let edit = entry.read(origin)?;
        if !seen.insert((edit.name.clone(), edit.kind)) {
            return refuse(format!("Duplicate RRset {} IN {}", edit.name, entry.kind));
        }
        edits.push(edit);
    }
    let mut message = Message::new(0, MessageType::Query, OpCode::Update);
    for edit in &edits {
        let mut gone = Record::update0(hickory_name(&edit.name)?, 0, edit.kind.into());
        gone.dns_class = DNSClass::ANY;
        message.authorities.push(gone);
    }
    for edit in &edits {
        for data in &edit.rdata {
            let data = record_data(edit.kind, data)?;
            let record = Record::from_rdata(hickory_name(&edit.name)?, edit.ttl, data);
            message.authorities.push(record);
        }
    }
    let expected = edits.into_iter().map(|edit| Expected {
        name: edit.name,
        kind: edit.kind,
        rdata: edit.rdata,
    });
    Ok((message, expected.collect()))
}

fn hickory_name(name: &Name) -> Result<HickoryName, Problem> {
    HickoryName::from_ascii(name.to_string()).or_else(|_| refuse(format!("`{name}` is no name")))
}

fn record_data(kind: u16, data: &[u8]) -> Result<RData, Problem> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let read = RData::read(
        &mut BinDecoder::new(data),
        kind.into(),
        Restrict::new(length),
    );
    read.or_else(|_| refuse(format!("A record of type {kind} cannot be read")))
}

impl Entry {
    fn read(&self, origin: &Name) -> Result<Edit, Problem> {
        let what = format!("RRset {} IN {}", self.name, self.kind);
        if !self.name.ends_with('.') {
            return refuse(format!(
                "{what}: Name is not canonical (remedy: end it by a dot)"
            ));
        }
        let Ok(name) = Name::absolute(&self.name) else {
            return refuse(format!("{what}: Name is no DNS name"));
        };
        if !name.is_within(origin) {
            return refuse(format!("{what}: Name is out of zone"));
        }
        let Ok(kind) = self.kind.parse::<RecordType>() else {
            return refuse(format!("{what}: unknown type given"));
        };
        if !self.comments.is_empty() {
            return refuse(format!("{what}: comments are not kept"));
        }
        let rdata = match self.changetype.to_ascii_uppercase().as_str() {
            "DELETE" => Vec::new(),
            "REPLACE" => self.data(&what)?,
            _ => return refuse(format!("{what}: Changetype not understood")),
        };
        let ttl = match self.ttl {
            Some(ttl) => ttl,
            None if rdata.is_empty() => 0,
            None => return refuse(format!("{what}: Key 'ttl' not an Integer or not present")),
        };
        Ok(Edit {
            name,
            kind: kind.into(),
            rdata,
            ttl,
        })
    }

    fn data(&self, what: &str) -> Result<Vec<Box<[u8]>>, Problem> {
        let mut all = Vec::new();
        for Content { content, disabled } in &self.records {
            if *disabled {
                return refuse(format!("{what}: disabled records are not kept"));
            }
            if let Err(why) = check_form(&self.kind, content) {
                return refuse(format!("Record {what} '{content}': {why}"));
            }
            match rdata::parse(&self.kind, content, &Name::root()) {
                Ok((_, data)) => all.push(data),
                Err(error) => return refuse(format!("Record {what}: {}", crate::chain(&error))),
            }
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        if all.len() != count {
            return refuse(format!("Duplicate record in {what}"));
        }
        Ok(all)
    }
}

/// The inventory's forms are more than PowerDNS takes: a name without its dot, a text without its quotes.
fn check_form(kind: &str, content: &str) -> Result<(), &'static str> {
    let number = kind.parse::<RecordType>().map_or(0, u16::from);
    let words: Vec<&str> = content.split_whitespace().collect();
    let name = match number {
        rtype::CNAME | rtype::NS | rtype::PTR | rtype::MX | rtype::SRV => words.last(),
        rtype::SVCB | rtype::HTTPS => words.get(1),
        rtype::TXT if !content.starts_with('"') => {
            return Err("Data field in DNS should start with quote");
        }
        _ => return Ok(()),
    };
    match name {
        Some(name) if name.ends_with('.') => Ok(()),
        _ => Err("Not in expected format (remedy: end names by a dot)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Name {
        Name::absolute("a.example").unwrap()
    }

    fn body(name: &str, kind: &str, rest: &str) -> String {
        format!(r#"{{"rrsets": [{{"name": "{name}", "type": "{kind}", {rest}}}]}}"#)
    }

    const GOOD: &str = r#""changetype": "REPLACE", "ttl": 60, "records": [{"content": "192.0.2.1", "disabled": false}]"#;

    fn read_text(text: &str) -> Result<(Message, Vec<Expected>), Problem> {
        read(&origin(), text.as_bytes())
    }

    #[test]
    fn what_is_replaced_goes_first_and_then_comes_back() {
        let (message, expected) = read_text(&body("www.a.example.", "A", GOOD)).unwrap();
        let shape: Vec<(DNSClass, u32)> = message
            .authorities
            .iter()
            .map(|record| (record.dns_class, record.ttl))
            .collect();
        assert_eq!(shape, [(DNSClass::ANY, 0), (DNSClass::IN, 60)]);
        assert_eq!(*expected[0].rdata[0], [192, 0, 2, 1]);
    }

    #[test]
    fn a_set_is_deleted_with_or_without_its_records() {
        for rest in [
            r#""changetype": "DELETE""#,
            r#""changetype": "DELETE", "ttl": 60, "records": [{"content": "192.0.2.1"}]"#,
            r#""changetype": "REPLACE", "records": []"#,
        ] {
            let (message, expected) = read_text(&body("www.a.example.", "A", rest)).unwrap();
            assert_eq!(message.authorities.len(), 1, "{rest}");
            assert!(expected[0].rdata.is_empty());
        }
    }

    #[test]
    fn what_powerdns_refuses_is_refused() {
        let replace = |kind: &str, content: &str| {
            let rest = format!(
                r#""changetype": "REPLACE", "ttl": 60, "records": [{{"content": "{content}"}}]"#
            );
            body("www.a.example.", kind, &rest)
        };
        let twice = r#""changetype": "REPLACE", "ttl": 6, "records": [{"content": "192.0.2.1"}, {"content": "192.0.2.1"}]"#;
        let rows = [
            (body("www.a.example", "A", GOOD), "canonical"),
            (body("www.b.example.", "A", GOOD), "out of zone"),
            (body("a..a.example.", "A", GOOD), "no DNS name"),
            (body("www.a.example.", "NONSENSE", GOOD), "unknown type"),
            (
                body("www.a.example.", "A", &GOOD.replace("REPLACE", "MERGE")),
                "Changetype",
            ),
            (
                body("www.a.example.", "A", &GOOD.replace("60", "null")),
                "ttl",
            ),
            (
                body("www.a.example.", "A", &GOOD.replace("false", "true")),
                "disabled",
            ),
            (body("www.a.example.", "A", twice), "Duplicate record"),
            (replace("A", "2001:db8::1"), "cannot be the value"),
            (replace("CNAME", "web"), "expected format"),
            (replace("MX", "10 mail.example"), "expected format"),
            (replace("TXT", "text"), "quote"),
        ];
        for (body, why) in rows {
            let problem = read_text(&body).unwrap_err();
            assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            assert!(problem.why.contains(why), "{body}: {}", problem.why);
        }
        let one = body("www.a.example.", "A", GOOD);
        let entry = &one[12..one.len() - 2];
        let both = format!(r#"{{"rrsets": [{entry}, {entry}]}}"#);
        assert!(
            read_text(&both)
                .unwrap_err()
                .why
                .contains("Duplicate RRset")
        );
        for bad in ["", "{}", "[1", r#"{"rrsets": 1}"#] {
            assert_eq!(
                read_text(bad).unwrap_err().status,
                StatusCode::BAD_REQUEST,
                "{bad}"
            );
        }
    }
}
