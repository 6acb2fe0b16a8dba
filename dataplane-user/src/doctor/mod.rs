//! `bulkhead doctor`: what is wrong with the host and its NICs, why that matters, and what to do.
//!
//! [`Facts`] are gathered once, by [`gather`]; each check is a pure function of them. What could not be seen is said:
//! a check that knows too little never says `ok`.

mod bridges;
mod facts;
mod gather;
mod host;
mod links;
mod ports;
mod trunk;

use serde::Serialize;

pub use self::facts::{
    Attached, Clock, Enforcement, Facts, Folder, Kernel, Link, LinkKind, Nat, Site, Vlan,
};
pub use self::gather::{Asked, gather};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Isolation, or the service, fails or will fail.
    Error,
    /// Something is not as it should be, or could not be seen.
    Warning,
    /// As it should be.
    Ok,
}

impl Severity {
    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Ok => "ok",
        }
    }
}

/// What a check says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Stable name of the check, in kebab-case.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// Why that matters; empty if all is well.
    pub why: &'static str,
    /// What to do, as a command where there is one; empty if there is nothing to do.
    pub remedy: String,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            severity: Severity::Ok,
            found: found.into(),
            why: "",
            remedy: String::new(),
        }
    }

    fn error(
        name: &'static str,
        found: impl Into<String>,
        why: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            why,
            remedy: remedy.into(),
            ..Self::ok(name, found)
        }
    }

    fn warning(
        name: &'static str,
        found: impl Into<String>,
        why: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(name, found, why, remedy)
        }
    }
}

type Check = fn(&Facts) -> Vec<Finding>;

/// Checks of every host, in the order of what depends on what.
const HOST: &[Check] = &[
    host::privileges,
    host::version,
    host::options,
    host::btf,
    host::bpf_file_system,
    host::unprivileged_bpf,
    host::jit,
    host::clock,
    host::build_date,
    host::state_folder,
];

/// Checks of a router.
const ROUTER: &[Check] = &[
    trunk::presence,
    trunk::enforcement,
    trunk::foreign_xdp,
    trunk::foreign_tc,
    trunk::hidden_tags,
    trunk::native_xdp,
    trunk::mtu,
    trunk::device_mtu,
    trunk::addresses,
    trunk::native_vlan,
    trunk::sysctls,
    trunk::nat,
];

/// Checks of a hypervisor.
const HYPERVISOR: &[Check] = &[ports::bridge, ports::programs, ports::machines];

/// Checks of the bridges of either.
const BRIDGES: &[Check] = &[bridges::ports, bridges::filtering];

/// Runs every check; the worst findings come first, else the order is that of the checks.
#[must_use]
pub fn diagnose(facts: &Facts) -> Vec<Finding> {
    let own = match facts.ports {
        Some(_) => HYPERVISOR,
        None => ROUTER,
    };
    let checks = HOST.iter().chain(own).chain(BRIDGES);
    let mut findings: Vec<_> = checks.flat_map(|check| check(facts)).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

#[cfg(test)]
mod tests;
