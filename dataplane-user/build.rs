//! Builds the eBPF programs for the target that the loader embeds them from.

use anyhow::{Context as _, anyhow};
use aya_build::{Package, Toolchain};

fn main() -> anyhow::Result<()> {
    let root = std::env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let ebpf = std::path::Path::new(&root).join("../dataplane-ebpf");
    let ebpf = ebpf
        .to_str()
        .ok_or_else(|| anyhow!("the path of the workspace is not UTF-8"))?;
    // The programs are made of the shared crate as well, which aya-build does not watch.
    println!("cargo:rerun-if-changed={root}/../dataplane-common/src");
    let debug_log = std::env::var_os("CARGO_FEATURE_DEBUG_LOG").is_some();
    aya_build::build_ebpf(
        [Package {
            name: "dataplane-ebpf",
            root_dir: ebpf,
            features: if debug_log { &["debug-log"] } else { &[] },
            ..Default::default()
        }],
        Toolchain::Nightly,
    )
}
