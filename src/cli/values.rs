//! Parses the sizes and durations that a person types.
//!
//! Invariant: an accepted value is finite, and a duration can be added to the current time. Any
//! other text is an error that says why.

use std::time::Duration;

use crate::reactor::FAR_FUTURE;

/// Parses a size in bytes from 1 to `max` MiB: `4096`, `64K`, `1M`, `1G`. The units are powers of
/// 1024.
///
/// # Errors
/// The error says why the text is not such a size.
pub fn nonzero_size(text: &str, max: usize) -> Result<usize, String> {
    let (digits, unit) = split(text);
    let factor: usize = match unit {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err("expected a size such as 4096, 64K or 1M".into()),
    };
    if digits.is_empty() || digits.contains('.') {
        return Err("expected a size such as 4096, 64K or 1M".into());
    }
    match digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(0) => Err("must not be zero".into()),
        Some(size) if size <= max << 20 => Ok(size),
        _ if max.is_multiple_of(1024) => Err(format!("must be at most {}G", max / 1024)),
        _ => Err(format!("must be at most {max}M")),
    }
}

/// Parses a duration in seconds (`30`, `0.5`), or with a unit (`250ms`, `2m`, `1h`).
///
/// ```
/// use std::time::Duration;
/// use echo_reactor::cli::duration;
/// assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
/// assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
/// assert!(duration("-1").is_err() && duration("nan").is_err());
/// ```
///
/// # Errors
/// The error says why the text is not a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a duration such as 30, 0.5, 250ms or 2m".into()),
    };
    let number: f64 = digits.parse().map_err(|_| "expected a duration such as 30, 0.5, 250ms or 2m")?;
    match Duration::try_from_secs_f64(number * factor) {
        Ok(duration) if duration <= FAR_FUTURE => Ok(duration),
        _ => Err(format!("must be at most {} hours", FAR_FUTURE.as_secs() / 3600)),
    }
}

/// Parses a [`duration`] that is not zero.
///
/// # Errors
/// The error says why the text is not such a duration.
pub fn nonzero_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must not be zero".into()),
        duration => Ok(duration),
    }
}

/// Splits a number from its unit. A sign belongs to neither, so it makes the number invalid.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(nonzero_size("1", 9), Ok(1));
        assert_eq!(nonzero_size("64K", 9), Ok(65_536));
        assert_eq!(nonzero_size("2g", 2048), Ok(2 << 30));
        assert_eq!(nonzero_size("2049M", 2048), Err("must be at most 2G".into()));
    }

    #[test]
    fn rejects_invalid_sizes() {
        for text in
            ["", "K", "-1", "+1", "1.5K", "1KB", " 1", "0", "0K", "99999999999999999999", "9999999999G"]
        {
            assert!(nonzero_size(text, 1024).is_err(), "{text:?}");
        }
        for text in ["K", "1.5K"] {
            assert!(nonzero_size(text, 1024).unwrap_err().starts_with("expected a size "), "{text:?}");
        }
    }

    #[test]
    fn rejects_invalid_durations() {
        for text in ["", "s", "-1", "nan", "inf", "1e999", "1 s", "1d", ".", "99999999999999999999", "1..2"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        for (text, microseconds) in [
            ("1", 1_000_000),
            ("1s", 1_000_000),
            ("2us", 2),
            ("2.5ms", 2500),
            ("1.5m", 90_000_000),
            ("1h", 3_600_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_micros(microseconds)), "{text}");
        }
    }

    #[test]
    fn zero_duration_is_rejected_only_where_it_makes_no_sense() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(nonzero_duration("0").is_err());
        assert!(nonzero_duration("0.0000000001").is_err());
    }
}
