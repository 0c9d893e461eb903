//! Texts of problems: error responses that consist of a status and one sentence.
//!
//! This file writes the form for clients that are not browsers. It must not know pages, nor why a
//! problem exists.

use crate::http::status::Status;
use crate::text::{human_size, visible};

/// A problem as plain text: one line with the status, and a second one with the sentence, unless
/// that is empty.
pub(super) fn plain(status: Status, sentence: &str) -> Vec<u8> {
    let mut text = format!("{} {}\n", status.code(), status.reason());
    if !sentence.is_empty() {
        text.push_str(&visible(sentence));
        text.push('\n');
    }
    text.into_bytes()
}

/// One sentence: `subject` is larger than `bytes_max`. It contains the limit, because a client
/// cannot know it.
pub(crate) fn over(bytes_max: u64, subject: &str) -> String {
    match human_size(bytes_max) {
        size if bytes_max < 1024 => format!("the {subject} is larger than {size}"),
        size => format!("the {subject} is larger than {size} ({bytes_max} bytes)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_problem_has_its_status_and_its_sentence() {
        let text = |status, sentence| String::from_utf8(plain(status, sentence)).unwrap();
        assert_eq!(text(Status::NOT_FOUND, "No such file"), "404 Not Found\nNo such file\n");
        assert_eq!(text(Status::INTERNAL_SERVER_ERROR, ""), "500 Internal Server Error\n");
        let turned = text(Status::NOT_FOUND, "no \u{202e}eman\u{2069}");
        assert!(turned.contains("no \\u{202e}eman\\u{2069}"), "{turned}");
    }
}
