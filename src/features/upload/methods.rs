//! Request methods that change files: PUT, POST of a form, DELETE, MKCOL and MOVE. For resumable
//! uploads HEAD, PATCH and DELETE.
//!
//! Each function checks the head, then a job does the rest. Must not know which paths accept
//! uploads, or which clients may write.

use std::sync::Arc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::config::{UPLOAD_PARTS_MAX, UploadRight};
use crate::features::resume_token::is_token;
use crate::features::upload::destination::EntryKind;
use crate::features::upload::form::{Form, Reply, folder_of};
use crate::features::upload::partial::Partial;
use crate::features::upload::partials::Partials;
use crate::features::upload::refusal::refuse_errno;
use crate::features::upload::rename::Rename;
use crate::features::upload::resume::{AMBIGUOUS, PARTIAL_TYPE, ResumeHeaders};
use crate::features::upload::rights::{allow, permitted};
use crate::features::upload::sink::Sink;
use crate::features::upload::write_request::{WriteRequest, limits};
use crate::features::upload::writer::{ResumeError, Writer};
use crate::handler::continuation::Continuation;
use crate::handler::router::method_not_allowed;
use crate::handler::{Answer, Context};
use crate::http::field_lines::{list_elements, trim_ows};
use crate::http::framing::Content;
use crate::http::multipart::Multipart;
use crate::http::refusal::Refusal;
use crate::http::target::query_pairs;
use crate::http::{Body, Method, Request, Response, Status};
use crate::sync::lock;

/// Handles a write request that passed all checks of its head.
pub(super) fn change(
    write_request: WriteRequest,
    partials: &Arc<Partials>,
    request: &Request<'_>,
    token: Option<String>,
    cx: &mut Context<'_>,
) -> Answer {
    match (request.method(), token) {
        (Method::Put, None) => put(write_request, partials, request, cx),
        (Method::Post, None) => post(write_request, request, cx),
        (Method::Delete, None) => in_job(write_request, cx, delete),
        (Method::Other("MKCOL"), None) => make_folder(write_request, request, cx),
        (Method::Other("MOVE"), None) => rename(write_request, request, cx),
        (Method::Head, Some(token)) => state(write_request, Arc::clone(partials), token, cx),
        (Method::Patch, Some(token)) => append(write_request, partials, &token, request, cx),
        (Method::Delete, Some(token)) => cancel(write_request, Arc::clone(partials), token, cx),
        (_, None) => method_not_allowed(request, &allow(write_request.rights)).into(),
        (_, Some(_)) => method_not_allowed(request, "HEAD, PATCH, DELETE, OPTIONS").into(),
    }
}

pub(super) fn options(request: &Request<'_>, write_request: &WriteRequest) -> Response {
    method_not_allowed(request, &allow(write_request.rights))
        .with_header("Accept-Patch", PARTIAL_TYPE)
        .with_header("Upload-Limit", limits(write_request))
}

/// Runs `work` in a job and sends the response that it returns.
fn in_job(
    write_request: WriteRequest,
    cx: &mut Context<'_>,
    work: impl FnOnce(&WriteRequest) -> Result<Response, Refusal> + Send + 'static,
) -> Answer {
    cx.job(move || work(&write_request).unwrap_or_else(|refusal| write_request.refuse(refusal)))
}

/// `PUT`: stores the content as the file of this name.
fn put(
    write_request: WriteRequest,
    partials: &Arc<Partials>,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let resume_headers = ResumeHeaders::of(request);
    let bytes = request.content().length();
    let checked = check_put(&write_request, request, &resume_headers, bytes)
        .and_then(|()| write_request.acquire_permit(cx));
    let permit = match checked {
        Ok(permit) => permit,
        Err(refusal) => return write_request.refuse(refusal).into(),
    };
    let (spawner, partials) = (cx.spawner(), Arc::clone(partials));
    cx.job_then(move || {
        let write_request = Arc::new(write_request);
        let begun = Writer::begin(&write_request, &partials, &resume_headers, bytes);
        let then: Continuation = Box::new(move |_| match begun {
            Ok(writer) => Answer::Sink(Box::new(Sink::of_file(
                writer,
                write_request,
                permit,
                spawner,
                resume_headers.takes_interim,
            ))),
            Err(refusal) => write_request.refuse(refusal).into(),
        });
        then
    })
}

fn check_put(
    write_request: &WriteRequest,
    request: &Request<'_>,
    resume_headers: &ResumeHeaders,
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
    if write_request.path.ends_with(b"/") || write_request.path == write_request.area.as_bytes() {
        return Err(Refusal::new(Status::CONFLICT, "the path is a folder; a PUT needs the name of a file"));
    }
    resume_headers.check(bytes)?;
    write_request.check_size(resume_headers.length_with(0, bytes).max(bytes))
}

