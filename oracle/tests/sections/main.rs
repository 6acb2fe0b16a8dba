//! The evaluator against `docs/isolation.md`: a table of rows per section.
//!
//! rustfmt is kept away from the tables: one row, one line.

#[rustfmt::skip]
mod section_1_link;
#[rustfmt::skip]
mod section_2_arp;
#[rustfmt::skip]
mod section_3_ip;
#[rustfmt::skip]
mod section_4_source;
#[rustfmt::skip]
mod section_5_groups;
#[rustfmt::skip]
mod section_6_neighbours;
#[rustfmt::skip]
mod section_7_servers;
#[rustfmt::skip]
mod section_8_connections;
#[rustfmt::skip]
mod section_9_policy;
mod support;
#[rustfmt::skip]
mod what_happens;
