//! Figures as text: ratios, times, bytes and numbers.

use super::stats::Estimate;

/// Formats an estimate: `1.43 (1.38 to 1.50)`.
pub fn ratio_words(ratio: Estimate) -> String {
    format!("{:.2} ({:.2} to {:.2})", ratio.value, ratio.low, ratio.high)
}

/// Formats microseconds in a suitable unit.
pub fn time(us: f64) -> String {
    match us {
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// Formats bytes in a suitable unit.
pub fn bytes(count: f64) -> String {
    match count {
        count if count < 10_000.0 => format!("{count:.0} B"),
        count if count < 10.0 * 1024.0 * 1024.0 => format!("{:.0} KiB", count / 1024.0),
        count => format!("{:.0} MiB", count / 1024.0 / 1024.0),
    }
}

/// Formats a number with commas: `123,456`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
