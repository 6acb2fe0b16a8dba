//! A BPF file system of a test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

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
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bulkhead-test-bpf-{}-{number}", std::process::id());
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
        // Nothing can be done about a failure here, and the next boot cleans up.
        if umount2(&self.folder, MntFlags::MNT_DETACH).is_ok() {
            drop(std::fs::remove_dir(&self.folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
