//! Scripts that answer requests: the Common Gateway Interface, version 1.1 (RFC 3875).
//!
//! [`wrap`] puts folders of scripts in front of other handlers. Finding and starting a script is
//! a job. A running script is a `Run`, watched for its connection: the poll loop waits for its
//! pipes and its exit as for any descriptor. No shell is involved, and no part of a request becomes
//! an argument.
//!
//! Must not know how connections are driven.

mod head;
mod input;
mod meta_variables;
mod output;
mod process;
mod run;
mod script;
mod stderr;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use crate::config::{CGI_REDIRECTS_MAX, CGI_SPOOLED_BYTES, CgiFolder, CgiOptions, Config};
use crate::conn_id::Peer;
use crate::handler::continuation::Continuation;
use crate::handler::kept_request::KeptRequest;
use crate::handler::router::method_not_allowed;
use crate::handler::spool::{self, DropOffLoop, Spool, Spooled};
use crate::handler::{Answer, BodySink, Context, Handler, Holders, SinkStatus};
use crate::http::framing::Content;
use crate::http::kept_head::KeptHead;
use crate::http::problem::over;
use crate::http::target::{normalize, read_origin_form};
use crate::http::{Method, Request, Response, Status};
use crate::jobs::inbox::Waker;
use crate::jobs::pace::LeastRate;
use crate::jobs::sender_permits::{SenderPermit, SenderPermits};
use crate::shortage;
use input::Initial;
use meta_variables::Facts;
use process::{Children, Pipes, Process};
use run::{Run, RunOptions};
use script::{Folder, Script};

/// Folders of scripts, and the options for running them.
pub(crate) struct Scripts {
    /// Sorted by URL path length, longest first.
    folders: Vec<Folder>,
    options: CgiOptions,
    docroot: PathBuf,
    /// `SERVER_NAME` if the request names no host, and the ports that the server listens on.
    host: String,
    ports: Vec<u16>,
    permits: Arc<SenderPermits>,
    children: Arc<Children>,
    spool: Arc<Spool>,
    /// Handler for local redirects of scripts.
    top: OnceLock<Weak<dyn Handler>>,
}

impl std::fmt::Debug for Scripts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.folders).finish()
    }
}

impl Scripts {
    /// Opens the folders. Returns `None` if there are none. `listens_on` are the addresses of the
    /// server.
    ///
    /// # Errors
    /// One line that names the folder.
    pub(crate) fn open(
        config: &Config,
        listens_on: &[std::net::SocketAddr],
    ) -> Result<Option<Arc<Scripts>>, String> {
        if config.cgi.folders.is_empty() {
            return Ok(None);
        }
        let mut folders = Vec::new();
        for folder in &config.cgi.folders {
            let opened = Folder::open(folder, &config.files)?;
            if folders.iter().any(|other: &Folder| other.url == opened.url) {
                return Err(format!("--cgi names '{}' twice", folder.path));
            }
            folders.push(opened);
        }
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.url.len()));
        let docroot = config.root.canonicalize().unwrap_or_else(|_| config.root.clone());
        let rate = LeastRate::of(&config.limits, &config.timeouts);
        Ok(Some(Arc::new(Scripts {
            folders,
            docroot,
            host: listens_on.first().map_or_else(|| "localhost".to_owned(), |addr| addr.ip().to_string()),
            ports: listens_on.iter().map(std::net::SocketAddr::port).collect(),
            permits: SenderPermits::new(config.cgi.children_max, rate),
            children: Arc::default(),
            spool: Arc::new(Spool::of(config)),
            top: OnceLock::new(),
            options: config.cgi.clone(),
        })))
    }

    /// Sets the handler for local redirects. It must include every wrapper around the scripts.
    pub(crate) fn redirect_through(&self, top: &Arc<dyn Handler>) {
        // Later calls have no effect, because a server has only one.
        drop(self.top.set(Arc::downgrade(top)));
    }

    /// Kills all running scripts.
    pub(crate) fn end_all(&self) {
        self.children.end_all();
    }

    /// Index of the script folder that contains a normalized path, and the rest of the path.
    fn folder<'p>(&self, path: &'p [u8]) -> Option<(usize, &'p [u8])> {
        self.folders.iter().enumerate().find_map(|(at, folder)| Some((at, folder.behind(path)?)))
    }
}

