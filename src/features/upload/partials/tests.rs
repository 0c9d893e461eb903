//! Tests of the room that each owner of unfinished uploads gets.

use super::*;
use crate::config::Config;
use crate::features::auth::guard::WriteGuards;
use crate::features::upload::resume::ResumeHeaders;
use crate::features::upload::write_request::{WriteRequest, WriteState};
use crate::features::upload::writer::Writer;
use crate::http::Status;

/// Table with limits, and clients that upload to it.
struct Clients {
    folder: tempfile::TempDir,
    shared: Arc<WriteState>,
    partials: Arc<Partials>,
}

impl Clients {
    fn new(number_max: usize, bytes_max: u64) -> Clients {
        let mut config = Config::default();
        config.limits.partials_max = number_max;
        config.limits.partial_bytes_max = Some(bytes_max);
        let shared = Arc::new(WriteState::new(&config, WriteGuards::default()));
        let partials = Partials::registered(KeepLimits::of(&config));
        Clients { folder: tempfile::tempdir().unwrap(), shared, partials }
    }

    /// Begins an upload of 1000 bytes with a request that brings `bytes` of them. Returns the
    /// token.
    fn begin(&self, owner: &Owner, complete: &str, bytes: usize) -> Result<Option<String>, Status> {
        let head = format!("PUT /a HTTP/1.1\r\nHost: a\r\nUpload-Complete: {complete}\r\n\r\n");
        let mut write_request = WriteRequest::of(self.folder.path(), &head);
        (write_request.shared, write_request.owner) = (Arc::clone(&self.shared), owner.clone());
        let write_request = Arc::new(write_request);
        let resume_headers = write_request.request.with(ResumeHeaders::of).unwrap();
        let begun = Writer::begin(&write_request, &self.partials, &resume_headers, Some(1000))
            .map_err(|refusal| refusal.status())?;
        let mut writer = begun;
        writer.write(&vec![1; bytes]).map_err(|refusal| refusal.status())?;
        let token = writer.token();
        if bytes == 1000 {
            writer.finish().map_err(|refusal| refusal.status())?;
        }
        Ok(token)
    }

    /// Begins an upload that must be kept.
    fn keep(&self, owner: &Owner, bytes: usize) -> String {
        self.begin(owner, "?0", bytes).unwrap().expect("a token")
    }

    fn has(&self, token: &str) -> bool {
        self.partials.find(token).is_some()
    }
}

fn owners() -> [Owner; 3] {
    [("a", "192.0.2.1:1"), ("b", "192.0.2.1:2"), ("b", "[2001:db8::1]:3")]
        .map(|(user, address)| Owner::named(user, address))
}

/// Regression: one client with 256 aborted uploads evicted those of all others.
#[test]
fn nobody_pushes_out_an_upload_of_a_client_with_a_smaller_share() {
    let [one, many, late] = owners();
    let clients = Clients::new(6, 1 << 20);
    let first = clients.keep(&one, 1);
    let tokens: Vec<String> = (0..50).map(|_| clients.keep(&many, 1)).collect();
    assert!(clients.has(&first));
    let kept: Vec<bool> = tokens.iter().map(|token| clients.has(token)).collect();
    assert!(kept.ends_with(&[true; 5]) && !kept[..45].contains(&true), "its own oldest go: {kept:?}");
    // A late client gets a share, taken from the owner with the most uploads.
    let later: Vec<String> = (0..50).map(|_| clients.keep(&late, 1)).collect();
    assert!(clients.has(&first));
    let count = |tokens: &[String]| tokens.iter().filter(|token| clients.has(token)).count();
    assert_eq!((count(&tokens), count(&later)), (3, 2));
    assert!(clients.has(&tokens[49]) && clients.has(&later[49]));
}

#[test]
fn bytes_are_shared_like_numbers() {
    let [one, many, late] = owners();
    let clients = Clients::new(100, 3000);
    let first = clients.keep(&one, 900);
    let tokens: Vec<String> = (0..20).map(|_| clients.keep(&many, 500)).collect();
    assert!(clients.has(&first));
    let kept = tokens.iter().filter(|token| clients.has(token)).count();
    assert_eq!(kept, 4);
    let later = clients.keep(&late, 900);
    assert!(clients.has(&first) && clients.has(&later), "the largest share gave way");
    assert_eq!(tokens.iter().filter(|token| clients.has(token)).count(), 2);
}

