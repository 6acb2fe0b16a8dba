//! Bits a second, as the inventory writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A bandwidth: `500kbit`, `200mbit` or `10gbit` a second (powers of 1,000, as `tc` has them), or `any`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Bandwidth {
    /// Thousand bits a second; 0: any.
    kbit: u32,
}

impl Bandwidth {
    /// No limit.
    pub const ANY: Self = Self { kbit: 0 };
    /// The least: a full frame passes in a fifth of a second.
    const LEAST: u32 = 64;
    /// The most: beyond it the packet path's unit of time, 1/1024 ns for an octet, is too coarse.
    const MOST: u32 = 100_000_000;
    const UNITS: [(&'static str, u32); 3] = [("gbit", 1_000_000), ("mbit", 1_000), ("kbit", 1)];

    /// Returns thousand bits a second; 0 if it is any.
    #[must_use]
    pub fn kbit(self) -> u32 {
        self.kbit
    }
}

/// The text is no bandwidth.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "no bandwidth: a whole number and `kbit`, `mbit` or `gbit`, from 64kbit to 100gbit, or `any`"
)]
pub struct NoBandwidth;

impl FromStr for Bandwidth {
    type Err = NoBandwidth;

    fn from_str(text: &str) -> Result<Self, NoBandwidth> {
        if text == "any" {
            return Ok(Self::ANY);
        }
        let mut units = Self::UNITS.into_iter();
        let of_unit = units.find_map(|(unit, kbit)| Some((text.strip_suffix(unit)?, kbit)));
        let (number, unit) = of_unit.ok_or(NoBandwidth)?;
        // `parse` also takes a sign.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoBandwidth);
        }
        let number: u32 = number.parse().map_err(|_| NoBandwidth)?;
        let kbit = number.checked_mul(unit).ok_or(NoBandwidth)?;
        if !(Self::LEAST..=Self::MOST).contains(&kbit) {
            return Err(NoBandwidth);
        }
        Ok(Self { kbit })
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("any");
        }
        let mut units = Self::UNITS.into_iter();
        match units.find(|(_, unit)| self.kbit.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.kbit / unit),
            None => write!(f, "{}kbit", self.kbit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["any", "64kbit", "1500kbit", "200mbit", "1gbit", "100gbit"] {
            let bandwidth: Bandwidth = text.parse().unwrap();
            assert_eq!(bandwidth.to_string(), text);
        }
        let same = ["1000mbit", "1000000kbit"].map(|text| text.parse::<Bandwidth>());
        assert_eq!(same, ["1gbit".parse(), "1gbit".parse()]);
    }

    #[test]
    fn what_is_no_bandwidth_is_refused() {
        let texts = [
            "",
            "0",
            "5",
            "mbit",
            "+5mbit",
            "-5mbit",
            "1.5mbit",
            "5 mbit",
            "5mbps",
            "63kbit",
            "101gbit",
            "4294967296kbit",
            "5000000gbit",
            "0mbit",
        ];
        for text in texts {
            assert_eq!(text.parse::<Bandwidth>(), Err(NoBandwidth), "{text}");
        }
    }
}
