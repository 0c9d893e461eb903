//! `Accept` and `Accept-Encoding`: choice of the form that the client prefers (RFC 9110 sections
//! 12.5.1 and 12.5.3).
//!
//! This file compares media ranges with media types, and weighs content codings. It must not know
//! the meaning of the offers.

use crate::http::field_lines::trim_ows;

/// Index of the offer that the client prefers. `None` if it accepts none of them (406).
///
/// Offers are media types as in `Content-Type`: `text/html; charset=utf-8`. The first offer is
/// chosen if there is no `Accept` line, or no readable element in it.
///
/// At equal weights, a media type that is named wins against one that only a wildcard covers. This
/// is because some clients append `*/*` without a weight (axios: `application/json, text/plain,
/// */*`). Other ties go to the first offer.
pub fn preferred<'a>(accept_lines: impl Iterator<Item = &'a [u8]>, offers: &[&str]) -> Option<usize> {
    let mut best: Vec<Option<Match>> = vec![None; offers.len()];
    let mut asked = false;
    for element in accept_lines.flat_map(|line| split_unquoted(line, b',')) {
        let Some(range) = MediaRange::parse(element) else { continue };
        asked = true;
        for (offer, best) in offers.iter().zip(&mut best) {
            // `None` is less than any match.
            *best = (*best).max(range.fits(offer.as_bytes()));
        }
    }
    if !asked {
        return (!offers.is_empty()).then_some(0);
    }
    let mut winner = None;
    let mut winning_rank = (0, Coverage::Any);
    for (index, found) in best.iter().enumerate() {
        let rank = found.map_or(winning_rank, |found| (found.weight, found.specificity.coverage()));
        if rank > winning_rank && rank.0 > 0 {
            winner = Some(index);
            winning_rank = rank;
        }
    }
    winner
}

/// True if no media range in `Accept` ranks above those that cover `offer`. A range ranks above if
/// its weight is higher, or if its weight is equal and it is narrower. So this is true for `*/*`,
/// and without `Accept`.
pub fn is_first_choice<'a>(accept_lines: impl Iterator<Item = &'a [u8]>, offer: &str) -> bool {
    let (mut asked, mut others, mut own) = (false, None, None);
    for range in accept_lines.flat_map(|line| split_unquoted(line, b',')).filter_map(MediaRange::parse) {
        asked = true;
        match range.fits(offer.as_bytes()) {
            Some(found) => own = own.max(Some(found)),
            None => others = others.max(Some((range.weight, range.coverage()))),
        }
    }
    let own = own.map(|found| (found.weight, found.specificity.coverage()));
    !asked || own.is_some_and(|own| own.0 > 0 && Some(own) >= others)
}

/// Weights of all codings in `Accept-Encoding`, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codings {
    /// Weights in the order of [`Coding::ALL`]. 0 means "not acceptable".
    weights: [u16; 3],
    /// Weight of content without a coding. `None` if it was not named: it is then acceptable as a
    /// last resort.
    identity: Option<u16>,
}

impl Codings {
    /// Weights in these lines of the header. Call this only if there is a line: without one,
    /// clients expect no coding.
    pub fn of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut named, mut identity, mut rest) = ([None; 3], None, None);
        for element in lines.flat_map(|line| line.split(|&byte| byte == b',')) {
            let (name, parameters) = cut(element, b';');
            let weight = match cut(parameters, b'=') {
                _ if parameters.is_empty() => Some(1000),
                parameter if is_weight(&parameter) => parse_weight(parameter.1),
                _ => None,
            };
            // An unreadable element changes no weight.
            let Some(weight) = weight else { continue };
            if name == b"*" {
                rest = Some(weight);
            } else if name.eq_ignore_ascii_case(b"identity") {
                identity = Some(weight);
            } else if let Some(coding) = Coding::of(name) {
                named[coding as usize] = Some(weight);
            }
        }
        Codings {
            weights: named.map(|weight| weight.or(rest).unwrap_or(0)),
            identity: identity.or(rest.filter(|&weight| weight == 0)),
        }
    }

    /// Preferred coding among those for which `is_offered` is true. `None` if the client prefers
    /// content without a coding. Ties go by the order of [`Coding::ALL`].
    #[must_use]
    pub fn choose(&self, is_offered: impl Fn(Coding) -> bool) -> Option<Coding> {
        let mut best = None;
        // A client that names a coding but not identity prefers that coding, whatever its weight.
        let mut best_weight = self.identity.unwrap_or(0);
        for coding in Coding::ALL {
            let weight = self.weights[coding as usize];
            // At equal weight, a coding wins against identity because it is smaller, but not
            // against an earlier coding.
            let wins = weight > best_weight || (best.is_none() && weight == best_weight);
            if weight > 0 && wins && is_offered(coding) {
                best = Some(coding);
                best_weight = weight;
            }
        }
        best
    }

    /// True if content without a coding is not acceptable: `identity;q=0`, or `*;q=0` without a
    /// weight for identity.
    #[must_use]
    pub fn refuses_identity(&self) -> bool {
        self.identity == Some(0)
    }
}

/// A content coding that this server can offer (RFC 9110 section 8.4.1), best compression first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coding {
    /// `br` (RFC 7932)
    Brotli,
    /// `zstd` (RFC 8878)
    Zstd,
    /// `gzip` (RFC 1952)
    Gzip,
}

