//! Rates: so many in a second, a minute or an hour.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Wrong, value};
use crate::config::read::{Read, Reader};
use crate::config::settings::Rate;
use crate::config::tree::Node;

text_value! {
    /// `60/s`, `10/m` or `100/h`.
    RateText((NonZeroU32, Duration)), "a rate",
    { "type": "string", "pattern": "^[0-9]+/[smh]$", "examples": ["60/s", "10/m", "100/h"] }, parse_rate
}

fn parse_rate(text: &str) -> Result<(NonZeroU32, Duration), Wrong> {
    let wrong = |cure: String| Err(("not a rate".to_owned(), cure));
    let Some((count, unit)) = text.split_once('/') else {
        return match text.parse::<u32>() {
            Ok(count) => wrong(format!("write \"{count}/s\", \"{count}/m\" or \"{count}/h\"")),
            Err(_) => wrong(RATE_CURE.to_owned()),
        };
    };
    let Some((_, per)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return wrong(RATE_CURE.to_owned());
    };
    let digits = count.bytes().all(|b| b.is_ascii_digit());
    let count =
        count.parse::<u32>().ok().filter(|count| digits && *count <= COUNT_MAX).and_then(NonZeroU32::new);
    match count {
        Some(count) => Ok((count, *per)),
        None if digits => {
            Err(("out of range".to_owned(), format!("1 to {COUNT_MAX} in a second, minute or hour")))
        }
        None => wrong(RATE_CURE.to_owned()),
    }
}

/// Writes a rate as the file has it.
pub(in crate::config) fn show_rate(rate: &Rate) -> String {
    let unit = UNITS.iter().find(|(_, per)| *per == rate.per).map_or("s", |(name, _)| name);
    format!("{}/{unit}", rate.count)
}

const UNITS: &[(&str, Duration)] =
    &[("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];
const COUNT_MAX: u32 = 1_000_000;
const RATE_CURE: &str = "a whole number and /s, /m or /h: \"60/s\", \"10/m\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, expected) in [
            ("60/s", Ok((60, 1))),
            ("10/m", Ok((10, 60))),
            ("100/h", Ok((100, 3600))),
            ("60", Err("write \"60/s\"")),
            ("60/d", Err("/s, /m or /h")),
            ("0/s", Err("1 to 1000000")),
            ("1000001/s", Err("1 to 1000000")),
            ("-1/s", Err("/s, /m or /h")),
            ("+1/s", Err("/s, /m or /h")),
            ("1.5/s", Err("/s, /m or /h")),
            ("", Err("/s, /m or /h")),
        ] {
            match (parse_rate(text), expected) {
                (Ok((count, per)), Ok(expected)) => {
                    assert_eq!((count.get(), per.as_secs()), expected);
                    assert_eq!(show_rate(&Rate { count, per, burst: count }), text);
                }
                (Err((_, cure)), Err(part)) => assert!(cure.contains(part), "{text}: {cure}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
    }
}
