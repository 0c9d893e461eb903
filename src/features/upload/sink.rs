//! Transfer of content from a connection to the disk.
//!
//! A [`Sink`] collects pieces on the loop. A job writes them, a few hundred KiB at a time;
//! meanwhile nothing more is read from that client. A sink can be dropped on the loop at any
//! moment. A worker then finishes its file, because closing a long unnamed file keeps the disk busy
//! for a while.
//!
//! Must not know which method sent the content.

use std::sync::Arc;

use crate::config::{Limits, UPLOAD_BUFFER_BYTES};
use crate::features::upload::form::Form;
use crate::features::upload::resume::INTEROP_VERSION;
use crate::features::upload::write_request::WriteRequest;
use crate::features::upload::writer::Writer;
use crate::handler::continuation::Continuation;
use crate::handler::{Answer, BodySink, Context, Holders, SinkStatus};
use crate::http::refusal::Refusal;
use crate::http::{Response, Status};
use crate::jobs::sender_permits::SenderPermit;
use crate::jobs::{Lane, Spawn};

/// Sink for the content of one write request.
pub(crate) struct Sink {
    /// `None` after the end or a failure.
    work: Option<Work>,
    ask: Arc<WriteRequest>,
    spawner: Arc<dyn Spawn>,
    takes_interim: bool,
}

struct Work {
    goal: Goal,
    buffer: Vec<u8>,
    permit: SenderPermit,
}

enum Goal {
    File(Writer),
    Form(Box<Form>),
}

impl Sink {
    /// Sink for content that is a file or a part of one.
    pub(crate) fn of_file(
        writer: Writer,
        ask: Arc<WriteRequest>,
        permit: SenderPermit,
        spawner: Arc<dyn Spawn>,
        takes_interim: bool,
    ) -> Sink {
        let work = Work { goal: Goal::File(writer), buffer: Vec::new(), permit };
        Sink { work: Some(work), ask, spawner, takes_interim }
    }

    /// Sink for a form with files.
    pub(crate) fn of_form(
        form: Form,
        ask: Arc<WriteRequest>,
        permit: SenderPermit,
        spawner: Arc<dyn Spawn>,
    ) -> Sink {
        let work = Work { goal: Goal::Form(Box::new(form)), buffer: Vec::new(), permit };
        Sink { work: Some(work), ask, spawner, takes_interim: false }
    }

    /// Writes the collected pieces, or as much as one job should. After a failure the sink accepts
    /// nothing more.
    fn step(&mut self) -> Result<Stepped, Response> {
        let Some(work) = &mut self.work else { return Ok(Stepped::All) };
        work.write().map_err(|refusal| {
            self.work = None;
            self.ask.refuse(refusal)
        })
    }

    /// Writes the rest after the end of the content. Returns the response when everything is
    /// written. The permit is held until then, because files are flushed and published here.
    pub(super) fn last_step(&mut self) -> Option<Response> {
        match self.step() {
            Ok(Stepped::Part) => return None,
            Ok(Stepped::All) => {}
            Err(response) => return Some(response),
        }
        let Some(Work { goal, permit, .. }) = self.work.take() else { return Some(self.ask.refuse(LOST)) };
        let done = match goal {
            Goal::File(writer) => writer.finish(),
            Goal::Form(form) => form.finish(),
        };
        drop(permit);
        Some(done.unwrap_or_else(|refusal| self.ask.refuse(refusal)))
    }
}

/// Result of one write job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stepped {
    /// Everything was written.
    All,
    /// The rest is left for another job, so that other work gets a turn.
    Part,
}

const LOST: Refusal = Refusal::from_static(Status::INTERNAL_SERVER_ERROR, "the upload was lost");

/// Interim response with the location at which the client can resume.
fn interim(writer: &Writer, is_understood: bool) -> Option<Response> {
    (is_understood && writer.can_be_resumed()).then(|| {
        let response = Response::new(Status::UPLOAD_RESUMPTION_SUPPORTED)
            .with_header("Upload-Draft-Interop-Version", INTEROP_VERSION);
        writer.with_upload_location(response)
    })
}

impl Work {
    fn write(&mut self) -> Result<Stepped, Refusal> {
        let written = match &mut self.goal {
            Goal::File(writer) => writer.write(&self.buffer).map(|()| self.buffer.len())?,
            Goal::Form(form) => form.write(&self.buffer)?,
        };
        self.buffer.drain(..written);
        Ok(if self.buffer.is_empty() { Stepped::All } else { Stepped::Part })
    }
}

impl BodySink for Sink {
    fn write(&mut self, piece: &[u8], _: &mut Context<'_>) -> SinkStatus {
        let Some(work) = &mut self.work else { return SinkStatus::Refuse(self.ask.refuse(LOST)) };
        work.buffer.extend_from_slice(piece);
        if work.buffer.len() >= UPLOAD_BUFFER_BYTES { SinkStatus::Full } else { SinkStatus::More }
    }

    fn drain(mut self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        cx.job_then(move || {
            let stepped = self.step();
            let then: Continuation = Box::new(move |cx| match stepped {
                Ok(Stepped::All) => Answer::Sink(self),
                Ok(Stepped::Part) => self.drain(cx),
                Err(response) => response.into(),
            });
            then
        })
    }

    fn finish(mut self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        cx.job_then(move || {
            let answer = self.last_step();
            let then: Continuation = Box::new(move |cx| match answer {
                Some(response) => response.into(),
                None => self.finish(cx),
            });
            then
        })
    }

    fn bytes_max(&self, limits: &Limits) -> u64 {
        limits.upload_bytes_max
    }

    fn holders(&self) -> Holders<'_> {
        [self.work.as_ref().map(|work| work.permit.holder()), None]
    }

    fn interim(&mut self) -> Option<Response> {
        match &self.work.as_ref()?.goal {
            Goal::File(writer) => interim(writer, self.takes_interim),
            Goal::Form(_) => None,
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let Some(mut work) = self.work.take() else { return };
        // The transfer was aborted. A resumable upload keeps what has arrived, others are closed.
        let task = Box::new(move || {
            let is_kept = matches!(&work.goal, Goal::File(writer) if writer.can_be_resumed());
            if is_kept {
                let _written = work.write();
            }
        });
        // Detached, because the connection is closed or handles another request.
        self.spawner.detach(Lane::Short, task);
    }
}
