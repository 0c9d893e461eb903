//! Request methods that change files: PUT, POST of a form, DELETE and MKCOL. For resumable uploads
//! HEAD, PATCH and DELETE.
//!
//! Each function checks the head, then a job does the rest. Must not know which paths accept
//! uploads, or which clients may write.

use std::sync::Arc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::config::UPLOAD_PARTS_MAX;
use crate::features::resume_token::is_token;
use crate::features::upload::form::{Form, Reply, folder_of};
use crate::features::upload::partial::Partial;
use crate::features::upload::partials::Partials;
use crate::features::upload::place::Found;
use crate::features::upload::refusal::Refusal;
use crate::features::upload::resume::{AMBIGUOUS, PARTIAL_TYPE, ResumeHeaders};
use crate::features::upload::sink::Sink;
use crate::features::upload::write_request::{ALLOW, WriteRequest, limits};
use crate::features::upload::writer::{Halt, Writer};
use crate::handler::continuation::Continuation;
use crate::handler::router::method_not_allowed;
use crate::handler::{Answer, Context};
use crate::http::field_lines::{list_elements, trim_ows};
use crate::http::framing::Content;
use crate::http::multipart::Multipart;
use crate::http::target::query_pairs;
use crate::http::{Body, Method, Request, Response, Status};
use crate::sync::lock;

/// Handles a write request that passed all checks of its head.
pub(super) fn change(
    ask: WriteRequest,
    partials: &Arc<Partials>,
    request: &Request<'_>,
    token: Option<String>,
    cx: &mut Context<'_>,
) -> Answer {
    match (request.method(), token) {
        (Method::Put, None) => put(ask, partials, request, cx),
        (Method::Post, None) => post(ask, request, cx),
        (Method::Delete, None) => in_job(ask, cx, delete),
        (Method::Other("MKCOL"), None) => make_folder(ask, request, cx),
        (Method::Head, Some(token)) => state(ask, Arc::clone(partials), token, cx),
        (Method::Patch, Some(token)) => append(ask, partials, &token, request, cx),
        (Method::Delete, Some(token)) => cancel(ask, Arc::clone(partials), token, cx),
        (_, None) => method_not_allowed(request, ALLOW).into(),
        (_, Some(_)) => method_not_allowed(request, "HEAD, PATCH, DELETE, OPTIONS").into(),
    }
}

pub(super) fn options(request: &Request<'_>, ask: &WriteRequest) -> Response {
    method_not_allowed(request, ALLOW)
        .with_header("Accept-Patch", PARTIAL_TYPE)
        .with_header("Upload-Limit", limits(ask))
}

/// Runs `work` in a job and sends the response that it returns.
fn in_job(
    ask: WriteRequest,
    cx: &mut Context<'_>,
    work: impl FnOnce(&WriteRequest) -> Result<Response, Refusal> + Send + 'static,
) -> Answer {
    cx.job(move || work(&ask).unwrap_or_else(|refusal| ask.refuse(refusal)))
}

/// `PUT`: stores the content as the file of this name.
fn put(ask: WriteRequest, partials: &Arc<Partials>, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let wish = ResumeHeaders::of(request);
    let bytes = match request.content() {
        Content::None => Some(0),
        Content::Length(bytes) => Some(bytes),
        Content::Chunked => None,
    };
    let checked = check_put(&ask, request, &wish, bytes).and_then(|()| ask.acquire_permit(cx));
    let taken = match checked {
        Ok(taken) => taken,
        Err(refusal) => return ask.refuse(refusal).into(),
    };
    let (spawner, partials) = (cx.spawner(), Arc::clone(partials));
    cx.job_then(move || {
        let ask = Arc::new(ask);
        let begun = Writer::begin(&ask, &partials, &wish, bytes);
        let then: Continuation = Box::new(move |_| match begun {
            Ok(writer) => {
                Answer::Sink(Box::new(Sink::of_file(writer, ask, taken, spawner, wish.takes_interim)))
            }
            Err(refusal) => ask.refuse(refusal).into(),
        });
        then
    })
}

fn check_put(
    ask: &WriteRequest,
    request: &Request<'_>,
    wish: &ResumeHeaders,
    bytes: Option<u64>,
) -> Result<(), Refusal> {
    // RFC 9110 sections 9.3.4 and 14.5: a part must not be mistaken for the whole.
    if request.header("content-range").is_some() {
        return Err(Refusal::new(
            Status::BAD_REQUEST,
            "PUT with Content-Range is not supported; see Upload-Complete",
        ));
    }
    let mut codings = request.headers().all("content-encoding").flat_map(list_elements);
    if codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::new(Status::UNSUPPORTED_MEDIA_TYPE, "uploads must not have a content coding"));
    }
    if ask.path.ends_with(b"/") || ask.path == ask.area.as_bytes() {
        return Err(Refusal::new(Status::CONFLICT, "the path is a folder; a PUT needs the name of a file"));
    }
    wish.check(bytes)?;
    ask.check_size(wish.length_with(0, bytes).max(bytes))
}

