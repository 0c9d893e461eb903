//! The program: reads the command line, installs the logger, then runs one of the two models.

use std::io::ErrorKind;
use std::process::ExitCode;

use whirligig::cli::{self, Exit, Surroundings};
use whirligig::config::LOG_FLUSH_MAX;
use whirligig::driver::outcome::Outcome;
use whirligig::log::LogQueue;
use whirligig::server::{BindError, Server};

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(exit) => exit.report(),
    }
}

fn start() -> Result<ExitCode, Exit> {
    let startup = cli::parse(std::env::args_os(), &Surroundings::of_process())?;
    let access = cli::open_log(&startup.config)?;
    let asked_port = startup.config.port;
    let root = startup.config.root.display().to_string();
    let log = LogQueue::new(access);
    let _flushed_at_end = log.flush_at_end(LOG_FLUSH_MAX);
    // Fails only if another logger is installed, which this process never does.
    drop(whirligig::log::install(startup.log_level, startup.stderr_colors, log.clone()));
    whirligig::log::install_panic_hook(log.clone());
    for warning in &startup.warnings {
        log::warn!("{warning}");
    }
    let mut server = Server::bind(startup.config).map_err(|error| match error {
        BindError::Root(error) => {
            let hint = match error.kind() {
                ErrorKind::Unsupported => "use Linux 5.12 or later, and no sandbox that forbids openat2",
                _ => "name an existing folder",
            };
            Exit::runtime(&format!("cannot serve '{root}'"), error, hint)
        }
        BindError::Site(why) => Exit::runtime("cannot serve the site", why, "correct the file or the option"),
        BindError::Address(address, error) => Exit::cannot_listen(&address, &error),
    })?;
    server.take_signals().map_err(|error| {
        Exit::runtime("cannot take over signals", error, "raise the limit on open files (ulimit -n)")
    })?;
    let default_port_taken = server.default_port_taken().then_some(asked_port);
    startup.banner.print(&server.urls(), server.config(), default_port_taken);
    match server.run_logged(Some(&log)) {
        Ok(Outcome::Stopped) => Ok(ExitCode::SUCCESS),
        Ok(Outcome::Cut(clients)) => {
            let clients =
                if clients == 1 { "1 client was".into() } else { format!("{clients} clients were") };
            log::error!("the drain timeout passed: {clients} cut off");
            Ok(ExitCode::FAILURE)
        }
        Ok(Outcome::Killed(signal)) => {
            log.flush(LOG_FLUSH_MAX);
            // Threads of clients may still be running; the process exits without them.
            std::process::exit(i32::from(signal.exit_code()));
        }
        Err(error) => {
            log::error!("the server failed: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}