/// Folders of all scripts. Their files must not be served.
///
/// # Errors
/// One line that names the folder that cannot be found.
pub(crate) fn folders(config: &Config) -> Result<Vec<PathBuf>, String> {
    let name = |folder: &CgiFolder| match std::fs::read_dir(&folder.folder) {
        Ok(_) => Ok(folder.folder.clone()),
        Err(error) => Err(format!("--cgi '{}={}': {error}", folder.path, folder.folder.display())),
    };
    config.cgi.folders.iter().map(name).collect()
}

struct Cgi {
    scripts: Arc<Scripts>,
    inner: Arc<dyn Handler>,
}

/// Wraps `inner`: requests below a script folder run a script.
pub(crate) fn wrap(scripts: &Arc<Scripts>, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(Cgi { scripts: Arc::clone(scripts), inner })
}

/// Prefix of the server's own paths, which scripts never receive, even with `--cgi /=DIR`.
const OWN: &[u8] = b"/_whirligig/";

impl Handler for Cgi {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let path = match normalize(request.path()) {
            Ok(path) if !path.starts_with(OWN) => path,
            Ok(_) | Err(_) => return self.inner.handle(request, cx),
        };
        let Some((folder, rest)) = self.scripts.folder(&path) else {
            return self.inner.handle(request, cx);
        };
        if request.method() == Method::Trace {
            // TRACE concerns the connection, not a resource (RFC 9110 section 9.3.8).
            let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
            return method_not_allowed(request, methods).into();
        }
        let script_request = ScriptRequest {
            scripts: Arc::clone(&self.scripts),
            folder,
            rest: rest.to_vec(),
            request: KeptRequest::of(request, cx),
            peer: cx.peer().clone(),
            user: cx.user().map(str::to_owned),
            head_only: request.method() == Method::Head,
            redirects: cx.redirects(),
        };
        let (content, permit_request) =
            (request.content(), PermitRequest { sender: cx.waker(), requested_at: cx.now().mono });
        cx.job_then(move || script_request.begin(content, permit_request))
    }
}

/// A request for a script, kept while the script is found and started.
struct ScriptRequest {
    scripts: Arc<Scripts>,
    folder: usize,
    rest: Vec<u8>,
    request: KeptRequest,
    peer: Peer,
    user: Option<String>,
    head_only: bool,
    /// Number of local redirects so far.
    redirects: u8,
}

/// Request for a permit to run a script.
struct PermitRequest {
    /// Connection that sends the content.
    sender: Waker,
    requested_at: Instant,
}

impl ScriptRequest {
    /// Finds the script, and starts it unless the request has content. Blocks: for jobs.
    ///
    /// A script with content is started once all of it has arrived, or the first part if it is
    /// long. A client that sends slowly must not occupy a script.
    fn begin(self, content: Content, permit_request: PermitRequest) -> Continuation {
        let script = match self.scripts.folders[self.folder].find(&self.rest) {
            Ok(script) => script,
            Err((status, why)) => return self.fail(status, why),
        };
        let length = match content {
            Content::None | Content::Length(0) => {
                return self.run(&script, permit_request, 0, Initial::Whole(None));
            }
            // The sink would refuse it as well, but only after a 100 (Continue) response.
            Content::Length(bytes) if bytes > self.request.limits().body_bytes_max => {
                let detail = over(self.request.limits().body_bytes_max, "content");
                let refusal = Response::problem(Status::CONTENT_TOO_LARGE, detail);
                return Box::new(move |_| refusal.closing().into());
            }
            Content::Length(bytes) => Some(bytes),
            // A script reads CONTENT_LENGTH bytes, so the length must be known first.
            Content::Chunked => None,
        };
        Box::new(move |cx| {
            let content = DropOffLoop::new(Spooled::of(&self.scripts.spool, cx), cx.spawner());
            Answer::Sink(Box::new(Gather { script_request: self, script, length, content }))
        })
    }

