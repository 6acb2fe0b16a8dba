//! Where the project's own files are.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_trees_are_where_the_fixtures_say() {
        assert!(sample_site().join("hosts.yml").is_file());
        assert!(sample_tenants().join("grooveiq/hosts.yml").is_file());
    }
}
