//! Dates of HTTP, logs and listings (RFC 9110 section 5.6.7), all in UTC.
//!
//! Times are seconds since 1970, and results are text. This file must not read a clock: the driver
//! does that once per turn.

use std::time::UNIX_EPOCH;

/// Dates of responses and log lines, each formatted at most once per second.
///
/// Each event loop or thread has one. Call it for each line: a hit costs one comparison.
#[derive(Clone, Debug)]
pub struct DateCache {
    http_secs: u64,
    http: [u8; 29],
    clf_secs: u64,
    clf: [u8; 26],
}

impl DateCache {
    /// A cache for the first second of 1970.
    pub fn new() -> Self {
        DateCache { http_secs: 0, http: fmt_http_date(0), clf_secs: 0, clf: fmt_clf(0) }
    }

    /// This second in the form of the `Date` header: `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn at(&mut self, unix_secs: u64) -> &[u8; 29] {
        if self.http_secs != unix_secs {
            self.http_secs = unix_secs;
            self.http = fmt_http_date(unix_secs);
        }
        &self.http
    }

    /// This second in the common log format, without brackets: `10/Oct/2000:13:55:36 +0000`.
    pub fn clf(&mut self, unix_secs: u64) -> &[u8; 26] {
        if self.clf_secs != unix_secs {
            self.clf_secs = unix_secs;
            self.clf = fmt_clf(unix_secs);
        }
        &self.clf
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

/// Parses a date in any of the three forms of RFC 9110 section 5.6.7: IMF-fixdate, RFC 850,
/// asctime.
///
/// Returns seconds since 1970. `None` for other forms, impossible dates, wrong weekdays and years
/// before 1970.
pub fn parse_http_date(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Date as IMF-fixdate, as in `Date` and `Last-Modified`: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn fmt_http_date(unix_secs: u64) -> [u8; 29] {
    let civil = Civil::at(unix_secs);
    let mut out = *b"Www, dd Mmm yyyy hh:mm:ss GMT";
    out[0..3].copy_from_slice(civil.weekday_name());
    put_digits(&mut out[5..7], civil.day);
    out[8..11].copy_from_slice(civil.month_name());
    put_digits(&mut out[12..16], civil.year);
    put_digits(&mut out[17..19], civil.hour);
    put_digits(&mut out[20..22], civil.minute);
    put_digits(&mut out[23..25], civil.second);
    out
}

/// Date as ISO 8601 with milliseconds, for logs read by programs: `2026-11-21T09:50:00.123Z`.
pub fn iso8601(unix_secs: u64, millis: u32) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::at(unix_secs);
    let millis = millis.min(999);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Date and minute for people: `2026-11-21 09:50`.
pub fn short(unix_secs: u64) -> String {
    let Civil { year, month, day, hour, minute, .. } = Civil::at(unix_secs);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

/// Date and time in the form of zip files and FAT: from 1980 to 2107, in steps of two seconds.
pub(crate) fn dos(unix_secs: u64) -> (u16, u16) {
    const FIRST_SECS: u64 = 315_532_800;
    const LAST_SECS: u64 = 4_354_819_198;
    let Civil { year, month, day, hour, minute, second, .. } =
        Civil::at(unix_secs.clamp(FIRST_SECS, LAST_SECS));
    let date = ((year - 1980) << 9) | (month << 5) | day;
    let time = (hour << 11) | (minute << 5) | (second / 2);
    // A year up to 127 has seven bits, and an hour five: both fit.
    (date as u16, time as u16)
}

fn fmt_clf(unix_secs: u64) -> [u8; 26] {
    let civil = Civil::at(unix_secs);
    let mut out = *b"dd/Mmm/yyyy:hh:mm:ss +0000";
    put_digits(&mut out[0..2], civil.day);
    out[3..6].copy_from_slice(civil.month_name());
    put_digits(&mut out[7..11], civil.year);
    put_digits(&mut out[12..14], civil.hour);
    put_digits(&mut out[15..17], civil.minute);
    put_digits(&mut out[18..20], civil.second);
    out
}

/// Fills the slice with the last digits of the number, with leading zeros.
fn put_digits(out: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// A time in the proleptic Gregorian calendar, UTC, without leap seconds.
struct Civil {
    year: u64,
    /// 1 to 12
    month: u64,
    /// 1 to 31
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    /// 0 is Sunday
    weekday: u64,
}

impl Civil {
    fn at(unix_secs: u64) -> Civil {
        let secs = unix_secs.min(LAST_SECS);
        let (days, time) = (secs / SECS_PER_DAY, secs % SECS_PER_DAY);
        let (year, month, day) = civil_date(days);
        Civil {
            year,
            month,
            day,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
            // 1 January 1970 was a Thursday.
            weekday: (days + 4) % 7,
        }
    }

    fn weekday_name(&self) -> &'static [u8; 3] {
        WEEKDAYS[self.weekday as usize % 7]
    }

    fn month_name(&self) -> &'static [u8; 3] {
        MONTHS[(self.month as usize + 11) % 12]
    }
}

/// Year, month and day of a day counted from 1 January 1970.
///
/// Years begin in March here, so that the leap day comes last and months have a regular pattern:
/// five of them are 153 days. 719468 is the number of days from 1 March of year 0; 146097 days are
/// 400 years.
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Seconds since 1970 at the start of a day in the Gregorian calendar, 0 for earlier days. `None`
/// for a day that does not exist.
#[cfg(feature = "client")]
pub(crate) fn unix_secs_of(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 {
        return Some(0);
    }
    // The inverse of `civil_date`, with the same years that begin in March.
    let from_march = year - u64::from(month <= 2);
    let (era, year_of_era) = (from_march / 400, from_march % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    (civil_date(days) == (year, month, day)).then_some(days * SECS_PER_DAY)
}

/// Number of a month from its first three letters, in any case.
#[cfg(feature = "client")]
pub(crate) fn month_of(name: &[u8]) -> Option<u64> {
    let short = name.get(..3)?;
    let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(short))?;
    Some(at as u64 + 1)
}

const WEEKDAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Last second of the year 9999. Later times are written as this one, because a year has four
/// digits.
const LAST_SECS: u64 = 253_402_300_799;

const SECS_PER_DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[cfg(feature = "client")]
    #[test]
    fn days_go_there_and_back() {
        for days in (0..3_000_000).step_by(59) {
            let (year, month, day) = civil_date(days);
            assert_eq!(unix_secs_of(year, month, day), Some(days * SECS_PER_DAY));
        }
        for (year, month, day) in [(2001, 2, 29), (2001, 4, 31), (2001, 1, 0), (2001, 1, 32)] {
            assert_eq!(unix_secs_of(year, month, day), None, "{year}-{month}-{day}");
        }
        assert_eq!(unix_secs_of(1969, 12, 31), Some(0));
    }

    #[test]
    fn dos_dates_stay_within_their_years() {
        let cases =
            [(0, 0x21, 0), (315_532_800, 0x21, 0), (784_111_777, 0x1d66, 0x4632), (u64::MAX, 0xff9f, 0xbf7d)];
        for (secs, date, time) in cases {
            assert_eq!(dos(secs), (date, time), "{secs}");
        }
    }

    #[test]
    fn known_moments_in_every_form() {
        let cases: &[(u64, &str, &str, &str, &str)] = &[
            (
                0,
                "Thu, 01 Jan 1970 00:00:00 GMT",
                "01/Jan/1970:00:00:00 +0000",
                "1970-01-01T00:00:00.007Z",
                "1970-01-01 00:00",
            ),
            (
                784_111_777,
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "06/Nov/1994:08:49:37 +0000",
                "1994-11-06T08:49:37.007Z",
                "1994-11-06 08:49",
            ),
            (
                971_186_136,
                "Tue, 10 Oct 2000 13:55:36 GMT",
                "10/Oct/2000:13:55:36 +0000",
                "2000-10-10T13:55:36.007Z",
                "2000-10-10 13:55",
            ),
            (
                951_782_400,
                "Tue, 29 Feb 2000 00:00:00 GMT",
                "29/Feb/2000:00:00:00 +0000",
                "2000-02-29T00:00:00.007Z",
                "2000-02-29 00:00",
            ),
            (
                1_709_251_199,
                "Thu, 29 Feb 2024 23:59:59 GMT",
                "29/Feb/2024:23:59:59 +0000",
                "2024-02-29T23:59:59.007Z",
                "2024-02-29 23:59",
            ),
            (
                4_107_542_400,
                "Mon, 01 Mar 2100 00:00:00 GMT",
                "01/Mar/2100:00:00:00 +0000",
                "2100-03-01T00:00:00.007Z",
                "2100-03-01 00:00",
            ),
            (
                LAST_SECS,
                "Fri, 31 Dec 9999 23:59:59 GMT",
                "31/Dec/9999:23:59:59 +0000",
                "9999-12-31T23:59:59.007Z",
                "9999-12-31 23:59",
            ),
            (
                u64::MAX,
                "Fri, 31 Dec 9999 23:59:59 GMT",
                "31/Dec/9999:23:59:59 +0000",
                "9999-12-31T23:59:59.007Z",
                "9999-12-31 23:59",
            ),
        ];
        for (secs, http, clf, iso, minute) in cases {
            assert_eq!(fmt_http_date(*secs), http.as_bytes(), "{secs}");
            assert_eq!(fmt_clf(*secs), clf.as_bytes(), "{secs}");
            assert_eq!(iso8601(*secs, 7), *iso);
            assert_eq!(short(*secs), *minute);
        }
        assert_eq!(iso8601(0, 5000), "1970-01-01T00:00:00.999Z");
    }

    #[test]
    fn all_days_agree_with_the_crate_that_parses() {
        // Each day to the year 2400 (a whole cycle of 400 years), at an odd second.
        for day in 0..157_000u64 {
            let secs = day * SECS_PER_DAY + day % SECS_PER_DAY;
            let reference = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs));
            assert_eq!(fmt_http_date(secs), reference.as_bytes(), "{secs}");
        }
    }

    #[test]
    fn three_forms_are_understood_and_nothing_else() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            (b"Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            (b"Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            (b"Sun, 06 Nov 1994 08:49:37 UTC", None),
            (b"Mon, 06 Nov 1994 08:49:37 GMT", None),
            (b"Sun, 31 Feb 1994 08:49:37 GMT", None),
            (b"Sun, 06 Nov 1994 24:49:37 GMT", None),
            (b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", None),
            (b"Wed, 31 Dec 1969 23:59:59 GMT", None),
            (b"Sat, 01 Jan 0000 00:00:00 GMT", None),
            (b"yesterday", None),
            (b"784111777", None),
            (b"", None),
            (b"\xff", None),
            ("Sun, 06 Nov 1994 08:49:37 GM\u{422}".as_bytes(), None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_http_date(value), *expected, "{:?}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn the_cache_follows_time_both_ways() {
        let mut cache = DateCache::new();
        for secs in [0, 1, 1, 784_111_777, 784_111_777, 784_111_778, 5, 0] {
            assert_eq!(*cache.at(secs), fmt_http_date(secs));
            assert_eq!(*cache.clf(secs), fmt_clf(secs));
            assert_eq!(*cache.at(secs), fmt_http_date(secs));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(secs in 0..=LAST_SECS) {
            proptest::prop_assert_eq!(parse_http_date(&fmt_http_date(secs)), Some(secs));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(value in proptest::collection::vec(0u8..=255, 0..40)) {
            let _ = parse_http_date(&value);
        }
    }
}
