//! Where the project's own files are.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

/// Returns the root of the project.
#[must_use]
pub fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the sample inventory: two trees, `site/` and `tenants/`.
#[must_use]
pub fn sample() -> PathBuf {
    project_root().join("sample")
}

/// Returns the platform's tree of the sample inventory.
#[must_use]
pub fn sample_site() -> PathBuf {
    sample().join("site")
}

/// Returns the tenants' trees of the sample inventory.
#[must_use]
pub fn sample_tenants() -> PathBuf {
    sample().join("tenants")
}

/// Copies a folder with all that is in it; the copy is made if there is none.
///
/// # Errors
///
/// Those of the file system.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_trees_are_where_the_fixtures_say() {
        assert!(sample_site().join("hosts.yml").is_file());
        assert!(sample_tenants().join("grooveiq/hosts.yml").is_file());
    }
}
