//! Maps that hold maps, and how their inner maps are found again.
//!
//! The kernel tells the number (id) of an inner map to whoever reads the outer one, but opens a map by its number only for
//! CAP_SYS_ADMIN, with which a daemon could do anything. So each inner map is pinned beside its outer map, under a name with that
//! number, before the outer map names it:
//!
//! ```text
//! /sys/fs/bpf/bulkhead/eth1/abi-4/SEGMENTS       the outer map: slot → number of an inner map
//!                                /SEGMENTS-1742  that inner map
//! ```
//!
//! If a process dies in between, a pin is left that no outer map names: [`Outer::prune`] takes it away.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError};

use super::pins::pin_file;
use super::{LoaderError, Pins, take_map};

/// A map with one inner map per slot.
pub(super) struct Outer {
    name: &'static str,
    /// What is read is the number of an inner map, what is written a descriptor of one.
    /// <https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/arraymap.c#L1227-L1295>
    map: Array<MapData, u32>,
    pins: Option<Pins>,
}

impl Outer {
    /// Takes it out of a loaded object. Its inner maps are pinned if `pins` is given.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        name: &'static str,
        pins: Option<&Pins>,
    ) -> Result<Self, LoaderError> {
        if let Map::ArrayOfMaps(map) = take_map(ebpf, name)? {
            Self::new(name, map, pins.cloned())
        } else {
            Err(LoaderError::MissingMap(name))
        }
    }

    /// Opens the one that is pinned.
    pub(super) fn open(name: &'static str, pins: &Pins) -> Result<Self, LoaderError> {
        let map = MapData::from_pin(pins.map(name)).map_err(|s| LoaderError::map(name, s))?;
        Self::new(name, map, Some(pins.clone()))
    }

    fn new(name: &'static str, map: MapData, pins: Option<Pins>) -> Result<Self, LoaderError> {
        let map = Map::Array(map).try_into();
        let map = map.map_err(|s| LoaderError::map(name, s))?;
        Ok(Self { name, map, pins })
    }

    /// Does it outlive this process?
    pub(super) fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Opens the inner map of a slot. If there is none, that is [`MapError::KeyNotFound`].
    pub(super) fn get(&self, slot: u32) -> Result<MapData, LoaderError> {
        let wrap = |source| LoaderError::map(self.name, source);
        let id = self.id(slot)?.ok_or(MapError::KeyNotFound).map_err(wrap)?;
        let pin = self.pins.as_ref().map(|pins| pins.inner_map(self.name, id));
        let map = match pin.filter(|pin| pin.exists()) {
            Some(pin) => MapData::from_pin(pin),
            // Without a pin folder, or with one whose pins somebody removed: whoever may, opens it by its number.
            None => MapData::from_id(id),
        };
        map.map_err(wrap)
    }

    /// Puts an inner map into a slot.
    pub(super) fn set(&mut self, slot: u32, inner: &MapData) -> Result<(), LoaderError> {
        let wrap = |source| LoaderError::map(self.name, source);
        if let Some(pins) = &self.pins {
            let id = inner.info().map_err(wrap)?.id();
            let path = pins.inner_map(self.name, id);
            // A pin keeps its map, and with it the number: what is there already is this map.
            if !path.exists() {
                let pinned = inner.pin(&path);
                pinned.map_err(|source| LoaderError::Pin { path, source })?;
            }
        }
        let descriptor = inner.fd().as_fd().as_raw_fd().unsigned_abs();
        self.map.set(slot, descriptor, 0).map_err(wrap)
    }

    /// Removes the pins of inner maps that are in no slot any more.
    pub(super) fn prune(&self) -> Result<(), LoaderError> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let mut used = BTreeSet::new();
        for slot in 0..self.map.len() {
            used.extend(self.id(slot)?);
        }
        for (id, path) in pins.inner_maps(self.name)? {
            if !used.contains(&id) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Returns the number of the map in a slot; `None` if there is none.
    pub(super) fn id(&self, slot: u32) -> Result<Option<u32>, LoaderError> {
        match self.map.get(&slot, 0) {
            Ok(id) => Ok(Some(id)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(LoaderError::map(self.name, source)),
        }
    }
}

fn remove(path: &Path) -> Result<(), LoaderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(pin_file("remove", path)(error)),
        _ => Ok(()),
    }
}