impl Coding {
    /// All codings, in the order of the server's preference.
    pub const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// Name in `Content-Encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    fn of(name: &[u8]) -> Option<Coding> {
        // `x-gzip` has the same meaning by RFC 9110 section 8.4.1.3.
        let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
        Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }
}

/// Match of a media range with an offer, and its weight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    specificity: Specificity,
    /// Weight in thousandths: 0 means "not acceptable".
    weight: u16,
}

/// Specificity of a media range. The most specific range decides, whatever the weights are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    /// `*/*`
    Any,
    /// `text/*`
    Type,
    /// `text/html`
    Subtype,
    /// `text/html;level=1`, with the number of parameters.
    Parameters(usize),
}

impl Specificity {
    /// Parameters only decide which range applies to an offer. An offer that matches with
    /// parameters counts as named, as it does without them.
    fn coverage(self) -> Coverage {
        match self {
            Specificity::Any => Coverage::Any,
            Specificity::Type => Coverage::Type,
            Specificity::Subtype | Specificity::Parameters(_) => Coverage::Named,
        }
    }
}

/// Coverage of an offer by a media range, for ties between offers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Coverage {
    Any,
    Type,
    Named,
}

/// One element of `Accept`.
struct MediaRange<'a> {
    main: &'a [u8],
    sub: &'a [u8],
    /// Parameters after the type, with the weight and all that follows it.
    parameters: &'a [u8],
    weight: u16,
}

impl<'a> MediaRange<'a> {
    /// `None` for an unreadable element, which changes no weight.
    fn parse(element: &'a [u8]) -> Option<MediaRange<'a>> {
        let (media, parameters) = cut(element, b';');
        let (main, sub) = match media {
            // Not a media range, but old Java clients send it.
            b"*" => (media, media),
            _ => type_and_subtype(media)?,
        };
        if main == b"*" && sub != b"*" {
            return None;
        }
        let weight = match split_unquoted(parameters, b';').map(|piece| cut(piece, b'=')).find(is_weight) {
            Some((_, value)) => parse_weight(value)?,
            None => 1000,
        };
        Some(MediaRange { main, sub, parameters, weight })
    }

    fn coverage(&self) -> Coverage {
        match (self.main, self.sub) {
            (b"*", _) => Coverage::Any,
            (_, b"*") => Coverage::Type,
            _ => Coverage::Named,
        }
    }

    fn fits(&self, offer: &[u8]) -> Option<Match> {
        let (media, offered) = cut(offer, b';');
        let (main, sub) = type_and_subtype(media)?;
        let specificity = if self.main == b"*" {
            Specificity::Any
        } else if !self.main.eq_ignore_ascii_case(main) {
            return None;
        } else if self.sub == b"*" {
            Specificity::Type
        } else if !self.sub.eq_ignore_ascii_case(sub) {
            return None;
        } else {
            Specificity::Subtype
        };
        // Parameters narrow the range: the offer must have each of them. Parameters after the
        // weight are no part of the media type.
        let wanted = || {
            split_unquoted(self.parameters, b';').map(|piece| cut(piece, b'=')).take_while(|p| !is_weight(p))
        };
        if !wanted().all(|parameter| has_parameter(offered, parameter)) {
            return None;
        }
        let specificity = match (specificity, wanted().count()) {
            (Specificity::Subtype, count) if count > 0 => Specificity::Parameters(count),
            (specificity, _) => specificity,
        };
        Some(Match { specificity, weight: self.weight })
    }
}

/// True if a parameter list contains this name with this value, both in any case, and quoted or
/// not.
fn has_parameter(parameters: &[u8], (name, value): (&[u8], &[u8])) -> bool {
    split_unquoted(parameters, b';').map(|piece| cut(piece, b'=')).any(|(other_name, other_value)| {
        other_name.eq_ignore_ascii_case(name) && unquote(other_value).eq_ignore_ascii_case(unquote(value))
    })
}

fn is_weight((name, _): &(&[u8], &[u8])) -> bool {
    name.eq_ignore_ascii_case(b"q")
}

/// Weight in thousandths (RFC 9110 section 12.4.2): `0` to `1` with up to three decimals. `.5` is
/// accepted.
fn parse_weight(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &value[value.len()..]),
    };
    let whole = match whole {
        b"1" => 1000,
        b"0" => 0,
        b"" if !decimals.is_empty() => 0,
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths =
        decimals.iter().zip([100, 10, 1]).map(|(digit, unit)| u16::from(digit - b'0') * unit).sum::<u16>();
    (whole + thousandths <= 1000).then_some(whole + thousandths)
}

/// Both parts of `text/html`, neither empty.
fn type_and_subtype(media: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = media.iter().position(|&byte| byte == b'/')?;
    let (main, sub) = (&media[..slash], &media[slash + 1..]);
    (!main.is_empty() && !sub.is_empty() && !sub.contains(&b'/')).then_some((main, sub))
}

/// Bytes before and after the first separator, without white space around them.
fn cut(value: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match value.iter().position(|&byte| byte == separator) {
        Some(at) => (trim_ows(&value[..at]), trim_ows(&value[at + 1..])),
        None => (trim_ows(value), b""),
    }
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    }
}

/// Pieces between separators that are not in a quoted string (RFC 9110 section 5.6.4). White space
/// around them and empty pieces are removed.
fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let pieces = value.split(move |&byte| {
        if escaped {
            escaped = false;
        } else if quoted && byte == b'\\' {
            escaped = true;
        } else if byte == b'"' {
            quoted = !quoted;
        }
        !quoted && byte == separator
    });
    pieces.map(trim_ows).filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests;
