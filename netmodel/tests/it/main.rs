//! Tests of netmodel as its users see it.

mod ansible;
mod audience;
mod common;
mod findings;
mod lab;
mod model;
mod sample;
mod show;
mod untrusted;
