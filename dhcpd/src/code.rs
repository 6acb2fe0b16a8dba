//! Numbers of the options that the server reads or writes (IANA "BOOTP Vendor Extensions and DHCP Options").

pub(crate) const SUBNET_MASK: u8 = 1;
pub(crate) const ROUTER: u8 = 3;
pub(crate) const DNS_SERVERS: u8 = 6;
pub(crate) const HOST_NAME: u8 = 12;
pub(crate) const DOMAIN_NAME: u8 = 15;
pub(crate) const MTU: u8 = 26;
pub(crate) const BROADCAST_ADDRESS: u8 = 28;
pub(crate) const NTP_SERVERS: u8 = 42;
pub(crate) const VENDOR: u8 = 43;
pub(crate) const REQUESTED_ADDRESS: u8 = 50;
pub(crate) const LEASE_TIME: u8 = 51;
pub(crate) const OVERLOAD: u8 = 52;
pub(crate) const MESSAGE_TYPE: u8 = 53;
pub(crate) const SERVER: u8 = 54;
pub(crate) const WANTED: u8 = 55;
pub(crate) const MAX_SIZE: u8 = 57;
pub(crate) const RENEWAL_TIME: u8 = 58;
pub(crate) const REBINDING_TIME: u8 = 59;
pub(crate) const CLIENT_ID: u8 = 61;
pub(crate) const TFTP_SERVER: u8 = 66;
pub(crate) const BOOT_FILE: u8 = 67;
pub(crate) const USER_CLASS: u8 = 77;
pub(crate) const RAPID_COMMIT: u8 = 80;
pub(crate) const RELAY_INFO: u8 = 82;
pub(crate) const ARCHITECTURE: u8 = 93;
/// RFC 8925; dhcproto calls 106 by that name.
pub(crate) const IPV6_ONLY_PREFERRED: u8 = 108;
pub(crate) const AUTO_CONFIGURE: u8 = 116;
pub(crate) const DOMAIN_SEARCH: u8 = 119;
pub(crate) const CLASSLESS_ROUTES: u8 = 121;
