//! Patterns for paths, such as `/assets/**` or `*.css`.
//!
//! Pure: compares bytes with bytes, in time linear in the length of the path. Lengths, slashes and
//! the text at both ends decide most patterns. For the others, a 64-bit word represents 64
//! positions of the path, because a request is compared with perhaps a thousand rules. Paths are
//! normalized: decoded, with one slash between names.
//!
//! Must not know what a match is used for.

use std::borrow::Cow;

use crate::http::target;
use crate::text;

/// Maximum number of wildcards in one pattern, because targets refer to them as `$1` to `$9`.
pub(crate) const WILDCARDS_MAX: usize = 9;

/// A path that is compared with patterns. Values that all patterns need are computed once.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'p> {
    path: Cow<'p, [u8]>,
    /// Offset of the last name.
    name_at: usize,
    slashes: usize,
}

impl<'p> Subject<'p> {
    /// Prepares a normalized path.
    pub(crate) fn of(path: impl Into<Cow<'p, [u8]>>) -> Self {
        let path = path.into();
        let name_at = memchr::memrchr(b'/', &path).map_or(0, |at| at + 1);
        let slashes = memchr::memchr_iter(b'/', &path).count();
        Subject { path, name_at, slashes }
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
    /// True for a pattern without a slash, which is matched with the last name of a path.
    is_name: bool,
    /// Bytes and slashes of the text parts. No path with fewer of them matches.
    text_bytes: usize,
    text_slashes: usize,
    /// True if a wildcard can match slashes.
    spans_folders: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// These bytes.
    Text(Vec<u8>),
    /// `*`: any bytes without a slash.
    Name,
    /// `**`: any bytes.
    Rest,
    /// `**/`: any number of folders, including none.
    Folders,
}

impl Pattern {
    /// Compiles a pattern. Escapes such as `%20` are decoded.
    ///
    /// # Errors
    ///
    /// The reason why the pattern is invalid.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("the pattern is empty".to_owned());
        }
        let is_name = !text.contains('/');
        if !is_name && !text.starts_with(['/', '*']) {
            return Err("a pattern with a slash must begin with a slash".to_owned());
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
                _ => return Err("more than two adjacent stars".to_owned()),
            });
        }
        push_text(&mut parts, rest)?;
        let pattern = Pattern::of(parts, is_name);
        match pattern.wildcards() {
            0..=WILDCARDS_MAX => Ok(pattern),
            _ => Err(format!("more than {WILDCARDS_MAX} wildcards")),
        }
    }

    fn of(parts: Vec<Part>, is_name: bool) -> Pattern {
        let texts = parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(&text[..]),
            Part::Name | Part::Rest | Part::Folders => None,
        });
        let (mut text_bytes, mut text_slashes) = (0, 0);
        for text in texts {
            text_bytes += text.len();
            text_slashes += memchr::memchr_iter(b'/', text).count();
        }
        let spans_folders = parts.iter().any(|part| matches!(part, Part::Rest | Part::Folders));
        Pattern { parts, is_name, text_bytes, text_slashes, spans_folders }
    }

    /// Returns the folder that the text names before the first wildcard, without a slash at the
    /// end. Without wildcards, returns the whole path. `None` for a name pattern.
    pub(crate) fn folder(&self) -> Option<&[u8]> {
        let Some(Part::Text(text)) = self.parts.first().filter(|_| !self.is_name) else { return None };
        match self.parts.len() {
            1 => Some(text.strip_suffix(b"/").unwrap_or(text)),
            _ => text.get(..memchr::memrchr(b'/', text)?),
        }
    }

    /// Returns the number of wildcards.
    pub(crate) fn wildcards(&self) -> usize {
        self.parts.iter().filter(|part| !matches!(part, Part::Text(_))).count()
    }

    /// Returns whether the pattern matches this path.
    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        self.captures(subject).is_some()
    }

    /// Returns the pieces of this path that the wildcards match, from left to right, each as long
    /// as possible. `None` if the pattern does not match.
    pub(crate) fn captures<'s>(&self, subject: &'s Subject<'_>) -> Option<Vec<&'s [u8]>> {
        let mut path = &subject.path[..];
        if self.is_name {
            path = &path[subject.name_at..];
        } else {
            let more = subject.slashes.checked_sub(self.text_slashes)?;
            if more > 0 && !self.spans_folders {
                return None;
            }
        }
        if path.len() < self.text_bytes {
            return None;
        }
        // The text at both ends is nearly always decisive, and cheap to compare.
        let mut parts = &self.parts[..];
        if let [Part::Text(text), rest @ ..] = parts {
            (path, parts) = (path.strip_prefix(&text[..])?, rest);
        }
        if let [rest @ .., Part::Text(text)] = parts {
            (path, parts) = (path.strip_suffix(&text[..])?, rest);
        }
        match parts {
            [] => path.is_empty().then(Vec::new),
            // The slashes were counted already, so this piece contains none.
            [Part::Name] => Some(vec![path]),
            [one] => one.takes(path).then(|| vec![one.captured(path)]),
            several => walk(several, path),
        }
    }
}