/// `DELETE`: removes a file or an empty folder.
fn delete(ask: &WriteRequest) -> Result<Response, Refusal> {
    if ask.path.strip_suffix(b"/").unwrap_or(&ask.path) == ask.area.as_bytes() {
        return Err(Refusal::new(Status::FORBIDDEN, "the upload folder itself cannot be deleted"));
    }
    let missing = Refusal::new(Status::NOT_FOUND, "the file does not exist");
    let place = match ask.place(&ask.path) {
        Err(refusal) if refusal == Errno::NOENT.into() => return Err(missing),
        place => place?,
    };
    let _publishing = lock(&ask.shared.publishing);
    let found = place.look()?;
    let flags = match found {
        Found::Nothing => return Err(missing),
        Found::File(_) if ask.path.ends_with(b"/") => return Err(missing),
        Found::File(_) => AtFlags::empty(),
        Found::Folder => AtFlags::REMOVEDIR,
        Found::Other => return Err(Refusal::new(Status::CONFLICT, "the path is a link or device")),
    };
    ask.check_conditions(&place, found)?;
    rustix::fs::unlinkat(&place.folder, place.name.as_slice(), flags)?;
    ask.root.current().note_write();
    Ok(Response::new(Status::NO_CONTENT).by_server())
}

/// `MKCOL`: creates a folder (RFC 4918 section 9.3).
fn make_folder(ask: WriteRequest, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    if request.content() != Content::None {
        let refusal = Refusal::new(Status::UNSUPPORTED_MEDIA_TYPE, "MKCOL must not have content");
        return ask.refuse(refusal).into();
    }
    in_job(ask, cx, |ask| {
        let there = Refusal::new(Status::METHOD_NOT_ALLOWED, "a file or folder of that name already exists");
        let path = ask.path.strip_suffix(b"/").unwrap_or(&ask.path);
        if path == ask.area.as_bytes() {
            return Err(there);
        }
        let place = ask.place(path)?;
        let _publishing = lock(&ask.shared.publishing);
        match rustix::fs::mkdirat(&place.folder, place.name.as_slice(), Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) => return Err(there),
            made => made?,
        }
        ask.root.current().note_write();
        let location = ask.reference(&[path, b"/"].concat());
        Ok(Response::new(Status::CREATED).by_server().with_header("Location", location))
    })
}

/// `POST`: stores the files of a form in the folder of this path.
fn post(ask: WriteRequest, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let begun = check_post(&ask, request).and_then(|parser| Ok((parser, ask.acquire_permit(cx)?)));
    let (parser, taken) = match begun {
        Ok(begun) => begun,
        Err(refusal) => return ask.refuse(refusal).into(),
    };
    let overwrites = query_pairs(request.query().unwrap_or_default()).any(|(name, _)| name == "overwrite");
    let reply = Reply::of(request);
    let spawner = cx.spawner();
    cx.job_then(move || {
        let opened = folder_of(&ask).inspect(|folder| ask.sweep(&folder.fd));
        let then: Continuation = Box::new(move |_| match opened {
            Err(refusal) => ask.refuse(refusal).into(),
            Ok(folder) => {
                let ask = Arc::new(ask);
                let form = Form::new(parser, Arc::clone(&ask), folder, overwrites, reply);
                Answer::Sink(Box::new(Sink::of_form(form, ask, taken, spawner)))
            }
        });
        then
    })
}

fn check_post(ask: &WriteRequest, request: &Request<'_>) -> Result<Multipart, Refusal> {
    if let Content::Length(bytes) = request.content() {
        ask.check_size(Some(bytes))?;
    }
    Ok(Multipart::new(request.headers().only("content-type")?.unwrap_or_default(), UPLOAD_PARTS_MAX)?)
}

fn find(partials: &Partials, ask: &WriteRequest, token: &str) -> Result<Arc<Partial>, Refusal> {
    let found = Some(token).filter(|token| is_token(token)).and_then(|token| partials.find(token));
    let found = found.filter(|partial| partial.is_for(ask));
    found.ok_or(Refusal::new(Status::NOT_FOUND, "the upload does not exist"))
}

