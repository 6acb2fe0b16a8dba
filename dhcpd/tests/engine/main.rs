//! The engine by the RFCs: a message and the time in, an answer or silence out.

mod hostile;
mod kit;
mod messages;
mod options;
mod property;
mod relay;
mod reservations;
mod switch;
mod table4;
