//! The manual page and the shell completions, generated from the definitions of the flags.
//!
//! Signals, exit codes and the configuration file are described here. This file must not know any
//! particular flag, except those that it explains in detail.

use std::io;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::cli::args::{EXAMPLES, with_whole_help};
use crate::cli::setting::settings;
use crate::cli::tools;

/// Returns the completion script for `shell`.
pub(super) fn completions(mut flags: Command, shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut flags, "whirligig", &mut script);
    text(&script)
}

/// Returns the manual page as source for `man`.
pub(super) fn page(flags: Command) -> String {
    // Only the short help leaves out rarely used flags.
    let flags = with_whole_help(flags);
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
    let tail = [tools(), variables, files(), exit_status(), signals(), examples()].map(|roff| roff.to_roff());
    // `render` puts the macro that makes plain apostrophes first; the page needs it once.
    format!("{}{}{}{flags}{}", Roff::new().render(), head.concat(), units.to_roff(), tail.concat())
}

/// The title has no date, so that one version has one page. clap_mangen does not quote an empty
/// date and would drop it.
const TITLE: &str = concat!(
    ".TH WHIRLIGIG 1 \"\" \"whirligig ",
    env!("CARGO_PKG_VERSION"),
    "\" \"General Commands Manual\"\n"
);

/// Column of the options in the table of variables, behind the longest name.
const COLUMN: &str = "32n";

/// Note on values for all flags.
const UNITS: &str =
    "SIZE takes the units k, M and G (powers of 1024), as in 512k, 64M or 64MiB. SECS takes decimals.";

/// Returns a part of the page that clap_mangen writes, without the macro that belongs at the top of
/// the page only.
fn part(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = write(&mut bytes);
    let part = text(&bytes);
    part.strip_prefix(&Roff::new().render()).map_or_else(|| part.clone(), str::to_owned)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes one section of all flags. clap_mangen makes a section of each heading; here headings are
/// subsections.
fn options(sections: &str, headings: &[String]) -> String {
    let mut page = sections.to_owned();
    for heading in headings {
        let control = |name: &str, title: &str| Roff::new().control(name, [title]).to_roff();
        page = page.replace(&control("SH", &heading.to_uppercase()), &control("SS", heading));
    }
    format!(".SH OPTIONS\n{page}")
}

fn tools() -> Roff {
    let mut roff = section("TOOLS");
    roff.text([roman(
        "A word as the first argument starts a tool instead of a server. A folder of that name is ./WORD.",
    )]);
    for (word, about) in tools::words() {
        let what = format!("Starts {about}; see whirligig {word} --help.");
        tagged(&mut roff, [bold("whirligig "), bold(word)], &what);
    }
    roff
}

fn environment(flags: &Command) -> Roff {
    let mut roff = section("ENVIRONMENT");
    roff.text([
        roman("Every setting has an environment variable. An option overrides its variable. Switches take "),
        bold("true"),
        roman(" and "),
        bold("false"),
        roman(", "),
        bold("-v"),
        roman(" takes a number. Several values are separated as in the option."),
    ]);
    // A table by a tab stop, because tbl(1) is not installed everywhere. Names of variables must
    // not be hyphenated.
    roff.control("PP", []).control("nf", []).control("nh", []).control("ta", [COLUMN]);
    roff.text([italic("Variable"), roman("\t"), italic("Option")]);
    let rows = settings(flags).filter_map(|arg| Some((arg.get_env()?.to_string_lossy().into_owned(), arg)));
    for (name, arg) in rows {
        let option = arg.get_long().map_or_else(|| "ROOT".to_owned(), |long| format!("--{long}"));
        roff.text([bold(name), roman("\t"), roman(option)]);
    }
    roff.control("hy", []).control("fi", []);
    tagged(&mut roff, [bold("WHIRLIGIG_CONFIG")], "The configuration file, as --config.");
    tagged(
        &mut roff,
        [bold("NO_COLOR"), roman(", "), bold("TERM")],
        "Colours are off if NO_COLOR is set or TERM is dumb, unless --color turns them on.",
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
        roman(" the program reads settings from a TOML file, which options and variables override. Without it no file is read. "),
        roman("A key is a long option without its dashes, or "),
        bold("root"),
        roman(". A value is that of the option: a list if the option can be repeated, true or false for a switch. "),
        roman("KEY = false means --no-KEY. A relative path starts at the folder in which the program was started."),
    ]);
    roff.control("PP", []).control("EX", []);
    for line in SAMPLE.lines() {
        roff.text([roman(line)]);
    }
    roff.control("EE", []).control("PP", []);
    roff.text([bold("--show-config"), roman(" prints all settings in this form, each with its source.")]);
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
        ("0", "Stopped after all clients were served, or printed the requested text."),
        ("1", "Could not start, or clients were cut off at the drain timeout."),
        ("2", "Wrong usage, also in the configuration file."),
        ("130, 131, 143", "Stopped at once by a second SIGINT, SIGQUIT or SIGTERM."),
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

/// Signals and their effects. docs/manual.md has the same rows.
const SIGNALS: [(&str, &str); 6] = [
    (
        "SIGINT (Ctrl-C), SIGTERM, SIGQUIT",
        "Graceful stop: no new connections; idle ones are closed; requests and downloads under way are finished. The log \
         contains their number. A second signal stops at once.",
    ),
    (
        "SIGHUP",
        "The access log is reopened. If the server was started in a terminal that is now closed: graceful stop, \
         unless SIGHUP was ignored at the start (nohup).",
    ),
    ("SIGUSR1", "The access log is reopened, with or without a terminal."),
    ("SIGUSR2", "Logs the requests under way (reactor model)."),
    ("SIGPIPE", "No effect: a write to a closed pipe fails, and log lines for it are dropped and counted."),
    (
        "SIGXFSZ",
        "No effect: a log at its size limit drops lines and counts them; an upload at the limit is refused.",
    ),
];

/// Formats the examples of `--help`: a command is indented by two columns, its explanation by six.
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
        // Roff writes a dash as an escape, so that it does not become a hyphen.
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
                "TOOLS",
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
    fn the_table_has_each_variable_with_its_option() {
        let page = page(Args::command()).replace("\\-", "-");
        let flags = Args::command();
        for arg in settings(&flags) {
            let name = arg.get_env().unwrap().to_string_lossy().into_owned();
            let option = arg.get_long().map_or_else(|| "ROOT".to_owned(), |long| format!("--{long}"));
            assert!(page.contains(&format!("\n\\fB{name}\\fR\t{option}\n")), "{name}: {page}");
            assert!(name.len() < 32, "{name} is wider than the column");
        }
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
