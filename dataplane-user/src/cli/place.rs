//! Which trunk, pin folder and state file a command is about.

use netmodel::Model;

use super::args::{Common, PlaceArgs};
use super::inventory::{load, router_facts};
use super::report::CliError;
use crate::run::Place;

/// Returns the place, and the model if the inventory has no errors.
pub(super) fn place(common: &Common, args: &PlaceArgs) -> Result<(Place, Option<Model>), CliError> {
    let (options, loaded) = load(common)?;
    let trunk = loaded
        .model
        .as_ref()
        .map(|model| router_facts(model, &options).trunk)
        .filter(|trunk| !trunk.is_empty());
    let interface = args.interface.clone().or(trunk);
    let interface = interface.ok_or(CliError::NoInterface)?;
    Ok((named(args, &interface), loaded.model))
}

/// Returns the place on an interface.
pub(super) fn named(args: &PlaceArgs, interface: &str) -> Place {
    Place::new(interface, args.pins.as_deref(), args.state.as_deref())
}
