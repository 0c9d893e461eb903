//! Tests of the list of harmless HTML: known attacks, random input, and the HTML of real READMEs.

use proptest::prelude::*;

use super::*;

fn cleaned(html: &str) -> String {
    String::from_utf8(clean(html, 1 << 20).expect("short enough")).expect("UTF-8")
}

/// Panics unless the page consists of known elements with known attributes, all closed in order.
fn check(page: &str) {
    let mut open: Vec<Vec<u8>> = Vec::new();
    let known = [
        "align",
        "alt",
        "aria-label",
        "checked",
        "class",
        "colspan",
        "datetime",
        "dir",
        "disabled",
        "height",
        "href",
        "id",
        "lang",
        "media",
        "open",
        "rowspan",
        "scope",
        "src",
        "srcset",
        "start",
        "title",
        "type",
        "valign",
        "value",
        "width",
    ];
    for Ok(token) in Tokenizer::new(page) {
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8(tag.name.to_vec()).unwrap();
                let is_void = VOID.contains(&name.as_str());
                assert!(is_void || ELEMENTS.contains(&name.as_str()), "<{name}> in {page}");
                for (attribute, value) in &tag.attributes {
                    let attribute = std::str::from_utf8(attribute).unwrap();
                    let value = std::str::from_utf8(value).unwrap();
                    assert!(known.contains(&attribute), "{attribute} in {page}");
                    assert!(attribute != "class" || value == "wide", "{page}");
                    assert!(attribute != "id" || value.starts_with(PREFIX), "{page}");
                    assert!(attribute != "href" || leads_to_the_web(value), "{page}");
                    assert!(attribute != "src" || is_of_this_site(value), "{page}");
                    assert!(name != "input" || tag.attributes.contains_key(&b"disabled"[..]), "{page}");
                }
                if !is_void {
                    open.push(tag.name.to_vec());
                }
            }
            Token::EndTag(tag) => assert_eq!(open.pop().as_deref(), Some(&tag.name[..]), "{page}"),
            Token::String(_) => {}
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => panic!("{token:?} in {page}"),
        }
    }
    assert!(open.is_empty(), "{open:?} left open in {page}");
}

