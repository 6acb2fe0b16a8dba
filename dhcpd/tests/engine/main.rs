//! The engine by the RFCs: a message and the time in, an answer or silence out.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod hostile;
mod kit;
mod messages;
mod options;
mod property;
mod relay;
mod reservations;
mod switch;
mod table4;
