//! Names of headings, by which links within a README find them.
//!
//! The rules are those of GitHub, so that links work on both sites. This file must not know HTML.

use std::collections::HashMap;

/// Beginning of each `id` that a README sets. Without it, a README could take the names that the
/// page and its script use.
pub(super) const PREFIX: &str = "user-content-";

/// Longest name, in bytes. Longer ones are left out.
const NAME_BYTES_MAX: usize = 256;

/// The names that the headings of a README have so far.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    /// For each name, the number that its next namesake tries first.
    next: HashMap<String, usize>,
}

impl Anchors {
    /// Returns the name of a heading with this text; `None` if no character of it may be in a name.
    /// The second heading of a name gets `-1`, the third `-2`.
    pub(super) fn take(&mut self, text: &str) -> Option<String> {
        let name = name_of(text);
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut number = self.next.get(&name).copied().unwrap_or(0);
        let mut found = if number == 0 { name.clone() } else { format!("{name}-{number}") };
        // A heading `a-1` may precede the second heading `a`.
        while self.next.contains_key(&found) {
            number += 1;
            found = format!("{name}-{number}");
        }
        self.next.insert(name, number.max(1));
        self.next.entry(found.clone()).or_insert(1);
        Some(found)
    }
}

/// Returns the text in lower case, with hyphens for spaces, without punctuation.
fn name_of(text: &str) -> String {
    let kept = text.trim().chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.flat_map(char::to_lowercase).map(|char| if char == ' ' { '-' } else { char }).collect()
}

/// Returns true for a name that an author chose and that may become part of an `id`.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(|char: char| char.is_whitespace() || char.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_github() {
        let mut anchors = Anchors::default();
        for (text, name) in [
            ("Hello, World!", Some("hello-world")),
            (" C++ & Rust ", Some("c--rust")),
            ("Über_uns: 走马灯", Some("über_uns-走马灯")),
            ("a", Some("a")),
            ("A", Some("a-1")),
            ("a-1", Some("a-1-1")),
            ("a?", Some("a-2")),
            ("b-1", Some("b-1")),
            ("b", Some("b")),
            ("b", Some("b-2")),
            ("b", Some("b-3")),
            ("🚀 Go", Some("-go")),
            ("🚀", None),
            ("", None),
        ] {
            assert_eq!(anchors.take(text).as_deref(), name, "{text}");
        }
        assert_eq!(anchors.take(&"x".repeat(300)), None);
        assert!(is_name("top") && !is_name("") && !is_name("a b") && !is_name("a\u{1}"));
    }
}
