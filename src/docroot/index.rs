//! Names of index files, which are sent for a folder.
//!
//! Must not know requests.

use crate::docroot::hidden::is_hidden_name;

/// Parses the name of an index file.
pub(crate) fn parse_index(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.contains(['/', '\0']) {
        return Err("not the name of a file in the folder that is requested".to_owned());
    }
    if is_hidden_name(name.as_bytes()) {
        return Err("names that begin with a dot are never served".to_owned());
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_a_name_in_its_folder() {
        for name in ["index.html", "main.htm", "a b.txt", "\u{9996}\u{9875}.html"] {
            assert_eq!(parse_index(name).as_deref(), Ok(name));
        }
        for name in ["", "a/b", "/index.html", ".index.html", ".", "..", "a\0b"] {
            assert!(parse_index(name).is_err(), "{name:?}");
        }
    }
}
