//! The upload panel above the listing of a folder that accepts uploads.
//!
//! Without its script the panel is a working form. With the script, files are sent one by one, each
//! with a progress bar and a status, and interrupted uploads continue by themselves. Text and
//! script are the same on every page, so the policy can allow exactly that script. This file must
//! not know how uploads are processed.

use std::sync::LazyLock;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::pages::listing::LISTING_POLICY;

/// Returns the panel for the page of a listing. The script refuses files of more than `bytes_max`
/// bytes before it sends them.
pub(crate) fn panel(bytes_max: u64) -> String {
    format!(
        "<style>\n{STYLE}</style>\n<section class=\"up\" aria-label=\"Upload\" data-max=\"{bytes_max}\">\n{FORM}<script>{SCRIPT}</script>\n"
    )
}

/// Content security policy of a listing with the panel: that of a listing, this script, and
/// requests to this site.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
    let ours = format!("script-src 'sha256-{hash}' ");
    LISTING_POLICY.replacen("script-src ", &ours, 1) + "; connect-src 'self'"
});

const STYLE: &str = include_str!("upload.css");

/// Form below the opening tag of its section. Only the status line is a live region, because a
/// screen reader would otherwise repeat the whole list at each step of a progress bar.
const FORM: &str = r#"<form method="post" enctype="multipart/form-data" action="./"><span class="js">Drop files or folders here, or</span>
<label><span class="js">choose files</span><input type="file" name="file" multiple required></label>
<label class="js">a folder<input type="file" webkitdirectory></label>
<button>Upload</button></form>
<p class="js" role="status"></p>
<ul></ul>
</section>
"#;

/// Script of the panel. Small files are sent with one PUT. Larger ones are created, sent, and
/// resumed after an interruption. Nothing is replaced before the user confirms it.
const SCRIPT: &str = include_str!("upload.js").trim_ascii_end();

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash covers the bytes between the tags exactly, and nothing in the script ends it early.
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
