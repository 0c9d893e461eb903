//! Converts the values of the flags to a [`Config`] and checks combinations of flags.
//!
//! This file must not know which code uses a setting. It accesses the disk only to check that the
//! folder to serve exists.

use std::cmp::Ordering;
use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use log::LevelFilter;

use crate::cli::args::{Args, CgiArgs, SiteArgs, Surroundings, TimeoutArgs, UploadArgs};
use crate::cli::exit::Exit;
use crate::cli::sources::Sources;
use crate::cli::value::{NoListing, Size};
use crate::config::{
    Bind, CgiOptions, Config, FileOptions, Limits, LogTarget, SiteOptions, TIMEOUT_MAX, Timeouts, TurnLines,
};
use crate::features::upload::rights::check_rules;

pub(super) fn config_of(args: &Args, sources: &Sources, surroundings: &Surroundings) -> Result<Config, Exit> {
    let access_log = match &args.access_log {
        None if surroundings.stdout_is_terminal && !args.quiet => Some(LogTarget::Stdout),
        None => None,
        Some(file) if file.is_empty() => return Err(Exit::usage("--access-log '': the file name is empty")),
        Some(file) if file == "off" => None,
        Some(file) if file == "-" => Some(LogTarget::Stdout),
        Some(file) => Some(LogTarget::File(file.into())),
    };
    let unlisted = &args.files.no_listing;
    let lists_nothing = unlisted.contains(&NoListing::Everywhere(true));
    // An archive contains every name, as a listing does.
    let archives = one_of(sources, ("archives", args.files.archives), ("no_listing", lists_nothing))?;
    let is_lan = one_of(sources, ("lan", args.lan), ("bind", !sources.is_default("bind")))? == Some(true);
    check_rules(&args.uploads.upload, &args.uploads.upload_rights)
        .map_err(|why| Exit::usage(&format!("{} {why}", sources.name("upload_rights"))))?;
    Ok(Config {
        root: args.root.clone().unwrap_or_else(|| default_root(Path::new("."))),
        model: args.model,
        reactors: args.reactors,
        binds: match is_lan {
            true => vec![Bind::Ip(Ipv6Addr::UNSPECIFIED.into(), None)],
            false => args.bind.clone(),
        },
        port: args.port,
        port_is_explicit: !sources.is_default("port"),
        limits: limits_of(args),
        timeouts: Timeouts { partial: args.uploads.partial_timeout.0, ..args.timeouts.timeouts() },
        files: FileOptions {
            title: args.files.title.clone(),
            index: args.files.index.clone(),
            symlinks: args.files.symlinks,
            fresh: args.files.fresh.0,
            cache_bytes_max: args.files.max_cache.bytes(),
            precompressed: !args.files.no_precompressed,
            compress_level: args.files.compress.0,
            compressors_max: args.files.max_compressors,
            etag: args.files.etag,
            charset: args.files.charset.0.clone(),
            types: args.files.mime.clone(),
            clean_urls: args.files.clean_urls,
            live_reload: args.files.live_reload,
            spa: args.files.spa.clone(),
            error_pages: args.files.error_page.iter().map(|page| (page.code, page.path.clone())).collect(),
            headers: [&args.site.header[..], &args.site.cache_control].concat(),
            listing: archives != Some(false),
            unlisted: unlisted.iter().filter_map(NoListing::folder).collect(),
            readme: !args.files.no_readme,
            archives: archives == Some(true),
            archives_max: args.files.max_archives,
            uploads: args.uploads.upload.clone(),
            upload_rights: args.uploads.upload_rights.clone(),
            ..FileOptions::default()
        },
        site: args.site.options(&args.uploads),
        cgi: args.cgi.options(),
        api: one_of(sources, ("api", args.api), ("no_api", args.no_api))?,
        health: !args.no_health,
        metrics: one_of(sources, ("metrics", args.metrics), ("no_metrics", args.no_metrics))?,
        loop_page: one_of(sources, ("loop_page", args.loop_page), ("no_loop_page", args.no_loop_page))?,
        own_files: args.config.iter().chain(&args.url_file).cloned().collect(),
        access_log,
        log_format: args.log_format,
        turn_lines: TurnLines::Off,
    })
}

fn limits_of(args: &Args) -> Limits {
    let given = &args.limits;
    Limits {
        head_bytes_max: given.max_head.bytes(),
        fields_max: given.max_fields,
        target_bytes_max: given.max_target.bytes(),
        body_bytes_max: given.max_body.0,
        upload_bytes_max: if args.uploads.upload.is_empty() { 0 } else { args.uploads.max_upload.0 },
        uploads_max: args.uploads.max_uploads,
        partial_bytes_max: args.uploads.max_partial.map(|size| size.0),
        connections_max: given.max_connections.unwrap_or(0),
        threads_max: given.max_threads,
        turn_bytes_max: given.max_turn_bytes.bytes(),
        turn_requests_max: given.max_turn_requests,
        events_per_poll: given.max_turn_events,
        batch_connections_max: given.max_batch,
        accepts_per_turn: given.max_turn_accepts,
        pool_bytes_max: given.max_pool.bytes(),
        collect_bytes_max: given.max_collect.bytes(),
        spool_bytes_max: given.max_spool.0,
        job_threads: args.jobs,
        jobs_max: given.max_jobs,
        listing_entries_max: args.files.max_listing,
        rate_min_bytes: given.min_rate.0,
        busy_rate_min_bytes: given.busy_rate.0,
        ..Limits::default()
    }
}

