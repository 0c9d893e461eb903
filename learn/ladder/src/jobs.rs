//! Jobs: work that would block the loop, on a thread of its own.
//!
//! A job has a name, which the loop chooses. The result comes back under this name, some turns
//! later. Nothing can call a job back that has begun. This file must not know what a name means.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use mio::{Token, Waker};

use crate::net::{Interest, Kernel, Poll, PollOf, Source};
use crate::protocol::busy_response;

/// Jobs that may wait. Beyond that a request is refused, because each job holds memory.
const JOBS_MAX: usize = 64;
/// Duration of a job. A thread that sleeps stands for a database or a disk.
const JOB_TAKES: Duration = Duration::from_secs(2);

/// A job or its result: its number and the response.
type Numbered = (u64, Vec<u8>);

/// Jobs that have names of type `N`.
pub struct Jobs<N> {
    names: HashMap<u64, N>,
    last: u64,
    refused: Vec<Numbered>,
    worker: Worker,
}

enum Worker {
    Thread { jobs: SyncSender<Numbered>, results: Receiver<Numbered>, waker: Arc<Waker> },
    Test(Rc<dyn Kernel>),
}

impl<N> Jobs<N> {
    /// Starts the worker. The poll reports `token` when there are results.
    pub fn new(poll: &Poll, token: Token) -> io::Result<Jobs<N>> {
        let worker = match &poll.0 {
            PollOf::Mio(poll) => start_thread(Waker::new(poll.registry(), token)?),
            PollOf::Test(kernel) => {
                kernel.register(Source::Jobs, token, Interest::READABLE)?;
                Worker::Test(Rc::clone(kernel))
            }
        };
        Ok(Jobs { names: HashMap::new(), last: 0, refused: Vec::new(), worker })
    }

    /// Starts a job that makes `response`. `results` returns it under `name`.
    pub fn start(&mut self, name: N, response: Vec<u8>) {
        self.last += 1;
        self.names.insert(self.last, name);
        match &self.worker {
            Worker::Thread { jobs, waker, .. } => {
                let sent = jobs.try_send((self.last, response));
                if let Err(
                    TrySendError::Full((job, response)) | TrySendError::Disconnected((job, response)),
                ) = sent
                {
                    self.refused.push((job, busy_response(&response)));
                    let _ = waker.wake(); // `results` may have been called in this turn
                }
            }
            Worker::Test(kernel) => kernel.start_job(self.last, response),
        }
    }

    /// Returns the results since the last call.
    pub fn results(&mut self) -> Vec<(N, Vec<u8>)> {
        let mut results = std::mem::take(&mut self.refused);
        match &self.worker {
            Worker::Thread { results: channel, .. } => results.extend(channel.try_iter()),
            Worker::Test(kernel) => results.extend(kernel.results()),
        }
        let named = results.into_iter().filter_map(|(job, result)| Some((self.names.remove(&job)?, result)));
        named.collect()
    }
}

/// Starts the thread. It sends a result first and wakes the poll second: a loop that is woken
/// before the result is there would go back to sleep, and nothing would wake it again.
fn start_thread(waker: Waker) -> Worker {
    let waker = Arc::new(waker);
    let of_thread = Arc::clone(&waker);
    let (jobs, queue) = mpsc::sync_channel::<Numbered>(JOBS_MAX);
    let (done, results) = mpsc::channel();
    thread::spawn(move || {
        for job in queue {
            thread::sleep(JOB_TAKES);
            if done.send(job).is_err() || of_thread.wake().is_err() {
                return; // the loop has ended
            }
        }
    });
    Worker::Thread { jobs, results, waker }
}
