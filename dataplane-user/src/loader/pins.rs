//! The pin folder: `/sys/fs/bpf/bulkhead/TRUNK`, with a file per map, and one for the link.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use dataplane_common::abi::{ABI_VERSION, Generation};

use super::{LoaderError, Mode};

/// `BPF_FS_MAGIC`, `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// A folder on a BPF file system that keeps maps and link of one trunk.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Opens or makes the folder, readable by root only.
    pub(super) fn open(folder: &Path) -> Result<Self, LoaderError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| LoaderError::PinFile {
                op: "make the folder",
                path: folder.into(),
                source,
            })?;
        Ok(Self::at(folder))
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

    /// Returns the path of a map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the path that keeps the attachment of a mode: its link; for clsact, which has none, the program.
    #[must_use]
    pub fn link(&self, mode: Mode) -> PathBuf {
        self.folder.join(format!("link-{mode}"))
    }

    /// Returns the mode of the attachment that is pinned.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        Mode::ALL.into_iter().find(|&mode| self.link(mode).exists())
    }

    /// Are there maps?
    #[must_use]
    pub fn has_maps(&self) -> bool {
        self.map("GENERATION").exists()
    }

    /// Reads the generation that packets are judged by.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NotRunning`] if nothing is pinned; [`LoaderError::AbiMismatch`] if the maps are another
    /// version's.
    pub fn generation(&self) -> Result<Generation, LoaderError> {
        if !self.has_maps() {
            return Err(LoaderError::NotRunning {
                path: self.folder.clone(),
            });
        }
        let wrap = |source| LoaderError::map("GENERATION", source);
        let outer = MapData::from_pin(self.map("GENERATION")).map_err(wrap)?;
        let outer: ArrayOfMaps<MapData, Array<MapData, Generation>> =
            Map::ArrayOfMaps(outer).try_into().map_err(wrap)?;
        let inner = match outer.get(&0, 0) {
            Ok(inner) => inner,
            Err(aya::maps::MapError::KeyNotFound) => return Ok(Generation::default()),
            // Another size of `Generation` is another version's.
            Err(aya::maps::MapError::InvalidValueSize { .. }) => {
                return Err(self.abi_mismatch(0));
            }
            Err(source) => return Err(wrap(source)),
        };
        let generation = inner.get(&0, 0).map_err(wrap)?;
        if generation.abi_version != ABI_VERSION {
            return Err(self.abi_mismatch(generation.abi_version));
        }
        Ok(generation)
    }

    fn abi_mismatch(&self, found: u32) -> LoaderError {
        LoaderError::AbiMismatch {
            path: self.folder.clone(),
            found,
            wanted: ABI_VERSION,
        }
    }

    /// Refuses pinned maps of another version.
    pub(super) fn check_abi(&self) -> Result<(), LoaderError> {
        match self.generation() {
            Ok(_) | Err(LoaderError::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes everything that is pinned, then the folder.
    pub(super) fn remove(&self) -> Result<(), LoaderError> {
        let wrap = |op, path: &Path, source| LoaderError::PinFile {
            op,
            path: path.into(),
            source,
        };
        // Links before maps: a program without its maps would drop everything.
        for mode in Mode::ALL {
            match fs::remove_file(self.link(mode)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(wrap("remove", &self.link(mode), error));
                }
                _ => {}
            }
        }
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(wrap("list", &self.folder, source)),
        };
        for entry in entries {
            let path = entry.map_err(|s| wrap("list", &self.folder, s))?.path();
            fs::remove_file(&path).map_err(|s| wrap("remove", &path, s))?;
        }
        fs::remove_dir(&self.folder).map_err(|s| wrap("remove", &self.folder, s))
    }
}

/// Is a BPF file system mounted there?
#[must_use]
pub fn is_bpf_fs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type().0 == BPF_FS_MAGIC)
}
