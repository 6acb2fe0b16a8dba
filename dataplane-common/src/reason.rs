//! Outcomes of a frame: the closed, numbered, append-only list that counters, events and the command
//! line share.

use core::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// Why a frame was dropped.
        ///
        /// Numbers are never reused and names never change: both are a public interface.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u32)]
        pub enum DropReason {
            $($(#[$doc])* $variant = $number,)*
        }

        impl DropReason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the public kebab-case name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the reason with that number.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

drop_reasons! {
    /// The frame ends before the header that is needed next.
    Truncated = 8, "truncated";
    /// No 802.1Q tag, neither in the bytes nor in the metadata.
    Untagged = 9, "untagged";
    /// A second tag behind the first, or an outer tag that is not 802.1Q.
    DoubleTag = 10, "double-tag";
    /// A tag with VLAN id 0.
    PriorityTag = 11, "priority-tag";
    /// The VLAN id carries no segment.
    UnknownVlan = 12, "unknown-vlan";
    /// The segment has no subnet, or is the native one.
    BlackholeSegment = 13, "blackhole-segment";
    /// Source MAC multicast or zero.
    BadSourceMac = 14, "bad-source-mac";
    /// Source MAC is the router's own.
    RouterMacSpoof = 15, "router-mac-spoof";
    /// Unicast to a MAC that is not the router's.
    NotForRouter = 16, "not-for-router";
    /// Neither ARP, RARP, IPv4 nor IPv6.
    UnknownEtherType = 17, "unknown-ether-type";
    /// Not an Ethernet/IPv4 ARP or RARP message.
    ArpMalformed = 18, "arp-malformed";
    /// ARP or RARP sender that contradicts the frame or the binding.
    ArpSenderMismatch = 19, "arp-sender-mismatch";
    /// Claims the gateway's address.
    GatewayClaim = 20, "gateway-claim";
    /// IP header lengths or version do not fit.
    IpMalformed = 21, "ip-malformed";
    /// IPv4 options or IPv6 extension headers that are refused or too many.
    IpOptions = 22, "ip-options";
    /// Group MAC with a unicast IP destination, or the other way round.
    MacIpMismatch = 23, "mac-ip-mismatch";
    /// First fragment without the whole transport header.
    TinyFragment = 24, "tiny-fragment";
    /// Later fragment that overlaps the first.
    OverlappingFragment = 25, "overlapping-fragment";
    /// Later fragment of no judged first one.
    FragmentWithoutFirst = 26, "fragment-without-first";
    /// Source address outside of the segment.
    SourceNotInSegment = 27, "source-not-in-segment";
    /// Loopback, multicast, class E or reserved source.
    MartianSource = 28, "martian-source";
    /// Source address and MAC contradict the binding.
    SpoofedSource = 29, "spoofed-source";
    /// Link-local address beyond its link.
    LinkLocalScope = 30, "link-local-scope";
    /// Multicast or broadcast that is not needed for ARP, DHCP, ND or MLD.
    MulticastNotAllowed = 31, "multicast-not-allowed";
    /// Neighbour discovery or MLD message that is not well formed.
    NdMalformed = 32, "nd-malformed";
    /// Neighbour discovery that contradicts the frame or the binding.
    NdMismatch = 33, "nd-mismatch";
    /// Router advertisement or MLD query: only the router sends them.
    RouterAdvertisement = 34, "router-advertisement";
    /// ICMP or ICMPv6 redirect.
    IcmpRedirect = 35, "icmp-redirect";
    /// DHCP server message.
    DhcpServer = 36, "dhcp-server";
    /// ICMP type that is never let through.
    IcmpType = 37, "icmp-type";
    /// ICMP error or echo reply that belongs to no live connection.
    IcmpErrorUnrelated = 38, "icmp-error-unrelated";
    /// TCP without a connection, and not a SYN.
    TcpNoConnection = 39, "tcp-no-connection";
    /// TCP flags that make no sense.
    TcpFlags = 40, "tcp-flags";
    /// Unspecified, loopback, reserved, network or broadcast destination.
    MartianDestination = 41, "martian-destination";
    /// The gateway does not offer this.
    GatewayService = 42, "gateway-service";
    /// Both ends in one segment: they talk directly, not through the router.
    SameSegment = 43, "same-segment";
    /// An address of the router that is not offered here.
    RouterAddress = 44, "router-address";
    /// Tenant to platform without a granted service.
    PlatformAddress = 45, "platform-address";
    /// No zone policy and no pair of consents allows it.
    NoPolicy = 46, "no-policy";
    /// A rule of the tenant itself denies it.
    TenantRule = 47, "tenant-rule";
    /// Tenant to tenant without both halves of an allow.
    OtherTenant = 48, "other-tenant";
    /// Not an address of the site, and excluded from the internet.
    NotInternet = 49, "not-internet";
    /// The segment may not reach the internet.
    InternetDenied = 50, "internet-denied";
    /// The program could not rewrite or redirect what it allowed.
    ForwardFailed = 51, "forward-failed";
    /// The controller has not published a generation, or a table is missing.
    NoGeneration = 52, "no-generation";
    /// Nobody knows whose port it is, or its endpoint is not in the inventory (any more).
    UnknownPort = 53, "unknown-port";
    /// A tag from an access port, or towards one.
    TaggedFrame = 54, "tagged-frame";
    /// Not the MAC of the port's endpoint.
    SpoofedMac = 55, "spoofed-mac";
    /// A frame of one segment on its way into another.
    OtherSegment = 56, "other-segment";
    /// The frame passed none of this host's programs on its way in.
    NotJudged = 57, "not-judged";
    /// Unicast to a MAC that is not this port's, or not on this host.
    NotForPort = 58, "not-for-port";
    /// From the uplink, with the MAC of an endpoint on this host.
    LocalMacClaim = 59, "local-mac-claim";
    /// Hosts of the segment are isolated from each other, and no rule of the tenant allows this.
    HostIsolation = 60, "host-isolation";
    /// A host itself is no part of a tenant's segment.
    HostAddress = 61, "host-address";
    /// More a second than the sender's segment or port may send of this.
    RateLimited = 62, "rate-limited";
    /// More octets a second than the tenant or the port may send or receive.
    OverBandwidth = 63, "over-bandwidth";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Outcome number of an allowed frame that the kernel's stack takes.
pub const TO_KERNEL: u32 = 0;
/// Outcome number of an allowed frame that the program forwarded.
pub const FORWARDED: u32 = 1;
/// Outcome number of a frame that the program answered as the gateway.
pub const ANSWERED: u32 = 2;

/// Returns the public name of an outcome number, for counters and events.
#[must_use]
pub const fn outcome_name(outcome: u32) -> Option<&'static str> {
    match outcome {
        TO_KERNEL => Some("to-kernel"),
        FORWARDED => Some("forwarded"),
        ANSWERED => Some("answered"),
        other => match DropReason::from_number(other) {
            Some(reason) => Some(reason.name()),
            None => None,
        },
    }
}

#[expect(clippy::indexing_slicing, reason = "checked at compile time")]
const _: () = {
    let mut i = 0;
    while i < DropReason::ALL.len() {
        assert!((DropReason::ALL[i] as usize) < crate::abi::OUTCOMES);
        i += 1;
    }
};
