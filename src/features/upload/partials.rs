//! The table of uploads that can be resumed, by token.
//!
//! An upload that nobody writes to is kept here until its client comes back. The table is bounded
//! in number, bytes and age, and its room is divided among clients: the one that holds most gives
//! way, and keeps its last. So nobody can push out the uploads of others, and a table full of
//! single uploads takes no more until they are complete or too old. Must not know how content
//! reaches the disk.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::config::{Config, TIMEOUT_MAX};
use crate::features::upload::owner::Owner;
use crate::features::upload::partial::{Partial, read_clock};
use crate::jobs::lock;
use crate::shortage;
use crate::shortage::Relief;

/// Uploads that can be resumed, by token. Those under way stay, whatever the bounds.
pub(crate) struct Partials {
    table: Mutex<Table>,
    number_max: usize,
    bytes_max: u64,
    keep: Option<Duration>,
    /// Wakes the janitor.
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    partials: HashMap<String, Arc<Partial>>,
    has_janitor: bool,
    /// Descriptors have run out: one of them is to go.
    is_one_too_many: bool,
}

/// Uploads that are given up because descriptors have run out go one at a time, this far apart:
/// meanwhile other descriptors may come free.
const RELIEF_INTERVAL: Duration = Duration::from_millis(100);

impl Partials {
    /// An empty table, which gives up uploads when descriptors run out.
    pub(crate) fn registered(config: &Config) -> Arc<Self> {
        let partials = Arc::new(Partials {
            table: Mutex::default(),
            number_max: config.limits.partials_max,
            bytes_max: config.limits.partials_room(),
            keep: config.timeouts.partial,
            changed: Condvar::new(),
        });
        shortage::register(&partials);
        partials
    }

    /// True if an upload of this length can be kept.
    pub(crate) fn takes(&self, length: Option<u64>) -> bool {
        self.bytes_max > 0 && length.unwrap_or(0) <= self.bytes_max
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(crate) fn keep(&self) -> Option<Duration> {
        self.keep
    }

    pub(crate) fn find(&self, token: &str) -> Option<Arc<Partial>> {
        lock(&self.table).partials.get(token).map(Arc::clone)
    }

    pub(crate) fn remove(&self, token: &str) {
        let removed = lock(&self.table).partials.remove(token);
        drop(removed);
    }

    /// Keeps an upload under this token. False if its owner's share of the table is used up by
    /// uploads that are under way, or the table by clients that have no more than it has.
    pub(crate) fn insert(self: &Arc<Self>, partial: &Arc<Partial>, token: String) -> bool {
        let mut given_up = Vec::new();
        let mut table = lock(&self.table);
        while table.partials.len() >= self.number_max {
            let Some(oldest) = table.give_up_for(partial.owner(), 1, |_| 1) else { break };
            given_up.push(oldest);
        }
        let has_room = table.partials.len() < self.number_max;
        if has_room {
            partial.set_token(token.clone());
            table.partials.insert(token, Arc::clone(partial));
            self.hire_janitor(&mut table);
        }
        drop(table);
        // Files are closed outside the lock: of a long one that takes a while.
        drop(given_up);
        has_room
    }

    fn hire_janitor(self: &Arc<Self>, table: &mut Table) {
        if !table.has_janitor {
            let partials = Arc::clone(self);
            let started =
                std::thread::Builder::new().name("whirligig-tidy".into()).spawn(move || partials.clear_up());
            // Without one the bounds on number and bytes still hold.
            table.has_janitor = started.is_ok();
        }
    }

    /// Gives up uploads until all together have room, for one of `owner` that has grown. False if
    /// nothing that may go is left.
    pub(crate) fn make_room(&self, owner: &Owner) -> bool {
        let mut given_up = Vec::new();
        let mut table = lock(&self.table);
        while table.bytes() > self.bytes_max {
            let Some(oldest) = table.give_up_for(owner, 0, Partial::held_bytes) else { break };
            given_up.push(oldest);
        }
        let has_room = table.bytes() <= self.bytes_max;
        drop(table);
        drop(given_up);
        has_room
    }

    /// Gives up all of them: without nameless files they would stay behind under hidden names.
    pub(crate) fn give_all_up(&self) {
        let all = std::mem::take(&mut lock(&self.table).partials);
        for partial in all.values() {
            // One that is just becoming a file becomes one.
            let _given_up = partial.cancel();
        }
        self.changed.notify_all();
    }

    /// Gives up what nobody came back for, until none is left: on a thread of its own.
    fn clear_up(&self) {
        let mut table = lock(&self.table);
        while !table.partials.is_empty() {
            let wait = match self.keep {
                _ if table.is_one_too_many => RELIEF_INTERVAL,
                Some(keep) => keep / 4,
                None => TIMEOUT_MAX,
            };
            let waited = self.changed.wait_timeout(table, wait);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
            let gone = self.take_unwanted(&mut table);
            if !gone.is_empty() {
                drop(table);
                drop(gone);
                table = lock(&self.table);
            }
        }
        table.has_janitor = false;
    }

    /// Takes out what is too old, and one more if descriptors have run out.
    fn take_unwanted(&self, table: &mut Table) -> Vec<Arc<Partial>> {
        let now = read_clock();
        let is_old = |partial: &Arc<Partial>| {
            let age = now.saturating_duration_since(partial.touched());
            is_idle(partial) && self.keep.is_some_and(|keep| age >= keep)
        };
        let old = table.partials.extract_if(|_, partial| is_old(partial)).map(|(_, partial)| partial);
        let mut gone: Vec<_> = old.collect();
        if std::mem::take(&mut table.is_one_too_many) && gone.is_empty() {
            gone.extend(table.give_up_of_largest_share());
        }
        gone
    }
}

impl Relief for Partials {
    fn relieve(&self) {
        let mut table = lock(&self.table);
        if !std::mem::replace(&mut table.is_one_too_many, true) {
            self.changed.notify_all();
        }
    }
}

/// True if no request is using it: then only the table has it.
fn is_idle(partial: &Arc<Partial>) -> bool {
    Arc::strong_count(partial) == 1
}

impl Table {
    fn bytes(&self) -> u64 {
        self.partials.values().map(|partial| partial.held_bytes()).sum()
    }

