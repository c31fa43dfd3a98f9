//! Lengths of time for people.

use std::time::Duration;

/// A length of time, in seconds, in the largest unit of which there are two.
#[must_use]
pub fn span(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3600.0, "h"), (60.0, "m")];
    let unit = units
        .into_iter()
        .find(|(length, _)| seconds >= 2.0 * length - 1.0);
    let (length, name) = unit.unwrap_or((1.0, "s"));
    format!("{:.0}{name}", seconds / length)
}

/// A length of time in two digits, for log lines. Whole seconds are not shortened.
#[must_use]
pub fn brief(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_millis() {
        9950.. => format!("{seconds:.0}s"),
        995..9950 => format!("{seconds:.1}s"),
        10..995 => format!("{:.0}ms", seconds * 1e3),
        _ => format!("{:.1}ms", seconds * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits() {
        for (seconds, text) in [
            (0.0, "0s"),
            (118.0, "118s"),
            (119.0, "2m"),
            (7199.0, "2h"),
            (3.0 * 3600.0, "3h"),
            (2.0 * 86_400.0, "2d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn log_lines_have_two_digits() {
        for (micros, text) in [
            (0, "0.0ms"),
            (1234, "1.2ms"),
            (12_345, "12ms"),
            (994_900, "995ms"),
            (1_049_000, "1.0s"),
            (9_949_000, "9.9s"),
            (9_950_000, "10s"),
            (312_345_678, "312s"),
        ] {
            assert_eq!(brief(Duration::from_micros(micros)), text);
        }
    }
}
