//! The name that was meant.

/// How many letters may differ.
const SLIPS: usize = 2;

/// The one of `known` that is so close to `name` that it was meant. `None` where `name` is one of them, or
/// none is close.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    for known in known {
        match strsim::osa_distance(name, known) {
            0 => return None,
            slips if slips > SLIPS.min(known.len() / 3) => {}
            slips if best.is_none_or(|(least, _)| slips < least) => best = Some((slips, known)),
            _ => {}
        }
    }
    best.map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_close_is_meant() {
        let known = ["user", "admin", "readonly", "rw"];
        for (name, meant) in [
            ("usr", Some("user")),
            ("usre", Some("user")),
            ("readonli", Some("readonly")),
            ("user", None),
            ("guest", None),
            ("ro", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }
}
