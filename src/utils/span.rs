//! Lengths of time for people.

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
}
