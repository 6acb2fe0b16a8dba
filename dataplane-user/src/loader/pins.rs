//! The pin folder: `/sys/fs/bpf/bulkhead/TRUNK`.
//!
//! ```text
//! /sys/fs/bpf/bulkhead/eth1/link-tcx      the attachment
//!                          /abi-4/FLOWS   a file per map, by version of their layout; maps inside of maps: see `outer`
//!                          /hold/HOLD_…   maps of the hold, while that is what is attached
//! ```
//!
//! A bulkhead with another layout makes its maps beside the old ones, fills them, and then changes the program
//! in the link: no frame goes unjudged. Connections of the old layout are forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use dataplane_common::abi::{ABI_VERSION, Generation, SegmentEntry};

use super::connections::Sharing;
use super::outer::Outer;
use super::publish::{GENERATION, read_generation};
use super::slot::{self, Outers, Slot};
use super::{LoaderError, Mode, PortHook, TableDifference};
use crate::compile::{Tables, Trunk};

/// `BPF_FS_MAGIC`, `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Folders of maps are called so, with the version of their layout.
const MAPS_PREFIX: &str = "abi-";
/// Folder of the maps of the hold.
const HOLD: &str = "hold";
/// Links of ports are called so, with interface index and program.
const PORT_PREFIX: &str = "port-";

