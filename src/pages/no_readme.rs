//! READMEs of listings in builds without the feature `markdown`: none is shown.
//!
//! This file must not know folders.

/// Format of a README, of which there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Markup {}

/// Returns the format of a README with this name: always `None`.
pub(crate) fn markup_of(_name: &[u8]) -> Option<(Markup, u8)> {
    None
}

/// Renders a README.
pub(crate) fn render(_text: &[u8], markup: Markup) -> Option<Vec<u8>> {
    match markup {}
}
