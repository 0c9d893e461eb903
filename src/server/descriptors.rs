//! Divides the descriptors of the process. Clients get those that nothing else needs.
//!
//! This file must not know which code opens them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors reserved for the poll, listeners, log, cached and sent files, and directories that
/// are read.
const DESCRIPTOR_RESERVE: usize = 256;

/// Descriptors of a CGI program: three pipes and its exit.
const DESCRIPTORS_PER_SCRIPT: usize = 4;

/// Descriptors of an upload in progress or interrupted: its file and its folder, if no other upload
/// uses that folder.
const DESCRIPTORS_PER_UPLOAD: usize = 2;

/// Number of descriptors to assume if no limit is known.
const UNLIMITED: usize = 1 << 20;

/// Raises the descriptor limit of the process as far as permitted, and adapts the limits of the
/// configuration to it.
pub(super) fn bound(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    // A program that can handle many descriptors may raise the soft limit.
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    divide(config, usize::try_from(allowed.unwrap_or(UNLIMITED as u64)).unwrap_or(UNLIMITED));
}

/// Divides `allowed` descriptors. Clients get at least half of them.
fn divide(config: &mut Config, allowed: usize) {
    let limits = &mut config.limits;
    let for_scripts = match config.cgi.folders.is_empty() {
        true => 0,
        false => {
            let pipes = config.cgi.children_max.saturating_mul(DESCRIPTORS_PER_SCRIPT);
            pipes.saturating_add(limits.spool_files_max)
        }
    };
    let for_uploads = match config.files.uploads.is_empty() {
        true => 0,
        false => {
            limits.uploads_max.saturating_add(limits.partials_max).saturating_mul(DESCRIPTORS_PER_UPLOAD)
        }
    };
    let wanted = DESCRIPTOR_RESERVE.saturating_add(for_scripts).saturating_add(for_uploads);
    let reserve = wanted.min(allowed / 2);
    if reserve < wanted {
        // Interrupted uploads keep their descriptors for an hour, so they must leave most of the
        // reserve to other users.
        limits.partials_max = limits.partials_max.min(reserve / 4 / DESCRIPTORS_PER_UPLOAD).max(1);
        limits.spool_files_max = limits.spool_files_max.min(reserve / 8).max(1);
    }
    let room = allowed.saturating_sub(reserve).max(1);
    let asked = limits.connections_max;
    limits.connections_max = if asked == 0 { room } else { asked.min(room) };
    limits.threads_max = limits.threads_max.min(limits.connections_max);
    let for_files = DESCRIPTOR_RESERVE.min(allowed / 2);
    config.files.cache_entries_max =
        config.files.cache_entries_max.min(for_files.max(16) * 2 / 3 / config.loops()).max(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CgiFolder;

    fn divided(allowed: usize, change: impl Fn(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        divide(&mut config, allowed);
        config
    }

    fn with_uploads(config: &mut Config) {
        config.files.uploads = vec![String::new()];
    }

    fn with_everything(config: &mut Config) {
        with_uploads(config);
        config.cgi.folders = vec![CgiFolder { path: "/c".into(), folder: "c".into() }];
    }

    /// 117 interrupted uploads blocked a server with 256 descriptors.
    #[test]
    fn what_is_kept_for_long_leaves_descriptors_to_others() {
        for allowed in [16, 64, 256, 1024, 4096, 20_000, 1 << 20, usize::MAX] {
            for change in [with_uploads, with_everything] {
                let Config { limits, files, .. } = divided(allowed, change);
                let unfinished = limits.partials_max * DESCRIPTORS_PER_UPLOAD;
                let kept = unfinished + files.cache_entries_max;
                assert!(limits.connections_max >= allowed / 2 && limits.partials_max >= 1, "{allowed}");
                assert!(kept <= (allowed - limits.connections_max).max(12), "{allowed}: {kept}");
            }
        }
        let Config { limits, .. } = divided(1 << 20, with_everything);
        let expected = (256, (1 << 20) - 256 - 256 * 5 - (64 + 256) * 2);
        assert_eq!((limits.partials_max, limits.connections_max), expected);
    }

    #[test]
    fn what_is_asked_for_is_bounded_by_what_there_is() {
        let limits = |allowed, asked| divided(allowed, |config| config.limits.connections_max = asked).limits;
        assert_eq!(limits(4096, 0).connections_max, 4096 - DESCRIPTOR_RESERVE);
        assert_eq!(limits(4096, 7).connections_max, 7);
        assert_eq!(limits(4096, 10_000).connections_max, 4096 - DESCRIPTOR_RESERVE);
        assert_eq!(limits(4096, 7).threads_max, 7);
        let partials = |allowed| divided(allowed, with_uploads).limits.partials_max;
        assert_eq!([64, 256, 1024, 4096].map(partials), [4, 16, 64, 256]);
    }
}
