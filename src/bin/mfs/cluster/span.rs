//! Lengths of time as people write and read them: `24h`, `90s`, `7d`.

/// Seconds of a text such as `90s`, `30m`, `24h`, `7d`; a bare number is seconds.
///
/// # Errors
/// A sentence with examples.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no length of time; write 90s, 30m, 24h or 7d");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// The largest unit that fits, rounded down: `45s`, `12m`, `3h`, `5d`.
pub(super) fn show(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("30m", 1_800), ("24h", 86_400), ("7d", 604_800)]
        {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "h",
            "-1h",
            "1.5h",
            "1w",
            "0",
            "0h",
            "99999999999999999999d",
            "18446744073709551615d",
            "1 h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(
            [0, 59, 60, 3_599, 3_600, 172_799, 172_800].map(show),
            ["0s", "59s", "1m", "59m", "1h", "47h", "2d"]
        );
    }
}
