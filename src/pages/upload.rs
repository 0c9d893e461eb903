//! What the listing of a folder for uploads shows above its files: a place to drop files and
//! folders on.
//!
//! Without its script it is a form that works. With it, files go one by one, with a bar and a word
//! for each; what breaks off goes on by itself. Text and script are the same on every page, so the
//! page may be told to run that script and no other. Must not know how uploads are taken.

use std::sync::LazyLock;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::pages::listing::LISTING_POLICY;

/// The panel, for the page of a listing. The script refuses files of more than `bytes_max` before
/// it begins to send them.
pub(crate) fn panel(bytes_max: u64) -> String {
    format!(
        "<style>\n{STYLE}</style>\n<section class=\"up\" aria-label=\"Upload\" data-max=\"{bytes_max}\">\n{FORM}<script>{SCRIPT}</script>\n"
    )
}

/// What the page of a listing with the panel may do, whatever is in it: what it may without, run
/// this one script as well, and ask this site.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
    let ours = format!("script-src 'sha256-{hash}' ");
    LISTING_POLICY.replacen("script-src ", &ours, 1) + "; connect-src 'self'"
});

const STYLE: &str = include_str!("upload.css");

/// The form below the opening tag of its section. Only the line with the status is a live region: a
/// screen reader would repeat the whole list at each step of a progress bar.
const FORM: &str = r#"<form method="post" enctype="multipart/form-data" action="./"><span class="js">Drop files or folders here, or</span>
<label><span class="js">choose files</span><input type="file" name="file" multiple required></label>
<label class="js">a folder<input type="file" webkitdirectory></label>
<button>Upload</button></form>
<p class="js" role="status"></p>
<ul></ul>
</section>
"#;

/// Small files are put at once. Larger ones are begun, sent, and gone on with where they broke off.
/// Nothing is replaced before somebody has said so.
const SCRIPT: &str = include_str!("upload.js").trim_ascii_end();

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is of what stands between the tags, to the byte; and nothing in the script ends it
    /// early.
    #[test]
    fn the_page_may_run_its_own_script_and_no_other() {
        let panel = panel(5000);
        assert!(panel.contains("data-max=\"5000\""));
        let script = panel.split("<script>").nth(1).and_then(|rest| rest.split("</script>").next()).unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(script));
        assert!(POLICY.contains(&format!("script-src 'sha256-{hash}' 'sha256-")), "{}", *POLICY);
        assert!(POLICY.contains("default-src 'none'"));
        for foreign in ["http:", "https:", "//", "@import", "url(", "src=", "innerHTML", " on"] {
            let is_handler = foreign == " on";
            let text = if is_handler { FORM } else { SCRIPT };
            assert!(!text.contains(foreign), "{foreign:?}");
        }
    }
}
