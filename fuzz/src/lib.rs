//! Fuzz targets: one function for each kind of input that a stranger or an operator writes.
//!
//! Each function takes any bytes and panics if a promise is broken. Most compare one run over the
//! whole input with runs over the same input in pieces, because TCP cuts a message anywhere. The
//! cuts are derived from the input, so a failing input fails again. `tests/fuzz_seeds.rs` runs the
//! same functions without a fuzzer. Must not know private items of the server.

#![expect(clippy::expect_used, clippy::panic, reason = "a fuzz target reports a broken promise by a panic")]

use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use whirligig::Server;
use whirligig::client::reply::{ReplyEvent, ReplyReader};
use whirligig::config::{Bind, Config, Limits};
use whirligig::inside::cli::{self, Surroundings};
use whirligig::inside::http::body::{BodyDecoder, BodyEncoder, Decoded};
use whirligig::inside::http::connection::{RespondContext, Unused};
use whirligig::inside::http::date::fmt_http_date;
use whirligig::inside::http::head::FieldSlots;
use whirligig::inside::http::range::{ByteRange, Selection, select};
use whirligig::inside::http::send_queue::{NextWrite, SendQueue, WRITE_SLICES};
use whirligig::inside::http::target::{
    check_host, encode_path, normalize, query_pairs, read_origin_form, split,
};
use whirligig::inside::http::{CloseReason, Connection, Event, ProtocolError};
use whirligig::multipart::{Multipart, MultipartEvent};
use whirligig::{Method, Response, Status};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All fuzz targets by name. The folder `seeds/` has a folder for each.
pub const TARGETS: [(&str, Target); 8] = [
    ("request_heads", request_heads),
    ("request_targets", request_targets),
    ("chunked_bodies", chunked_bodies),
    ("multipart", multipart),
    ("ranges", ranges),
    ("rewrite_rules", rewrite_rules),
    ("configuration", configuration),
    ("replies", replies),
];

/// A generator of pseudo-random numbers (SplitMix64): small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that always yields the same numbers for `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A generator that always yields the same numbers for `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        // FNV-1a.
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Random(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
    }

    /// A number below `end`, or 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let number = usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0);
        number.checked_rem(end).unwrap_or(0)
    }
}

/// Pieces of an input that are longer than this are not cut byte by byte, because that takes
/// quadratic time where a parser starts again.
const BYTE_BY_BYTE_MAX: usize = 2048;

/// Cuts an input in ways that its own bytes decide: twice at random places, and into single bytes.
fn cuts(input: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut random = Random::of(input);
    let mut all = Vec::new();
    for cuts_max in [2, 12] {
        let count = 1 + random.below(cuts_max);
        let mut places: Vec<usize> = (0..count).map(|_| random.below(input.len() + 1)).collect();
        places.sort_unstable();
        places.push(input.len());
        let starts = std::iter::once(0).chain(places.iter().copied());
        all.push(starts.zip(&places).map(|(start, &end)| &input[start..end]).collect());
    }
    if input.len() <= BYTE_BY_BYTE_MAX {
        all.push(input.chunks(1).collect());
    }
    all
}

/// Panics unless `run` returns the same for the whole input and for the input in pieces.
fn assert_cuts_change_nothing<T: PartialEq + std::fmt::Debug>(input: &[u8], run: impl Fn(&[&[u8]]) -> T) {
    let whole = run(&[input]);
    for pieces in cuts(input) {
        let lens: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        assert_eq!(run(&pieces), whole, "in pieces of {lens:?}: \"{}\"", input.escape_ascii());
    }
}

