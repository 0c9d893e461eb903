//! Tests of the paths that require a password, and of the check of credentials.

use std::time::Duration;

use super::*;
use crate::features::auth::rule::parse_user_rule;
use crate::handler::passwords::Passwords as _;
use crate::http::head::{FieldSlots, parse};

/// bcrypt hash of `open sesame` with the lowest cost.
const HASH: &str = "$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2";

fn guard(rules: &[&str]) -> Guard {
    let mut config = Config::default();
    config.site.auth = rules.iter().map(|text| parse_user_rule(text).unwrap()).collect();
    Guard::open(&config.site.auth, "--htpasswd", &config, &Attempts::new(&config.limits), &Arc::default())
        .unwrap()
        .unwrap()
}

fn with_request<T>(target: &str, headers: &str, look: impl FnOnce(&Request<'_>) -> T) -> T {
    let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let mut slots = FieldSlots::new();
    look(&parse(head.as_bytes(), &mut slots, &Limits::default()).unwrap())
}

#[test]
fn every_spelling_of_a_protected_path_is_protected() {
    let guard = guard(&["u:p@/private", "u:p@/a/b/"]);
    for target in [
        "/private",
        "/private/",
        "/private/x",
        "/%70rivate/x",
        "/p%72ivate",
        "//private/x",
        "/./private/x",
        "/a/../private/x",
        "/a/%2e%2E/private/x",
        "/../private/x",
        "/private/./x",
        "/private//x",
        "/private/y/../x",
        "/private?x",
        "http://other.example/private/x",
        "/a/b",
        "/a//b/",
        "/a/b/c",
    ] {
        let has_password = with_request(target, "", |request| match guard.protection(request) {
            Protection::Realm(_) => true,
            Protection::None | Protection::Invalid(_) => false,
        });
        assert!(has_password, "{target}");
    }
    for target in ["/", "/privately", "/Private", "/a", "/a/c/b", "/public/private", "/_whirligig/health"] {
        assert!(
            with_request(target, "", |request| matches!(guard.protection(request), Protection::None)),
            "{target}"
        );
    }
    for target in ["/private/../x", "/private/..", "/private/%2e%2e/a", "/private%2fx", "/%00"] {
        let nowhere =
            with_request(target, "", |request| matches!(guard.protection(request), Protection::Invalid(_)));
        assert!(nowhere, "{target}");
    }
}

#[test]
fn a_file_takes_its_password_under_all_its_names() {
    let guard = guard(&["u:p@/a/index.html", "u:p@/b.html", "u:p@/c.txt", "u:p@/index.html"]);
    for path in
        ["/a/index.html", "/a/", "/b.html", "/b", "/c.txt", "/c.txt.gz", "/c.txt.br", "/c.txt.zst", "/"]
    {
        assert!(guard.is_protected(path.as_bytes()), "{path}");
    }
    for path in ["/a", "/a/b", "/bb", "/b/", "/c", "/c.txt.bz2", "/x"] {
        assert!(!guard.is_protected(path.as_bytes()), "{path}");
    }
}

#[test]
fn the_longest_path_decides_and_health_stays_open() {
    let guard = guard(&["a:p", "b:p@/x/y", "c:p@/x"]);
    let path = |target: &str| {
        with_request(target, "", |request| match guard.protection(request) {
            Protection::Realm(realm) => Some(String::from_utf8(guard.realms[realm].path.clone()).unwrap()),
            Protection::None | Protection::Invalid(_) => None,
        })
    };
    assert_eq!(path("/x/y/z").as_deref(), Some("/x/y"));
    assert_eq!(path("/x/yy").as_deref(), Some("/x"));
    assert_eq!(path("/z").as_deref(), Some(""));
    assert_eq!(path("/_whirligig/metrics").as_deref(), Some(""));
    assert_eq!(path("//_whirligig/health").as_deref(), Some(""), "what the route does not match is a file");
    assert_eq!(path("/_whirligig/health"), None);
    assert!(guard.is_protected(b"/z"));
    let password = |path: &str| guard.password_at(path.as_bytes()).unwrap();
    assert!(password("/") == password("/z") && password("/x/") == password("/x/z"));
    assert!(password("/") != password("/x/z") && password("/x") != password("/x/y"));
}

#[test]
fn passwords_given_in_clear_are_compared_whole() {
    let guard = guard(&["u:p@/x", "v:q@/x", "w:r@/y"]);
    let now = crate::clock::read_clocks();
    let realm = guard.realm_of(b"/x").unwrap();
    let recall = |user: &str, password: &str| {
        let credentials = Credentials { user: user.into(), password: password.into() };
        matches!(guard.recall(&LoginAttempt { realm, credentials }, FilesChecked::NotYet, now), Cached::Right)
    };
    assert!(recall("u", "p") && recall("v", "q"));
    for (user, password) in
        [("u", "q"), ("u", ""), ("", "p"), ("up", ""), ("u", "pp"), ("w", "r"), ("U", "p")]
    {
        assert!(!recall(user, password), "{user}:{password}");
    }
}

/// Regression: a check of the users was recorded when it was requested. A client that aborted that
/// request kept others from checking, so a removed user could still log in.
#[test]
fn a_look_at_the_users_counts_when_it_is_over() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("u:{HASH}\n")).unwrap();
    let config = Config::default();
    let users = AuthUsers::File(file.path().to_owned());
    let rules = [AuthRule { path: "/x".into(), users }];
    let guard = Guard::open(&rules, "--htpasswd", &config, &Attempts::new(&config.limits), &Arc::default())
        .unwrap()
        .unwrap();
    let credentials = Credentials { user: b"u".to_vec(), password: b"open sesame".to_vec() };
    let attempt = LoginAttempt { realm: 0, credentials };
    let start = crate::clock::read_clocks();
    let at = |secs| {
        let passed = Duration::from_secs(secs);
        Now { mono: start.mono + passed, wall: start.wall + passed }
    };
    let recall = |secs, files_checked| guard.recall(&attempt, files_checked, at(secs));
    assert!(matches!(recall(0, FilesChecked::NotYet), Cached::Unknown));
    assert!(guard.verify(0, &attempt.credentials, at(0)));
    assert!(matches!(recall(0, FilesChecked::NotYet), Cached::Right));
    for _ in 0..3 {
        assert!(matches!(recall(2, FilesChecked::NotYet), Cached::Stale), "until somebody has looked");
    }
    guard.refresh(at(2));
    assert!(matches!(recall(2, FilesChecked::NotYet), Cached::Right));
    std::fs::write(&file, format!("v:{HASH}\n")).unwrap();
    assert!(matches!(recall(4, FilesChecked::NotYet), Cached::Stale));
    guard.refresh(at(4));
    assert!(matches!(recall(4, FilesChecked::Now), Cached::Unknown));
    assert!(!guard.verify(0, &attempt.credentials, at(4)));
}
