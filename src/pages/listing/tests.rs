//! Tests of the page of a listing, part by part.

use super::*;
use crate::pages::html::tests::{check_whole, written};

const PLAIN: ListingStyle = ListingStyle {
    title: None,
    sort: SortBy::Name,
    descending: false,
    truncated_at: None,
    entries: 2,
    total: 2,
    query: String::new(),
    archives: false,
    panel: String::new(),
    reloads: false,
    home: Home::Root,
};

fn row(name: &[u8], kind: Kind) -> String {
    written(|out| listing_row(&Row { name, kind, size: 1536, modified_secs: 784_111_777 }, out))
}

#[test]
fn rows_link_below_their_directory_only() {
    let cases: &[(&[u8], Kind, &str)] = &[
        (b"a.txt", Kind::File, "<a href=\"./a.txt\">a.txt</a>"),
        (b"sub", Kind::Directory, "<a href=\"./sub/\">sub/</a>"),
        (b"javascript:alert(4).html", Kind::File, "<a href=\"./javascript:alert(4).html\">"),
        (b"a?b#c%d", Kind::File, "<a href=\"./a%3Fb%23c%25d\">a?b#c%d</a>"),
        (b"\"><script>", Kind::File, "<a href=\"./%22%3E%3Cscript%3E\">&quot;&gt;&lt;script&gt;</a>"),
        (b"it's", Kind::File, "<a href=\"./it%27s\">it&#39;s</a>"),
        (b"caf\xe9", Kind::File, "<a href=\"./caf%E9\">caf\u{fffd}</a>"),
        (b"a\\b c", Kind::File, "<a href=\"./a%5Cb%20c\">a\\b c</a>"),
        (b"&amp;", Kind::File, "<a href=\"./%26amp%3B\">&amp;amp;</a>"),
        (b"pipe<", Kind::Other, "<span title=\"not a regular file\">pipe&lt;</span>"),
        (b"gpj\xe2\x80\xae<exe", Kind::File, "<a href=\"./gpj%E2%80%AE%3Cexe\">gpj\\u{202e}&lt;exe</a>"),
        (b"\xe2\x81\xa6\xff", Kind::Directory, "<a href=\"./%E2%81%A6%FF/\">\\u{2066}\u{fffd}/</a>"),
    ];
    for (name, kind, expected) in cases {
        let row = row(name, *kind);
        assert!(row.contains(expected), "{row}");
        assert!(row.starts_with("<tr class=\"") && row.ends_with("</tr>\n"), "{row}");
        assert_eq!(row.matches("<td").count(), row.matches("</td>").count(), "{row}");
    }
}

#[test]
fn rows_show_date_and_size() {
    let file = row(b"a", Kind::File);
    assert!(file.contains("title=\"1536 bytes\">1.5 KiB</td>"), "{file}");
    assert!(file.contains("<td class=\"m\">1994-11-06 08:49</td>"), "{file}");
    assert!(!row(b"a", Kind::Directory).contains("bytes"));
}

#[test]
fn the_name_of_the_site_is_shown_as_text() {
    let title = "<b>Ours</b> \u{202e}\x07".to_owned();
    let style = ListingStyle { title: Some(title), ..PLAIN };
    let shown = "&lt;b&gt;Ours&lt;/b&gt; \\u{202e}\u{fffd}";
    let top = written(|out| listing_head(b"/", &style, out));
    assert!(top.contains(&format!("<title>{shown}</title>")), "{top}");
    assert!(top.contains(&format!("<h1>{shown}</h1>")), "{top}");
    let below = written(|out| listing_head(b"/a/b/", &style, out));
    assert!(below.contains(&format!("<title>{shown}: /a/b/</title>")), "{below}");
    assert!(below.contains(&format!("<h1><a href=\"/\">{shown}</a><i>/</i> ")), "{below}");
    let plain = written(|out| listing_head(b"/a/", &PLAIN, out));
    assert!(plain.contains("<title>Index of /a/</title>"), "{plain}");
}

