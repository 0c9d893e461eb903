//! Prometheus' text format (0.0.4): families of samples, each with its help and type.
//!
//! Must not know what the samples mean.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::observe::TURN_BOUNDS;

/// Formats a duration as decimal seconds.
pub(super) fn seconds(time: Duration) -> impl Display {
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

/// Page in the text format: families of samples, each with its help and type.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

/// Family of samples that is being written.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Page {
    /// Begins a family of counters.
    pub(super) fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// Begins a family of gauges.
    pub(super) fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// Writes a histogram over [`TURN_BOUNDS`]. `taking` counts each bucket separately, but the
    /// format requires cumulative counts.
    pub(super) fn histogram(&mut self, name: &str, help: &str, taking: &[u64], sum: Duration) {
        self.family(name, "histogram", help);
        let mut count = 0;
        let bounds = TURN_BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
        let (bucket, total) = (format!("{name}_bucket"), format!("{name}_count"));
        for (bound, taking) in bounds.chain(["+Inf".to_owned()]).zip(taking) {
            count += taking;
            Family { text: &mut self.text, name: &bucket }.sample(&[("le", &bound)], count);
        }
        Family { text: &mut self.text, name: &format!("{name}_sum") }.value(seconds(sum));
        Family { text: &mut self.text, name: &total }.value(count);
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let text = &mut self.text;
        text.push_str("# HELP ");
        text.push_str(name);
        text.push(' ');
        push_escaped(help, false, text);
        text.push_str("\n# TYPE ");
        text.push_str(name);
        text.push(' ');
        text.push_str(kind);
        text.push('\n');
        Family { text, name }
    }
}

impl Family<'_> {
    /// Writes the only sample of a family without labels.
    pub(super) fn value(&mut self, value: impl Display) {
        self.sample(&[], value);
    }

    /// Writes a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            push_escaped(value, true, self.text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, " {value}");
    }
}

/// Appends a help text or label value. The format reserves a few characters, and the quote only in
/// labels.
fn push_escaped(value: &str, quoted: bool, text: &mut String) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            char => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_help_its_type_and_its_samples() {
        let mut page = Page::default();
        page.counter("a_total", "One \"a\",\nback\\slash.").value(3);
        let mut family = page.gauge("b", "Two.");
        family.sample(&[("x", "plain"), ("y", "quo\"te\\ and\nline")], 1);
        family.sample(&[], seconds(Duration::from_nanos(1_500_000_001)));
        assert_eq!(
            page.text,
            "# HELP a_total One \"a\",\\nback\\\\slash.\n# TYPE a_total counter\na_total 3\n\
             # HELP b Two.\n# TYPE b gauge\nb{x=\"plain\",y=\"quo\\\"te\\\\ and\\nline\"} 1\nb 1.500000001\n"
        );
    }
}
