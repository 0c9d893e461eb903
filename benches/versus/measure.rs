//! Order of the measurements: checks first, then rounds in random order. Compares a server with
//! itself before it compares two servers.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use super::check::check;
use super::load::{self, Arrival, Job};
use super::process::{self, Peer, Side};
use super::program::Program;
use super::results::{Activities, Compared, Loop, Noise, NoiseCheck, Ratio, SideResult};
use super::scenario::{self, Pace, Scenario};
use super::server::{FAN_OUT_EVERY, Role};
use super::stats::{Lots, NOISE_MIN, ROUNDS_MIN, estimate, judge, median, noise_of, over};
use super::sut::{Sut, activities};
use super::{Fallible, MODELS, TIMEOUT_MS};

/// Scenarios and models in which a server is compared with itself.
const SELF_CHECKS: [(&str, &str); 3] = [("hello", MODELS[0]), ("hello", MODELS[1]), ("open-50", MODELS[0])];
/// Lower bound of the noise of an open loop.
const NOISE_OPEN_MIN: f64 = 0.05;
/// Lower bound of the measured capacity, in responses per second. A slower server was kept from
/// running.
const CAPACITY_MIN: f64 = 200.0;
/// Length of a traced run. Long enough that opening the connections does not affect the number of
/// system calls per response.
const WATCHED_MS: u64 = 300;
/// Minimum length of a run with a stream, because its lines are rare.
const LISTEN_MS: u64 = 300;

/// Settings of a measurement.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) warm_ms: u64,
    pub(crate) measure_ms: u64,
    /// Time limit of the whole run. If the machine is slow or busy, rounds are skipped to keep it,
    /// down to `ROUNDS_MIN` rounds.
    pub(crate) budget_ms: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) server_cpus: Vec<usize>,
    pub(crate) generator_cpus: Vec<usize>,
    pub(crate) spin: bool,
    pub(crate) peers: Vec<Peer>,
    /// Makes traced runs of all scenarios, not only of those with `is_counted`.
    pub(crate) counts_all: bool,
    /// Microseconds added to each response of the reactor, to test that the benchmark finds it
    /// slower.
    pub(crate) slow_us: u64,
}

/// A measurement in progress.
pub(crate) struct Bench {
    plan: Plan,
    folder: TempDir,
    lots: Lots,
    pub(crate) noise: Noise,
    /// Responses per second of the slower model in `hello`. Measured when first needed.
    capacity: Option<f64>,
    progress: ProgressBar,
    stop: Arc<AtomicBool>,
    program: Arc<Program>,
    began_ns: u64,
    /// Number of remaining comparisons, including the current one.
    left: u32,
}

/// A server to measure, in the order of the report.
struct Party {
    name: String,
    kind: Kind,
}

enum Kind {
    Model { threads: bool },
    Peer(Peer),
}

impl Party {
    fn models() -> [Party; 2] {
        MODELS.map(Party::model)
    }

    fn model(name: &str) -> Party {
        Party { name: name.to_owned(), kind: Kind::Model { threads: name == MODELS[1] } }
    }

    fn peer(peer: &Peer) -> Party {
        Party { name: peer.name.clone(), kind: Kind::Peer(peer.clone()) }
    }
}