/// Inputs that have passed some filter of HTML.
pub(super) const ATTACKS: [&str; 62] = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script/x>alert(1)</script >",
    "<script\x0c>alert(1)</script>",
    "<<script>alert(1)//<</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror = 'alert(1)'//",
    "<img/src=x/onerror=alert(1)>",
    "<img src=\"x\"onerror=\"alert(1)\">",
    "<img src=x:x onerror=\u{0}alert(1)>",
    "<img \u{b}src=x \u{b}onerror=alert(1)>",
    "<img src=`x`onerror=alert(1)>",
    "<img src='x' alt='\"><script>alert(1)</script>'>",
    "<img alt=\"`><img src=x onerror=alert(1)>\" src=a.png>",
    "<IMG SRC=\"javascript:alert(1)\">",
    "<IMG SRC=\"jav&#x09;ascript:alert(1);\">",
    "<IMG SRC=\" &#14;  javascript:alert(1);\">",
    "<img src=//evil.example/x.png>",
    "<img src=\"\\\\evil.example/x.png\">",
    "<img src='/\t/evil.example/x.png'>",
    "<img src=data:image/svg+xml,x>",
    "<img srcset='a.png, //evil.example/x.png 2x'>",
    "<img src=a.png srcset='https://evil.example/x.png'>",
    "<img src=a.png lowsrc=javascript:alert(1) dynsrc=javascript:alert(1)>",
    "<picture><source srcset=//evil.example/x.png><img src=a.png></picture>",
    "<source src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href=JaVaScRiPt:alert(1)>x</a>",
    "<a href='java\nscript:alert(1)'>x</a>",
    "<a href=' javascript:alert(1)'>x</a>",
    "<a href='&#106;avascript&colon;alert(1)'>x</a>",
    "<a href='&#0000106&#0000097vascript:alert(1)'>x</a>",
    "<a href='\u{1}javascript:alert(1)'>x</a>",
    "<a href='vbscript:x'>x</a><a href='data:text/html,x'>x</a><a href='file:///etc/passwd'>x</a>",
    "<a href='blob:http://x/y'>x</a><a href='filesystem:x'>x</a><a href='view-source:x'>x</a>",
    "<a href=x target=_blank rel=opener onclick=alert(1) ping=//evil.example>x</a>",
    "<a href=x style='position:fixed;inset:0'>x</a>",
    "<div style='background:url(//evil.example)' onmouseover=alert(1) class=mark id=q>x</div>",
    "<details open ontoggle=alert(1)>x</details>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\"></noscript>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe><iframe src=javascript:alert(1)>",
    "<object data=javascript:alert(1)></object><embed src=javascript:alert(1)><applet code=x>",
    "<form action=//evil.example><input name=q><button>x</button><textarea></form>",
    "<input type=text autofocus onfocus=alert(1)><input type=checkbox onclick=alert(1)>",
    "<select autofocus onfocus=alert(1)><option>x</select><keygen autofocus onfocus=alert(1)>",
    "<base href=//evil.example/><link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<style>*{display:none}</style><style>@import '//evil.example/x.css'</style>",
    "<body onload=alert(1)><html><head><title>x</title></head>",
    "<video src=x onerror=alert(1)><audio src=x onerror=alert(1)><track src=x>",
    "<marquee onstart=alert(1)><template><script>alert(1)</script></template><slot name=x>",
    "<!--><script>alert(1)</script>--><!--[if IE]><script>alert(1)</script><![endif]-->",
    "<!-- a --!><img src=x onerror=alert(1)> <![CDATA[<script>alert(1)</script>]]>",
    "<?xml version=1?><?php echo 1 ?><!DOCTYPE html [<!ENTITY x '<script>'>]>",
    "</article></section></main></body><h1>page</h1></div></div></td></tr></table></footer>",
    "<ul><li><div><li></li></div></li></ul></div><table><div></table></div><b><p></b></p></li>",
    "<plaintext><xmp><script>alert(1)</script></xmp><title></title><textarea><script>alert(1)",
    "&lt;script&gt;alert(1)&lt;/script&gt; <a title=\"&quot;><script>\" href=\"&quot; onclick=&quot;x\">x</a>",
];

#[test]
fn nothing_of_a_known_attack_passes() {
    for attack in ATTACKS {
        check(&cleaned(attack));
    }
    check(&cleaned(&ATTACKS.concat()));
}

