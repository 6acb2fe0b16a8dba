//! `bulkhead-dns test-key NAME`: does the running server take a tenant's key, as the tenant's Terraform would use it?
//!
//! Two signed messages: a question for the zone's SOA, and an update that changes nothing. Nothing is written anywhere.

use std::net::SocketAddr;

use hickory_proto::rr::RData;

use crate::client::{Client, ClientError};
use crate::inspect::KeyTested;
use crate::world::World;

/// Tries a key; returns what to tell.
///
/// # Errors
///
/// [`ClientError`] if the server does not take it, with the reason and what can be done.
pub fn run(
    world: &World,
    name: &str,
    server: Option<SocketAddr>,
) -> Result<KeyTested, ClientError> {
    let client = Client::new(world, name, server)?;
    let asked = client.exchange(&client.question(), "question")?;
    client.exchange(&client.update(), "update")?;
    let mut answers = asked.reply.answers.iter();
    let serial = answers.find_map(|record| {
        let RData::SOA(soa) = &record.data else {
            return None;
        };
        Some(soa.serial)
    });
    Ok(KeyTested {
        key: name.to_owned(),
        server: client.server,
        zone: client.zone.to_string(),
        serial,
        clock_skew_seconds: asked.skew,
    })
}
