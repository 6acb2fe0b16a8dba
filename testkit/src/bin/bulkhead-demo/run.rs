//! Trying a cell and telling what came of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testkit::raw::RawSocket;
use testkit::site::{HOST_LINK, Site, TRUNK_FAR_END};

use crate::bulkhead::Bulkhead;
use crate::plan::{Cell, Expected};
use crate::screen::Mark;
use crate::services::{Attempt, converse};
use crate::spoof::{Spoof, Start};
use crate::status::Counters;

/// How long a question may be under way without an answer and without a drop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks for an answer between two looks at the counters.
const LOOKS: usize = 6;
/// A client asks again after a second (RFC 6298 section 2).
const REPEAT: Duration = Duration::from_millis(900);

/// What came of a try.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    /// The answer came back.
    Answered,
    /// bulkhead counted a drop, for this reason.
    Dropped(String),
    /// Neither.
    Nothing,
}

/// A result as the table shows it.
pub(crate) type Shown = (Mark, String);

/// Tries things, one after the other.
pub(crate) struct Runner<'s> {
    pub(crate) site: &'s Site,
    pub(crate) bulkhead: &'s Bulkhead<'s>,
    /// Counters as of the last try.
    pub(crate) counters: Counters,
    pub(crate) tried: usize,
    pub(crate) wrong: Vec<String>,
}

impl Runner<'_> {
    /// Asks, and waits for the answer or for the drop.
    pub(crate) fn cell(&mut self, cell: &Cell) -> Result<Shown> {
        let start = Instant::now();
        let attempt = Attempt::start(self.site.host(&cell.from)?, cell.to, cell.probe)?;
        let (seen, now) = self.wait_for_outcome(attempt, start)?;
        // Only what was asked for so long may have been asked again, after the counters were read.
        let settled = if start.elapsed() > REPEAT {
            self.bulkhead.counters()?
        } else {
            now.clone()
        };
        let what = format!("{} → {} {:?}", cell.from, cell.to, cell.probe);
        let moved = now.since(&self.counters);
        self.counters = settled;
        Ok(self.judge(&what, &cell.expected, &seen, &moved))
    }

    /// Returns what came of it, and the counters afterwards. The client is gone by then.
    fn wait_for_outcome(&self, mut attempt: Attempt, start: Instant) -> Result<(Seen, Counters)> {
        loop {
            // Asking bulkhead takes longer than an answer: look for the answer a few times first.
            for _ in 0..LOOKS {
                if attempt.is_answered()? {
                    drop(attempt);
                    return Ok((Seen::Answered, self.bulkhead.counters()?));
                }
            }
            let now = self.bulkhead.counters()?;
            if let Some(reason) = first_drop(&now.since(&self.counters)) {
                return Ok((Seen::Dropped(reason), now));
            }
            if start.elapsed() > PATIENCE {
                return Ok((Seen::Nothing, now));
            }
        }
    }

    /// Sends a forged frame, and waits for the drop.
    pub(crate) fn spoof(&mut self, host: &str, spoof: &Spoof) -> Result<Shown> {
        let socket = match spoof.start {
            Start::Machine => RawSocket::open(self.site.host(host)?, HOST_LINK)?,
            Start::Trunk => RawSocket::open(&self.site.middle, TRUNK_FAR_END)?,
        };
        socket
            .send(&spoof.frame)
            .with_context(|| format!("sending {}", spoof.what))?;
        let start = Instant::now();
        let (seen, now) = loop {
            let now = self.bulkhead.counters()?;
            if let Some(reason) = first_drop(&now.since(&self.counters)) {
                break (Seen::Dropped(reason), now);
            }
            if start.elapsed() > PATIENCE {
                break (Seen::Nothing, now);
            }
        };
        let moved = now.since(&self.counters);
        self.counters = now;
        let what = format!("{host}: {}", spoof.what);
        Ok(self.judge(&what, &Expected::Dropped(spoof.reason), &seen, &moved))
    }

    /// Talks on one connection for a while; every exchange must be answered.
    pub(crate) fn conversation(
        &mut self,
        (from, to): (&str, SocketAddr),
        times: usize,
    ) -> Result<Shown> {
        let answered = converse(self.site.host(from)?, to, times);
        let seen = if answered.is_ok() {
            Seen::Answered
        } else {
            Seen::Nothing
        };
        let now = self.bulkhead.counters()?;
        let moved = now.since(&self.counters);
        self.counters = now;
        Ok(self.judge(
            &format!("{from} → {to}, {times} times"),
            &Expected::Allowed,
            &seen,
            &moved,
        ))
    }

    fn judge(&mut self, what: &str, expected: &Expected, seen: &Seen, moved: &Counters) -> Shown {
        self.tried += 1;
        let dropped: u64 = moved.drops().map(|(_, _, count)| count).sum();
        let packets = |count: u64| match count {
            1 => "1 packet".to_owned(),
            more => format!("{more} packets"),
        };
        let seen_text = match seen {
            Seen::Answered => packets(moved.allowed()),
            Seen::Dropped(reason) => format!("{reason} ×{dropped}"),
            Seen::Nothing => "no answer, no drop".to_owned(),
        };
        let (mark, text) = match (expected, seen) {
            (Expected::Allowed, Seen::Answered) if dropped == 0 => (Mark::Allowed, seen_text),
            (Expected::Dropped(reason), Seen::Dropped(seen)) if reason == seen => {
                (Mark::Dropped, seen_text)
            }
            (Expected::Allowed, _) => (Mark::Wrong, format!("{seen_text}; expected an answer")),
            (Expected::Dropped(reason), _) => {
                (Mark::Wrong, format!("{seen_text}; expected {reason}"))
            }
        };
        if mark == Mark::Wrong {
            let drops: Vec<_> = moved.drops().collect();
            self.wrong.push(format!(
                "{what}: expected {expected:?}, saw {seen:?}; drops {drops:?}"
            ));
        }
        (mark, text)
    }
}

/// Returns the reason of a drop.
fn first_drop(moved: &Counters) -> Option<String> {
    moved.drops().next().map(|(_, reason, _)| reason.to_owned())
}