/// `HEAD` of an upload: reports its offset.
fn state(ask: WriteRequest, partials: Arc<Partials>, token: String, cx: &mut Context<'_>) -> Answer {
    in_job(ask, cx, move |ask| {
        let progress = find(&partials, ask, &token)?.interrupt(ask.now.mono)?;
        let response = Response::new(Status::NO_CONTENT)
            .by_server()
            .with_header("Upload-Offset", progress.bytes.to_string())
            .with_header("Upload-Complete", if progress.is_complete { "?1" } else { "?0" })
            .with_header("Upload-Limit", limits(ask))
            .with_header("Cache-Control", "no-store");
        Ok(match progress.length {
            Some(length) => response.with_header("Upload-Length", length.to_string()),
            None => response,
        })
    })
}

/// `DELETE` of an upload: discards it.
fn cancel(ask: WriteRequest, partials: Arc<Partials>, token: String, cx: &mut Context<'_>) -> Answer {
    in_job(ask, cx, move |ask| {
        partials.cancel(&*find(&partials, ask, &token)?)?;
        Ok(Response::new(Status::NO_CONTENT).by_server())
    })
}

/// `PATCH`: resumes an upload.
fn append(
    ask: WriteRequest,
    partials: &Arc<Partials>,
    token: &str,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let wish = ResumeHeaders::of(request);
    let bytes = match request.content() {
        Content::None => Some(0),
        Content::Length(bytes) => Some(bytes),
        Content::Chunked => None,
    };
    let checked = check_append(&ask, request, &wish, bytes)
        .and_then(|offset| Ok((offset, find(partials, &ask, token)?, ask.acquire_permit(cx)?)));
    let (offset, partial, taken) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            let response = ask.refuse(refusal);
            return match refusal.status {
                Status::UNSUPPORTED_MEDIA_TYPE => response.with_header("Accept-Patch", PARTIAL_TYPE).into(),
                _ => response.into(),
            };
        }
    };
    let (spawner, partials) = (cx.spawner(), Arc::clone(partials));
    cx.job_then(move || {
        let begun = Writer::resume(&partial, &partials, &ask, &wish, offset, bytes);
        drop(partial);
        let then: Continuation = Box::new(move |_| match begun {
            Ok(writer) => Answer::Sink(Box::new(Sink::of_file(writer, Arc::new(ask), taken, spawner, false))),
            Err(halt) => halted(&ask, &halt, offset).into(),
        });
        then
    })
}

fn check_append(
    ask: &WriteRequest,
    request: &Request<'_>,
    wish: &ResumeHeaders,
    bytes: Option<u64>,
) -> Result<u64, Refusal> {
    if wish.is_ambiguous {
        return Err(AMBIGUOUS);
    }
    let is_part = request.headers().only("content-type")?.is_some_and(|value| {
        let kind = value.split(|&byte| byte == b';').next().unwrap_or_default();
        trim_ows(kind).eq_ignore_ascii_case(PARTIAL_TYPE.as_bytes())
    });
    if !is_part {
        return Err(Refusal::new(
            Status::UNSUPPORTED_MEDIA_TYPE,
            "the content must be application/partial-upload",
        ));
    }
    let (Some(offset), Some(_)) = (wish.offset, wish.complete) else {
        return Err(Refusal::new(Status::BAD_REQUEST, "Upload-Offset and Upload-Complete are required"));
    };
    ask.check_size(offset.checked_add(bytes.unwrap_or(0)).or(Some(u64::MAX)))?;
    Ok(offset)
}

/// Response to a part that was refused, with the problem types of the IETF draft (RFC 9457).
fn halted(ask: &WriteRequest, halt: &Halt, provided: u64) -> Response {
    let (status, kind, more, expected) = match halt {
        Halt::Refused(refusal) => return ask.refuse(*refusal),
        Halt::Complete => (Status::BAD_REQUEST, "completed-upload", String::new(), None),
        Halt::Length => (Status::BAD_REQUEST, "inconsistent-upload-length", String::new(), None),
        Halt::Offset(expected) => {
            let offsets = format!(",\"expected-offset\":{expected},\"provided-offset\":{provided}");
            (Status::CONFLICT, "mismatching-upload-offset", offsets, Some(*expected))
        }
    };
    let title = match halt {
        Halt::Complete => "upload is already completed",
        Halt::Length => "inconsistent length values for upload",
        Halt::Offset(_) | Halt::Refused(_) => "offset from request does not match offset of resource",
    };
    let body = format!(
        "{{\"type\":\"https://iana.org/assignments/http-problem-types#{kind}\",\"title\":\"{title}\"{more}}}\n"
    );
    let response = Response::new(status)
        .by_server()
        .with_header("Content-Type", "application/problem+json")
        .with_body(Body::Bytes(body.into_bytes()));
    match expected {
        Some(offset) => response.with_header("Upload-Offset", offset.to_string()),
        None => response,
    }
}