    /// Starts the script with the content received so far. `bytes` is the length of all content.
    /// Blocks: for jobs.
    fn run(
        self,
        script: &Script,
        permit_request: PermitRequest,
        bytes: u64,
        initial: Initial,
    ) -> Continuation {
        let name = String::from_utf8_lossy(&script.name).into_owned();
        match self.start(script, permit_request, bytes) {
            Err(then) => then,
            Ok(started) => Box::new(move |cx| {
                let run = Run::new(started, self.run_options(name), initial, cx);
                cx.watch(run);
                cx.answer_later()
            }),
        }
    }

    /// Starts the script, or returns the response that explains the failure.
    fn start(
        &self,
        script: &Script,
        permit_request: PermitRequest,
        content_bytes: u64,
    ) -> Result<(Process, Pipes), Continuation> {
        let Some(permit) = self.scripts.permits.acquire(permit_request.sender, permit_request.requested_at)
        else {
            return Err(self.fail(Status::SERVICE_UNAVAILABLE, "too many scripts are running"));
        };
        if self.scripts.options.reaps_orphans {
            self.scripts.children.reap_orphans();
        }
        let started = self.spawn(script, content_bytes, permit);
        started.map_err(|why| {
            log::error!(target: "cgi", "{}: cannot be started: {why}", script.name.escape_ascii());
            if shortage::report_in(&why) {
                return self.fail(Status::SERVICE_UNAVAILABLE, "the server is out of descriptors");
            }
            self.fail(Status::INTERNAL_SERVER_ERROR, "the script cannot be started")
        })
    }

    fn spawn(
        &self,
        script: &Script,
        content_bytes: u64,
        permit: SenderPermit,
    ) -> std::io::Result<(Process, Pipes)> {
        let scripts = &*self.scripts;
        let variables = self.request.with(|request| {
            let facts = Facts {
                script,
                peer: &self.peer,
                user: self.user.as_deref(),
                content_bytes,
                docroot: &scripts.docroot,
                server: (&scripts.host, scripts.ports.first().copied().unwrap_or(0)),
                ports: &scripts.ports,
                authorization: scripts.options.authorization,
            };
            meta_variables::variables(request, &facts)
        });
        let mut command = Command::new(&script.file);
        command.env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(scripts.options.environment.iter().map(|(name, value)| (name, value)));
        command.envs(variables.into_iter().flatten());
        // The system follows links within the name. The working directory is the parent of the file
        // name.
        command.current_dir(script.file.parent().unwrap_or(&scripts.docroot));
        Process::start(command, content_bytes > 0, permit, &scripts.children)
    }

    fn run_options(self, name: String) -> RunOptions {
        let ScriptRequest { scripts, request, redirects, head_only, .. } = self;
        RunOptions {
            name,
            head_only,
            timeout: scripts.options.timeout,
            spool: Arc::clone(&scripts.spool),
            redirect_handler: Box::new(move |target, cx| {
                let answer = scripts
                    .top
                    .get()
                    .and_then(Weak::upgrade)
                    .and_then(|top| follow_local_redirect(&*top, &target, &request, redirects, cx));
                answer.unwrap_or_else(|| {
                    log::warn!(target: "cgi", "a script redirects to '{}', which this server cannot answer", target.escape_ascii());
                    Response::problem(Status::BAD_GATEWAY, "the script sent no valid response").into()
                })
            }),
        }
    }

    fn fail(&self, status: Status, why: &'static str) -> Continuation {
        Box::new(move |_| Response::problem(status, why).into())
    }
}

/// Handles the request as a GET of `target` (RFC 3875 section 6.2.2). Returns `None` if `target` is
/// not a path or the redirects form a loop.
fn follow_local_redirect(
    top: &dyn Handler,
    target: &[u8],
    request: &KeptRequest,
    redirects: u8,
    cx: &mut Context<'_>,
) -> Option<Answer> {
    if redirects >= CGI_REDIRECTS_MAX || read_origin_form(target).is_err() {
        return None;
    }
    cx.reset_for_redirect(redirects + 1);
    let head = request.with(|request| KeptHead::as_get(request, target))?;
    head.with(request.limits(), |request| top.handle(request, cx))
}

