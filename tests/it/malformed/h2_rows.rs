//! Requests over HTTP/2 that are wrong, or that become another request when they are written as HTTP/1.

use super::Expect::{Cut, Passes, Refused, Status, Torn};
use super::{Row, row};
use crate::kit::h2_raw::*;

type Field<'a> = (&'a [u8], &'a [u8]);

const METHOD: Field<'_> = (b":method", b"GET");
const SCHEME: Field<'_> = (b":scheme", b"https");
const PATH: Field<'_> = (b":path", b"/");
const AUTHORITY: Field<'_> = (b":authority", b"plain.test");
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: plain.test\r\n\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    fields(&mut rows);
    pseudo_fields(&mut rows);
    bodies(&mut rows);
    frames(&mut rows);
    rows
}

fn head(fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

fn with(field: Field<'_>) -> Vec<u8> {
    head(&[METHOD, SCHEME, PATH, AUTHORITY, field])
}

fn text(field: Field<'_>) -> String {
    format!("{}: {:?}", String::from_utf8_lossy(field.0), String::from_utf8_lossy(field.1))
}

fn fields(rows: &mut Vec<Row>) {
    let wrong: &[Field<'_>] = &[
        (b"connection", b"close"),
        (b"connection", b"x-forwarded-for"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"te", b"chunked"),
        (b"te", b"trailers, chunked"),
        (b"X-Upper", b"1"),
        (b"", b"1"),
        (b"x y", b"1"),
        (b"x:", b"1"),
        (b"x\0", b"1"),
        (b"x\r\nsmuggled", b"1"),
        (b"x", b"a\r\nsmuggled: 1"),
        (b"x", b"a\nsmuggled: 1"),
        (b"x", b"a\rsmuggled: 1"),
        (b"x", b"a\0"),
        (b"x", b"\x7f"),
        (b"host", b"other.test"),
        (b"host", b"plain.test:443"),
        (b"content-length", b"-1"),
        (b"content-length", b"+0"),
        (b"content-length", b"5, 6"),
        (b"content-length", b"x"),
        (b"content-length", b"5"),
        (b":path", b"/again"),
        (b":unknown", b"1"),
        (b":status", b"200"),
        (b":protocol", b"websocket"),
    ];
    rows.extend(wrong.iter().map(|field| row(text(*field), with(*field), Refused)));
    let two = head(&[METHOD, SCHEME, PATH, AUTHORITY, (b"host", b"plain.test"), (b"host", b"plain.test")]);
    rows.push(row("two Host fields", two, Refused));
    let lengths = (b"content-length".as_slice(), b"0".as_slice());
    let two = head(&[METHOD, SCHEME, PATH, AUTHORITY, lengths, (lengths.0, b"5")]);
    rows.push(row("two lengths", two, Refused));
    let mut many = vec![METHOD, SCHEME, PATH, AUTHORITY];
    many.extend(std::iter::repeat_n((b"x".as_slice(), b"1".as_slice()), 101));
    rows.push(row("101 fields", head(&many), Status(431)));
    let large = vec![b'a'; 40_000];
    let parts = block(&[METHOD, SCHEME, PATH, AUTHORITY, (b"x", &large)]);
    let mut large = frame(HEADERS, END_STREAM, 1, &parts[..16_000]);
    large.extend(frame(CONTINUATION, 0, 1, &parts[16_000..32_000]));
    large.extend(frame(CONTINUATION, END_HEADERS, 1, &parts[32_000..]));
    rows.push(row("a head beyond the site's limit", large, Status(431)));
}

fn pseudo_fields(rows: &mut Vec<Row>) {
    let path = |path: &'static [u8]| head(&[METHOD, SCHEME, (b":path", path), AUTHORITY]);
    let wrong: &[&[u8]] = &[
        b"",
        b"a",
        b"?a",
        b"*",
        b"/a b",
        b"/a\tb",
        b"/a\r\nsmuggled: 1",
        b"/\0",
        b"/\x7f",
        b"/a\\b",
        b"/<a>",
        b"/\"",
        b"http://plain.test/",
        b"http://other.test/",
        b"/ HTTP/1.1\r\nHost: other.test\r\n\r\nGET /smuggled",
        b"/\xc3\xa9",
    ];
    for wrong in wrong {
        rows.push(row(format!(":path {:?}", String::from_utf8_lossy(wrong)), path(wrong), Refused));
    }
    let method = |method: &'static [u8]| head(&[(b":method", method), SCHEME, PATH, AUTHORITY]);
    for wrong in [b"".as_slice(), b"GET ", b"G T", b"GET\r\n", b"GET / HTTP/1.1\r\nX:", b"CONNECT"] {
        rows.push(row(format!(":method {:?}", String::from_utf8_lossy(wrong)), method(wrong), Refused));
    }
    let authority = |authority: &'static [u8]| head(&[METHOD, SCHEME, PATH, (b":authority", authority)]);
    for wrong in [
        b"".as_slice(),
        b"plain.test other.test",
        b"plain.test\r\nX: 1",
        b"u@plain.test",
        b"plain.test/a",
        b"plain.test:x",
        b"other.test",
        b"plain.test,other.test",
        b"[::1",
        b"plain.test\0",
    ] {
        rows.push(row(format!(":authority {:?}", String::from_utf8_lossy(wrong)), authority(wrong), Refused));
    }
    let cases: [(&str, &[Field<'_>]); 10] = [
        ("no :method", &[SCHEME, PATH, AUTHORITY]),
        ("no :path", &[METHOD, SCHEME, AUTHORITY]),
        ("no :scheme", &[METHOD, PATH, AUTHORITY]),
        ("no host at all", &[METHOD, SCHEME, PATH]),
        ("two :authority", &[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY]),
        ("two :method", &[METHOD, METHOD, SCHEME, PATH, AUTHORITY]),
        ("two :scheme", &[METHOD, SCHEME, SCHEME, PATH, AUTHORITY]),
        ("a pseudo field behind a field", &[METHOD, SCHEME, AUTHORITY, (b"x", b"1"), PATH]),
        ("CONNECT", &[(b":method", b"CONNECT"), (b":authority", b"plain.test:443")]),
        (
            "extended CONNECT",
            &[(b":method", b"CONNECT"), (b":protocol", b"websocket"), SCHEME, PATH, AUTHORITY],
        ),
    ];
    rows.extend(cases.map(|(name, fields)| row(name, head(fields), Refused)));
}

/// A POST whose head is fine.
fn post(length: Option<&[u8]>, rest: &[Vec<u8>]) -> Vec<u8> {
    post_to(b"/", length, rest)
}

/// The same, and the body is not.
fn torn(length: Option<&[u8]>, rest: &[Vec<u8>]) -> Vec<u8> {
    post_to(b"/cut", length, rest)
}

fn post_to(path: &[u8], length: Option<&[u8]>, rest: &[Vec<u8>]) -> Vec<u8> {
    let mut fields = vec![(METHOD.0, b"POST".as_slice()), SCHEME, (PATH.0, path), AUTHORITY];
    fields.extend(length.map(|length| (b"content-length".as_slice(), length)));
    [vec![frame(HEADERS, END_HEADERS, 1, &block(&fields))], rest.to_vec()].concat().concat()
}

fn bodies(rows: &mut Vec<Row>) {
    let data = |bytes: &[u8]| frame(DATA, END_STREAM, 1, bytes);
    let trailers = |fields: &[Field<'_>]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
    rows.push(row("a body with another request in it", post(Some(b"44"), &[data(SMUGGLED)]), Passes(1)));
    rows.push(row("a body longer than its length", torn(Some(b"5"), &[data(SMUGGLED)]), Cut));
    rows.push(row("a body shorter than its length", torn(Some(b"9"), &[data(b"hello")]), Cut));
    rows.push(row("a body where none was said", torn(Some(b"0"), &[data(SMUGGLED)]), Torn));
    rows.push(row("a body of unknown length", post(None, &[data(b"hello")]), Passes(1)));
    rows.push(row("an empty end", post(None, &[frame(DATA, 0, 1, b"hello"), data(b"")]), Passes(1)));
    rows.push(row(
        "chunks in a body",
        post(None, &[data(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")]),
        Passes(1),
    ));
    rows.push(row(
        "padding",
        post(Some(b"5"), &[frame(DATA, END_STREAM | PADDED, 1, b"\x03hello\0\0\0")]),
        Passes(1),
    ));
    rows.push(row(
        "trailers",
        post(None, &[frame(DATA, 0, 1, b"hello"), trailers(&[(b"x", b"1")])]),
        Passes(1),
    ));
    rows.push(row("trailers with a pseudo field", torn(None, &[trailers(&[PATH])]), Torn));
    let open = frame(HEADERS, END_HEADERS, 1, &block(&[(b"x".as_slice(), b"1".as_slice())]));
    rows.push(row("trailers that end nothing", torn(None, &[open]), Cut));
    rows.push(row(
        "too much padding",
        torn(Some(b"5"), &[frame(DATA, END_STREAM | PADDED, 1, b"\xffhello")]),
        Cut,
    ));
    rows.push(row(
        "a body that is reset",
        torn(
            Some(b"9"),
            &[
                frame(DATA, 0, 1, b"hello"),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                frame(0x7f, 0, 0, &[]),
                frame(DATA, 0, 0, b"end"),
            ],
        ),
        Cut,
    ));
}

fn frames(rows: &mut Vec<Row>) {
    let good = block(&[METHOD, SCHEME, PATH, AUTHORITY]);
    let whole = |stream: u32| frame(HEADERS, END_HEADERS | END_STREAM, stream, &good);
    let both = END_HEADERS | END_STREAM;
    let cases: [(&str, Vec<u8>); 15] = [
        ("HEADERS on stream 0", whole(0)),
        ("HEADERS on an even stream", whole(2)),
        ("DATA on stream 0", frame(DATA, END_STREAM, 0, SMUGGLED)),
        ("DATA on a stream that is not open", frame(DATA, END_STREAM, 1, SMUGGLED)),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &good)),
        ("another frame inside a head", [frame(HEADERS, END_STREAM, 1, &good[..9]), whole(3)].concat()),
        (
            "a head that goes on elsewhere",
            [frame(HEADERS, END_STREAM, 1, &good[..9]), frame(CONTINUATION, END_HEADERS, 3, &good[9..])]
                .concat(),
        ),
        (
            "PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &good].concat()),
        ),
        ("a frame that is too long", frame(DATA, 0, 1, &[0; 16_385])),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("an index of nothing", frame(HEADERS, both, 1, &[0x80])),
        ("an index beyond the table", frame(HEADERS, both, 1, &[0xff, 0xff, 0x7f])),
        ("an integer without an end", frame(HEADERS, both, 1, &[0xff; 20])),
        ("a string beyond the block", frame(HEADERS, both, 1, &[0, 0x7f, 0x10, b'x'])),
        (
            "a stream that depends on itself",
            frame(HEADERS, both | 0x20, 1, &[&[0, 0, 0, 1, 9][..], &good].concat()),
        ),
    ];
    rows.extend(cases.map(|(name, bytes)| row(name, bytes, Refused)));
    rows.push(row("unfinished head", frame(HEADERS, END_STREAM, 1, &good[..9]), Refused));
    rows.push(row("a good one", whole(1), Passes(1)));
    rows.push(row(
        "a good one in three pieces",
        [
            frame(HEADERS, END_STREAM, 1, &good[..9]),
            frame(CONTINUATION, 0, 1, &good[9..20]),
            frame(CONTINUATION, END_HEADERS, 1, &good[20..]),
        ]
        .concat(),
        Passes(1),
    ));
    rows.push(row("te: trailers", with((b"te", b"trailers")), Passes(1)));
    rows.push(row("the same Host", with((b"host", b"plain.test")), Passes(1)));
    rows.push(row(
        "OPTIONS *",
        head(&[(b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY]),
        Passes(1),
    ));
}