/// `DELETE`: removes a file or an empty folder.
fn delete(write_request: &WriteRequest) -> Result<Response, Refusal> {
    if write_request.path.strip_suffix(b"/").unwrap_or(&write_request.path) == write_request.area.as_bytes() {
        return Err(Refusal::new(Status::FORBIDDEN, "the upload folder itself cannot be deleted"));
    }
    let missing = Refusal::new(Status::NOT_FOUND, "the file does not exist");
    let destination = match write_request.destination(&write_request.path) {
        Err(refusal) if refusal == refuse_errno(Errno::NOENT) => return Err(missing),
        destination => destination?,
    };
    permitted(destination.rights, UploadRight::Delete)?;
    let _publishing = lock(&write_request.shared.publishing);
    let found = destination.kind().map_err(refuse_errno)?;
    let flags = match found {
        EntryKind::Nothing => return Err(missing),
        EntryKind::File(_) if write_request.path.ends_with(b"/") => return Err(missing),
        EntryKind::File(_) => AtFlags::empty(),
        EntryKind::Folder => AtFlags::REMOVEDIR,
        EntryKind::Other => return Err(Refusal::new(Status::CONFLICT, "the path is a link or device")),
    };
    write_request.check_conditions(&destination, found)?;
    rustix::fs::unlinkat(&destination.folder, destination.name.as_slice(), flags).map_err(refuse_errno)?;
    write_request.root.current().note_write();
    Ok(Response::new(Status::NO_CONTENT).by_server())
}

/// `MKCOL`: creates a folder (RFC 4918 section 9.3).
fn make_folder(write_request: WriteRequest, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    if request.content() != Content::None {
        let refusal = Refusal::new(Status::UNSUPPORTED_MEDIA_TYPE, "MKCOL must not have content");
        return write_request.refuse(refusal).into();
    }
    in_job(write_request, cx, |write_request| {
        let already_exists =
            Refusal::new(Status::METHOD_NOT_ALLOWED, "a file or folder of that name already exists");
        let path = write_request.path.strip_suffix(b"/").unwrap_or(&write_request.path);
        if path == write_request.area.as_bytes() {
            return Err(already_exists);
        }
        let destination = write_request.destination(path)?;
        permitted(destination.rights, UploadRight::Create)?;
        let _publishing = lock(&write_request.shared.publishing);
        match rustix::fs::mkdirat(
            &destination.folder,
            destination.name.as_slice(),
            Mode::from_raw_mode(0o777),
        ) {
            Err(Errno::EXIST) => return Err(already_exists),
            made => made.map_err(refuse_errno)?,
        }
        write_request.root.current().note_write();
        let location = write_request.reference(&[path, b"/"].concat());
        Ok(Response::new(Status::CREATED).by_server().with_header("Location", location))
    })
}

/// `MOVE`: renames a file or folder within its folder (RFC 4918 section 9.9).
fn rename(write_request: WriteRequest, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    match Rename::of(&write_request, request) {
        Ok(rename) => in_job(write_request, cx, move |write_request| rename.carry_out(write_request)),
        Err(refusal) => write_request.refuse(refusal).into(),
    }
}

/// `POST`: stores the files of a form in the folder of this path.
fn post(write_request: WriteRequest, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let begun = check_post(&write_request, request)
        .and_then(|parser| Ok((parser, write_request.acquire_permit(cx)?)));
    let (parser, permit) = match begun {
        Ok(begun) => begun,
        Err(refusal) => return write_request.refuse(refusal).into(),
    };
    let overwrites = query_pairs(request.query().unwrap_or_default()).any(|(name, _)| name == "overwrite");
    let reply = Reply::of(request);
    let spawner = cx.spawner();
    cx.job_then(move || {
        let opened = folder_of(&write_request).inspect(|folder| write_request.sweep(&folder.fd));
        let then: Continuation = Box::new(move |_| match opened {
            Err(refusal) => write_request.refuse(refusal).into(),
            Ok(folder) => {
                let write_request = Arc::new(write_request);
                let form = Form::new(parser, Arc::clone(&write_request), folder, overwrites, reply);
                Answer::Sink(Box::new(Sink::of_form(form, write_request, permit, spawner)))
            }
        });
        then
    })
}

fn check_post(write_request: &WriteRequest, request: &Request<'_>) -> Result<Multipart, Refusal> {
    if let Content::Length(bytes) = request.content() {
        write_request.check_size(Some(bytes))?;
    }
    Ok(Multipart::new(request.headers().only("content-type")?.unwrap_or_default(), UPLOAD_PARTS_MAX)?)
}