/// Requests on one connection: events and responses do not depend on the pieces in which they come.
pub fn request_heads(data: &[u8]) {
    let mut tight = Limits::default();
    tight.head_bytes_max = 256;
    tight.target_bytes_max = 48;
    tight.fields_max = 6;
    tight.chunk_line_bytes_max = 24;
    tight.body_bytes_max = 64;
    tight.discard_bytes_max = 48;
    for limits in [Limits::default(), tight] {
        for then_end in [false, true] {
            assert_cuts_change_nothing(data, |pieces| converse(&limits, pieces, then_end));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the protocol needs some instant; which one is of no account")]
fn some_instant() -> Instant {
    static INSTANT: OnceLock<Instant> = OnceLock::new();
    *INSTANT.get_or_init(Instant::now)
}

/// Feeds `pieces` to a new connection as a driver would. Returns the events as text and the bytes
/// that were sent.
fn converse(limits: &Limits, pieces: &[&[u8]], then_end: bool) -> (Vec<String>, Vec<u8>) {
    let now = some_instant();
    let date = fmt_http_date(784_111_777);
    let cx = RespondContext { now, date: &date, limits };
    let (mut connection, mut out) = (Connection::new(now), SendQueue::new());
    let (mut events, mut content, mut input) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut at = 0;
        while connection.may_parse() {
            let mut slots = FieldSlots::new();
            let (used, event) = match connection.next_event(&input[at..], &mut slots, limits, now) {
                Ok(next) => next,
                Err(error) => {
                    events.push(format!("error {}: {}", error.status.code(), error.reason));
                    if connection.refuse(CloseReason::ProtocolError) {
                        drop(connection.respond(Response::new(error.status), cx, &mut out));
                    }
                    break;
                }
            };
            assert!(used <= input.len() - at, "more bytes used than given");
            at += used;
            match event {
                Event::NeedMore | Event::Paused => break,
                Event::Request(request) => {
                    events.push(describe(&request));
                    if matches!(request.method(), Method::Get | Method::Head) || !connection.expects_content()
                    {
                        drop(connection.respond(Response::new(Status::OK), cx, &mut out));
                    } else {
                        connection.accept_content(Unused::Nothing, &mut out);
                    }
                }
                Event::Content(bytes) => content.extend_from_slice(bytes),
                Event::ContentEnd => {
                    events.push(format!("content \"{}\"", content.escape_ascii()));
                    content.clear();
                    drop(connection.respond(Response::new(Status::OK), cx, &mut out));
                }
                Event::Discarded => {}
            }
            connection.start_next_cycle(now);
        }
        input.drain(..at);
    }
    if then_end {
        connection.receive_end();
    }
    events.push(format!("{:?}", connection.finish(Unused::Nothing)));
    (events, queued(&mut out))
}

/// A request with all that handlers can see of it.
fn describe(request: &whirligig::Request<'_>) -> String {
    let (path, query) = split(request.target().as_bytes());
    if request.target().starts_with('/') {
        assert_eq!((request.path(), request.query()), (path, query), "{}", request.target());
    }
    for (name, value) in request.headers().iter() {
        let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        assert!(!name.is_empty() && value.iter().all(is_text), "{name}: {}", value.escape_ascii());
    }
    let lines = request.headers().iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii()));
    format!(
        "{} {} 1.{} {:?} {:?}",
        request.method().name(),
        request.target(),
        request.minor_version(),
        request.content(),
        lines.collect::<Vec<_>>()
    )
}

/// Takes all bytes out of a send queue.
fn queued(out: &mut SendQueue) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let NextWrite::Bytes { slices, .. } = out.next_write(&mut slices) else { return sent };
        let before = sent.len();
        sent.extend(slices.iter().flat_map(|slice| slice.iter()));
        let bytes = sent.len() - before;
        out.sent(bytes as u64);
    }
}

/// Request targets: a normal path has one reading, stays beneath the root, and survives encoding.
pub fn request_targets(data: &[u8]) {
    let _ = check_host(data);
    for (name, value) in query_pairs(data).take(64) {
        assert!(name.len() + value.len() <= 3 * data.len(), "a pair is longer than its query");
    }
    let (raw_path, _) = split(data);
    let normal = normalize(raw_path);
    if let Ok(path) = &normal {
        assert_is_normal(path);
        let mut encoded = Vec::new();
        encode_path(path, &mut encoded);
        let form = read_origin_form(&encoded).expect("an encoded path is a target");
        assert_eq!((form.path, form.query), (&encoded[..], None), "{}", encoded.escape_ascii());
        assert_eq!(normalize(&encoded).as_ref(), Ok(path), "{}", encoded.escape_ascii());
    }
    let Ok(form) = read_origin_form(data) else { return };
    assert_eq!((form.path, form.query), split(data));
    if form.is_plain {
        assert_eq!(normal.as_deref(), Ok(form.path), "a plain path is its own normal form");
    }
}