    /// Takes out the oldest upload of the owner that has most of them. The only one of an owner
    /// stays: whatever uses up descriptors, it is not that.
    fn give_up_of_largest_share(&mut self) -> Option<Arc<Partial>> {
        let mut shares: HashMap<&Owner, usize> = HashMap::new();
        for partial in self.partials.values().filter(|partial| partial.is_held()) {
            *shares.entry(partial.owner()).or_default() += 1;
        }
        let share = |partial: &Partial| shares.get(partial.owner()).copied().unwrap_or(0);
        let may_go = |partial: &Arc<Partial>| is_idle(partial) && partial.is_held() && share(partial) > 1;
        let idle = self.partials.iter().filter(|(_, partial)| may_go(partial));
        let rank = |partial: &Partial| (std::cmp::Reverse(share(partial)), partial.touched());
        let first = idle.min_by_key(|(_, partial)| rank(partial))?.0.clone();
        self.partials.remove(&first)
    }

    /// Takes out an upload to make room for one of `newcomer`, which adds so much to its share.
    /// What each upload takes of the room is its weight.
    ///
    /// What is a file already goes first, because its client loses only a word about it. Else the
    /// owner of the largest share gives up its oldest, if that share is larger than the newcomer's
    /// would be and has more than one upload; else the newcomer does.
    fn give_up_for(
        &mut self,
        newcomer: &Owner,
        adds: u64,
        weight: impl Fn(&Partial) -> u64,
    ) -> Option<Arc<Partial>> {
        let mut shares: HashMap<&Owner, u64> = HashMap::from([(newcomer, adds)]);
        let mut unfinished: HashMap<&Owner, usize> = HashMap::new();
        for partial in self.partials.values() {
            *shares.entry(partial.owner()).or_default() += weight(partial);
            *unfinished.entry(partial.owner()).or_default() += usize::from(partial.is_held());
        }
        let own = shares[newcomer];
        let may_go = |partial: &Arc<Partial>| {
            let owner = partial.owner();
            let is_larger = shares[owner] > own && unfinished[owner] > 1;
            let is_due = !partial.is_held() || owner == newcomer || is_larger;
            is_idle(partial) && weight(partial) > 0 && is_due
        };
        let rank = |partial: &Partial| {
            (partial.is_held(), std::cmp::Reverse(shares[partial.owner()]), partial.touched())
        };
        let idle = self.partials.iter().filter(|(_, partial)| may_go(partial));
        let first = idle.min_by_key(|(_, partial)| rank(partial))?.0.clone();
        self.partials.remove(&first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::auth::guard::WriteGuards;
    use crate::features::upload::resume::Wish;
    use crate::features::upload::{Ask, Desk};
    use crate::http::Status;

    /// A table of so many uploads and bytes, and its clients.
    struct Clients {
        folder: tempfile::TempDir,
        desk: Arc<Desk>,
    }

    impl Clients {
        fn new(number_max: usize, bytes_max: u64) -> Clients {
            let mut config = Config::default();
            config.limits.partials_max = number_max;
            config.limits.partial_bytes_max = Some(bytes_max);
            let desk = Arc::new(Desk::new(&config, WriteGuards::default()));
            Clients { folder: tempfile::tempdir().unwrap(), desk }
        }

        /// Begins an upload with one request that brings so many bytes of 1000; its token.
        fn begin(&self, owner: &Owner, complete: &str, bytes: usize) -> Result<Option<String>, Status> {
            let head = format!("PUT /a HTTP/1.1\r\nHost: a\r\nUpload-Complete: {complete}\r\n\r\n");
            let mut ask = Ask::of(self.folder.path(), &head);
            (ask.desk, ask.owner) = (Arc::clone(&self.desk), owner.clone());
            let ask = Arc::new(ask);
            let wish = ask.head.with(&ask.limits, Wish::of).unwrap();
            let begun = Partial::begin(&ask, &wish, Some(1000)).map_err(|refusal| refusal.status)?;
            let mut writer = begun;
            writer.write(&vec![1; bytes]).map_err(|refusal| refusal.status)?;
            let token = writer.token();
            if bytes == 1000 {
                writer.finish().map_err(|refusal| refusal.status)?;
            }
            Ok(token)
        }

        /// Begins one that is to be kept.
        fn keep(&self, owner: &Owner, bytes: usize) -> String {
            self.begin(owner, "?0", bytes).unwrap().expect("a token")
        }

        fn has(&self, token: &str) -> bool {
            self.desk.partials.find(token).is_some()
        }
    }

    fn owners() -> [Owner; 3] {
        [("a", "192.0.2.1:1"), ("b", "192.0.2.1:2"), ("b", "[2001:db8::1]:3")]
            .map(|(user, address)| Owner::named(user, address))
    }

    /// One client that broke off 256 uploads pushed out those of all others.
    #[test]
    fn nobody_pushes_out_an_upload_of_a_client_with_a_smaller_share() {
        let [one, many, late] = owners();
        let clients = Clients::new(6, 1 << 20);
        let first = clients.keep(&one, 1);
        let tokens: Vec<String> = (0..50).map(|_| clients.keep(&many, 1)).collect();
        assert!(clients.has(&first));
        let kept: Vec<bool> = tokens.iter().map(|token| clients.has(token)).collect();
        assert!(kept.ends_with(&[true; 5]) && !kept[..45].contains(&true), "its own oldest go: {kept:?}");
        // A client that comes late gets a share, and takes it from the one with the most.
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

    /// A client with one long upload lost it to any other that held a little less.
    #[test]
    fn the_only_upload_of_a_client_is_nobodys_to_push_out() {
        let [one, many, late] = owners();
        let clients = Clients::new(6, 3000);
        let first = clients.keep(&one, 999);
        let long = clients.keep(&late, 990);
        let tokens: Vec<String> = (0..50).map(|_| clients.keep(&many, 300)).collect();
        assert!(clients.has(&first) && clients.has(&long) && clients.has(&tokens[49]));
        assert_eq!(tokens.iter().filter(|token| clients.has(token)).count(), 3);
        // Many addresses, each with one upload.
        for number in 0..50 {
            let owner = Owner::named("c", &format!("198.51.100.{number}:1"));
            let begun = clients.begin(&owner, "?0", 100);
            assert!(matches!(begun, Ok(Some(_)) | Err(Status::SERVICE_UNAVAILABLE)), "{begun:?}");
            assert!(clients.has(&first) && clients.has(&long) && clients.has(&tokens[49]));
        }
    }

    /// Uploads that come whole need no room here: one client could keep all others from uploading.
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

    /// A table full of equal shares is not for a newcomer to empty.
    #[test]
    fn where_all_shares_are_equal_a_newcomer_is_not_kept() {
        let [a, b, c] = owners();
        let clients = Clients::new(2, 1 << 20);
        let kept = [clients.keep(&a, 1), clients.keep(&b, 1)];
        assert_eq!(clients.begin(&c, "?0", 1), Err(Status::SERVICE_UNAVAILABLE));
        assert_eq!(
            clients.begin(&c, "?1", 1000),
            Ok(None),
            "an upload that comes whole is taken all the same"
        );
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
        let give_up = || lock(&clients.desk.partials.table).give_up_of_largest_share().is_some();
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
}
