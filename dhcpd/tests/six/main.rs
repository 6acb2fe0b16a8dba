//! The engine of DHCPv6 and the advertiser, without sockets. Messages are built and read by `dhcproto`, which the engine
//! does not use.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod adverts;
mod hostile;
mod kit;
mod messages;
mod relay;
