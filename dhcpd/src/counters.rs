//! What is counted: messages by type, and silence by reason.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the public name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

names! {
    /// Why a message got no answer. A closed list; the names are a public interface.
    Reason {
        /// The VLAN has no scope.
        NoScope => "no-scope",
        /// An untagged frame on a trunk.
        Untagged => "untagged",
        /// A second tag.
        DoubleTagged => "double-tagged",
        /// Not IPv4 and UDP to port 67 all through, or a wrong length or checksum.
        MalformedPacket => "malformed-packet",
        /// Shorter than the fixed part of a message.
        Truncated => "truncated",
        /// Not a request: another server's answer.
        NotRequest => "not-request",
        /// Hardware address of another kind than Ethernet.
        NotEthernet => "not-ethernet",
        /// BOOTP: no magic cookie, or no message type.
        Bootp => "bootp",
        /// An option of the wrong length.
        MalformedOption => "malformed-option",
        /// A message that only servers send.
        ServerMessage => "server-message",
        /// A message type that is not known.
        UnknownMessageType => "unknown-message-type",
        /// A DHCPREQUEST that is none of those in RFC 2131, table 4, or another message without its address.
        NotInTable4 => "not-in-table-4",
        /// The hardware address in the message is not the frame's.
        MacMismatch => "mac-mismatch",
        /// A hardware address that nobody can have: a group's, or zero.
        MacNotUnicast => "mac-not-unicast",
        /// Relayed by nobody that the settings name, or over another segment.
        UnknownRelay => "unknown-relay",
        /// The relay does not serve the link that it names.
        RelayLink => "relay-link",
        /// Sent to another address than this server's.
        OtherDestination => "other-destination",
        /// Meant for another server.
        OtherServer => "other-server",
        /// Too many messages from this hardware address.
        RateMac => "rate-mac",
        /// Too many messages from clients without a lease on this segment.
        RateStrangers => "rate-strangers",
        /// Static-only scope, and no reservation.
        NoReservation => "no-reservation",
        /// The tenant is draining, and the client is new.
        Draining => "draining",
        /// No address is free.
        PoolExhausted => "pool-exhausted",
        /// The hardware address holds as many leases as it may.
        TooManyLeases => "too-many-leases",
        /// A client asks for an address that it remembers, and this server does not know it.
        UnknownClient => "unknown-client",
        /// An address is released or declined by somebody who does not hold it.
        NotHolder => "not-holder",
        /// The address is being probed.
        Probing => "probing",
        /// Released, as asked: there is no answer to that.
        Released => "released",
        /// Declined, as told: there is no answer to that.
        Declined => "declined",
        /// A message of DHCPv6 that lacks what it must have, or has what it must not (RFC 8415 section 16).
        InvalidMessage => "invalid-message",
        /// A message of DHCPv6 from another address than a link-local one.
        OffLink => "off-link",
        /// Too many relays on the way.
        TooManyRelays => "too-many-relays",
        /// The lease could not be written down.
        NotDurable => "not-durable",
    }
}

names! {
    /// What is counted beside silence.
    Event {
        /// Received.
        Discover => "discover",
        /// Received.
        Request => "request",
        /// Received.
        Decline => "decline",
        /// Received.
        Release => "release",
        /// Received.
        Inform => "inform",
        /// Sent.
        Offer => "offer",
        /// Sent.
        Ack => "ack",
        /// Sent.
        Nak => "nak",
        /// Sent: an offer of no address (RFC 2563).
        NoAutoConfigure => "no-auto-configure",
        /// Received, of DHCPv6.
        Solicit => "solicit",
        /// Received, of DHCPv6.
        Request6 => "request6",
        /// Received, of DHCPv6.
        Confirm => "confirm",
        /// Received, of DHCPv6.
        Renew => "renew",
        /// Received, of DHCPv6.
        Rebind => "rebind",
        /// Received, of DHCPv6.
        Release6 => "release6",
        /// Received, of DHCPv6.
        Decline6 => "decline6",
        /// Received, of DHCPv6.
        InformationRequest => "information-request",
        /// Sent, of DHCPv6.
        Advertise => "advertise",
        /// Sent, of DHCPv6.
        Reply => "reply",
        /// Received: somebody asks for a router.
        RouterSolicitation => "router-solicitation",
        /// Sent.
        RouterAdvertisement => "router-advertisement",
        /// A probe was answered: the address was taken.
        Conflict => "conflict",
        /// An address was not quarantined, since a quarter of the pool is already.
        QuarantineFull => "quarantine-full",
        /// A lease ran out.
        Expired => "expired",
        /// A lease was taken back.
        Revoked => "revoked",
    }
}

/// Counters of one segment.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Messages and events.
    pub events: BTreeMap<Event, u64>,
    /// Messages without an answer.
    pub silence: BTreeMap<Reason, u64>,
}

impl Counters {
    pub(crate) fn add(&mut self, event: Event) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(crate) fn add_silence(&mut self, reason: Reason) {
        *self.silence.entry(reason).or_default() += 1;
    }
}
