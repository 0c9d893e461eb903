//! A QR code as text, for a camera that is held in front of a terminal.
//!
//! The crate `qrcode` computes the modules. This file draws two of them in each character, because
//! a character is about twice as high as wide. It must not know what the code contains.

use qrcode::{Color, EcLevel, QrCode};

/// Width of the light border around the code, in modules (ISO/IEC 18004 section 9.1).
const QUIET_ZONE: usize = 4;

/// Black on white, by numbers that no colour scheme of a terminal changes. So the code is the same
/// on dark and light terminals.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";

/// A drawn code.
#[derive(Debug)]
pub(super) struct Drawing {
    /// Lines of the code, each with a line feed.
    pub(super) text: String,
    /// Width of each line in columns.
    pub(super) columns: usize,
    /// Number of lines.
    pub(super) lines: usize,
}

/// Draws the code of `content`. Without colours, the drawing is right on a terminal that shows
/// light text on a dark background. Returns `None` if the content is too long for a code.
pub(super) fn draw(content: &str, is_colored: bool) -> Option<Drawing> {
    // A screen has no damage to correct, and a lower level makes larger modules.
    let code = QrCode::with_error_correction_level(content, EcLevel::L).ok()?;
    let (width, modules) = (code.width(), code.to_colors());
    let columns = width + 2 * QUIET_ZONE;
    let is_dark = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(QUIET_ZONE).filter(|at| *at < width);
        let (Some(x), Some(y)) = (inside(x), inside(y)) else { return false };
        modules.get(y * width + x) == Some(&Color::Dark)
    };
    let mut text = String::new();
    for y in (0..columns).step_by(2) {
        if is_colored {
            text.push_str(BLACK_ON_WHITE);
        }
        // The text colour is black with colours, and light without.
        text.extend((0..columns).map(|x| {
            match (is_dark(x, y) == is_colored, is_dark(x, y + 1) == is_colored) {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            }
        }));
        text.push_str(if is_colored { "\x1b[0m\n" } else { "\n" });
    }
    Some(Drawing { text, columns, lines: columns.div_ceil(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a drawing as a camera does, from eight pixels for each module.
    fn decoded(drawing: &Drawing, is_colored: bool) -> String {
        let plain = drawing.text.replace(BLACK_ON_WHITE, "").replace("\x1b[0m", "");
        let rows: Vec<Vec<char>> = plain.lines().map(|line| line.chars().collect()).collect();
        assert_eq!(rows.len(), drawing.lines);
        assert!(rows.iter().all(|row| row.len() == drawing.columns), "{plain}");
        const SCALE: usize = 8;
        let shade = |x: usize, y: usize| {
            let (x, y) = (x / SCALE, y / SCALE);
            let halves = match rows[y / 2][x] {
                '\u{2588}' => [true, true],
                '\u{2580}' => [true, false],
                '\u{2584}' => [false, true],
                ' ' => [false, false],
                other => panic!("{other:?}"),
            };
            if halves[y % 2] == is_colored { 0 } else { 255 }
        };
        let size = drawing.columns * SCALE;
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(size, size, shade);
        let found = picture.detect_grids();
        assert_eq!(found.len(), 1, "{plain}");
        found[0].decode().unwrap().1
    }

    #[test]
    fn a_camera_reads_the_url() {
        for url in [
            "http://192.168.178.123:8080/",
            "http://10.0.0.1/",
            "http://[2001:db8:1234:5678:9abc:def0:1234:5678]:49152/",
        ] {
            for is_colored in [true, false] {
                let drawing = draw(url, is_colored).unwrap();
                assert_eq!(decoded(&drawing, is_colored), url);
                assert!(drawing.columns <= 41 && drawing.lines <= 21, "it fits a terminal: {drawing:?}");
            }
        }
    }

    #[test]
    fn a_text_without_a_code_is_none() {
        assert!(draw(&"x".repeat(3000), true).is_none());
    }
}
