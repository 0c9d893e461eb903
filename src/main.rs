//! The program: reads the command line, installs the logger, then runs one of the two models.

use std::process::ExitCode;

use whirligig::Server;
use whirligig::inside::cli::{self, Exit, Listening, Surroundings, UrlFile};
use whirligig::inside::log::LogQueue;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(exit) => exit.report(),
    }
}

fn start() -> Result<ExitCode, Exit> {
    let (argv, surroundings): (Vec<_>, _) = (std::env::args_os().collect(), Surroundings::of_process());
    if let Some(ended) = cli::run_tool(&argv, &surroundings) {
        return ended;
    }
    let startup = cli::parse(argv, &surroundings)?;
    let access = cli::open_log(&startup.config)?;
    let asked_port = startup.config.port;
    let root = startup.config.root.display().to_string();
    let log = LogQueue::new(access);
    let _flushed_at_end = log.flush_at_end();
    // Fails only if another logger is installed, which this process never does.
    drop(whirligig::inside::log::install(startup.log_level, startup.stderr_colors, log.clone()));
    whirligig::inside::log::install_panic_hook(log.clone());
    for warning in &startup.warnings {
        log::warn!("{warning}");
    }
    let mut server = Server::bind(startup.config).map_err(|error| Exit::cannot_bind(error, &root))?;
    server.take_signals().map_err(|error| {
        Exit::runtime("cannot take over signals", error, "raise the limit on open files (ulimit -n)")
    })?;
    let urls = server.urls();
    let url_file = startup.url_file.map(|path| UrlFile::write(&path, &urls)).transpose()?;
    let config = server.config();
    startup.banner.print(&Listening {
        urls: &urls,
        root: &server.root().unwrap_or_else(|| config.root.clone()),
        model: config.model,
        is_private: config.is_private(),
        port_taken: server.default_port_taken().then_some(asked_port),
    });
    if startup.opens_browser {
        match cli::local_url(&urls) {
            Some(url) => cli::open_browser(url),
            None => log::warn!("--open: a browser cannot open a Unix socket"),
        }
    }
    let ended = server.run_logged(Some(&log));
    // `end` may exit without dropping anything.
    drop(url_file);
    Ok(cli::end(ended, &log))
}
