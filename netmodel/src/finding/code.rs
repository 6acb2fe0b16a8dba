//! The registry of finding codes.
//!
//! A code is stable: it is never reused for something else. `docs/findings.md` has the long text of
//! each, is what [`explain`] returns, and is held to this table by a test.

use std::fmt;

use super::Severity;

/// The long texts, one `## CODE title` section each.
const TEXTS: &str = include_str!("../../../docs/findings.md");

macro_rules! codes {
    ($($variant:ident $code:literal $title:literal,)*) => {
        /// What kind of thing a finding is about.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Code {
            $(
                #[doc = concat!($code, ": ", $title, ".")]
                $variant,
            )*
        }

        impl Code {
            /// All codes, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the code as it is shown: `E0101`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// Returns what the code is about, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                }
            }
        }
    };
}

codes! {
    YamlSyntax "E0101" "the file is not valid YAML",
    DuplicateKey "E0102" "a key is there twice",
    SexagesimalMac "E0103" "an unquoted hardware address is a number",
    BooleanTrap "E0104" "an unquoted word is a boolean",
    OctalTrap "E0105" "an unquoted number is octal",
    WrongType "E0106" "a value has the wrong type",
    Bounds "E0107" "the input is larger than its bounds",
    YamlShape "E0108" "the file has the wrong shape",
    Encrypted "E0109" "a needed value is encrypted",
    Template "E0110" "a needed Jinja template fails",
    UnknownKey "E0111" "an unknown key",
    MissingKey "E0112" "a key is missing",
    InvalidValue "E0113" "a value is not one of those that are possible",
    Unreadable "E0114" "a file cannot be read",
    PathEscape "E0115" "a path leads out of the tenant's folder",
    GroupCycle "E0116" "groups contain each other",
    OutputsJson "E0117" "the Terraform outputs are not usable",
    VlanRange "E0201" "a VLAN id is out of range",
    VlanTwice "E0202" "a VLAN id is used twice",
    VlanNotInPool "E0203" "a VLAN id is not in the tenants' pool",
    VlanNative "E0204" "the native VLAN is used",
    SubnetOverlap "E0205" "subnets overlap",
    SubnetInvalid "E0206" "a subnet that cannot be used",
    GatewayInvalid "E0207" "a gateway that cannot be used",
    DhcpRangeOutside "E0208" "a DHCP range outside of the subnet",
    DhcpRangeReversed "E0209" "a DHCP range that is reversed",
    DhcpRangeStatic "E0210" "a DHCP range over a static address",
    DhcpRangeIncomplete "E0211" "half a DHCP range",
    ReservedZoneName "E0212" "a segment with a reserved name",
    AddressOutside "E0301" "an address outside of its segment",
    AddressReserved "E0302" "an address that no host can have",
    AddressGateway "E0303" "a host with the gateway's address",
    AddressTwice "E0304" "an address is used twice",
    MacMalformed "E0305" "a malformed hardware address",
    MacTwice "E0306" "a hardware address is used twice",
    UnknownSegment "E0307" "an unknown segment",
    UnknownZone "E0401" "an unknown zone",
    TenantsPolicy "E0402" "a zone-wide policy from tenants",
    UnknownService "E0403" "an unknown service",
    UnknownHost "E0404" "an unknown host",
    UnknownTenant "E0405" "an unknown tenant",
    ServiceAddress "E0406" "a service without a usable address",
    BadPort "E0407" "a port that cannot be read",
    UnknownPeer "E0408" "an unknown side of a flow",
    TenantName "E0501" "a tenant name that cannot be used",
    TenantFolder "E0502" "a tenant name that is not the folder's",
    TenantNotRegistered "E0503" "a tenant that is not in the registry",
    ClaimNotGranted "E0504" "a claim that the registry does not grant",
    SegmentNotGranted "E0505" "a tenant segment without a grant",
    LimitExceeded "E0506" "a limit is exceeded",
    NameTwice "E0507" "a name is used twice",
    HostTwice "E0508" "a host is described twice",
    DnsLabel "E0601" "a name that DNS cannot hold",
    DnsNameTwice "E0602" "a DNS name is claimed twice",
    DnsCname "E0603" "a CNAME beside other data",
    DnsValue "E0604" "a DNS record that cannot be",
    HiddenByDirectory "W0101" "a directory hides a file",
    UnusedVars "W0102" "variables that nobody reads",
    MisplacedKey "W0103" "a key where nobody reads it",
    ProbableTypo "W0104" "a key that is probably misspelt",
    NoRouter "W0201" "a site without a router",
    RouterNotInSegment "W0202" "a router that nobody could manage",
    TenantNoDhcp "W0203" "a tenant segment without DHCP",
    SegmentNoDhcp "W0204" "a segment without DHCP",
    DhcpIgnored "W0205" "a DHCP range that is not used",
    MacUnknown "W0301" "a reservation for an unknown hardware address",
    ReservationNoScope "W0302" "a reservation in a segment without DHCP",
    ReservationNoAddress "W0303" "a reservation without an address",
    RecordNoAddress "W0304" "a DNS record without an address",
    AddressNowhere "W0305" "an address in no segment",
    PolicyNeverMatches "W0401" "a policy that can never match",
    RuleWaits "W0402" "a rule that waits for its other half",
    OfferWaits "W0403" "an offer or a use without its other half",
    InternetNotEffective "W0404" "internet that is granted but not effective",
}

impl Code {
    /// Returns how bad a finding of this code is.
    #[must_use]
    pub fn severity(self) -> Severity {
        if self.as_str().starts_with('E') {
            Severity::Error
        } else {
            Severity::Warning
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Returns the long text of a finding code: cause, example, remedy. Case does not matter.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    let code = code.to_ascii_uppercase();
    sections()
        .find(|(heading, _)| *heading == code)
        .map(|(_, text)| text)
}

/// The sections of the long texts: (code, whole section).
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXTS.split("\n## ").skip(1).map(|section| {
        let code = section.split_whitespace().next().unwrap_or_default();
        (code, section.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_texts_are_exactly_those_of_the_table() {
        let documented: Vec<String> = sections()
            .map(|(_, text)| text.lines().next().unwrap_or_default().to_owned())
            .collect();
        let table: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("{code} {}", code.title()))
            .collect();
        assert_eq!(documented, table);
    }

    #[test]
    fn every_long_text_has_a_cause_an_example_and_a_remedy() {
        for code in Code::ALL {
            let text = explain(code.as_str()).unwrap();
            assert!(text.contains("```"), "{code} has no example");
            assert!(text.contains("**Remedy.**"), "{code} has no remedy");
        }
    }

    #[test]
    fn codes_are_looked_up_without_regard_to_case() {
        assert_eq!(explain("e0102"), explain("E0102"));
        assert_eq!(explain("E9999"), None);
    }
}
