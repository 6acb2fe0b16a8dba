//! What RFCs ask for, one module per RFC and one test per section; and who sees what.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod against_hickory;
mod dnssec;
mod forwarding;
mod inspect;
mod matrix;
mod messages;
mod rfc1034;
mod rfc2136;
mod rfc2317;
mod rfc4035;
mod rfc4592;
mod rfc4703;
mod rfc5936;
mod rfc7873;
mod rfc8914;
mod rfc8945;
mod rfc9824;
mod support;
