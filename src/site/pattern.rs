//! Patterns for paths, as in `/assets/**` or `*.css`.
//!
//! Pure: bytes against bytes, in time that grows with the length of the path and no faster. A path is the normalised
//! one: decoded, one slash between names.

use crate::http::target;

/// Wildcards in one pattern: a target names them `$1` to `$9`.
pub(crate) const WILDCARDS_MAX: usize = 9;

/// A pattern, ready to be matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
    /// Without a slash in it: it is matched with the last name of a path.
    is_name: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// These bytes.
    Text(Vec<u8>),
    /// `*`: anything without a slash.
    Name,
    /// `**`: anything.
    Rest,
    /// `**/`: any number of folders, none included.
    Folders,
}

impl Pattern {
    /// Reads a pattern. Escapes such as `%20` stand for their bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("the pattern is empty".to_owned());
        }
        let is_name = !text.contains('/');
        if !is_name && !text.starts_with(['/', '*']) {
            return Err("a pattern with a slash begins with one".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('*') {
            push_text(&mut parts, &rest[..at])?;
            let after_slash = match at {
                0 => matches!(parts.last(), None | Some(Part::Folders)),
                _ => rest[..at].ends_with('/'),
            };
            rest = &rest[at..];
            let stars = rest.len() - rest.trim_start_matches('*').len();
            rest = &rest[stars..];
            parts.push(match (stars, rest.strip_prefix('/')) {
                (1, _) => Part::Name,
                (2, Some(behind)) if after_slash => {
                    rest = behind;
                    Part::Folders
                }
                (2, _) => Part::Rest,
                _ => return Err("more than two stars side by side".to_owned()),
            });
        }
        push_text(&mut parts, rest)?;
        let pattern = Pattern { parts, is_name };
        match pattern.wildcards() {
            0..=WILDCARDS_MAX => Ok(pattern),
            _ => Err(format!("more than {WILDCARDS_MAX} wildcards")),
        }
    }

    /// How many wildcards it has.
    pub(crate) fn wildcards(&self) -> usize {
        self.parts.iter().filter(|part| !matches!(part, Part::Text(_))).count()
    }

    /// Whether it matches `path`.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        self.captures(path).is_some()
    }

    /// What its wildcards stand for in `path`, from left to right and each as long as can be; `None` if it does not
    /// match.
    pub(crate) fn captures<'p>(&self, path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
        let mut path = path;
        if self.is_name {
            let slash = memchr::memrchr(b'/', path);
            path = &path[slash.map_or(0, |at| at + 1)..];
        }
        // Text at both ends decides nearly always, and costs nothing.
        let mut parts = &self.parts[..];
        if let [Part::Text(text), rest @ ..] = parts {
            (path, parts) = (path.strip_prefix(&text[..])?, rest);
        }
        if let [rest @ .., Part::Text(text)] = parts {
            (path, parts) = (path.strip_suffix(&text[..])?, rest);
        }
        match parts {
            [] => path.is_empty().then(Vec::new),
            [one] => one.takes(path).then(|| vec![one.captured(path)]),
            several => walk(several, path),
        }
    }
}

impl Part {
    /// Whether it can stand for all of `piece`.
    fn takes(&self, piece: &[u8]) -> bool {
        match self {
            Part::Text(text) => text == piece,
            Part::Name => !piece.contains(&b'/'),
            Part::Rest => true,
            Part::Folders => piece.is_empty() || piece.ends_with(b"/"),
        }
    }

    /// What a target calls it: folders without their last slash.
    fn captured<'p>(&self, piece: &'p [u8]) -> &'p [u8] {
        match self {
            Part::Folders => piece.strip_suffix(b"/").unwrap_or(piece),
            Part::Text(_) | Part::Name | Part::Rest => piece,
        }
    }
}

