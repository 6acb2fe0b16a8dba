//! Which trunk, pin folder and state file a command is about.

use netmodel::Model;

use super::args::{Common, PlaceArgs};
use super::inventory::{load, router_facts};
use super::report::CliError;
use crate::run::{PINS, Place, State, default_path};

/// Returns the place, and the model if the inventory has no errors.
pub(super) fn place(common: &Common, args: &PlaceArgs) -> Result<(Place, Option<Model>), CliError> {
    let (options, loaded) = load(common)?;
    let trunk = loaded
        .model
        .as_ref()
        .map(|model| router_facts(model, &options).trunk);
    let interface = find(args, trunk).ok_or(CliError::NoInterface)?;
    Ok((named(args, &interface), loaded.model))
}

/// Returns the trunk: the one that is said, else the inventory's, else the one that is enforced.
pub(super) fn find(args: &PlaceArgs, trunk: Option<String>) -> Option<String> {
    let said = args.interface.clone();
    let trunk = trunk.filter(|trunk| !trunk.is_empty());
    said.or(trunk).or_else(|| enforced(args))
}

/// Returns the place on an interface.
pub(super) fn named(args: &PlaceArgs, interface: &str) -> Place {
    Place::new(interface, args.pins.as_deref(), args.state.as_deref())
}

/// Returns the interface that a controller works or worked on, if there can be no doubt.
fn enforced(args: &PlaceArgs) -> Option<String> {
    let named = args
        .state
        .clone()
        .or(args.pins.as_deref().map(default_path));
    if let Some(path) = named {
        return State::read(&path).map(|state| state.interface);
    }
    let mut folders = std::fs::read_dir(PINS).ok()?.flatten();
    match (folders.next(), folders.next()) {
        (Some(only), None) => only.file_name().into_string().ok(),
        _ => None,
    }
}
