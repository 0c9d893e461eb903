//! Runs a stage as a server: `cargo run -- 3`, or `cargo run -- solution 3`. Without a number it is
//! stage 8.

use std::net::TcpListener;
use std::process::ExitCode;
use std::{env, io};

use ladder::{solutions, stage_1, stage_2, stage_3, stage_4, stage_5, stage_6, stage_7, stage_8};

/// The face of a stage: it serves the clients of a listener.
type Serve = fn(TcpListener) -> io::Result<()>;

const FILES: [Serve; 8] = [
    stage_1::serve,
    stage_2::serve,
    stage_3::serve,
    stage_4::serve,
    stage_5::serve,
    stage_6::serve,
    stage_7::serve,
    stage_8::serve,
];

const SOLUTIONS: [Serve; 8] = [
    solutions::stage_1::serve,
    solutions::stage_2::serve,
    solutions::stage_3::serve,
    solutions::stage_4::serve,
    solutions::stage_5::serve,
    solutions::stage_6::serve,
    solutions::stage_7::serve,
    solutions::stage_8::serve,
];

fn main() -> ExitCode {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let is_solution = words.first().is_some_and(|word| word == "solution");
    let stages = if is_solution { SOLUTIONS } else { FILES };
    words.drain(..usize::from(is_solution));
    let number = match words.as_slice() {
        [] => Some(stages.len()),
        [word] => word.parse().ok().filter(|number| (1..=stages.len()).contains(number)),
        _ => None,
    };
    let Some(number) = number else {
        eprintln!("usage: cargo run -- [solution] [1 to 8]");
        return ExitCode::from(2);
    };
    match run(number, stages[number - 1]) {
        Ok(()) => {
            eprintln!("stage {number}: serve() has returned, so the server ends");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("stage {number}: serve() has returned an error, so the server ends: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(number: usize, serve: Serve) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?; // port 0: any free port
    let address = listener.local_addr()?;
    println!("stage {number} listens on {address}");
    println!("  a client that sends lines:  nc {} {}", address.ip(), address.port());
    if number >= 4 {
        println!("  a client for HTTP:          curl http://{address}/hello");
    }
    println!("  end:                        Ctrl-C");
    serve(listener)
}