fn assert_is_normal(path: &[u8]) {
    assert_eq!(path.first(), Some(&b'/'), "{}", path.escape_ascii());
    assert!(!path.contains(&0), "{}", path.escape_ascii());
    let mut segments: Vec<&[u8]> = path[1..].split(|byte| *byte == b'/').collect();
    // An empty last segment is the slash of a folder.
    segments.pop_if(|last| last.is_empty());
    for segment in segments {
        assert!(![&b""[..], b".", b".."].contains(&segment), "{}", path.escape_ascii());
    }
}

/// Chunked content: the decoder does not depend on the pieces, and reads what the encoder writes.
pub fn chunked_bodies(data: &[u8]) {
    for (line_max, total_max) in [(4096, u64::MAX), (16, 64)] {
        assert_cuts_change_nothing(data, |pieces| {
            decode(BodyDecoder::chunked(), pieces, line_max, total_max).map_err(|error| error.status.code())
        });
    }
    let digits =
        data.iter().skip_while(|digit| **digit == b'0').take_while(|digit| digit.is_ascii_hexdigit());
    if digits.count() > 16 {
        let decoded = decode(BodyDecoder::chunked(), &[data], 4096, u64::MAX);
        assert!(decoded.is_err(), "a chunk of 2^64 bytes or more: \"{}\"", data.escape_ascii());
    }
    let mut random = Random::of(data);
    let (mut encoded, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(1 + random.below(rest.len()));
        let mark = BodyEncoder::Chunked.start_piece(&mut encoded);
        encoded.extend_from_slice(piece);
        BodyEncoder::Chunked.finish_piece(mark, &mut encoded);
        rest = behind;
    }
    BodyEncoder::Chunked.finish(&mut encoded);
    let decoded = decode(BodyDecoder::chunked(), &[&encoded], 4096, u64::MAX);
    assert_eq!(decoded, Ok((data.to_vec(), encoded.len(), true)), "what was encoded is decoded");
}

/// The content, how many bytes were used, and whether that was all of it.
type Content = (Vec<u8>, usize, bool);

fn decode(
    mut decoder: BodyDecoder,
    pieces: &[&[u8]],
    line_max: usize,
    total_max: u64,
) -> Result<Content, ProtocolError> {
    let (mut content, mut used_in_all) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let (used, decoded) = decoder.decode(rest, line_max, total_max)?;
            used_in_all += used;
            rest = &rest[used..];
            match decoded {
                Decoded::Data(data) => content.extend_from_slice(data),
                Decoded::NeedMore => {
                    assert!(rest.is_empty(), "more is needed, yet bytes are left");
                    break;
                }
                Decoded::End => return Ok((content, used_in_all, true)),
            }
        }
    }
    Ok((content, used_in_all, false))
}

