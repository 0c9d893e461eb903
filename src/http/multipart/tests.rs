//! Tests of the parser for forms, with input cut anywhere.

use super::*;

/// A whole part.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    head: PartHead,
    content: Vec<u8>,
}

const TYPE: &[u8] = b"multipart/form-data; boundary=XyZ";

/// Pushes the pieces, and puts the parts together. Checks the order of events.
fn parts_of(pieces: &[&[u8]]) -> Result<Vec<Part>, ProtocolError> {
    let mut parser = Multipart::new(TYPE, 10).unwrap();
    let (mut parts, mut is_open, mut has_ended) = (Vec::new(), false, false);
    for piece in pieces {
        parser.push(piece, |event| {
            assert!(!has_ended);
            match event {
                MultipartEvent::PartBegin(head) => {
                    assert!(!std::mem::replace(&mut is_open, true));
                    parts.push(Part { head, content: Vec::new() });
                }
                MultipartEvent::PartData(data) => {
                    assert!(is_open && !data.is_empty());
                    parts.last_mut().unwrap().content.extend_from_slice(data);
                }
                MultipartEvent::PartEnd => assert!(std::mem::replace(&mut is_open, false)),
                MultipartEvent::End => has_ended = true,
            }
            Ok::<(), ProtocolError>(())
        })?;
    }
    parser.finish()?;
    assert!(has_ended && !is_open);
    Ok(parts)
}

