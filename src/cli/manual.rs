//! The manual page and the shells' completions, made of the definitions of the flags.
//!
//! What the flags do not say (signals, exit codes, the file) is written here. This file must not
//! know any single flag, but for those it explains at length.

use crate::cli::args::EXAMPLES;
use crate::cli::setting::settings;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use std::io;

/// The script that tells `shell` what can stand behind the program's name.
pub(super) fn completions(mut flags: Command, shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut flags, "whirligig", &mut script);
    text(&script)
}

/// The manual page, as source for `man`.
pub(super) fn page(flags: Command) -> String {
    // Rarely used flags are left out of the short help only.
    let flags = flags.mut_args(|arg| arg.hide_short_help(false));
    let headings: Vec<String> =
        flags.get_arguments().filter_map(clap::Arg::get_help_heading).map(Into::into).collect();
    let variables = environment(&flags);
    let man = Man::new(flags);
    let flags = options(&part(|out| man.render_options_section(out)), &headings);
    let head = [
        TITLE.to_owned(),
        part(|out| man.render_name_section(out)),
        part(|out| man.render_synopsis_section(out)),
        part(|out| man.render_description_section(out)),
    ];
    let mut units = Roff::new();
    units.control("PP", []).text([roman(UNITS)]);
    let tail = [variables, files(), exit_status(), signals(), examples()].map(|roff| roff.to_roff());
    // The words that make apostrophes plain ones, which `render` puts first, once for all.
    format!("{}{}{}{flags}{}", Roff::new().render(), head.concat(), units.to_roff(), tail.concat())
}

/// Without a date, so that one version has one page. clap_mangen does not quote an empty one, and
/// loses it.
const TITLE: &str = concat!(
    ".TH WHIRLIGIG 1 \"\" \"whirligig ",
    env!("CARGO_PKG_VERSION"),
    "\" \"General Commands Manual\"\n"
);

/// What every flag with such a value needs to know.
const UNITS: &str = "SIZE takes k, M and G (1024 each), as in 512k, 64M or 64MiB; SECS takes decimals.";

