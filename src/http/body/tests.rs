//! Tests of decoders and encoders, with input cut anywhere.

use super::*;

const LINE_MAX: usize = 64;

/// Decodes `pieces` one after another. Returns the content and the bytes left over, or the status
/// of the error.
fn run(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), u16> {
    let mut decoder = BodyDecoder::chunked();
    let (mut content, mut rest) = (Vec::new(), Vec::new());
    let mut ended = false;
    for piece in pieces {
        rest.extend_from_slice(piece);
        let mut at = 0;
        while !ended {
            let (used, got) =
                decoder.decode(&rest[at..], LINE_MAX, 1 << 20).map_err(|error| error.status.code())?;
            at += used;
            match got {
                Decoded::Data(data) => content.extend_from_slice(data),
                Decoded::NeedMore => break,
                Decoded::End => ended = true,
            }
        }
        rest.drain(..at);
    }
    Ok((content, ended, rest.len()))
}

/// Checks the outcome of `input` whole, at every cut, and byte by byte.
fn check(input: &[u8], expected: &Result<(&[u8], bool, usize), u16>) {
    let expected = expected.map(|(content, ended, rest)| (content.to_vec(), ended, rest));
    assert_eq!(run(&[input]), expected, "{:?}", input.escape_ascii().to_string());
    for cut in 0..=input.len() {
        assert_eq!(run(&[&input[..cut], &input[cut..]]), expected, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(run(&bytes), expected, "byte by byte");
}

#[test]
fn well_formed_chunks() {
    let cases: &[(&[u8], &[u8], usize)] = &[
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"0\r\n\r\nGET", b"", 3),
        (b"0005\r\nhello\r\n000\r\n\r\n", b"hello", 0),
        (b"1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", b"abcdefghijklmnopqrstuvwxyz", 0),
        (b"5;a=b\r\nhello\r\n0;x\r\n\r\n", b"hello", 0),
        (b"5 ; a = \"q\\\"; r\" ;b\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n..", b"hello", 2),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", 0),
    ];
    for (input, content, rest) in cases {
        check(input, &Ok((content, true, *rest)));
    }
}

#[test]
fn incomplete_chunks_wait() {
    check(b"5\r\nhel", &Ok((b"hel", false, 0)));
    check(b"5\r\nhello\r\n0\r\nX: y", &Ok((b"hello", false, 0)));
}

#[test]
fn malformed_chunks_are_refused() {
    let cases: &[&[u8]] = &[
        b"+5\r\nhello\r\n",
        b"-5\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"g\r\n",
        b"\r\n",
        b";a=b\r\n",
        b"5\rhello",
        b"5\nhello",
        b"5;\r\nhello",
        b"5;a\nhello",
        b"5;a\rX\r\n",
        b"5;a=\r\n",
        b"5;a=\"b\r\n",
        b"5;=b\r\n",
        b"5 \r\nhello",
        b"5\x00\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\n0",
        b"5\r\nhello\r\n\r\n0\r\n",
        b"10000000000000000\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"0\r\nXY GET",
        b"0\r\n: y\r\n",
        b"0\r\nX: a\x01\r\n",
        b"0\r\nX: a\n",
        b"0\r\n\n",
    ];
    for input in cases {
        check(input, &Err(400));
    }
    check(b"FFFFFFFFFFFFFFFF\r\n", &Err(413));
    check(&[b"5;a=".as_slice(), &[b'x'; LINE_MAX]].concat(), &Err(431));
    check(&[b"0\r\nX: ".as_slice(), &[b'x'; LINE_MAX]].concat(), &Err(431));
}

/// Outcome of `chunks` times `chunk` and `end`: whole, cut at several positions, and byte by byte.
fn repeated(chunk: &str, chunks: usize, end: &str) -> Result<usize, u16> {
    let input = format!("{}{end}", chunk.repeat(chunks)).into_bytes();
    let whole = decoded_bytes(&[&input]);
    for size in [1, 7, 4099] {
        assert_eq!(decoded_bytes(&input.chunks(size).collect::<Vec<_>>()), whole, "{chunk:?} by {size}");
    }
    for cut in (0..input.len()).step_by(20_011) {
        assert_eq!(decoded_bytes(&[&input[..cut], &input[cut..]]), whole, "{chunk:?} cut at {cut}");
    }
    whole
}

/// Bytes of content in these pieces.
fn decoded_bytes(pieces: &[&[u8]]) -> Result<usize, u16> {
    let (mut decoder, mut content) = (BodyDecoder::chunked(), 0);
    for piece in pieces {
        let mut at = 0;
        loop {
            let decoded = decoder.decode(&piece[at..], 4096, 1 << 20);
            let (used, got) = decoded.map_err(|error| error.status.code())?;
            at += used;
            match got {
                Decoded::Data(data) => content += data.len(),
                Decoded::NeedMore => break,
                Decoded::End => return Ok(content),
            }
        }
    }
    Ok(content)
}

/// A limit of the content did not bound its framing: 100 MB of extensions were read for 100 KB of
/// content.
#[test]
fn framing_is_bounded_by_the_content() {
    const END: &str = "0\r\n\r\n";
    let extension = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    let quoted = format!("1;a=\"{}\"\r\nx\r\n", "\\\"".repeat(30));
    let wide = format!("100;{}\r\n{}\r\n", "e".repeat(600), "x".repeat(0x100));
    let zeros = format!("{}1\r\nx\r\n", "0".repeat(30));
    let blanks = format!("1{};a\r\nx\r\n", " ".repeat(40));
    for flood in [&extension, &quoted, &wide, &zeros, &blanks] {
        assert_eq!(repeated(flood, 1000, END), Err(400), "{flood:?}");
        // A few of them do no harm.
        assert!(repeated(flood, 10, END).is_ok(), "{flood:?}");
    }
    // The bound includes the trailer section, if the content leaves no bytes for it.
    let tiny = "1;an-extension--\r\nx\r\n".repeat(5400);
    assert_eq!(decoded_bytes(&[tiny.as_bytes(), END.as_bytes()]), Ok(5400));
    let trailer = format!("0\r\n{}\r\n", "X: y\r\n".repeat(600));
    assert_eq!(decoded_bytes(&[tiny.as_bytes(), trailer.as_bytes()]), Err(400));
    assert_eq!(decoded_bytes(&[trailer.as_bytes()]), Ok(0));
}

#[test]
fn a_client_that_sends_byte_by_byte_is_no_flood() {
    let end = "0\r\nX-Sum: abc\r\n\r\n";
    for chunk in ["1\r\nx\r\n", "00000001\r\nx\r\n", "1;a=b\r\nx\r\n", "1 ; a = \"b\"\r\nx\r\n"] {
        assert_eq!(repeated(chunk, 8000, end), Ok(8000), "{chunk:?}");
    }
    let as_much_again = format!("400;{}\r\n{}\r\n", "e".repeat(1020), "x".repeat(0x400));
    assert_eq!(repeated(&as_much_again, 50, end), Ok(50 * 0x400));
}

#[test]
fn encoded_pieces_decode_to_themselves() {
    let mut out = Vec::new();
    for piece in [&b"hello"[..], b"", &[b'x'; 300]] {
        let mark = BodyEncoder::Chunked.start_piece(&mut out);
        out.extend_from_slice(piece);
        BodyEncoder::Chunked.finish_piece(mark, &mut out);
    }
    BodyEncoder::Chunked.finish(&mut out);
    let content = [&b"hello"[..], &[b'x'; 300]].concat();
    check(&out, &Ok((&content, true, 0)));
}