fn find(partials: &Partials, write_request: &WriteRequest, token: &str) -> Result<Arc<Partial>, Refusal> {
    let found = Some(token).filter(|token| is_token(token)).and_then(|token| partials.find(token));
    let found = found.filter(|partial| partial.is_for(write_request));
    found.ok_or(Refusal::new(Status::NOT_FOUND, "the upload does not exist"))
}

/// `HEAD` of an upload: reports its offset.
fn state(
    write_request: WriteRequest,
    partials: Arc<Partials>,
    token: String,
    cx: &mut Context<'_>,
) -> Answer {
    in_job(write_request, cx, move |write_request| {
        let progress = find(&partials, write_request, &token)?.interrupt(write_request.now.mono)?;
        let response = Response::new(Status::NO_CONTENT)
            .by_server()
            .with_header("Upload-Offset", progress.bytes.to_string())
            .with_header("Upload-Complete", if progress.is_complete { "?1" } else { "?0" })
            .with_header("Upload-Limit", limits(write_request))
            .with_header("Cache-Control", "no-store");
        Ok(match progress.length {
            Some(length) => response.with_header("Upload-Length", length.to_string()),
            None => response,
        })
    })
}

/// `DELETE` of an upload: discards it.
fn cancel(
    write_request: WriteRequest,
    partials: Arc<Partials>,
    token: String,
    cx: &mut Context<'_>,
) -> Answer {
    in_job(write_request, cx, move |write_request| {
        partials.cancel(&*find(&partials, write_request, &token)?)?;
        Ok(Response::new(Status::NO_CONTENT).by_server())
    })
}

/// `PATCH`: resumes an upload.
fn append(
    write_request: WriteRequest,
    partials: &Arc<Partials>,
    token: &str,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let resume_headers = ResumeHeaders::of(request);
    let bytes = request.content().length();
    let checked = check_append(&write_request, request, &resume_headers, bytes).and_then(|offset| {
        Ok((offset, find(partials, &write_request, token)?, write_request.acquire_permit(cx)?))
    });
    let (offset, partial, permit) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            let status = refusal.status();
            let response = write_request.refuse(refusal);
            return match status {
                Status::UNSUPPORTED_MEDIA_TYPE => response.with_header("Accept-Patch", PARTIAL_TYPE).into(),
                _ => response.into(),
            };
        }
    };
    let (spawner, partials) = (cx.spawner(), Arc::clone(partials));
    cx.job_then(move || {
        let begun = Writer::resume(&partial, &partials, &write_request, &resume_headers, offset, bytes);
        drop(partial);
        let then: Continuation = Box::new(move |_| match begun {
            Ok(writer) => {
                Answer::Sink(Box::new(Sink::of_file(writer, Arc::new(write_request), permit, spawner, false)))
            }
            Err(error) => resume_error_response(&write_request, &error, offset).into(),
        });
        then
    })
}

fn check_append(
    write_request: &WriteRequest,
    request: &Request<'_>,
    resume_headers: &ResumeHeaders,
    bytes: Option<u64>,
) -> Result<u64, Refusal> {
    if resume_headers.is_ambiguous {
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
    let (Some(offset), Some(_)) = (resume_headers.offset, resume_headers.complete) else {
        return Err(Refusal::new(Status::BAD_REQUEST, "Upload-Offset and Upload-Complete are required"));
    };
    write_request.check_size(offset.checked_add(bytes.unwrap_or(0)).or(Some(u64::MAX)))?;
    Ok(offset)
}

/// Response to a part that was refused, with the problem types of the IETF draft (RFC 9457).
fn resume_error_response(write_request: &WriteRequest, error: &ResumeError, provided: u64) -> Response {
    let (status, kind, more, expected) = match error {
        ResumeError::Refused(refusal) => return write_request.refuse(refusal.clone()),
        ResumeError::Complete => (Status::BAD_REQUEST, "completed-upload", String::new(), None),
        ResumeError::Length => (Status::BAD_REQUEST, "inconsistent-upload-length", String::new(), None),
        ResumeError::Offset(expected) => {
            let offsets = format!(",\"expected-offset\":{expected},\"provided-offset\":{provided}");
            (Status::CONFLICT, "mismatching-upload-offset", offsets, Some(*expected))
        }
    };
    let title = match error {
        ResumeError::Complete => "upload is already completed",
        ResumeError::Length => "inconsistent length values for upload",
        ResumeError::Offset(_) | ResumeError::Refused(_) => {
            "offset from request does not match offset of resource"
        }
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