/// Splits an input behind its first line.
fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// Forms with files: the first line is the `Content-Type`, the rest the content.
pub fn multipart(data: &[u8]) {
    const PARTS_MAX: usize = 4;
    let (content_type, content) = first_line(data);
    let Ok(parser) = Multipart::new(content_type, PARTS_MAX) else { return };
    assert_cuts_change_nothing(content, |pieces| {
        let (mut parser, mut events, mut bytes) = (parser.clone(), Vec::new(), Vec::new());
        let mut parts = 0;
        let mut each = |event: MultipartEvent<'_>| {
            match event {
                MultipartEvent::PartBegin(head) => {
                    parts += 1;
                    assert!(parts <= PARTS_MAX, "more parts than allowed");
                    events.push(format!("{head:?}"));
                }
                MultipartEvent::PartData(piece) => {
                    assert!(!piece.is_empty(), "empty content is no event");
                    bytes.extend_from_slice(piece);
                }
                MultipartEvent::PartEnd => {
                    events.push(format!("\"{}\"", bytes.escape_ascii()));
                    bytes.clear();
                }
                MultipartEvent::End => events.push("end".to_owned()),
            }
            Ok::<(), ProtocolError>(())
        };
        let pushed = pieces.iter().try_for_each(|piece| parser.push(piece, &mut each));
        let ended = pushed.and_then(|()| parser.finish()).map_err(|error| error.status.code());
        // Content of a part that an error cut off may have been passed on or not.
        (events, ended)
    });
}

/// Ranges: the first line is the length of the file, the rest the value of the header.
pub fn ranges(data: &[u8]) {
    let (len, value) = first_line(data);
    let len = std::str::from_utf8(len).ok().and_then(|len| len.trim().parse().ok()).unwrap_or(1000);
    let assert_inside = |range: &ByteRange| {
        assert!(range.first <= range.last && range.last < len, "{range:?} of {len}");
        u128::from(range.byte_count())
    };
    match select(value, len) {
        Selection::Whole | Selection::Unsatisfiable => {}
        Selection::One(range) => {
            assert_inside(&range);
        }
        Selection::Several(all) => {
            assert!(all.len() >= 2, "{all:?}");
            let bytes: u128 = all.iter().map(assert_inside).sum();
            assert!(bytes <= u128::from(len), "{bytes} bytes of {len}, though no ranges touch");
            let mut sorted = all;
            sorted.sort_unstable_by_key(|range| range.first);
            for pair in sorted.windows(2) {
                assert!(pair[0].last + 1 < pair[1].first, "{pair:?} touch");
            }
        }
    }
}

/// Responses as a client reads them, to GET and to HEAD.
pub fn replies(data: &[u8]) {
    for method in ["GET", "HEAD"] {
        assert_cuts_change_nothing(data, |pieces| read_replies(method, pieces));
    }
}

fn read_replies(method: &str, pieces: &[&[u8]]) -> Vec<String> {
    const REPLIES_MAX: usize = 8;
    let (mut reader, mut input, mut content) = (ReplyReader::new(), Vec::new(), Vec::new());
    let (mut events, mut replies) = (Vec::new(), 0);
    reader.expect(method);
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let (used, event) = match reader.next(&input[at..]) {
                Ok(next) => next,
                Err(error) => {
                    events.push(format!("error {}", error.status.code()));
                    return events;
                }
            };
            at += used;
            match event {
                ReplyEvent::NeedMore => break,
                ReplyEvent::Interim(status) => events.push(format!("interim {status}")),
                ReplyEvent::Head(head) => events.push(format!("{head:?}")),
                ReplyEvent::Content(piece) => {
                    assert!(!piece.is_empty(), "empty content is no event");
                    content.extend_from_slice(piece);
                }
                ReplyEvent::End => {
                    events.push(format!("content \"{}\"", content.escape_ascii()));
                    content.clear();
                    replies += 1;
                    if replies == REPLIES_MAX {
                        return events;
                    }
                    reader.expect(method);
                }
            }
        }
        input.drain(..at);
    }
    events.push(format!("content \"{}\" then {}", content.escape_ascii(), reader.end_of_input()));
    events
}

/// A configuration file: the program describes every mistake in one line, and reads the settings
/// that it shows in the same way.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(shown) = show_config(text) else { return };
    let again = show_config(&shown).expect("shown settings are a configuration file");
    assert_eq!(settings(&again), settings(&shown), "from {text:?}");
}

