//! The page of a folder for uploads.

use std::fs;

use crate::browser::{chromium, visit_with};
use crate::harness::{Server, on_both};
use crate::upload::{docroot, names, start};
use crate::wire::{Client, get};

#[test]
fn the_listing_of_a_folder_for_uploads_has_a_form() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/sub/x", b"x");
        let server = start(model, &docroot, &[]);
        let mut client = Client::connect(server.port);
        for (path, has_form) in [("/up/", true), ("/up/sub/", true), ("/", false), ("/other/", false)] {
            let got = client.ask("GET", path, &["Accept: text/html"], b"").expect(200);
            let form = "<form method=\"post\" enctype=\"multipart/form-data\" action=\"./\">";
            assert_eq!(got.text().contains(form), has_form, "{path}");
            let policy = got.field("content-security-policy").unwrap_or_default();
            assert_eq!(policy.contains("connect-src 'self'"), has_form, "{path}: {policy}");
        }
        assert!(!client.get("/up/?json").expect(200).text().contains("<form"));
        let mut plain = Client::connect(Server::start(model, &docroot.root(), &[]).port);
        plain.send_if_open(get("/up/"));
    });
}

/// Controls the page of a folder for uploads from a surrounding page, like a user would, and
/// records what it shows.
const HANDS: &str = r#"<!doctype html><title>hands</title><pre></pre><iframe src="/up/" width=800 height=600></iframe>
<script>
const said=document.querySelector('pre'),say=text=>said.append(text+'\n'),frame=document.querySelector('iframe')
const file=(name,size,more)=>Object.defineProperty(new File([new Uint8Array(size)],name),'webkitRelativePath',{value:more||''})
const rows=doc=>[...doc.querySelectorAll('.up li')].map(row=>row.querySelector('b').textContent+': '+row.querySelector('span').textContent)
const until=(doc,holds)=>new Promise(done=>{const look=()=>holds()?done():setTimeout(look,10);look()})
const choose=(doc,nth,files)=>{
const input=doc.querySelectorAll('.up input')[nth]
Object.defineProperty(input,'files',{value:files,configurable:true})
input.dispatchEvent(new Event('change'))
}
const steps=[
// Two files, one of them large enough for a visible progress.
doc=>{
const seen=new Set()
new frame.contentWindow.MutationObserver(()=>{
const bar=[...doc.querySelectorAll('.up progress')].pop()
if(bar)seen.add(bar.value)
say('bar '+[...seen].length)
}).observe(doc.querySelector('.up ul'),{subtree:true,attributes:true,attributeFilter:['value']})
choose(doc,0,[file('small.txt',5),file('large.bin',40<<20)])
},
// A file that exists, and is replaced with permission.
async doc=>{
choose(doc,0,[file('small.txt',7)])
await until(doc,()=>doc.querySelector('li.bad'))
say(rows(doc).join())
doc.querySelector('li button').click()
},
// A folder, and a dropped file.
doc=>choose(doc,1,[file('x.txt',1,'dir/sub dir/x.txt'),file('y.txt',1,'dir/y.txt')]),
(doc,win)=>{
const dropped=new win.DataTransfer()
dropped.items.add(new win.File(['dropped'],'dropped.txt'))
doc.body.dispatchEvent(new win.DragEvent('drop',{dataTransfer:dropped,bubbles:true,cancelable:true}))
},
// Failed uploads show a reason, and a cancelled one stops.
async doc=>{
choose(doc,0,[file('too large.bin',49<<20),file('.hidden',1),file('cancelled.bin',2<<20)])
choose(doc,1,[file('z.txt',1,'.dir/z.txt')])
doc.querySelectorAll('li button')[2].click()
await until(doc,()=>doc.querySelectorAll('li.bad').length===4)
say(rows(doc).join())
const live=[...doc.querySelectorAll('.up [aria-live],.up [role=status]')]
say('live '+live.map(one=>one.localName+(one.textContent?' reports':' is silent')).join())
say('over')
},
]
let loads=0
frame.onload=()=>{
const doc=frame.contentDocument
say('listed '+[...doc.querySelectorAll('main>table tbody td.n')].map(cell=>cell.textContent).join())
if(steps[loads])steps[loads++](doc,frame.contentWindow)
}
</script>"#;

#[test]
fn a_browser_uploads_files_and_folders_and_shows_progress() {
    let Some(chromium) = chromium() else { return };
    on_both(|model| {
        let docroot = docroot();
        docroot.write("hands.html", HANDS);
        let flags = ["--upload", "/up", "--max-upload", "48M"];
        let visit = visit_with(&chromium, model, &docroot.root(), "hands.html", &flags);
        for expected in [
            "\nlisted ../,large.bin,small.txt\n",
            "\nsmall.txt: already exists\n",
            "\nlisted ../,dir/,large.bin,small.txt\n",
            "\nlisted ../,dir/,dropped.txt,large.bin,small.txt\n",
            "\ntoo large.bin: larger than 48.0 MiB, the limit of this server,\
             .hidden: names that begin with a dot are not taken,cancelled.bin: cancelled,\
             .dir/z.txt: names that begin with a dot are not taken\n",
            // The list is no live region, because a screen reader would read all of it at each step
            // of a progress bar.
            "\nlive p reports\nover\n",
        ] {
            assert!(visit.dom.contains(expected), "{expected:?} in {}", visit.dom);
        }
        assert!(visit.dom.contains("\nbar 3\n"), "the progress bar had intermediate values: {}", visit.dom);
        assert!(visit.console.is_empty(), "{:?}", visit.console);
        let up = docroot.path("up");
        assert_eq!(names(&up), ["dir", "dropped.txt", "large.bin", "small.txt"]);
        assert_eq!(fs::metadata(up.join("small.txt")).unwrap().len(), 7);
        assert_eq!(fs::metadata(up.join("large.bin")).unwrap().len(), 40 << 20);
        assert_eq!(fs::metadata(up.join("dir/sub dir/x.txt")).unwrap().len(), 1);
        assert_eq!(fs::read(up.join("dropped.txt")).unwrap(), b"dropped");
    });
}