/// Collects content before the script starts: all of it, or the first part if it is long and its
/// length is known.
struct Gather {
    script_request: ScriptRequest,
    script: Script,
    length: Option<u64>,
    content: DropOffLoop<Spooled>,
}

impl Gather {
    /// Returns true if the script can start now and read the rest as it arrives.
    fn is_enough(&mut self) -> bool {
        let is_long = self.length.is_some_and(|length| length > CGI_SPOOLED_BYTES);
        is_long && self.content.get().is_some_and(|content| content.len() >= CGI_SPOOLED_BYTES)
    }

    /// Starts the script.
    fn start(self: Box<Self>, cx: &mut Context<'_>, initial: fn(Spooled) -> Initial) -> Answer {
        let Gather { script_request, script, length, content } = *self;
        let (content, spawner) = content.into_parts();
        let Some(content) = content else { return spool::no_room().into() };
        let permit_request = PermitRequest { sender: cx.waker(), requested_at: cx.now().mono };
        // The loop drops a refused job; its content is then freed off the loop.
        let content = DropOffLoop::new(content, spawner);
        cx.job_then(move || {
            let (Some(content), _) = content.into_parts() else {
                return Box::new(|_| spool::no_room().into());
            };
            let bytes = length.unwrap_or(content.len());
            script_request.run(&script, permit_request, bytes, initial(content))
        })
    }
}

impl BodySink for Gather {
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> SinkStatus {
        match self.content.take(piece, cx.now().mono) {
            SinkStatus::More if self.is_enough() => SinkStatus::Full,
            sunk => sunk,
        }
    }

    fn drain(mut self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        if self.is_enough() {
            return self.start(cx, Initial::Part);
        }
        let Gather { script_request, script, length, content } = *self;
        content.spill(cx, move |content| {
            Answer::Sink(Box::new(Gather { script_request, script, length, content }))
        })
    }

    fn finish(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        self.start(cx, |content| Initial::Whole(Some(content)))
    }

    fn holders(&self) -> Holders<'_> {
        [self.content.holder(), None]
    }
}

/// Parses `URLPATH=DIR`.
pub(crate) fn parse_folder(text: &str) -> Result<CgiFolder, String> {
    let Some((path, folder)) = text.split_once('=').filter(|(_, folder)| !folder.is_empty()) else {
        return Err("not of the form URLPATH=DIR".to_owned());
    };
    if !path.starts_with('/') {
        return Err("the path must begin with a slash".to_owned());
    }
    let normal = normalize(path.as_bytes()).map_err(|error| error.to_string())?;
    if *normal != *path.as_bytes() {
        return Err("the path must be decoded and have no dot segments".to_owned());
    }
    Ok(CgiFolder { path: path.to_owned(), folder: PathBuf::from(folder) })
}

/// Parses `NAME=VALUE`.
pub(crate) fn parse_variable(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("not of the form NAME=VALUE".to_owned());
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if name.is_empty() || !is_name || name.as_bytes()[0].is_ascii_digit() || value.contains('\0') {
        return Err("a name consists of letters, digits and underscores, and a value has no NUL".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        let folder = |path: &str, folder: &str| Ok(CgiFolder { path: path.into(), folder: folder.into() });
        assert_eq!(parse_folder("/cgi-bin=/srv/cgi"), folder("/cgi-bin", "/srv/cgi"));
        assert_eq!(parse_folder("/a/b/=x=y"), folder("/a/b/", "x=y"));
        assert_eq!(parse_folder("/=x"), folder("/", "x"));
        for bad in ["", "x", "=x", "/x", "/x=", "x=y", "/a/../b=x", "/a//b=x", "/%41=x", "/a%2fb=x"] {
            assert!(parse_folder(bad).is_err(), "{bad}");
        }
        let variable = |name: &str, value: &str| Ok((name.into(), value.into()));
        assert_eq!(parse_variable("A_1=b=c"), variable("A_1", "b=c"));
        assert_eq!(parse_variable("_="), variable("_", ""));
        for bad in ["", "A", "=b", "1A=b", "A-B=c", "A B=c"] {
            assert!(parse_variable(bad).is_err(), "{bad}");
        }
    }
}
