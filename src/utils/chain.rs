//! An error and its causes in one line.

use std::error::Error;
use std::fmt;

/// Shows an error and what caused it, joined by colons.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(err) = source {
            let text = err.to_string();
            // Some libraries repeat the cause in their own text.
            if !last.contains(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            source = err.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn chain(texts: &[&'static str]) -> String {
        let error = texts
            .iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Layer { text, source })));
        Chain(&*error.unwrap()).to_string()
    }

    #[test]
    fn each_cause_is_shown_once() {
        assert_eq!(chain(&["alone"]), "alone");
        assert_eq!(
            chain(&["could not start", "no such file"]),
            "could not start: no such file"
        );
        assert_eq!(
            chain(&["a: b", "b", "c"]),
            "a: b: c",
            "a cause that is repeated"
        );
    }
}