#[test]
fn harmless_html_is_kept() {
    for (html, expected) in [
        ("<p align=\"center\">a</p>", "<p align=\"center\">a</p>"),
        ("<P ALIGN=center>a</P>", "<p align=\"center\">a</p>"),
        ("a<br>b<br/>c", "a<br>b<br>c"),
        ("<kbd>Ctrl</kbd> H<sub>2</sub> x<sup>2</sup>", "<kbd>Ctrl</kbd> H<sub>2</sub> x<sup>2</sup>"),
        ("<details open><summary>S</summary>x</details>", "<details open><summary>S</summary>x</details>"),
        (
            "<img src=\"a.png\" width=\"50%\" height=20 alt='&quot;'>",
            "<img alt=\"&quot;\" height=\"20\" src=\"a.png\" width=\"50%\">",
        ),
        ("<img src=a.png width=99999>", "<img src=\"a.png\">"),
        ("<img src=http://x/y.png alt=y>", "y"),
        (
            "<picture><source media='(prefers-color-scheme: dark)' srcset='d.png, e.png 2x'><img src=l.png></picture>",
            "<picture><source media=\"(prefers-color-scheme: dark)\" srcset=\"d.png, e.png 2x\"><img src=\"l.png\"></picture>",
        ),
        ("a<!-- b -->c<!-- d", "ac"),
        ("Vec<T> & x < y", "Vec&lt;T&gt; &amp; x &lt; y"),
        ("<center>a</center>", "<center>a</center>"),
        ("&copy;&nbsp;&amp;lt;", "©\u{a0}&amp;lt;"),
        ("<a href=\"x?a=1&amp;b=2\" title=t>x</a>", "<a href=\"x?a=1&amp;b=2\" title=\"t\">x</a>"),
        ("<a href='#a'>x</a>", "<a href=\"#user-content-a\">x</a>"),
        (
            "<a href='#user-content-a'>x</a><a href='#'>y</a>",
            "<a href=\"#user-content-a\">x</a><a href=\"#\">y</a>",
        ),
        ("<a name=\"top\"></a><p id=q>", "<a id=\"user-content-top\"></a><p id=\"user-content-q\"></p>"),
        (
            "<h1 align=center>A <b>b</b>!</h1>",
            "<h2 id=\"user-content-a-b\" align=\"center\">A <b>b</b>!</h2>",
        ),
        ("<h2 id=own>A</h2>", "<h3 id=\"user-content-a\"><a id=\"user-content-own\"></a>A</h3>"),
        ("<h5>x</h5><h6>x", "<h6 id=\"user-content-x\">x</h6><h6 id=\"user-content-x-1\">x</h6>"),
        ("<h1>a<h2>b", "<h2 id=\"user-content-a\">a</h2><h3 id=\"user-content-b\">b</h3>"),
        ("<div><h1>a</div>b", "<div><h2 id=\"user-content-a\">a</h2></div>b"),
        (
            "<table><tr><td style=\"text-align: right\">a</div></b></table>",
            "<div class=\"wide\"><table><tr><td align=\"right\">a</td></tr></table></div>",
        ),
        ("<div><table><td></div>x</table>", "<div><div class=\"wide\"><table><td>x</td></table></div></div>"),
        ("<b><i>a</b>c</i>", "<b><i>a</i></b>c"),
        ("<a href=x>a<a href=y>b</a>c", "<a href=\"x\">ab</a>c"),
        ("a\r\nb\u{0}", "a\nb\u{fffd}"),
    ] {
        assert_eq!(cleaned(html), expected, "{html}");
        check(&cleaned(html));
    }
}

#[test]
fn size_and_depth_are_bounded() {
    assert_eq!(clean("<b>aaaa</b>", 10), None);
    assert!(clean("<b>aaaa</b>", 11).is_some());
    let deep = cleaned(&"<div>".repeat(10_000));
    assert_eq!(deep.matches("<div>").count(), OPEN_MAX);
    check(&deep);
}

proptest! {
    #[test]
    fn nothing_but_harmless_html_comes_out(pieces in proptest::collection::vec(piece(), 0..40)) {
        check(&cleaned(&pieces.concat()));
    }
}

/// Part of a page: a known attack or a cut of it, a tag, or any text.
fn piece() -> impl Strategy<Value = String> {
    let name = prop::sample::select(
        ELEMENTS
            .iter()
            .chain(&VOID)
            .copied()
            .chain(["script", "style", "svg", "article", "form"])
            .collect::<Vec<_>>(),
    );
    let attribute = "( (id|href|src|srcset|style|onclick|title|align)=[\"']?[a-z:/#&;, ]{0,9}[\"']?)?";
    prop_oneof![
        (prop::sample::select(&ATTACKS[..]), 0..80usize, 1..80usize).prop_map(|(attack, skip, take)| {
            attack.chars().skip(skip % attack.len()).take(take).collect()
        }),
        (name.clone(), attribute).prop_map(|(name, attribute)| format!("<{name}{attribute}>")),
        name.prop_map(|name| format!("</{name}>")),
        "[<>&\"'/=!\\-#a-z \r\n\u{0}\u{e9}]{0,8}",
        any::<String>(),
    ]
}