/// Checks the parts of `input` whole, at every cut and byte by byte.
#[track_caller]
fn check(input: &[u8], expected: &Result<Vec<Part>, ProtocolError>) {
    let shown = input.escape_ascii();
    assert_eq!(parts_of(&[input]), *expected, "whole: {shown}");
    for cut in 0..=input.len() {
        assert_eq!(parts_of(&[&input[..cut], &input[cut..]]), *expected, "cut at {cut}: {shown}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(parts_of(&bytes), *expected, "byte by byte: {shown}");
}

fn part(name: &str, filename: Option<&str>, content_type: Option<&str>, content: &[u8]) -> Part {
    let head = PartHead {
        name: name.into(),
        filename: filename.map(str::to_owned),
        content_type: content_type.map(str::to_owned),
    };
    Part { head, content: content.to_vec() }
}

/// A form with one file with this content.
fn form(content: &[u8]) -> Vec<u8> {
    let head = b"--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\n";
    [head.as_slice(), content, b"\r\n--XyZ--\r\n"].concat()
}

#[test]
fn a_form_comes_apart_however_it_is_cut() {
    let input = b"ignored\r\n--XyZ \t\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--XyZ\r\n\
        content-type: image/png\r\nCONTENT-DISPOSITION: Form-Data; filename=\"b.png\"; name=two\r\nX-Other: y\r\n\r\n\
        \x89PNG\r\n\x1a\n\r\n--XyZ\r\nContent-Disposition: form-data; name=\"\"; filename=\"\"\r\n\r\n\r\n--XyZ--\r\nignored";
    let expected = vec![
        part("one", None, None, b"1"),
        part("two", Some("b.png"), Some("image/png"), b"\x89PNG\r\n\x1a\n"),
        part("", Some(""), None, b""),
    ];
    check(input, &Ok(expected));
}

#[test]
fn what_looks_like_a_delimiter_is_content() {
    let contents: &[&[u8]] = &[
        b"",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\r\n",
        b"\r\n-",
        b"\r\n--",
        b"\r\n--Xy",
        b"\r\r\n--Xy\r\n--X",
        b"\r\n\r\n--xYZ\r\n",
        b"--XyZ",
        b"\r--XyZ\n--XyZ",
        b"a\r\n--Xy\r",
        b"\r\n--\r\n--\r\n--",
    ];
    for content in contents {
        check(&form(content), &Ok(vec![part("f", Some("a.txt"), None, content)]));
    }
}

#[test]
fn an_empty_form_is_a_form_and_half_a_form_is_none() {
    check(b"--XyZ--", &Ok(Vec::new()));
    check(b"\r\n--XyZ--\r\n", &Ok(Vec::new()));
    let whole = form(b"content");
    let end = whole.len() - 2;
    for cut in 0..end {
        let cut_off = parts_of(&[&whole[..cut]]);
        assert_eq!(cut_off, Err(ProtocolError::bad_request("the form is incomplete")), "at {cut}");
    }
    assert!(parts_of(&[&whole[..end]]).is_ok());
}

/// Bytes outside of parts are not content, so a limit of the content does not bound them.
#[test]
fn what_stands_around_the_parts_is_bounded() {
    let around = ProtocolError::bad_request("the form has too many bytes outside of its parts");
    let form = form(b"content");
    let text = String::from_utf8(form).unwrap();
    for (bytes, is_refused) in [(1000, false), (AROUND_BYTES_MAX - 200, false), (AROUND_BYTES_MAX + 1, true)]
    {
        let (letters, blanks) = ("x".repeat(bytes), " \t".repeat(bytes.div_ceil(2)));
        for input in [
            format!("{letters}\r\n{text}"),
            format!("{}\r\n{text}", "\r\n--Xy".repeat(bytes.div_ceil(6))),
            text.replace("--XyZ\r\n", &format!("--XyZ{blanks}\r\n")),
            format!("{text}{letters}"),
            format!("{}\r\n{text}{}", &letters[bytes / 2..], &letters[..bytes.div_ceil(2)]),
        ] {
            for size in [1, 1000, input.len()] {
                let pieces: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
                match is_refused {
                    true => assert_eq!(parts_of(&pieces), Err(around), "by {size}: {input:.40}"),
                    false => assert_eq!(parts_of(&pieces).unwrap().len(), 1, "by {size}: {input:.40}"),
                }
            }
        }
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_an_error() {
    let head = ProtocolError::bad_request("the head of a part of the form is malformed");
    let parameter = ProtocolError::bad_request("a parameter is malformed");
    let boundary = ProtocolError::bad_request("a boundary of the form is followed by other bytes");
    let cases: &[(&[u8], ProtocolError)] = &[
        (b"--XyZ\nContent-Disposition: form-data; name=a\n\n", boundary),
        (b"--XyZW\r\n", boundary),
        (b"--XyZ-\r\n", boundary),
        (b"--XyZ\r \n", boundary),
        (b"--XyZ \x0b\r\n", boundary),
        (b"--XyZ\r\n\r\nno head", head),
        (b"--XyZ\r\nContent-Type: text/plain\r\n\r\n", head),
        (b"--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\n", head),
        (b"--XyZ\r\nContent-Disposition: form-data\r\n\r\n", head),
        (b"--XyZ\r\nContent-Disposition: form-data; filename=a\r\n\r\n", head),
        (b"--XyZ\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n", parameter),
        (b"--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\n", parameter),
        (b"--XyZ\r\nContent-Disposition: form-data; name=\"a\"b\r\n\r\n", parameter),
        (b"--XyZ\r\nContent-Disposition: form-data; name\r\n\r\n", parameter),
        (b"--XyZ\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\n", head),
        (
            b"--XyZ\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n",
            head,
        ),
        (b"--XyZ\r\nContent-Disposition: form-data; name=a\nX: y\r\n\r\n", head),
        (b"--XyZ\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n", head),
        (b"--XyZ\r\nContent-Disposition : form-data; name=a\r\n\r\n", head),
    ];
    for (input, expected) in cases {
        check(input, &Err(*expected));
    }
}

#[test]
fn names_are_read_as_clients_write_them() {
    let cases: &[(&str, &str)] = &[
        ("\"a b.txt\"", "a b.txt"),
        ("a.txt", "a.txt"),
        ("\"a%22b.txt\"", "a\"b.txt"),
        ("\"100%25.txt\"", "100%25.txt"),
        ("\"a\\\"b.txt\"", "a\"b.txt"),
        ("\"a;b=c.txt\"", "a;b=c.txt"),
        ("\"C:\\dir\\a.txt\"", "C:\\dir\\a.txt"),
        ("\"a\\\\b\"", "a\\b"),
        ("\"%0d%0A\"", "\r\n"),
        ("\"\u{706f}.txt\" ; x=y;", "\u{706f}.txt"),
        // By RFC 7578 section 4.2 it must not be used, and clients that send it send `filename` as
        // well.
        ("\"a\"; filename*=UTF-8''b", "a"),
    ];
    for (written, expected) in cases {
        let input = format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename={written}\r\n\r\n.\r\n--XyZ--"
        );
        check(input.as_bytes(), &Ok(vec![part("f", Some(expected), None, b".")]));
    }
}

#[test]
fn heads_and_parts_are_bounded() {
    let head = format!("--XyZ\r\nX: {}", "a".repeat(PART_HEAD_BYTES_MAX));
    let expected = ProtocolError::bad_request("the head of a part of the form is too long");
    assert_eq!(parts_of(&[head.as_bytes()]), Err(expected));
    let bytes: Vec<&[u8]> = head.as_bytes().chunks(1).collect();
    assert_eq!(parts_of(&bytes), Err(expected));
    let one = "--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
    let ten = format!("{}--XyZ--", one.repeat(10));
    assert_eq!(parts_of(&[ten.as_bytes()]).unwrap().len(), 10);
    let status = parts_of(&[one.repeat(11).as_bytes()]).unwrap_err().status;
    assert_eq!(status, Status::CONTENT_TOO_LARGE);
}

#[test]
fn the_type_says_the_boundary() {
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    let cases: &[(&[u8], Option<Status>)] = &[
        (b"multipart/form-data; boundary=a", None),
        (b"Multipart/Form-Data ;charset=utf-8; BOUNDARY=\"a b\"", None),
        (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", None),
        (b"multipart/form-data", Some(Status::BAD_REQUEST)),
        (b"multipart/form-data; boundary=", Some(Status::BAD_REQUEST)),
        (b"multipart/form-data; boundary=\"a \"", Some(Status::BAD_REQUEST)),
        (b"multipart/form-data; boundary=\"a\rb\"", Some(Status::BAD_REQUEST)),
        (b"multipart/form-data; boundary=a; boundary=b", Some(Status::BAD_REQUEST)),
        (long.as_bytes(), Some(Status::BAD_REQUEST)),
        (b"multipart/mixed; boundary=a", Some(Status::UNSUPPORTED_MEDIA_TYPE)),
        (b"application/x-www-form-urlencoded", Some(Status::UNSUPPORTED_MEDIA_TYPE)),
        (b"", Some(Status::UNSUPPORTED_MEDIA_TYPE)),
    ];
    for (content_type, expected) in cases {
        let found = Multipart::new(content_type, 1).err().map(|error| error.status);
        assert_eq!(found, *expected, "{}", content_type.escape_ascii());
    }
}

proptest::proptest! {
    /// Any content comes back, cut into any two pieces and byte by byte.
    #[test]
    fn any_content_comes_back(content in "[\r\nXyZ-]{0,40}", at in 0_usize..200) {
        proptest::prop_assume!(!format!("\r\n{content}").contains("\r\n--XyZ"));
        let input = form(content.as_bytes());
        let at = at.min(input.len());
        let expected = Ok(vec![part("f", Some("a.txt"), None, content.as_bytes())]);
        proptest::prop_assert_eq!(&parts_of(&[&input[..at], &input[at..]]), &expected);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        proptest::prop_assert_eq!(&parts_of(&bytes), &expected);
    }
}