impl Bench {
    pub(crate) fn new(plan: Plan) -> Fallible<Bench> {
        let folder = TempDir::with_prefix("whirligig-versus-")?;
        let stop = Arc::new(AtomicBool::new(false));
        watch_signals(&stop, folder.path().to_owned())?;
        let docroot = folder.path().join("www");
        fs::create_dir(&docroot)?;
        scenario::write_docroot(&docroot)?;
        for open in [folder.path(), &docroot] {
            // A peer may drop its privileges before it reads files.
            fs::set_permissions(open, fs::Permissions::from_mode(0o755))?;
        }
        let progress = ProgressBar::new(0);
        progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed})")?);
        let lots = Lots(plan.seed);
        Ok(Bench {
            plan,
            folder,
            lots,
            noise: Noise::default(),
            capacity: None,
            progress,
            stop,
            program: Arc::new(Program::new(&[])?),
            began_ns: load::now_ns(),
            left: 0,
        })
    }

    /// Sets the number of runs for the progress bar and the number of comparisons for the time
    /// limit.
    pub(crate) fn expect(&mut self, scenarios: &[Scenario]) {
        let sides: usize = scenarios.iter().map(|scenario| self.parties(scenario).len()).sum();
        self.progress.set_length((sides + 2 * SELF_CHECKS.len()) as u64 * u64::from(self.plan.rounds));
        self.left = u32::try_from(scenarios.len() + SELF_CHECKS.len()).unwrap_or(u32::MAX);
    }

    /// Removes the progress bar.
    pub(crate) fn done(&self) {
        self.progress.finish_and_clear();
    }

    fn docroot(&self) -> PathBuf {
        self.folder.path().join("www")
    }

    fn parties(&self, scenario: &Scenario) -> Vec<Party> {
        let peers = self.plan.peers.iter().filter(|_| scenario.files_only).map(Party::peer);
        Party::models().into_iter().chain(peers).collect()
    }

    fn start(
        &self,
        party: &Party,
        job_threads: Option<usize>,
        slow_us: u64,
        stopwatch: bool,
    ) -> Fallible<Side> {
        let cpus = self.plan.server_cpus.clone();
        match &party.kind {
            Kind::Peer(peer) => {
                Side::start_peer(&self.program, peer, self.folder.path(), &self.docroot(), &cpus)
            }
            Kind::Model { threads } => Side::start(
                &self.program,
                &party.name,
                &Role {
                    threads: *threads,
                    root: self.docroot(),
                    cpus,
                    slow_us: if *threads { 0 } else { slow_us },
                    job_threads,
                    stopwatch,
                },
            ),
        }
    }

    /// Checks that every server responds correctly to every request, byte by byte, before anything
    /// is timed.
    pub(crate) fn check(&self, scenarios: &[Scenario]) -> Fallible<()> {
        for party in Party::models().into_iter().chain(self.plan.peers.iter().map(Party::peer)) {
            let is_peer = matches!(party.kind, Kind::Peer(_));
            let side = self.start(&party, None, 0, false)?;
            let takes_part =
                |scenario: &&Scenario| scenario.pace != Pace::Listen && (scenario.files_only || !is_peer);
            for scenario in scenarios.iter().filter(takes_part) {
                self.go_on()?;
                let closes = scenario.habit == load::Habit::Close;
                check(side.port, &scenario.asks, closes)
                    .map_err(|error| format!("{} on {}: {error}", scenario.name, side.name))?;
            }
        }
        Ok(())
    }

    /// Measures the noise: the difference between two servers of the same kind.
    pub(crate) fn measure_noise(&mut self) -> Fallible<()> {
        let (mut closed, mut open) = (NOISE_MIN, NOISE_OPEN_MIN);
        for (name, model) in SELF_CHECKS {
            let scenario = scenario::named(name).ok_or("no such scenario")?;
            let twice = [Party::model(model), Party::model(model)];
            let compared = self.compare(&scenario, &twice, 0)?;
            let ratio = compared.main_ratio().ok_or("nothing to compare")?.ratio;
            let floor = if scenario.is_open() { &mut open } else { &mut closed };
            *floor = floor.max(noise_of(ratio));
            self.noise.checks.push(NoiseCheck { name: format!("{name} on {model} twice"), ratio });
        }
        (self.noise.closed, self.noise.open) = (closed, open);
        Ok(())
    }

    /// Runs one scenario on all servers.
    pub(crate) fn run(&mut self, scenario: &Scenario) -> Fallible<Compared> {
        let began_ns = load::now_ns();
        let parties = self.parties(scenario);
        let mut compared = self.compare(scenario, &parties, self.plan.slow_us)?;
        if self.plan.counts_all || (scenario.is_counted && !self.is_out_of_time()) {
            for (party, side) in parties.iter().zip(&mut compared.sides) {
                self.watch(scenario, party, side)?;
            }
        }
        if self.progress.is_hidden() {
            // There is no terminal for a progress bar, so print one line per scenario.
            let took_ms = (load::now_ns() - began_ns) / 1_000_000;
            let _ = writeln!(io::stderr(), "{:<18} {took_ms:>6} ms", scenario.name);
        }
        Ok(compared)
    }

    fn compare(&mut self, scenario: &Scenario, parties: &[Party], slow_us: u64) -> Fallible<Compared> {
        let (arrival, offered) = self.arrival(scenario)?;
        let mut suts = Vec::new();
        for party in parties {
            suts.push(Sut::new(self.start(party, scenario.job_threads, slow_us, false)?)?);
        }
        let give_up_ns = self.share_ends_ns();
        for round in 0..self.plan.rounds {
            if round >= ROUNDS_MIN && load::now_ns() > give_up_ns {
                break;
            }
            let mut order: Vec<usize> = (0..suts.len()).collect();
            self.lots.shuffle(&mut order);
            for (place, at) in order.into_iter().enumerate() {
                self.go_on()?;
                let sut = &mut suts[at];
                self.progress.set_message(format!("{} on {}", scenario.name, sut.side.name));
                let job = self.job(scenario, arrival, sut.side.port);
                sut.run(&job, place + 1)
                    .map_err(|error| format!("{} on {}: {error}", scenario.name, sut.side.name))?;
                self.progress.inc(1);
            }
        }
        let sides: Vec<SideResult> = suts.into_iter().map(Sut::finish).collect();
        let pace = if scenario.is_open() { Loop::Open } else { Loop::Closed };
        let ratios = self.ratios(pace, &sides);
        Ok(Compared {
            name: scenario.name.clone(),
            title: scenario.title.clone(),
            pace,
            connections: scenario.connections,
            offered,
            on_ladder: scenario.on_ladder,
            sides,
            ratios,
        })
    }

    fn is_out_of_time(&self) -> bool {
        let spent_ms = (load::now_ns() - self.began_ns) / 1_000_000;
        self.plan.budget_ms.is_some_and(|budget_ms| spent_ms > budget_ms)
    }

    /// Returns the time at which this comparison has used its share of the time limit.
    fn share_ends_ns(&mut self) -> u64 {
        let now = load::now_ns();
        let left = self.left.max(1);
        self.left = left - 1;
        let Some(budget_ms) = self.plan.budget_ms else { return u64::MAX };
        let room_ns = (self.began_ns + budget_ms * 1_000_000).saturating_sub(now);
        now + room_ns / u64::from(left)
    }

    /// Makes runs that are not timed, on separate servers: one traced run, and one run of the
    /// reactor with its stopwatch.
    fn watch(&mut self, scenario: &Scenario, party: &Party, side: &mut SideResult) -> Fallible<()> {
        self.go_on()?;
        self.progress.set_message(format!("{} on {}, watched", scenario.name, side.name));
        let arrival = self.arrival(scenario)?.0;
        let watched = |port| Job { measure_ms: WATCHED_MS, ..self.job(scenario, arrival, port) };
        let mut sut = Sut::new(self.start(party, scenario.job_threads, 0, false)?)?;
        sut.count_calls(&watched(sut.side.port))?;
        (side.syscalls_each, side.switches_each) = (sut.result.syscalls_each, sut.result.switches_each);
        if party.name == MODELS[0] {
            let timed = self.start(party, scenario.job_threads, 0, true)?;
            let (mut before, mut after) = (None, None);
            process::run_generator(&self.program, &watched(timed.port), &mut |mark| {
                let seen = activities(&timed);
                match mark {
                    load::Mark::Begin => before = seen,
                    load::Mark::End => after = seen,
                }
                Ok(())
            })?;
            side.activities =
                before.zip(after).map(|(before, after): (Activities, Activities)| after - before);
        }
        Ok(())
    }

    fn ratios(&mut self, pace: Loop, sides: &[SideResult]) -> Vec<Ratio> {
        let Some((first, others)) = sides.split_first() else { return Vec::new() };
        let noise = if pace == Loop::Open { self.noise.open } else { self.noise.closed };
        let ratios = others.iter().map(|other| {
            let pairs = first.rounds.iter().zip(&other.rounds);
            let figures: Vec<f64> = pairs
                .map(|(first, other)| match pace {
                    Loop::Closed => over(first.rate, other.rate),
                    Loop::Open => over(other.p99_us, first.p99_us),
                })
                .collect();
            let ratio = estimate(&figures, &mut self.lots);
            Ratio { against: other.name.clone(), ratio, verdict: judge(ratio, noise) }
        });
        ratios.collect()
    }

    fn job(&self, scenario: &Scenario, arrival: Arrival, port: u16) -> Job {
        let measure_ms = match arrival {
            Arrival::Closed => self.plan.measure_ms,
            // A 99th percentile depends on few responses, so measure for longer.
            Arrival::Open { .. } => self.plan.measure_ms * 2,
            Arrival::Listen { .. } => self.plan.measure_ms.max(LISTEN_MS),
        };
        Job {
            port,
            arrival,
            connections: scenario.connections,
            habit: scenario.habit,
            asks: scenario.asks.clone(),
            crowd: scenario.crowd,
            warm_ms: self.plan.warm_ms,
            measure_ms,
            timeout_ms: TIMEOUT_MS,
            spin: self.plan.spin,
            cpus: self.plan.generator_cpus.clone(),
        }
    }

    /// Returns when requests are sent, and the number per second if it is fixed.
    fn arrival(&mut self, scenario: &Scenario) -> Fallible<(Arrival, Option<f64>)> {
        Ok(match scenario.pace {
            Pace::Closed => (Arrival::Closed, None),
            Pace::Listen => {
                let every_ns = u64::try_from(FAN_OUT_EVERY.as_nanos())?;
                let per_second = f64::from(scenario.connections) / FAN_OUT_EVERY.as_secs_f64();
                (Arrival::Listen { every_ns }, Some(per_second))
            }
            Pace::Share(share) => {
                let per_second = round(self.capacity()? * share);
                (Arrival::Open { per_second }, Some(per_second))
            }
        })
    }

    /// Returns the responses per second of the slower model in `hello`, closed loop. The open loops
    /// use shares of it.
    fn capacity(&mut self) -> Fallible<f64> {
        if let Some(capacity) = self.capacity {
            return Ok(capacity);
        }
        let hello = scenario::named("hello").ok_or("no scenario")?;
        let mut least = f64::INFINITY;
        for party in Party::models() {
            self.go_on()?;
            let mut sut = Sut::new(self.start(&party, None, self.plan.slow_us, false)?)?;
            for _ in 0..5 {
                let job = self.job(&hello, Arrival::Closed, sut.side.port);
                sut.run(&job, 0)?;
            }
            least = least.min(median(&sut.result.figures(|round| round.rate)));
        }
        let least = least.max(CAPACITY_MIN);
        self.capacity = Some(least);
        Ok(least)
    }

    /// Returns an error once a signal has stopped the run.
    pub(crate) fn go_on(&self) -> Fallible<()> {
        if !self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.done();
        Err("interrupted".into())
    }
}

/// Stops the run at the first signal. The second signal ends this process at once, and the kernel
/// then ends the child processes. The temporary folder is removed first, because no process would
/// remove it later.
fn watch_signals(stop: &Arc<AtomicBool>, folder: PathBuf) -> Fallible<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("versus-signals".into()).spawn(move || {
        for signal in signals.forever() {
            if stop.swap(true, Ordering::Relaxed) {
                drop(fs::remove_dir_all(&folder));
                std::process::exit(128 + signal);
            }
        }
    })?;
    Ok(())
}

/// Rounds an offered rate to two significant digits.
fn round(rate: f64) -> f64 {
    let unit = 10_f64.powf(rate.max(100.0).log10().floor() - 1.0);
    (rate / unit).round() * unit
}
