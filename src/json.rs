//! JSON strings, written by hand: the one part of JSON that can be got wrong.
//!
//! Pure. Objects and arrays are written where their content is; this must not know what they say.
//! Characters that change the direction of text are escaped too, so that a reader sees them.

use crate::text::is_bidi_control;

/// Writes a string as JSON has it (RFC 8259 section 7).
pub(crate) fn push_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' || control == '\x7f' || is_bidi_control(control) => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was(text in ".*") {
            let mut json = String::new();
            push_string(&text, &mut json);
            prop_assert_eq!(serde_json::from_str::<String>(&json).ok(), Some(text));
        }
    }
}
