//! `bulkhead hold`.

use super::args::{Common, HoldArgs};
use super::place::{named, place};
use super::report::{CliError, Report, YES};
use super::run::{log_to_stderr, wanted};
use crate::config::{Config, Hold};
use crate::controller::{Held, hold};
use crate::run::{Place, block_on};

/// Holds the trunk, unless it is held or enforced already.
pub(super) fn run(common: &Common, args: &HoldArgs) -> Result<Report, CliError> {
    let settings = Config::load(common.config.as_deref())?.hold;
    let settings = settings.unwrap_or_default();
    let interface = args.place.interface.as_ref();
    let place = match interface.or(settings.interface.as_ref()) {
        Some(interface) => named(&args.place, interface),
        None => place(common, &args.place)?.0,
    };
    log_to_stderr(tracing::Level::INFO, common.format);
    let _lock = place.lock()?;
    let held = block_on(hold(&place, &settings.needs(), wanted(args.mode)))?;
    Ok(Report::text("", YES).with_talk(&format!("bulkhead: {}", told(&place, &settings, &held))))
}

fn told(place: &Place, settings: &Hold, held: &Held) -> String {
    let interface = &place.interface;
    match held {
        Held::Already => format!("{interface} is held already; nothing was changed"),
        Held::Enforced => {
            format!("a generation is enforced on {interface} already; nothing was changed")
        }
        Held::Attached(attached) => format!(
            "{interface} is held ({}): {}, until `bulkhead apply`",
            attached.mode,
            passes(settings)
        ),
    }
}

/// Says what passes.
fn passes(settings: &Hold) -> String {
    if settings.vlans.is_empty() {
        return "everything is dropped, since [hold] in bulkhead.toml lists no VLAN".to_owned();
    }
    let list = |values: Vec<String>| match values.is_empty() {
        true => "none".to_owned(),
        false => values.join(", "),
    };
    let texts = |values: &[u16]| list(values.iter().map(ToString::to_string).collect());
    let addresses = settings.addresses.iter().map(ToString::to_string);
    let sources = settings.sources.as_ref();
    let from = sources.map_or("any address".to_owned(), |nets| {
        list(nets.iter().map(ToString::to_string).collect())
    });
    format!(
        "everything is dropped but VLAN {}: ARP, neighbour discovery, and from {from} to {}: echo and ports {}",
        texts(&settings.vlans),
        list(addresses.collect()),
        texts(&settings.ports),
    )
}
