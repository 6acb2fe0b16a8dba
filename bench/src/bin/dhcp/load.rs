//! The load: Kea's `perfdhcp`, and what it says at its end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Exchanges per second.
    pub(crate) rate: u32,
    /// For so many seconds.
    pub(crate) seconds: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// What was asked.
    pub(crate) load: Load,
    /// DISCOVER messages sent.
    pub(crate) begun: u64,
    /// ACKs received.
    pub(crate) done: u64,
    /// Processor time of the server.
    pub(crate) cpu: Duration,
}

impl Outcome {
    /// Processor time of an exchange, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count(self.done)
    }

    /// Exchanges that were lost, of one.
    pub(crate) fn lost(&self) -> f64 {
        1.0 - count(self.done) / count(self.begun)
    }

    /// Did the generator send nearly as much as it was told to?
    pub(crate) fn is_on_time(&self) -> bool {
        let wanted = f64::from(self.load.rate) * f64::from(self.load.seconds);
        count(self.begun) >= wanted * 0.98
    }
}

/// Fewer than 2^32 messages are sent in a round.
fn count(messages: u64) -> f64 {
    u32::try_from(messages).map_or(f64::INFINITY, f64::from)
}

/// Reads what perfdhcp says at its end: messages sent of the first exchange, and received of the second.
///
/// # Errors
///
/// It says something else.
pub(crate) fn counts(text: &str) -> Result<(u64, u64)> {
    let part = |name: &str| {
        let at = text.find(&format!("Statistics for: {name}"))?;
        text.get(at..)
    };
    let number = |part: &str, key: &str| {
        let line = part
            .lines()
            .find_map(|line| line.trim().strip_prefix(key))?;
        line.trim().parse::<u64>().ok()
    };
    let begun = part("DISCOVER-OFFER").and_then(|part| number(part, "sent packets:"));
    let done = part("REQUEST-ACK").and_then(|part| number(part, "received packets:"));
    let (begun, done) = (
        begun.context("no count of DISCOVER messages")?,
        done.context("no count of ACKs")?,
    );
    ensure!(begun > 0, "perfdhcp sent nothing");
    Ok((begun, done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_out_of_the_report() {
        let text = "Rate: 99.6 4-way exchanges/second, expected rate: 100\n\n\
            ***Statistics for: DISCOVER-OFFER***\nsent packets: 500\nreceived packets: 499\ndrops: 1\n\n\
            ***Statistics for: REQUEST-ACK***\nsent packets: 499\nreceived packets: 498\ndrops: 1\n";
        assert_eq!(counts(text).unwrap(), (500, 498));
        assert!(counts("Rate: 0").is_err());
    }

    #[test]
    fn a_generator_that_cannot_keep_up_is_seen() {
        let outcome = |begun| Outcome {
            load: Load {
                rate: 100,
                seconds: 5,
            },
            begun,
            done: begun,
            cpu: Duration::ZERO,
        };
        assert!(outcome(495).is_on_time());
        assert!(!outcome(400).is_on_time());
    }
}