/// A folder on a BPF file system that keeps maps and link of one trunk.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Opens or makes the folder, readable by root only.
    pub(super) fn open(folder: &Path) -> Result<Self, LoaderError> {
        let pins = Self::at(folder);
        let maps = pins.maps(ABI_VERSION);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&maps);
        made.map_err(pin_file("make the folder", &maps))?;
        Ok(pins)
    }

    /// Opens or makes the folder for the maps of the hold; earlier ones are removed, they may be of another layout.
    pub(super) fn open_hold(folder: &Path) -> Result<Self, LoaderError> {
        let pins = Self::at(folder);
        pins.remove_hold()?;
        let maps = pins.folder.join(HOLD);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&maps);
        made.map_err(pin_file("make the folder", &maps))?;
        Ok(pins)
    }

    /// Returns the path of a map or program of the hold.
    #[must_use]
    pub fn hold_map(&self, name: &str) -> PathBuf {
        self.folder.join(HOLD).join(name)
    }

    /// Removes the maps of the hold; its program goes on for as long as it is attached.
    pub(super) fn remove_hold(&self) -> Result<(), LoaderError> {
        remove_maps(&self.folder.join(HOLD))
    }

    /// Removes the maps of every generation; nothing may use them any more.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn remove_generations(&self) -> Result<(), LoaderError> {
        self.remove_other_abis()?;
        remove_maps(&self.maps(ABI_VERSION))
    }

    /// Names the folder without touching it.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of a map of this version's layout.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps(ABI_VERSION).join(name)
    }

    /// Returns the path of a map that is inside of another one, by its number in the kernel.
    pub(super) fn inner_map(&self, outer: &str, id: u32) -> PathBuf {
        self.map(&format!("{outer}-{id}"))
    }

    /// Returns the maps that are pinned as inside of another one, by their numbers in the kernel.
    pub(super) fn inner_maps(&self, outer: &str) -> Result<Vec<(u32, PathBuf)>, LoaderError> {
        let folder = self.maps(ABI_VERSION);
        let entries = fs::read_dir(&folder).map_err(pin_file("list", &folder))?;
        let maps = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let id = name.to_str()?.strip_prefix(outer)?.strip_prefix('-')?;
            Some((id.parse().ok()?, entry.path()))
        });
        Ok(maps.collect())
    }

    /// Returns the folder of the maps of a layout.
    fn maps(&self, abi_version: u32) -> PathBuf {
        self.folder.join(format!("{MAPS_PREFIX}{abi_version}"))
    }

    /// Returns the other layouts that there are maps of.
    #[must_use]
    pub fn other_abis(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let versions =
            names.filter_map(|name| name.to_str()?.strip_prefix(MAPS_PREFIX)?.parse().ok());
        versions.filter(|&version| version != ABI_VERSION).collect()
    }

    /// Removes the maps of other layouts; nothing may use them any more.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn remove_other_layouts(&self) -> Result<(), LoaderError> {
        self.remove_other_abis()
    }

    /// Removes the maps of other layouts; nothing may use them any more.
    pub(super) fn remove_other_abis(&self) -> Result<(), LoaderError> {
        for version in self.other_abis() {
            remove_maps(&self.maps(version))?;
        }
        Ok(())
    }

    /// Returns the path that keeps the attachment of a mode: its link; for clsact, which has none, the program.
    #[must_use]
    pub fn link(&self, mode: Mode) -> PathBuf {
        self.folder.join(format!("link-{mode}"))
    }

    /// Returns the path that keeps the attachment of a hook of a port, or of an uplink.
    #[must_use]
    pub fn port_link(&self, ifindex: u32, hook: PortHook) -> PathBuf {
        self.folder
            .join(format!("{PORT_PREFIX}{ifindex}-{}", hook.program()))
    }

    /// Returns the indexes of ports that are attached by links. Filters leave nothing here.
    #[must_use]
    pub fn linked_ports(&self) -> BTreeSet<u32> {
        self.port_links()
            .into_iter()
            .map(|(index, _)| index)
            .collect()
    }

    /// Returns the paths that keep attachments of ports, with the ports' indexes.
    pub(super) fn port_links(&self) -> Vec<(u32, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let ports = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let (ifindex, _) = name.to_str()?.strip_prefix(PORT_PREFIX)?.split_once('-')?;
            Some((ifindex.parse().ok()?, entry.path()))
        });
        ports.collect()
    }

    /// Removes the pin of an attachment whose interface is gone.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn remove_dead_link(&self, mode: Mode) -> Result<(), LoaderError> {
        let link = self.link(mode);
        fs::remove_file(&link).map_err(pin_file("remove the dead link", &link))
    }

    /// Returns the mode of the attachment that is pinned.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        Mode::ALL.into_iter().find(|&mode| self.link(mode).exists())
    }

    /// Are there maps of this version's layout?
    #[must_use]
    pub fn has_maps(&self) -> bool {
        self.map("GENERATION").exists()
    }

    /// Is there anything of bulkhead?
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let has_hold = self.folder.join(HOLD).exists();
        self.has_maps() || self.mode().is_some() || !self.other_abis().is_empty() || has_hold
    }

    /// Reads the generation that packets are judged by.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NotRunning`] if nothing is pinned; [`LoaderError::AbiMismatch`] if the maps are another
    /// version's.
    pub fn generation(&self) -> Result<Generation, LoaderError> {
        if !self.has_maps() {
            return Err(match self.other_abis().first() {
                Some(&found) => self.abi_mismatch(found),
                None => LoaderError::NotRunning {
                    path: self.folder.clone(),
                },
            });
        }
        let generation = read_generation(&Outer::open(GENERATION, self)?)?;
        if generation.number == 0 {
            return Ok(generation);
        }
        if generation.abi_version != ABI_VERSION {
            return Err(self.abi_mismatch(generation.abi_version));
        }
        Ok(generation)
    }

    /// Reads the tables that packets are judged by, and what their generation is beside; `None` if there are none of this
    /// layout. Why an entry is there, the kernel does not know.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn tables(&self) -> Result<Option<(Generation, Tables)>, LoaderError> {
        let Some(generation) = self.judging()? else {
            return Ok(None);
        };
        let slot = Slot::open(&Outers::open(self)?, generation.slot)?;
        Ok(slot.map(|slot| (generation, slot.tables(&generation))))
    }

    /// Reads what packets are judged by, of segments only, by VLAN id.
    pub(super) fn segments(&self) -> Result<Option<(Generation, Vec<SegmentEntry>)>, LoaderError> {
        let Some(generation) = self.judging()? else {
            return Ok(None);
        };
        let segments = Slot::segments(&Outers::open(self)?, generation.slot)?;
        Ok(Some((generation, segments)))
    }

    /// Returns the generation that packets are judged by; `None` if there is none, or it is another version's.
    fn judging(&self) -> Result<Option<Generation>, LoaderError> {
        match self.generation() {
            Ok(generation) if generation.number > 0 => Ok(Some(generation)),
            Ok(_) | Err(LoaderError::AbiMismatch { .. } | LoaderError::NotRunning { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells where the maps that packets are judged by differ from `tables`, and from what `trunk` is; if there are none, all of
    /// it is missing.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn differences(
        &self,
        tables: &Tables,
        trunk: &Trunk,
    ) -> Result<Vec<TableDifference>, LoaderError> {
        let generation = match self.generation() {
            Ok(generation) => generation,
            Err(LoaderError::AbiMismatch { .. } | LoaderError::NotRunning { .. }) => {
                Generation::default()
            }
            Err(error) => return Err(error),
        };
        if generation.number == 0 {
            return Ok(slot::missing(tables));
        }
        let outers = Outers::open(self)?;
        let Some(slot) = Slot::open(&outers, generation.slot)? else {
            return Ok(slot::missing(tables));
        };
        let mut differences = slot.differences(tables);
        // The router's MAC is in there, and the lengths of prefixes.
        let sharing = match self.has_ports() {
            true => Sharing::Ports,
            false => Sharing::Segments,
        };
        let room = sharing.segments(self.connections()?.unwrap_or_default());
        let (number, ticks) = (generation.number, generation.ticks_per_second);
        let mut wanted = trunk.generation(tables, number, ticks, room);
        wanted.slot = generation.slot;
        if wanted != generation {
            differences.push(TableDifference {
                map: "GENERATION",
                missing: 0,
                surplus: 0,
                changed: 1,
            });
        }
        Ok(differences)
    }

    fn abi_mismatch(&self, found: u32) -> LoaderError {
        LoaderError::AbiMismatch {
            path: self.folder.clone(),
            found,
            wanted: ABI_VERSION,
        }
    }

    /// Removes everything that is pinned, then the folder.
    pub(super) fn remove(&self) -> Result<(), LoaderError> {
        // Links before maps: a program without its maps would drop everything.
        for mode in Mode::ALL {
            match fs::remove_file(self.link(mode)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(pin_file("remove", &self.link(mode))(error));
                }
                _ => {}
            }
        }
        for (_, link) in self.port_links() {
            fs::remove_file(&link).map_err(pin_file("remove", &link))?;
        }
        self.remove_generations()?;
        self.remove_hold()?;
        fs::remove_dir(&self.folder).map_err(pin_file("remove", &self.folder))
    }
}

fn remove_maps(folder: &Path) -> Result<(), LoaderError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(pin_file("list", folder)(source)),
    };
    for entry in entries {
        let path = entry.map_err(pin_file("list", folder))?.path();
        fs::remove_file(&path).map_err(pin_file("remove", &path))?;
    }
    fs::remove_dir(folder).map_err(pin_file("remove", folder))
}

pub(super) fn pin_file(
    op: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> LoaderError {
    let path = path.to_owned();
    move |source| LoaderError::PinFile { op, path, source }
}

/// Is a BPF file system mounted there?
#[must_use]
pub fn is_bpf_fs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type().0 == BPF_FS_MAGIC)
}
