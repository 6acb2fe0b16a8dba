//! The closed list of drop reasons, with the names of `docs/isolation.md`.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a frame is dropped. The names are a public interface.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Of [`Self::ALL`], those that only the ports of hypervisors give.
            pub const OF_PORTS: &'static [Self] = &[
                Self::UnknownPort,
                Self::TaggedFrame,
                Self::SpoofedMac,
                Self::OtherSegment,
                Self::NotJudged,
                Self::NotForPort,
                Self::LocalMacClaim,
                Self::HostIsolation,
                Self::HostAddress,
            ];

            /// Every reason, in the order in which `docs/isolation.md` first names it.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the kebab-case name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// Shorter than the header that is needed next.
    Truncated = "truncated",
    /// No 802.1Q tag.
    Untagged = "untagged",
    /// A second tag, or an outer tag that is not 0x8100.
    DoubleTag = "double-tag",
    /// VLAN id 0.
    PriorityTag = "priority-tag",
    /// No segment has this VLAN id.
    UnknownVlan = "unknown-vlan",
    /// The segment has no subnet, or is the router's native one.
    BlackholeSegment = "blackhole-segment",
    /// Source MAC multicast or zero.
    BadSourceMac = "bad-source-mac",
    /// Source MAC is the router's.
    RouterMacSpoof = "router-mac-spoof",
    /// Unicast to another MAC than the router's.
    NotForRouter = "not-for-router",
    /// Neither ARP, RARP, IPv4 nor IPv6.
    UnknownEtherType = "unknown-ether-type",
    /// Not ARP or RARP for Ethernet and IPv4.
    ArpMalformed = "arp-malformed",
    /// The ARP sender contradicts source MAC, subnet or binding.
    ArpSenderMismatch = "arp-sender-mismatch",
    /// Somebody else claims the router's address.
    GatewayClaim = "gateway-claim",
    /// Version or lengths of the IP header are wrong.
    IpMalformed = "ip-malformed",
    /// The source is not an address of the segment.
    SourceNotInSegment = "source-not-in-segment",
    /// IPv4 options or IPv6 extension headers that are refused.
    IpOptions = "ip-options",
    /// Group MAC with unicast IP, or the other way round.
    MacIpMismatch = "mac-ip-mismatch",
    /// A first fragment that hides the transport header.
    TinyFragment = "tiny-fragment",
    /// A later fragment that writes into its first one.
    OverlappingFragment = "overlapping-fragment",
    /// A later fragment that follows no judged first one.
    FragmentWithoutFirst = "fragment-without-first",
    /// A source that nobody may use.
    MartianSource = "martian-source",
    /// The source is bound to another MAC, or the MAC to another source.
    SpoofedSource = "spoofed-source",
    /// Link-local traffic that would leave the link.
    LinkLocalScope = "link-local-scope",
    /// Multicast or broadcast other than what ARP, DHCP, ND and MLD need.
    MulticastNotAllowed = "multicast-not-allowed",
    /// A neighbour discovery or MLD message of a wrong shape.
    NdMalformed = "nd-malformed",
    /// A neighbour discovery message that contradicts subnet, binding or source MAC.
    NdMismatch = "nd-mismatch",
    /// Only the router advertises itself.
    RouterAdvertisement = "router-advertisement",
    /// Nobody redirects.
    IcmpRedirect = "icmp-redirect",
    /// DHCP as a server, or to a client.
    DhcpServer = "dhcp-server",
    /// An ICMP type that is refused.
    IcmpType = "icmp-type",
    /// An ICMP error or echo reply without its connection.
    IcmpErrorUnrelated = "icmp-error-unrelated",
    /// TCP, not a SYN, without a connection.
    TcpNoConnection = "tcp-no-connection",
    /// TCP flags that do not fit the connection.
    TcpFlags = "tcp-flags",
    /// A destination that nobody may use.
    MartianDestination = "martian-destination",
    /// The gateway does not offer this service.
    GatewayService = "gateway-service",
    /// Hosts of one segment talk directly.
    SameSegment = "same-segment",
    /// Another address of the router.
    RouterAddress = "router-address",
    /// A platform address that the tenant was not granted.
    PlatformAddress = "platform-address",
    /// No policy allows it.
    NoPolicy = "no-policy",
    /// The tenant's own rule denies it.
    TenantRule = "tenant-rule",
    /// Not offered and used by two tenants.
    OtherTenant = "other-tenant",
    /// Excluded from the internet.
    NotInternet = "not-internet",
    /// The zone may not open connections to the internet.
    InternetDenied = "internet-denied",
    /// Nobody knows whose port it is.
    UnknownPort = "unknown-port",
    /// A tag from or towards an access port.
    TaggedFrame = "tagged-frame",
    /// Not the MAC of the port's endpoint.
    SpoofedMac = "spoofed-mac",
    /// Of one segment, on its way into another.
    OtherSegment = "other-segment",
    /// Passed none of the host's checks on its way in.
    NotJudged = "not-judged",
    /// For another MAC.
    NotForPort = "not-for-port",
    /// From outside, with the MAC of an endpoint on this host.
    LocalMacClaim = "local-mac-claim",
    /// The segment's hosts are isolated, and no rule allows this.
    HostIsolation = "host-isolation",
    /// To the hypervisor itself.
    HostAddress = "host-address",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