/// Runs `whirligig --config FILE --show-config` within this process.
fn show_config(text: &str) -> Result<String, String> {
    // A file in memory: the fuzzer leaves nothing on the disk.
    let file =
        rustix::fs::memfd_create("configuration", rustix::fs::MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes()).expect("room for the file");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let surroundings = Surroundings { stdout_is_terminal: false, stderr_is_terminal: false, no_color: true };
    let exit = match cli::parse(["whirligig", "--config", &path, "--show-config"], &surroundings) {
        Ok(_) => panic!("--show-config starts nothing"),
        Err(exit) => exit,
    };
    if exit.code() == 0 {
        return Ok(exit.text().to_owned());
    }
    let line = exit.text().strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("whirligig: ") && !line.contains(char::is_control), "{line:?}");
    Err(line.to_owned())
}

/// The lines of a shown configuration that set something, without the comments behind them.
fn settings(shown: &str) -> Vec<&str> {
    let lines = shown.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.rsplit_once(" # ").map_or(line, |(setting, _)| setting).trim_end()).collect()
}

/// Requests for one set of rules.
const RULED_REQUESTS_MAX: usize = 4;

/// A file of redirects and rewrites. A line `#> /path` is a comment for the server; the fuzz target
/// requests that path.
pub fn rewrite_rules(data: &[u8]) {
    let scratch = Scratch::new();
    let (root, rules, socket) = (scratch.0.join("root"), scratch.0.join("rules"), scratch.0.join("socket"));
    std::fs::create_dir(&root).expect("a folder to serve");
    std::fs::write(&rules, data).expect("room for the rules");
    let mut config = Config::default();
    config.root = root;
    config.binds = vec![Bind::Unix(socket.clone())];
    config.site.rules = Some(rules);
    let server = match Server::bind(config) {
        Ok(server) => server,
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
            return;
        }
    };
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"#> "));
    let targets: Vec<&[u8]> = lines.take(RULED_REQUESTS_MAX).filter(|target| is_sendable(target)).collect();
    if targets.is_empty() {
        return;
    }
    let handle = server.handle();
    let running = std::thread::spawn(move || server.run());
    for target in targets {
        check_ruled(data, target, &socket);
    }
    handle.shutdown();
    running.join().expect("the server does not panic").expect("the server ends by itself");
}

/// Returns whether a target can be sent as a target at all.
fn is_sendable(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && target.iter().all(u8::is_ascii_graphic)
}

fn check_ruled(rules: &[u8], target: &[u8], socket: &Path) {
    let mut stream = UnixStream::connect(socket).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let request = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"].concat();
    stream.write_all(&request).expect("a request is sent");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("a response within ten seconds");
    let mut reader = ReplyReader::new();
    reader.expect("GET");
    let context = || format!("{} of \"{}\"", target.escape_ascii(), rules.escape_ascii());
    let Ok((_, ReplyEvent::Head(head))) = reader.next(&response) else {
        panic!("no response to {}: \"{}\"", context(), response.escape_ascii());
    };
    assert!(head.status < 500, "{} for {}", head.status, context());
    let Some(location) = head.header("location") else { return };
    assert!(location.iter().all(u8::is_ascii_graphic), "{} for {}", location.escape_ascii(), context());
    // A client must not climb out of the folder that a rule names. Dot segments that the operator
    // wrote, encoded or not, are the operator's choice.
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase().replace("%2e", ".");
    let path = plain(location.split(|byte| b"?#".contains(byte)).next().unwrap_or_default());
    let climbs = path.split('/').any(|part| [".", ".."].contains(&part));
    assert!(!climbs || plain(rules).contains("/."), "{} for {}", location.escape_ascii(), context());
    // A client must not choose the host of a redirect.
    let host =
        location.windows(2).position(|pair| pair == b"//").filter(|at| !location[..*at].contains(&b'/'));
    let Some(at) = host else { return };
    let host = location[at + 2..].split(|byte| b"/?#".contains(byte)).next().unwrap_or_default();
    assert!(contains(rules, host), "the host of {} for {}", location.escape_ascii(), context());
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}

/// A folder for the files of one server, removed with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("whirligig-fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder for temporary files");
        Scratch(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that stays behind does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
