//! Why a tenant's part of a change cannot be applied alone.

use netmodel::ids::{MacAddr, TenantName, VlanId};
use netmodel::model::Origin;
use thiserror::Error;

/// Why a tenant's part of a change cannot be applied alone.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum MergeError {
    /// Neither model has the tenant.
    #[error("there is no tenant `{tenant}`, neither in force nor in the inventory")]
    NoTenant {
        /// As it was said.
        tenant: String,
    },
    /// It names something that is not in force.
    #[error(
        "{}:{}: tenant `{tenant}` needs the {what} `{name}`, which is not applied yet: apply \
         without --tenant, or that first",
        origin.file, origin.line
    )]
    NotApplied {
        /// The tenant.
        tenant: TenantName,
        /// `service`, `zone`, `tenant`.
        what: &'static str,
        /// What it names.
        name: String,
        /// Where.
        origin: Origin,
    },
    /// The site in force expects something of what goes.
    #[error(
        "{}:{}: the site's {what} in force names `{name}`, which would be gone: apply without \
         --tenant, or take it out of the {what} first",
        origin.file, origin.line
    )]
    StillNamed {
        /// What goes.
        name: String,
        /// `protected flow`, `policy test`.
        what: &'static str,
        /// Where.
        origin: Origin,
    },
    /// The tenant's names would be in another DNS zone than everyone's.
    #[error("`{key}` changes from `{old}` to `{new}`: apply without --tenant")]
    SiteRenamed {
        /// `site_name` or `site_domain`.
        key: &'static str,
        /// In force.
        old: String,
        /// In the inventory.
        new: String,
    },
    /// A VLAN id is still somebody's.
    #[error(
        "VLAN {vlan_id} of `{ours}` is still `{theirs}`'s: apply without --tenant, or that first"
    )]
    VlanTwice {
        /// The VLAN id.
        vlan_id: VlanId,
        /// The tenant's segment.
        ours: String,
        /// Who has it.
        theirs: String,
    },
    /// A subnet is still somebody's.
    #[error(
        "subnet {net} of `{ours}` overlaps {other} of `{theirs}`, which is still in force: apply \
         without --tenant, or that first"
    )]
    Overlap {
        /// The tenant's subnet.
        net: ipnet::IpNet,
        /// The tenant's segment.
        ours: String,
        /// The other subnet.
        other: ipnet::IpNet,
        /// Who has it.
        theirs: String,
    },
    /// An address is still somebody's.
    #[error(
        "address {address} of `{ours}` is still `{theirs}`'s: apply without --tenant, or that first"
    )]
    AddressTwice {
        /// The address.
        address: std::net::IpAddr,
        /// The tenant's host.
        ours: String,
        /// Who has it.
        theirs: String,
    },
    /// A hardware address is still somebody's.
    #[error(
        "hardware address {mac} of `{ours}` is still `{theirs}`'s: apply without --tenant, or that \
         first"
    )]
    MacTwice {
        /// The hardware address.
        mac: MacAddr,
        /// The tenant's host.
        ours: String,
        /// Who has it.
        theirs: String,
    },
    /// The tenant's DNS zone is still a name of the site's.
    #[error(
        "`{name}` is still a DNS name of the site, so it cannot be a tenant's DNS zone: apply \
         without --tenant, or that first"
    )]
    NameTwice {
        /// The name.
        name: String,
    },
}
