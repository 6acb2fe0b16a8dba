//! A BPF file system of a test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Beginning of the folder's name; then the process id, then a number.
const PREFIX: &str = "bulkhead-test-bpf-";

/// A mounted BPF file system. What is pinned in it goes away when it is dropped.
#[derive(Debug)]
pub struct BpfFs {
    folder: PathBuf,
}

impl BpfFs {
    /// Mounts one on a folder of its own.
    ///
    /// # Errors
    ///
    /// If the process may not mount.
    pub fn mount() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        remove_stale();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        mount(
            Some("bpf"),
            &folder,
            Some("bpf"),
            MsFlags::empty(),
            None::<&Path>,
        )
        .with_context(|| format!("mounting a BPF file system on {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Nothing can be done about a failure here; the next test tries again.
fn remove(folder: &Path) {
    if umount2(folder, MntFlags::MNT_DETACH).is_ok() {
        drop(std::fs::remove_dir(folder));
    }
}

/// Removes what tests left that were killed.
fn remove_stale() {
    let folders = std::fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    for folder in folders {
        let name = folder.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some((process, _)) = rest.and_then(|rest| rest.split_once('-'))
            && !Path::new("/proc").join(process).exists()
        {
            remove(&folder.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_for;

    #[test]
    fn what_a_dead_process_left_is_removed() {
        // No process has this id: it is above the largest that Linux gives.
        let stale = std::env::temp_dir().join(format!("{PREFIX}4194305-0"));
        std::fs::create_dir(&stale).unwrap();
        mount(
            Some("bpf"),
            &stale,
            Some("bpf"),
            MsFlags::empty(),
            None::<&Path>,
        )
        .unwrap();
        // A test beside this one may be about to remove it, too.
        let _fs = BpfFs::mount().unwrap();
        wait_for("its removal", || (!stale.exists()).then_some(())).unwrap();
    }

    #[test]
    fn it_is_there_while_the_guard_lives() {
        let fs = BpfFs::mount().unwrap();
        let folder = fs.path().to_owned();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(mounts.contains(&format!("bpf {} bpf ", folder.display())));
        drop(fs);
        assert!(!folder.exists());
    }
}
