//! Password rules in the syntax of flags and configuration files.
//!
//! Must not know how passwords are checked.

use crate::config::{AuthRule, AuthUsers};
use crate::http::target::normalize;

/// Parses `USER:PASSWORD[@URLPATH]`. A password may contain at signs: the path begins after the
/// last `@` that is followed by a slash.
pub(crate) fn parse_user_rule(text: &str) -> Result<AuthRule, String> {
    let (pair, path) = split_path(text)?;
    let Some((user, password)) = pair.split_once(':').filter(|(user, _)| !user.is_empty()) else {
        return Err("not of the form USER:PASSWORD or USER:PASSWORD@/PATH".to_owned());
    };
    if pair.chars().any(char::is_control) {
        return Err("a user name or password must not contain control characters".to_owned());
    }
    Ok(AuthRule { path, users: AuthUsers::One { user: user.into(), password: password.into() } })
}

/// Parses `FILE[@URLPATH]`.
pub(crate) fn parse_file_rule(text: &str) -> Result<AuthRule, String> {
    let (file, path) = split_path(text)?;
    match file.is_empty() {
        true => Err("the file name is missing".to_owned()),
        false => Ok(AuthRule { path, users: AuthUsers::File(file.into()) }),
    }
}

fn split_path(text: &str) -> Result<(&str, String), String> {
    let (rest, path) = text.rfind("@/").map_or((text, "/"), |at| (&text[..at], &text[at + 1..]));
    Ok((rest, parse_auth_path(path)?))
}

/// Parses the URL path of a rule into the normalized form in which requests are judged.
pub(crate) fn parse_auth_path(text: &str) -> Result<String, String> {
    let path = normalize(text.as_bytes()).map_err(|error| error.to_string())?;
    String::from_utf8(path.into_owned()).map_err(|_| "the path is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_their_flags() {
        let one = |user: &str, password: &str, path: &str| AuthRule {
            path: path.into(),
            users: AuthUsers::One { user: user.into(), password: password.into() },
        };
        assert_eq!(parse_user_rule("u:p"), Ok(one("u", "p", "/")));
        assert_eq!(parse_user_rule("u:p@q:r@/a%20b//c/"), Ok(one("u", "p@q:r", "/a b/c/")));
        assert_eq!(parse_user_rule("u:"), Ok(one("u", "", "/")));
        for bad in ["", "u", ":p", "u:p\n", "u:p@/%zz", "u:p@/a%2fb", "u@/x"] {
            assert!(parse_user_rule(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_file_rule("a@b/users@/x").unwrap().users, AuthUsers::File("a@b/users".into()));
        assert!(parse_file_rule("@/x").is_err());
        assert!(!format!("{:?}", parse_user_rule("u:secret").unwrap()).contains("secret"));
    }
}
