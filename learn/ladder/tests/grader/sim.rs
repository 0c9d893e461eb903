//! A loop of stages 4 to 8 over the simulated kernel.

use std::any::Any;
use std::cell::{RefCell, RefMut};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ladder::net::{Events, Kernel, Poll, TcpListener};

use super::kernel::{Connection, SimKernel, World, is_closed};
use super::{Lesson, Subject, Verdict, ensure, lesson, shown};

/// Turns without a wait, after which a loop spins.
const TURNS_MAX: usize = 2000;
/// Capacity of a socket in each direction, in bytes.
pub const CAPACITY: usize = 24_576;

/// The loop of any stage.
trait Turns {
    fn turn(&mut self, events: &mut Events) -> io::Result<()>;
}

/// `build` makes the loop of a stage.
macro_rules! loops {
    ($($number:literal: $stage:ident),*) => {
        $(impl Turns for ladder::$stage::Loop {
            fn turn(&mut self, events: &mut Events) -> io::Result<()> {
                ladder::$stage::Loop::turn(self, events)
            }
        }
        impl Turns for ladder::solutions::$stage::Loop {
            fn turn(&mut self, events: &mut Events) -> io::Result<()> {
                ladder::solutions::$stage::Loop::turn(self, events)
            }
        })*

        fn build(subject: &Subject, poll: Poll, listener: TcpListener) -> io::Result<Box<dyn Turns>> {
            match (subject.stage, subject.is_solution) {
                $(($number, false) => Ok(Box::new(ladder::$stage::Loop::new(poll, listener)?)),
                ($number, true) => Ok(Box::new(ladder::solutions::$stage::Loop::new(poll, listener)?)),)*
                _ => Err(io::ErrorKind::Unsupported.into()),
            }
        }
    };
}

loops!(4: stage_4, 5: stage_5, 6: stage_6, 7: stage_7, 8: stage_8);

/// A loop and its simulated world.
pub struct Sim {
    world: Rc<RefCell<World>>,
    event_loop: Box<dyn Turns>,
    events: Events,
}

/// A client in the simulated world.
#[derive(Clone, Copy)]
pub struct SimClient(usize, pub &'static str);

/// Runs a check in a thread and gives up if it does not end.
pub fn simulate(subject: &Subject, check: fn(&mut Sim) -> Verdict) -> Verdict {
    let (sender, verdict) = mpsc::channel();
    let subject = *subject;
    let thread = thread::spawn(move || {
        let _ = sender.send(Sim::new(&subject).and_then(|mut sim| check(&mut sim)));
    });
    match verdict.recv_timeout(subject.patience) {
        Ok(verdict) => verdict,
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(cause(thread.join().err())),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(lesson(
            format!(
                "turn() did not return within {} s, and it made no call meanwhile",
                subject.patience.as_secs()
            ),
            "a turn that ends: look for a loop that nothing ends",
        )),
    }
}

/// The lesson of a thread that ended early.
fn cause(panic: Option<Box<dyn Any + Send>>) -> Lesson {
    let Some(panic) = panic else { return lesson("the check ended early", "a verdict") };
    match panic.downcast::<Lesson>() {
        Ok(lesson) => *lesson,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("the message is above");
            lesson(
                format!("your code panicked: {text}"),
                "no panic: nothing that a client does may end the loop",
            )
        }
    }
}

impl Sim {
    fn new(subject: &Subject) -> Result<Sim, Lesson> {
        let world = Rc::new(RefCell::new(World::new()));
        let kernel: Rc<dyn Kernel> = Rc::new(SimKernel(Rc::clone(&world)));
        let event_loop = build(subject, Poll::of(Rc::clone(&kernel)), TcpListener::of(kernel));
        let event_loop =
            event_loop.map_err(|error| lesson(format!("Loop::new() returned {error}"), "a loop"))?;
        Ok(Sim { world, event_loop, events: Events::with_capacity(256) })
    }

    pub fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    pub fn connection(&self, client: SimClient) -> RefMut<'_, Connection> {
        RefMut::map(self.world.borrow_mut(), |world| &mut world.connections[client.0])
    }

    /// Connects a client, and runs the loop until it waits.
    pub fn connect(&mut self, name: &'static str) -> Result<SimClient, Lesson> {
        self.connect_with(name, CAPACITY)
    }

    /// Connects a client whose socket takes so many bytes in each direction.
    pub fn connect_with(&mut self, name: &'static str, capacity: usize) -> Result<SimClient, Lesson> {
        let number = self.world().connect(capacity);
        self.settle()?;
        Ok(SimClient(number, name))
    }

    /// The client sends bytes. The loop does not run.
    pub fn sends(&self, client: SimClient, bytes: &[u8]) {
        let sent = self.connection(client).socket.client_sends(bytes);
        assert_eq!(sent, bytes.len(), "the check sends more than the socket takes");
    }

    /// Takes all bytes that the client has received.
    pub fn takes(&self, client: SimClient) -> Vec<u8> {
        self.connection(client).socket.client_takes(usize::MAX)
    }

    pub fn is_closed(&self, client: SimClient) -> bool {
        is_closed(&self.connection(client))
    }

    pub fn turn(&mut self) -> Verdict {
        self.world().begin_turn();
        self.event_loop.turn(&mut self.events).map_err(|error| {
            lesson(
                format!("turn() returned an error: {error}"),
                "a loop that outlives the errors of its clients",
            )
        })
    }

    /// Runs turns until the loop waits. The clock does not move.
    pub fn settle(&mut self) -> Verdict {
        for _ in 0..TURNS_MAX {
            self.turn()?;
            if self.world().is_quiet {
                return Ok(());
            }
        }
        Err(lesson(
            format!("{TURNS_MAX} turns passed, and the loop does not wait in its poll"),
            "a loop that waits when it has no work",
        ))
    }

    /// Runs turns until so much time has passed. Returns the number of turns.
    pub fn pass(&mut self, time: Duration) -> Result<usize, Lesson> {
        let until = self.world().now + time;
        self.world().until = until;
        for turns in 0..TURNS_MAX {
            self.turn()?;
            if self.world().is_quiet {
                self.world().now = until;
                return Ok(turns);
            }
        }
        Err(lesson(
            format!("{TURNS_MAX} turns passed in {time:?}, and nobody did anything"),
            "a loop that waits until its next deadline",
        ))
    }

    /// The client takes all that it has received, which must be this.
    pub fn receives(&self, client: SimClient, expected: &[u8], why: &str) -> Verdict {
        let got = self.takes(client);
        let closed = if self.is_closed(client) { ", and the connection was closed" } else { "" };
        let what = format!("{} received {}{closed}", client.1, shown(&got));
        ensure(got == expected, what, format!("{}: {why}", shown(expected)))
    }
}