/// A part of the page that clap_mangen writes, without what is to stand at the top of the page
/// only.
fn part(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    // A vector takes everything.
    let _ = write(&mut bytes);
    let part = text(&bytes);
    part.strip_prefix(&Roff::new().render()).map_or_else(|| part.clone(), str::to_owned)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One section for all flags, with their headings one level below, where clap_mangen makes each a
/// section.
fn options(sections: &str, headings: &[String]) -> String {
    let mut page = sections.to_owned();
    for heading in headings {
        let control = |name: &str, title: &str| Roff::new().control(name, [title]).to_roff();
        page = page.replace(&control("SH", &heading.to_uppercase()), &control("SS", heading));
    }
    format!(".SH OPTIONS\n{page}")
}

fn environment(flags: &Command) -> Roff {
    let mut roff = section("ENVIRONMENT");
    roff.text([
        roman("Every setting has a variable. A flag overrides it. Switches take "),
        bold("true"),
        roman(" and "),
        bold("false"),
        roman(", "),
        bold("-v"),
        roman(" a number; several values are separated as with the flag."),
    ]);
    let variable = |arg: &clap::Arg| arg.get_env().map(|name| name.to_string_lossy().into_owned());
    // A name is not to be hyphenated.
    roff.control("PP", []).control("nh", []);
    let mut names = Vec::new();
    for name in settings(flags).filter_map(variable) {
        names.extend([bold(name), roman(", ")]);
    }
    names.pop();
    roff.text(names).control("hy", []);
    tagged(&mut roff, [bold("WHIRLIGIG_CONFIG")], "The configuration file, as --config.");
    tagged(
        &mut roff,
        [bold("NO_COLOR"), roman(", "), bold("TERM")],
        "No colours where NO_COLOR is set or TERM is dumb, unless --color asks for them.",
    );
    roff
}

fn files() -> Roff {
    let mut roff = section("FILES");
    roff.text([
        roman("With "),
        bold("--config"),
        roman(" "),
        italic("FILE"),
        roman(" settings are read from a TOML file, which flags and variables override. No file is read unless it is named. "),
        roman("A key is a long flag without its dashes, or "),
        bold("root"),
        roman("; a value is what stands behind the flag, a list where the flag can be repeated, true or false for a switch. "),
        roman("For --no-KEY, KEY = false is as good. Relative paths begin where the program is started, as with flags."),
    ]);
    roff.control("PP", []).control("EX", []);
    for line in SAMPLE.lines() {
        roff.text([roman(line)]);
    }
    roff.control("EE", []).control("PP", []);
    roff.text([bold("--show-config"), roman(" prints all settings in this form, and where each came from.")]);
    roff
}

/// The configuration file that docs/manual.md shows as well.
const SAMPLE: &str = "\
root = \"/srv/www\"
bind = [\"0.0.0.0\", \"unix:/run/whirligig.sock\"]
port = 8081
listing = false
max-body = \"10MiB\"
";

fn exit_status() -> Roff {
    let mut roff = section("EXIT STATUS");
    for (code, meaning) in [
        ("0", "Stopped, and everybody was served; or what was asked for was printed."),
        ("1", "Could not start, or clients were cut off at the drain timeout."),
        ("2", "Wrong usage, of the configuration file, too."),
        ("130, 131, 143", "Stopped at once by a second SIGINT, SIGQUIT, SIGTERM."),
    ] {
        tagged(&mut roff, [bold(code)], meaning);
    }
    roff
}

fn signals() -> Roff {
    let mut roff = section("SIGNALS");
    for (signals, effect) in SIGNALS {
        tagged(&mut roff, [bold(signals)], effect);
    }
    roff
}

/// All signals with a meaning here. docs/manual.md has the same rows.
const SIGNALS: [(&str, &str); 6] = [
    (
        "SIGINT (Ctrl-C), SIGTERM, SIGQUIT",
        "Graceful stop: no new clients, idle ones are let go, requests and downloads under way are finished. The log says \
         how many. A second one stops at once.",
    ),
    (
        "SIGHUP",
        "The access log is opened anew. If the server was started in a terminal and that is gone, a graceful stop, \
         unless SIGHUP was ignored at the start (nohup).",
    ),
    ("SIGUSR1", "The access log is opened anew, terminal or not."),
    ("SIGUSR2", "Nothing."),
    ("SIGPIPE", "Nothing: a write to a closed pipe fails, and log lines for it are dropped and counted."),
    ("SIGXFSZ", "Nothing: a log at its size limit drops lines and counts them, an upload there is refused."),
];

/// Those of `--help`: a command is indented by two, what it does by six.
fn examples() -> Roff {
    let mut roff = section("EXAMPLES");
    for line in EXAMPLES.lines() {
        match line.strip_prefix("      ") {
            Some(meaning) => roff.text([roman(meaning)]),
            None if line.starts_with("  ") => roff.control("TP", []).text([bold(line.trim_start())]),
            None => &mut roff,
        };
    }
    roff
}

fn section(title: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff
}

fn tagged(roff: &mut Roff, tag: impl Into<Vec<Inline>>, text: &str) {
    roff.control("TP", []).text(tag).text([roman(text)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Args;
    use clap::{CommandFactory as _, ValueEnum as _};

    #[test]
    fn the_page_has_every_flag_and_every_section() {
        let page = page(Args::command());
        // Roff writes a dash as an escape, so that it is not made a hyphen.
        let plain = page.replace("\\-", "-");
        for arg in Args::command().get_arguments() {
            let flag = arg.get_long().map_or_else(|| "[ROOT]".to_owned(), |long| format!("--{long}"));
            let help = arg.get_help().unwrap().to_string();
            assert!(plain.contains(&flag), "{flag}");
            assert!(plain.contains(help.split([' ', '\'']).next().unwrap()), "{flag}: {help}");
            let heading = arg.get_help_heading().unwrap();
            assert!(page.contains(&Roff::new().control("SS", [heading]).to_roff()), "{heading}");
        }
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        assert_eq!(
            sections,
            [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "ENVIRONMENT",
                "FILES",
                "\"EXIT STATUS\"",
                "SIGNALS",
                "EXAMPLES"
            ]
        );
        assert_eq!(page.matches(".ie \\n").count(), 1, "apostrophes are defined once");
        assert!(page.contains("\\fB\\-v\\fR") && page.contains("WHIRLIGIG_MAX_HEAD"), "{page}");
    }

    #[test]
    fn the_sample_is_a_configuration_file_and_is_in_the_manual() {
        assert!(include_str!("../../docs/manual.md").contains(&format!("```toml\n{SAMPLE}```")));
        assert!(page(Args::command()).contains("max\\-body = \"10MiB\""));
    }

    #[test]
    fn the_table_of_signals_is_in_the_manual() {
        let manual = include_str!("../../docs/manual.md");
        for (signals, effect) in SIGNALS {
            assert!(manual.contains(&format!("| {signals} | {effect} |")), "| {signals} | {effect} |");
        }
    }

    #[test]
    fn completions_have_every_flag() {
        for shell in Shell::value_variants() {
            let script = completions(Args::command(), *shell);
            for arg in Args::command().get_arguments() {
                let Some(long) = arg.get_long() else { continue };
                assert!(script.contains(long), "{shell}: {long}");
            }
            for choice in ["reactor", "combined", "elvish"] {
                assert!(
                    script.contains(choice) || *shell == Shell::Elvish || *shell == Shell::PowerShell,
                    "{shell}"
                );
            }
        }
    }
}