impl Part {
    /// Returns whether the part can match all of `piece`.
    fn takes(&self, piece: &[u8]) -> bool {
        match self {
            Part::Text(text) => text == piece,
            Part::Name => !piece.contains(&b'/'),
            Part::Rest => true,
            Part::Folders => piece.is_empty() || piece.ends_with(b"/"),
        }
    }

    /// Returns the text that a target inserts: folders without their last slash.
    fn captured<'p>(&self, piece: &'p [u8]) -> &'p [u8] {
        match self {
            Part::Folders => piece.strip_suffix(b"/").unwrap_or(piece),
            Part::Text(_) | Part::Name | Part::Rest => piece,
        }
    }
}

/// Matches a pattern with several wildcards. A first pass from the end finds the positions from
/// which the remaining parts match. So the second pass never backtracks, and no path makes it slow.
fn walk<'p>(parts: &[Part], path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
    let words = path.len() / WORD_BITS + 1;
    let slashes = places(path, b'/', words);
    // Row `number`, bit `left`: the parts from this one on match the last `left` bytes of the path.
    let mut rows = vec![0; (parts.len() + 1) * words];
    rows[parts.len() * words] = 1;
    for (number, part) in parts.iter().enumerate().rev() {
        let (earlier, behind) = rows.split_at_mut((number + 1) * words);
        let (own, behind) = (&mut earlier[number * words..], &behind[..words]);
        match part {
            Part::Text(text) => fit_text(text, path, behind, own),
            Part::Name => fit_name(&slashes, behind, own),
            Part::Rest => fit_rest(behind, own),
            Part::Folders => fit_folders(&slashes, behind, own),
        }
    }
    if !has(&rows[..words], path.len()) {
        return None;
    }
    let mut captures = Vec::new();
    let mut left = path.len();
    for (number, part) in parts.iter().enumerate() {
        let behind = &rows[(number + 1) * words..(number + 2) * words];
        let at = path.len() - left;
        // The longest piece after which the remaining parts still match.
        let next = match part {
            Part::Text(text) => left - text.len(),
            Part::Name => {
                let bytes_max = memchr::memchr(b'/', &path[at..]).unwrap_or(left);
                (left - bytes_max..=left).find(|&next| has(behind, next))?
            }
            Part::Rest => (0..=left).find(|&next| has(behind, next))?,
            Part::Folders => {
                (0..left).find(|&next| has(behind, next) && has(&slashes, next + 1)).unwrap_or(left)
            }
        };
        if !matches!(part, Part::Text(_)) {
            captures.push(part.captured(&path[at..path.len() - next]));
        }
        left = next;
    }
    Some(captures)
}

const WORD_BITS: usize = u64::BITS as usize;

/// Returns whether this bit of a row is set.
fn has(row: &[u64], bit: usize) -> bool {
    row.get(bit / WORD_BITS).is_some_and(|word| word >> (bit % WORD_BITS) & 1 == 1)
}

/// Returns the positions of `byte`: bit `left` is set if it is the first of the last `left` bytes.
fn places(path: &[u8], byte: u8, words: usize) -> Vec<u64> {
    let mut row = vec![0; words];
    for (number, block) in path.rchunks(16).enumerate() {
        let (block, len) = text::first_block(block);
        // The last byte of the block has the lowest bit, so the order is reversed.
        let found = u64::from(text::equal(block, byte).to_bitmask().reverse_bits()) >> (32 - len);
        let bit = 16 * number + 1;
        // A block of 16 may extend into the next word. It never begins at the lowest bit of a word.
        row[bit / WORD_BITS] |= found << (bit % WORD_BITS);
        if let Some(next) = row.get_mut(bit / WORD_BITS + 1) {
            *next |= found >> (WORD_BITS - bit % WORD_BITS);
        }
    }
    row
}

/// Marks the positions of text that is followed by a position in `behind`. Its first and last byte
/// are nearly always decisive.
fn fit_text(text: &[u8], path: &[u8], behind: &[u64], own: &mut [u64]) {
    let [first, .., last] = text else {
        let Some(&only) = text.first() else { return own.copy_from_slice(behind) };
        for (number, word) in places(path, only, behind.len()).into_iter().enumerate() {
            own[number] = word & word_of_shifted(behind, 1, number);
        }
        return;
    };
    let lasts = places(path, *last, behind.len());
    for (number, mut word) in places(path, *first, behind.len()).into_iter().enumerate() {
        word &= word_of_shifted(behind, text.len(), number);
        word &= word_of_shifted(&lasts, text.len() - 1, number);
        while word != 0 {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            let left = number * WORD_BITS + bit;
            if path[path.len() - left..].starts_with(text) {
                own[number] |= 1 << bit;
            }
        }
    }
}