/// Regression: a client lost its only, long upload to any client that held a little less.
#[test]
fn the_only_upload_of_a_client_is_nobodys_to_push_out() {
    let [one, many, late] = owners();
    let clients = Clients::new(6, 3000);
    let first = clients.keep(&one, 999);
    let long = clients.keep(&late, 990);
    let tokens: Vec<String> = (0..50).map(|_| clients.keep(&many, 300)).collect();
    assert!(clients.has(&first) && clients.has(&long) && clients.has(&tokens[49]));
    assert_eq!(tokens.iter().filter(|token| clients.has(token)).count(), 3);
    // Many addresses with one upload each.
    for number in 0..50 {
        let owner = Owner::named("c", &format!("198.51.100.{number}:1"));
        let begun = clients.begin(&owner, "?0", 100);
        assert!(matches!(begun, Ok(Some(_)) | Err(Status::SERVICE_UNAVAILABLE)), "{begun:?}");
        assert!(clients.has(&first) && clients.has(&long) && clients.has(&tokens[49]));
    }
}

/// Regression: a complete upload in one request needs no room in the table, but a full table made
/// all uploads fail.
#[test]
fn an_upload_that_comes_whole_goes_on_where_no_room_is_left() {
    let [one, other, late] = owners();
    let clients = Clients::new(10, 1500);
    let kept = [clients.keep(&one, 900), clients.keep(&other, 550)];
    assert_eq!(clients.begin(&late, "?0", 400), Err(Status::INSUFFICIENT_STORAGE));
    let whole = clients.begin(&late, "?1", 1000).unwrap().expect("a token");
    assert!(!clients.has(&whole), "it could not be resumed");
    assert_eq!(std::fs::read(clients.folder.path().join("a")).unwrap().len(), 1000);
    assert!(kept.iter().all(|token| clients.has(token)));
}

/// If all shares are equal, a new client evicts nobody.
#[test]
fn where_all_shares_are_equal_a_newcomer_is_not_kept() {
    let [a, b, c] = owners();
    let clients = Clients::new(2, 1 << 20);
    let kept = [clients.keep(&a, 1), clients.keep(&b, 1)];
    assert_eq!(clients.begin(&c, "?0", 1), Err(Status::SERVICE_UNAVAILABLE));
    assert_eq!(clients.begin(&c, "?1", 1000), Ok(None), "an upload that comes whole is taken all the same");
    assert!(kept.iter().all(|token| clients.has(token)));
    let again = clients.keep(&a, 1);
    assert!(clients.has(&again) && !clients.has(&kept[0]) && clients.has(&kept[1]));
}

#[test]
fn when_descriptors_run_out_the_largest_share_gives_them_up_and_the_last_upload_stays() {
    let [one, many, late] = owners();
    let clients = Clients::new(100, 1 << 20);
    let first = clients.keep(&one, 1);
    let tokens: Vec<String> = (0..4).map(|_| clients.keep(&many, 1)).collect();
    let later: Vec<String> = (0..2).map(|_| clients.keep(&late, 1)).collect();
    let give_up = || lock(&clients.partials.table).discard_from_largest_share().is_some();
    for number in 0..2 {
        assert!(give_up() && !clients.has(&tokens[number]) && clients.has(&tokens[number + 1]));
    }
    assert!(give_up() && give_up());
    assert!(!give_up(), "each has one");
    for token in [&first, &tokens[3], &later[1]] {
        assert!(clients.has(token));
    }
}

#[test]
fn what_is_a_file_is_forgotten_before_what_is_not() {
    let [a, b, c] = owners();
    let clients = Clients::new(3, 1 << 20);
    let unfinished = clients.keep(&a, 1);
    let finished = clients.begin(&b, "?1", 1000).unwrap().expect("a token");
    let others = [clients.keep(&b, 1), clients.keep(&c, 1)];
    assert!(!clients.has(&finished) && clients.has(&unfinished));
    assert!(others.iter().all(|token| clients.has(token)));
}
