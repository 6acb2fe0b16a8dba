//! Which trunk, pin folder and state file a command is about.

use netmodel::{Model, Options};

use super::args::{Common, PlaceArgs};
use super::inventory::{enforced_interface, load};
use super::report::CliError;
use crate::controller::Recall;
use crate::run::{PINS, Place, State, default_path};
use crate::store::DEFAULT_PATH;

/// Returns the place, and the model if the inventory has no errors.
pub(super) fn place(common: &Common, args: &PlaceArgs) -> Result<(Place, Option<Model>), CliError> {
    let (options, loaded) = load(common)?;
    let trunk = loaded
        .model
        .as_ref()
        .map(|model| enforced_interface(model, &options));
    let unknown = match loaded.model {
        Some(_) => CliError::NoTrunk,
        None => CliError::NoInterface,
    };
    let interface = find(args, trunk).ok_or(unknown)?;
    Ok((named(args, &interface), loaded.model))
}

/// Returns the place of a change to a model.
pub(super) fn place_for(
    args: &PlaceArgs,
    model: &Model,
    options: &Options,
) -> Result<Place, CliError> {
    let trunk = enforced_interface(model, options);
    let interface = args.interface.as_ref().unwrap_or(&trunk);
    if interface.is_empty() {
        return Err(CliError::NoTrunk);
    }
    Ok(named(args, interface))
}

/// Returns the place where something is enforced already; the inventory is asked only if there is a doubt.
pub(super) fn place_of_enforcement(common: &Common, args: &PlaceArgs) -> Result<Place, CliError> {
    match args.interface.clone().or_else(|| enforced(args)) {
        Some(interface) => Ok(named(args, &interface)),
        None => Ok(place(common, args)?.0),
    }
}

/// Returns the trunk: the one that is said, else the inventory's, else the one that is enforced.
pub(super) fn find(args: &PlaceArgs, trunk: Option<String>) -> Option<String> {
    let said = args.interface.clone();
    let trunk = trunk.filter(|trunk| !trunk.is_empty());
    said.or(trunk).or_else(|| enforced(args))
}

/// Begins to read what was applied. The inventory decides the interface, but not where generations are.
pub(super) fn recall(args: &PlaceArgs) -> Recall {
    Recall::start(args.store.as_deref().unwrap_or(DEFAULT_PATH.as_ref()))
}

/// Returns the place on an interface.
pub(super) fn named(args: &PlaceArgs, interface: &str) -> Place {
    let mut place = Place::new(interface, args.pins.as_deref(), args.state.as_deref());
    if let Some(store) = &args.store {
        place.store.clone_from(store);
    }
    if let Some(published) = &args.publish {
        place.published.clone_from(published);
    }
    place
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