/// Returns one word of `row` shifted by so many bits, towards the beginning of the path.
fn word_of_shifted(row: &[u64], bits: usize, number: usize) -> u64 {
    let Some(from) = number.checked_sub(bits / WORD_BITS) else { return 0 };
    let moved = row[from] << (bits % WORD_BITS);
    match (from.checked_sub(1), bits % WORD_BITS) {
        (Some(before), rest @ 1..) => moved | row[before] >> (WORD_BITS - rest),
        (Some(_) | None, _) => moved,
    }
}

/// `*`: marks from each position in `behind` back to the slash before it. Without a slash in
/// between, the carry of an addition passes through a whole word at once.
fn fit_name(slashes: &[u64], behind: &[u64], own: &mut [u64]) {
    let mut carry = 0;
    for ((own, behind), slashes) in own.iter_mut().zip(behind).zip(slashes) {
        let free = !slashes;
        let starts = (behind << 1 | carry) & free;
        let passed = (free.wrapping_add(starts) ^ free) | starts;
        *own = behind | (passed & free);
        carry = *own >> (WORD_BITS - 1);
    }
}

/// `**`: marks every position at or before the last position in `behind`.
fn fit_rest(behind: &[u64], own: &mut [u64]) {
    let mut is_behind = false;
    for (own, behind) in own.iter_mut().zip(behind) {
        *own = if is_behind { u64::MAX } else { behind | behind.wrapping_neg() };
        is_behind |= *behind != 0;
    }
}

/// `**/`: marks the positions in `behind`, and all positions before one of them that follows a
/// slash.
fn fit_folders(slashes: &[u64], behind: &[u64], own: &mut [u64]) {
    let mut is_behind = false;
    for (number, (own, behind)) in own.iter_mut().zip(behind).enumerate() {
        let next = slashes.get(number + 1).copied().unwrap_or(0);
        let after_slash = behind & (slashes[number] >> 1 | next << (WORD_BITS - 1));
        let before = after_slash | after_slash.wrapping_neg();
        *own =
            if is_behind { u64::MAX } else { behind | (before ^ after_slash & after_slash.wrapping_neg()) };
        is_behind |= after_slash != 0;
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    // Decoded like a path, but as a piece of one: it need not begin with a slash, and dots may be
    // part of a name.
    let decoded = target::decode_path(text.as_bytes()).map_err(|error| error.to_string())?;
    parts.push(Part::Text(decoded));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn captures(pattern: &str, path: &str) -> Option<Vec<String>> {
        let pattern = Pattern::parse(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        let subject = Subject::of(path.as_bytes());
        let captures = pattern.captures(&subject)?;
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

    /// The simple algorithm, which tries all pieces, the longest first.
    fn tries<'p>(parts: &[Part], path: &'p [u8], in_vain: &mut HashSet<[usize; 2]>) -> Option<Vec<&'p [u8]>> {
        let Some((first, rest)) = parts.split_first() else { return path.is_empty().then(Vec::new) };
        if in_vain.contains(&[parts.len(), path.len()]) {
            return None;
        }
        for end in (0..=path.len()).rev().filter(|&end| first.takes(&path[..end])) {
            if let Some(mut pieces) = tries(rest, &path[end..], in_vain) {
                if !matches!(first, Part::Text(_)) {
                    pieces.insert(0, first.captured(&path[..end]));
                }
                return Some(pieces);
            }
        }
        in_vain.insert([parts.len(), path.len()]);
        None
    }

    proptest! {
        #[test]
        fn matching_agrees_with_trying_everything(
            pattern in "/?[ab/*]{0,9}",
            path in prop_oneof!["/[ab/]{0,9}", "/[ab/]{50,140}", "/(a{1,80}|b{1,3}|(ab/){1,30}|/){0,5}"],
        ) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let subject = Subject::of(path.as_bytes());
                let about = if pattern.is_name { &subject.path[subject.name_at..] } else { path.as_bytes() };
                prop_assert_eq!(pattern.captures(&subject), tries(&pattern.parts, about, &mut HashSet::new()));
            }
        }
    }

    /// Each of these patterns needs work for every byte: the worst that a client can cause with
    /// rules that an operator may write. A release build takes at most 6 us for 4096 bytes.
    #[test]
    fn no_path_makes_it_slow() {
        let paths = ["a".repeat(16 * 1024), "a/".repeat(8 * 1024), "a/b-".repeat(4 * 1024)];
        for pattern in ["/**a**a**a**a**a**a**ab", "/**/a*/**/a*/**/a*/b", "/*/*", "/x/*/*", "**a*a*a*a**b"] {
            let pattern = Pattern::parse(pattern).unwrap();
            for path in &paths {
                assert!(!pattern.matches(&Subject::of(format!("/{path}").into_bytes())));
            }
        }
    }
}
