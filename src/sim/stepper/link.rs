//! Addresses of steps: the fragment of a URL with the scenario, the choices, the guess and the
//! position, as in `#s=stale-answer&bug=none&n=37`.
//!
//! Only encoding and decoding; needs no operating system. This file must not know how a run is
//! made.

use std::fmt::Write as _;

use crate::sim::stepper::recording::{Choice, bug_named};

/// Longest link in bytes. Mail programs and forums cut longer ones.
pub const LINK_CHARS_MAX: usize = 2000;

/// Largest number of changed limits in a link.
const SETS_MAX: usize = 16;

/// A position of a run, with everything that the run depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Name of the scenario.
    pub scenario: String,
    /// Bug, seed and limits.
    pub choice: Choice,
    /// Index of the guess, if there is one.
    pub guess: Option<usize>,
    /// Number of steps that have happened.
    pub position: usize,
}

impl Link {
    /// Writes the link, which begins with `#`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::from("#s=");
        escape(&self.scenario, &mut out);
        let _ = write!(out, "&bug={}", self.choice.bug_name());
        if let Some(seed) = self.choice.seed {
            let _ = write!(out, "&seed={seed}");
        }
        for set in &self.choice.sets {
            out.push_str("&set=");
            escape(set, &mut out);
        }
        if let Some(guess) = self.guess {
            let _ = write!(out, "&g={}", guess + 1);
        }
        let _ = write!(out, "&n={}", self.position);
        out
    }

    /// Reads a link. An error is one line of text with the allowed values.
    pub fn decode(link: &str) -> Result<Link, String> {
        if link.len() > LINK_CHARS_MAX {
            return Err(format!("the link has {} bytes; allowed: at most {LINK_CHARS_MAX}", link.len()));
        }
        let fragment = link.rsplit_once('#').map_or(link, |(_, fragment)| fragment);
        let mut found = Link::default();
        for pair in fragment.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value).ok_or_else(|| format!("'{pair}' in the link is not UTF-8 text"))?;
            let number = |what: &str| {
                value.parse().map_err(|_| format!("'{pair}' in the link: allowed: {key}={what}"))
            };
            match key {
                "s" => found.scenario = value,
                "bug" => found.choice.bug = bug_named(&value)?,
                "seed" => found.choice.seed = Some(number("a number")?),
                "set" if found.choice.sets.len() < SETS_MAX => found.choice.sets.push(value),
                "set" => return Err(format!("too many limits in the link; allowed: {SETS_MAX}")),
                "g" => {
                    let guess = number("a number from 1")?;
                    found.guess = Some((guess as usize).wrapping_sub(1));
                }
                "n" => found.position = number("a number of steps")? as usize,
                other => {
                    let other: String = other.chars().take(40).collect();
                    return Err(format!("unknown '{other}' in the link; allowed: s, bug, seed, set, g, n"));
                }
            }
        }
        if found.scenario.is_empty() {
            return Err("the link names no scenario; allowed: #s=NAME&bug=NAME&n=STEP".to_owned());
        }
        Ok(found)
    }
}

/// Percent-encodes everything but letters, digits and `-._=`.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'=' => out.push(byte.into()),
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_link_has_the_form_that_pages_use() {
        let link = Link { scenario: "stale-answer".into(), position: 37, ..Link::default() };
        assert_eq!(link.encode(), "#s=stale-answer&bug=none&n=37");
        assert_eq!(Link::decode("https://example.org/learn/?embed=1#s=stale-answer&bug=none&n=37"), Ok(link));
    }

    #[test]
    fn bad_links_are_refused_with_the_allowed_values() {
        for (link, part) in [
            ("", "names no scenario"),
            ("#s=a&x=1", "allowed: s, bug, seed, set, g, n"),
            ("#s=a&bug=nix", "allowed: none, no-generations"),
            ("#s=a&n=-1", "allowed: n=a number of steps"),
            ("#s=%ff", "is not UTF-8"),
            (&"x".repeat(3000), "at most 2000"),
        ] {
            let error = Link::decode(link).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains('\n'));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            scenario in "[a-z][a-z-]{0,20}|\\PC{1,10}",
            bug in 0..15usize,
            seed in any::<Option<u64>>(),
            sets in proptest::collection::vec("\\PC{0,20}", 0..4),
            guess in proptest::option::of(0..64usize),
            position in 0..200_000usize,
        ) {
            let bug = crate::sim::bugs::BUGS.get(bug);
            let link = Link { scenario, choice: Choice { bug, seed, sets }, guess, position };
            prop_assert_eq!(Link::decode(&link.encode()), Ok(link));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            drop(Link::decode(&text));
        }
    }
}