#[test]
fn headings_link_to_the_other_order() {
    let cases = [
        (SortBy::Name, false, "name&amp;order=desc", "name&amp;order=asc", "ascending"),
        (SortBy::Size, true, "size&amp;order=asc", "size&amp;order=desc", "descending"),
        (SortBy::Modified, false, "modified&amp;order=desc", "modified&amp;order=asc", "ascending"),
    ];
    for (sort, descending, linked, not_linked, state) in cases {
        let page = written(|out| listing_head(b"/", &ListingStyle { sort, descending, ..PLAIN }, out));
        assert!(page.contains(&format!("\"?sort={linked}\"")), "{linked}");
        assert!(!page.contains(&format!("\"?sort={not_linked}\"")), "{not_linked}");
        assert_eq!(page.matches(" aria-sort=").count(), 1);
        assert!(page.contains(&format!("aria-sort=\"{state}\"><a href=\"?sort={}", sort.keyword())));
        assert_eq!(SortBy::from_keyword(sort.keyword()), Some(sort));
    }
    assert_eq!(SortBy::from_keyword("Name"), None);
    assert_eq!(SortBy::from_keyword(""), None);
}

#[test]
fn a_search_keeps_the_order_and_the_order_keeps_the_search() {
    let query = "a&b \"<+%é".to_owned();
    let style = ListingStyle { sort: SortBy::Size, descending: true, query, ..PLAIN };
    let page = written(|out| listing_head(b"/", &style, out));
    assert!(
        page.contains("name=\"sort\" value=\"size\"><input type=\"hidden\" name=\"order\" value=\"desc\"")
    );
    assert!(page.contains("value=\"a&amp;b &quot;&lt;+%é\">"), "{page}");
    assert!(page.contains("?sort=name&amp;order=asc&amp;q=a%26b%20%22%3C%2B%25%C3%A9\""), "{page}");
    assert!(page.contains("2 of 2</output><a href=\"./\">Show all</a>"));
    let plain = written(|out| listing_head(b"/", &PLAIN, out));
    assert!(!plain.contains("type=\"hidden\"") && !plain.contains("&amp;q=") && !plain.contains("archive="));
    let style = ListingStyle { archives: true, ..PLAIN };
    assert!(written(|out| listing_head(b"/", &style, out)).contains("href=\"?archive=tar.gz\""));
}

#[test]
fn breadcrumbs_lead_home() {
    let root = written(|out| listing_head(b"/", &PLAIN, out));
    assert!(root.contains("<title>Index of /</title>"));
    assert!(!root.contains("\"../\""));
    let expected = "<a href=\"/\">root</a><i>/</i> <a href=\"/a%20b/\">a b</a><i>/</i> <a href=\"/a%20b/%3C/\">\
        &lt;</a><i>/</i> <span aria-current=\"page\">c&amp;</span></h1>";
    for path in [&b"/a b/</c&/"[..], b"/a b/</c&", b"//a b//</c&//"] {
        let deep = written(|out| listing_head(path, &PLAIN, out));
        assert!(deep.contains("<title>Index of /a b/&lt;/c&amp;/</title>"), "{deep}");
        assert!(deep.contains(expected), "{deep}");
        assert!(deep.contains("<a href=\"../\">../</a>"));
        assert!(!deep.contains("href=\"//"));
    }
    let style = ListingStyle { home: Home::Above(3), ..PLAIN };
    let deep = written(|out| listing_head(b"/a b/</c&/", &style, out));
    let expected = "<a href=\"../../../\">root</a><i>/</i> <a href=\"../../\">a b</a><i>/</i> <a href=\"../\">\
        &lt;</a><i>/</i> <span aria-current=\"page\">c&amp;</span></h1>";
    assert!(deep.contains(expected) && !deep.contains("href=\"/"), "{deep}");
    assert!(deep.contains("<a class=\"mark\" href=\"../../../\" aria-label"), "{deep}");
}

#[test]
fn the_foot_counts() {
    let cases = [
        (None, 0, "This folder is empty."),
        (None, 1, "1 entry<"),
        (None, 7, "7 entries"),
        (Some(100), 100, "Only 100 names are shown"),
    ];
    for (truncated_at, entries, expected) in cases {
        let style = ListingStyle { truncated_at, entries, ..PLAIN };
        assert!(written(|out| listing_foot(&style, LastPart::Rows, out)).contains(expected), "{expected}");
    }
    let found = |truncated_at, entries| {
        let query = "x".to_owned();
        let style = ListingStyle { truncated_at, entries, total: 3400, query, ..PLAIN };
        written(|out| listing_foot(&style, LastPart::Rows, out))
    };
    assert!(found(None, 12).contains("12 of 3,400 entries"));
    assert!(found(None, 0).contains("No name matches."));
    assert!(found(Some(3400), 12).contains("Only 3,400 names were searched"));
    for (count, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(grouped(count), expected);
    }
}

#[test]
fn the_page_is_whole_in_itself() {
    check_whole(&written(|out| {
        listing_head(b"/a/", &PLAIN, out);
        listing_foot(&PLAIN, LastPart::Rows, out);
    }));
}