/// A pattern with several wildcards. First, from the end, from where on which parts match; no choice has to be taken
/// back then, and no path makes this slow.
fn walk<'p>(parts: &[Part], path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
    let width = path.len() + 1;
    // fits[part * width + at]: the parts from this one on match the path from there on.
    let mut fits = vec![false; (parts.len() + 1) * width];
    fits[parts.len() * width + path.len()] = true;
    for (number, part) in parts.iter().enumerate().rev() {
        let (earlier, behind) = fits.split_at_mut((number + 1) * width);
        let (own, behind) = (&mut earlier[number * width..], &behind[..width]);
        let mut is_reachable = false;
        for at in (0..width).rev() {
            own[at] = match part {
                Part::Text(text) => path[at..].starts_with(text) && behind[at + text.len()],
                Part::Name => {
                    is_reachable &= path.get(at) != Some(&b'/');
                    is_reachable |= behind[at];
                    is_reachable
                }
                Part::Rest => {
                    is_reachable |= behind[at];
                    is_reachable
                }
                Part::Folders => {
                    let fits_here = behind[at] || is_reachable;
                    is_reachable |= at > 0 && path[at - 1] == b'/' && behind[at];
                    fits_here
                }
            };
        }
    }
    if !fits[0] {
        return None;
    }
    let mut captures = Vec::new();
    let mut at = 0;
    for (number, part) in parts.iter().enumerate() {
        let behind = &fits[(number + 1) * width..(number + 2) * width];
        let farthest = match part {
            Part::Text(text) => at + text.len(),
            Part::Name => memchr::memchr(b'/', &path[at..]).map_or(path.len(), |slash| at + slash),
            Part::Rest | Part::Folders => path.len(),
        };
        let end = (at..=farthest).rev().find(|&end| behind[end] && part.takes(&path[at..end]))?;
        if !matches!(part, Part::Text(_)) {
            captures.push(part.captured(&path[at..end]));
        }
        at = end;
    }
    Some(captures)
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    // Decoded like a path, but as a piece of one: it need not begin with a slash, and dots may be half a name.
    let decoded = target::decode_path(text.as_bytes()).map_err(|trouble| trouble.to_string())?;
    parts.push(Part::Text(decoded));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn captures(pattern: &str, path: &str) -> Option<Vec<String>> {
        let captures = Pattern::parse(pattern)
            .unwrap_or_else(|why| panic!("{pattern}: {why}"))
            .captures(path.as_bytes())?;
        Some(captures.into_iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect())
    }

    #[test]
    fn patterns_match_whole_paths_or_last_names() {
        let cases: &[(&str, &str, Option<&[&str]>)] = &[
            ("/a", "/a", Some(&[])),
            ("/a", "/a/", None),
            ("/a", "/b/a", None),
            ("/a%20b", "/a b", Some(&[])),
            ("/*", "/", Some(&[""])),
            ("/*", "/a", Some(&["a"])),
            ("/*", "/a/b", None),
            ("/**", "/", Some(&[""])),
            ("/**", "/a/b/", Some(&["a/b/"])),
            ("**", "/a/b", Some(&["b"])),
            ("*.css", "/a/b.css", Some(&["b"])),
            ("*.css", "/a.css/b", None),
            ("favicon.ico", "/x/favicon.ico", Some(&[])),
            ("favicon.ico", "/xfavicon.ico", None),
            ("/assets/**", "/assets/", Some(&[""])),
            ("/assets/**", "/assets", None),
            ("/assets/**", "/assets/a/b.js", Some(&["a/b.js"])),
            ("/old/*/x/*", "/old/1/x/2", Some(&["1", "2"])),
            ("/old/*/x/*", "/old/1/2/x/3", None),
            ("/**/*.jpg", "/a.jpg", Some(&["", "a"])),
            ("/**/*.jpg", "/a/b/c.jpg", Some(&["a/b", "c"])),
            ("/x/**/y", "/x/y", Some(&[""])),
            ("/x/**/y", "/x/1/2/y", Some(&["1/2"])),
            ("/x/**/y", "/x/1y", None),
            ("/x/**/y", "/x1/y", None),
            ("/a**b", "/axx/yb", Some(&["xx/y"])),
            ("/*-*-*", "/a-b-c-d", Some(&["a-b", "c", "d"])),
            ("/*/*", "//", Some(&["", ""])),
            ("**/x", "/a/x", Some(&["/a"])),
            ("/**/**/x", "/x", Some(&["", ""])),
        ];
        for (pattern, path, expected) in cases {
            let expected = expected.map(|pieces| pieces.iter().map(ToString::to_string).collect());
            assert_eq!(captures(pattern, path), expected, "{pattern} on {path}");
        }
        for bad in ["", "a/b", "/a***", "/%zz", "/a%2fb", "/%00", "/**********"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Pattern::parse("/*1*2*3*4*5*6*7*8*9*").is_err());
    }

    /// The obvious way, which tries everything.
    fn tries(parts: &[Part], path: &[u8]) -> bool {
        match parts {
            [] => path.is_empty(),
            [first, rest @ ..] => {
                (0..=path.len()).any(|end| first.takes(&path[..end]) && tries(rest, &path[end..]))
            }
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_trying_everything(pattern in "/[ab/*]{0,9}", path in "/[ab/]{0,9}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                prop_assert_eq!(pattern.matches(path.as_bytes()), tries(&pattern.parts, path.as_bytes()));
                if let Some(captures) = pattern.captures(path.as_bytes()) {
                    prop_assert_eq!(captures.len(), pattern.wildcards());
                }
            }
        }
    }

    #[test]
    fn no_path_makes_it_slow() {
        let pattern = Pattern::parse("/**a**a**a**a**a**a**ab").unwrap();
        assert!(!pattern.matches(format!("/{}", "a".repeat(16 * 1024)).as_bytes()));
    }
}
