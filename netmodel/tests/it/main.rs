//! Tests of netmodel as its users see it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its input must fail"
)]

mod ansible;
mod audience;
mod common;
mod findings;
mod lab;
mod model;
mod published;
mod sample;
mod show;
mod untrusted;
