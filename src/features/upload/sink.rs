//! The way of content from a connection to the disk.
//!
//! A [`Sink`] gathers pieces on the loop and has a worker write them, some hundred KiB at a time;
//! meanwhile nothing more is read from that client. It may be dropped at any moment, on the loop:
//! what it holds is then finished with by a worker, since closing a long file that has no name
//! takes the disk a while.

use std::sync::Arc;

use crate::config::{Limits, UPLOAD_BUFFER_BYTES};
use crate::features::upload::form::Form;
use crate::features::upload::refusal::Refusal;
use crate::features::upload::resume::INTEROP_VERSION;
use crate::features::upload::write_request::Ask;
use crate::features::upload::writer::Writer;
use crate::handler::continuation::Then;
use crate::handler::{Answer, BodySink, Context, Seats, Sunk};
use crate::http::{Response, Status};
use crate::jobs::places::Taken;
use crate::jobs::{Errands, Lane};

/// Takes the content of one upload.
pub(crate) struct Sink {
    /// `None` when it is done with.
    work: Option<Work>,
    ask: Arc<Ask>,
    errands: Arc<dyn Errands>,
    takes_interim: bool,
}

struct Work {
    goal: Goal,
    buffer: Vec<u8>,
    place: Taken,
}

enum Goal {
    File(Writer),
    Form(Box<Form>),
}

impl Sink {
    /// For content that is a file, or part of one.
    pub(crate) fn of_file(
        writer: Writer,
        ask: Arc<Ask>,
        place: Taken,
        errands: Arc<dyn Errands>,
        takes_interim: bool,
    ) -> Sink {
        let work = Work { goal: Goal::File(writer), buffer: Vec::new(), place };
        Sink { work: Some(work), ask, errands, takes_interim }
    }

    /// For content that is a form with files.
    pub(crate) fn of_form(form: Form, ask: Arc<Ask>, place: Taken, errands: Arc<dyn Errands>) -> Sink {
        let work = Work { goal: Goal::Form(Box::new(form)), buffer: Vec::new(), place };
        Sink { work: Some(work), ask, errands, takes_interim: false }
    }

    /// Writes what was gathered, or as much of it as one job should. After a failure there is
    /// nothing left to write to.
    fn step(&mut self) -> Result<Stepped, Response> {
        let Some(work) = &mut self.work else { return Ok(Stepped::All) };
        work.write().map_err(|refusal| {
            self.work = None;
            self.ask.refuse(refusal)
        })
    }

    /// The same behind the end of the content, with the answer when all is written.
    fn last_step(&mut self) -> Option<Response> {
        match self.step() {
            Ok(Stepped::Part) => return None,
            Ok(Stepped::All) => {}
            Err(response) => return Some(response),
        }
        let done = match self.work.take().map(|work| work.goal) {
            Some(Goal::File(writer)) => writer.finish(),
            Some(Goal::Form(form)) => form.finish(),
            None => Err(LOST),
        };
        Some(done.unwrap_or_else(|refusal| self.ask.refuse(refusal)))
    }
}

/// How much of what was gathered is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stepped {
    All,
    /// Others are to have their turn before the rest.
    Part,
}

const LOST: Refusal = Refusal::new(Status::INTERNAL_SERVER_ERROR, "the upload was lost");

/// The interim response that tells a client where it could go on.
fn interim(writer: &Writer, wish_takes_it: bool) -> Option<Response> {
    (wish_takes_it && writer.can_be_resumed()).then(|| {
        let response = Response::new(Status::UPLOAD_RESUMPTION_SUPPORTED)
            .with_field("Upload-Draft-Interop-Version", INTEROP_VERSION);
        writer.tell_where(response)
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
    fn write(&mut self, piece: &[u8], _: &mut Context<'_>) -> Sunk {
        let Some(work) = &mut self.work else { return Sunk::Refuse(self.ask.refuse(LOST)) };
        work.buffer.extend_from_slice(piece);
        if work.buffer.len() >= UPLOAD_BUFFER_BYTES { Sunk::Full } else { Sunk::More }
    }

    fn drain(mut self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        cx.job_then(move || {
            let stepped = self.step();
            let then: Then = Box::new(move |cx| match stepped {
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
            let then: Then = Box::new(move |cx| match answer {
                Some(response) => response.into(),
                None => self.finish(cx),
            });
            then
        })
    }

    fn bytes_max(&self, limits: &Limits) -> u64 {
        limits.upload_bytes_max
    }

    fn seats(&self) -> Seats<'_> {
        [self.work.as_ref().and_then(|work| work.place.seat()), None]
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
        // It broke off. What has come of an upload that can be resumed is kept, the rest is closed.
        let errand = Box::new(move || {
            let is_kept = matches!(&work.goal, Goal::File(writer) if writer.can_be_resumed());
            if is_kept {
                let _written = work.write();
            }
        });
        // For no connection: this one is gone, or goes on with something else.
        self.errands.detach(Lane::Short, errand);
    }
}