impl TimeoutArgs {
    fn timeouts(&self) -> Timeouts {
        Timeouts {
            defer_accept: std::time::Duration::from_secs(self.defer_accept as u64),
            header: self.header_timeout.0,
            body: self.body_timeout.0,
            busy: self.busy_time.0,
            send: self.send_timeout.0,
            idle: self.idle_timeout.0,
            answer: self.answer_timeout.0,
            drain: self.drain_timeout.0.unwrap_or(TIMEOUT_MAX),
            ..Timeouts::default()
        }
    }
}

impl SiteArgs {
    fn options(&self, uploads: &UploadArgs) -> SiteOptions {
        SiteOptions {
            auth: [&self.auth[..], &self.htpasswd].concat(),
            write_auth: [&uploads.write_auth[..], &uploads.write_htpasswd].concat(),
            cors: self.cors.clone(),
            rules: self.rules.clone(),
            vhosts: self.vhost.clone(),
            strict_hosts: self.strict_hosts,
            allow_hosts: self.allow_host.clone(),
        }
    }
}

impl CgiArgs {
    fn options(&self) -> CgiOptions {
        CgiOptions {
            folders: self.cgi.clone(),
            timeout: self.cgi_timeout.0,
            children_max: self.cgi_max,
            environment: self.cgi_env.clone(),
            authorization: self.cgi_authorization,
            // PID 1 is the first process of a container and inherits orphans.
            reaps_orphans: std::process::id() == 1,
        }
    }
}

/// Returns `www` if `base` has a folder of that name, else `.`. A server that is started in its own
/// repository then serves its own pages.
pub(super) fn default_root(base: &Path) -> PathBuf {
    if base.join("www").is_dir() { "www".into() } else { ".".into() }
}

pub(super) fn log_level(args: &Args, sources: &Sources) -> Result<LevelFilter, Exit> {
    let quiet = one_of(sources, ("quiet", args.quiet), ("verbose", args.verbose > 0))?;
    Ok(match (quiet, args.verbose) {
        (Some(true), _) => LevelFilter::Error,
        (None, _) => LevelFilter::Warn,
        (Some(false), 1) => LevelFilter::Debug,
        (Some(false), _) => LevelFilter::Trace,
    })
}

/// Decides between two contradictory flags: `Some(true)` if the first is on, `Some(false)` if the
/// second is, `None` if neither is. The command line overrides the environment, which overrides the
/// file. Both flags from one source are an error.
pub(super) fn one_of(
    sources: &Sources,
    first: (&str, bool),
    second: (&str, bool),
) -> Result<Option<bool>, Exit> {
    match (first.1, second.1) {
        (false, false) => return Ok(None),
        (true, false) => return Ok(Some(true)),
        (false, true) => return Ok(Some(false)),
        (true, true) => {}
    }
    match sources.of(first.0).cmp(&sources.of(second.0)) {
        Ordering::Greater => Ok(Some(true)),
        Ordering::Less => Ok(Some(false)),
        Ordering::Equal => {
            let (first, second) = (sources.name(first.0), sources.name(second.0));
            Err(Exit::usage(&format!("{first} with {second}: they contradict each other, leave one out")))
        }
    }
}

/// Checks limits that depend on each other. A default gives way to a limit that was set.
pub(super) fn check_limits(limits: &mut Limits, sources: &Sources) -> Result<(), Exit> {
    let head = limits.head_bytes_max;
    let named = |id, bytes| format!("{} {}", sources.name(id), Size::of(bytes));
    if limits.target_bytes_max > head {
        if !sources.is_default("max_target") {
            let (target, head) = (named("max_target", limits.target_bytes_max), named("max_head", head));
            return Err(Exit::usage(&format!(
                "{target}: larger than the request head that contains it, {head}"
            )));
        }
        limits.target_bytes_max = head;
    }
    if limits.pool_bytes_max < head {
        let (pool, head) = (named("max_pool", limits.pool_bytes_max), named("max_head", head));
        return Err(Exit::usage(&format!("{pool}: smaller than one request head, {head}")));
    }
    Ok(())
}

/// Checks that `root` can be served, so that the error appears at the start and not with the first
/// request.
pub(super) fn check_root(root: &Path, listing: bool) -> Result<(), Exit> {
    let what = format!("cannot serve '{}'", root.display());
    let failed = |error: io::Error| {
        let port = root.to_str().filter(|text| text.parse::<u16>().is_ok());
        let hint = match (error.kind(), port) {
            (io::ErrorKind::PermissionDenied, _) => "make it readable for this user".to_owned(),
            (io::ErrorKind::NotFound, Some(port)) => format!("for a port write --port {port}"),
            _ => "name an existing folder or file".to_owned(),
        };
        Exit::runtime(&what, error, &hint)
    };
    let meta = std::fs::metadata(root).map_err(failed)?;
    if !meta.is_dir() {
        // `Docroot::open` checks files, because it must also know their kind.
        return Ok(());
    }
    if listing {
        std::fs::read_dir(root).map_err(failed)?;
    }
    std::fs::metadata(root.join(".")).map_err(failed).map(drop)
}

/// Returns a warning for each rule with a password whose last at sign may have been meant to begin
/// a path. The warning does not show the password, because it may be right.
pub(super) fn slashes_forgotten(sources: &Sources) -> Vec<String> {
    let mut warnings = Vec::new();
    for id in ["auth", "write_auth"] {
        for rule in sources.matches().get_raw(id).into_iter().flatten() {
            let rule = rule.to_string_lossy();
            let Some((user, password)) = rule.split_once(':') else { continue };
            if password.contains("@/") || password.split('@').nth(1).is_none_or(str::is_empty) {
                continue;
            }
            warnings.push(format!(
                "{} for '{user}' has no path, so it covers the whole site, and the text after '@' is part of the password; \
                 a path begins with a slash: USER:PASSWORD@/PATH",
                sources.name(id)
            ));
        }
    }
    warnings
}
