//! What the listing of a folder for uploads shows above its files: a place to drop files and
//! folders on.
//!
//! Without its script it is a form that works. With it, files go one by one, with a bar and a word
//! for each; what breaks off goes on by itself. Text and script are the same on every page, so the
//! page may be told to run that script and no other. Must not know how uploads are taken.

use std::sync::LazyLock;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::pages::LISTING_POLICY;

/// The panel, for the page of a listing. The script refuses files of more than `bytes_max` before
/// it begins to send them.
pub(crate) fn panel(bytes_max: u64) -> String {
    format!(
        "{STYLE}<section class=\"up\" aria-label=\"Upload\" data-max=\"{bytes_max}\">\n{FORM}<script>{SCRIPT}</script>\n"
    )
}

/// What the page of a listing with the panel may do, whatever is in it: what it may without, run
/// this one script as well, and ask this site.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
    let ours = format!("script-src 'sha256-{hash}' ");
    LISTING_POLICY.replacen("script-src ", &ours, 1) + "; connect-src 'self'"
});

const STYLE: &str = r"<style>
.up{margin:0 0 1.25rem;padding:.9rem 1rem;background:var(--card);border:1.5px dashed var(--line);border-radius:12px}
.up.over{border-color:var(--link);background:var(--hover)}
.up form{display:flex;flex-wrap:wrap;gap:.5rem .75rem;align-items:center;color:var(--dim)}
.up label,.up button{font:inherit;font-size:.875rem;color:var(--link);background:none;border:1px solid var(--line);border-radius:8px;padding:.25rem .7rem;cursor:pointer}
.up label:hover,.up button:hover{background:var(--hover)}
.up label:focus-within,.up button:focus-visible{outline:2px solid var(--link)}
.up.on input{position:absolute;opacity:0;width:1px;height:1px}
.up.on form button,.up:not(.on) .js{display:none}
.up p{margin:.5rem 0 0;color:var(--dim);font-size:.875rem}
.up p:empty{display:none}
.up ul{list-style:none;margin:0;padding:0}
.up li{display:grid;grid-template-columns:1fr auto auto;gap:.1rem .75rem;align-items:center;padding:.5rem 0 0}
.up li b{font-weight:400;overflow-wrap:anywhere;unicode-bidi:isolate}
.up li span{color:var(--dim);font-size:.875rem;font-variant-numeric:tabular-nums}
.up li.bad span{color:light-dark(#b3261e,#ff8a80)}
.up progress{grid-column:1/4;width:100%;height:.4rem;accent-color:var(--link)}
</style>
";

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
const SCRIPT: &str = r#"(()=>{
const box=document.querySelector('.up'),list=box.querySelector('ul'),news=box.querySelector('[role=status]'),max=+box.dataset.max,[files,folder]=box.querySelectorAll('input')
const SMALL=1<<20,AT_ONCE=3,TRIES=6
const WORDS={0:'the connection broke off',401:'a password is needed',403:'not allowed here',404:'the folder is not there any more',409:'something else has that name',413:'too large',503:'the server is busy',507:'the disk is full'}
const here=new URL('./',location.href).href,made=new Map(),waiting=[]
let busy=0,bad=0,ended=0
const href=path=>here+path.split('/').map(encodeURIComponent).join('/')
const size=bytes=>bytes<1024?bytes+' B':bytes<1<<20?(bytes/1024).toFixed(0)+' KiB':bytes<2**30?(bytes/(1<<20)).toFixed(1)+' MiB':(bytes/2**30).toFixed(1)+' GiB'
const pause=ms=>new Promise(done=>setTimeout(done,ms))
const ask=(item,method,url,fields,body)=>new Promise(done=>{
const x=item.request=new XMLHttpRequest(),from=item.offset
x.open(method,url)
x.setRequestHeader('Accept','text/plain')
for(const name in fields)x.setRequestHeader(name,fields[name])
x.upload.onprogress=event=>body&&show(item,from+event.loaded)
x.onloadend=()=>{item.why=why(x);done(x)}
x.send(body)
})
const why=x=>x.status===403&&x.responseText.split('\n')[1]||''
const show=(item,bytes,word)=>{
item.bar.value=item.file.size?bytes/item.file.size:+!!word
item.said.textContent=word||size(bytes)+' of '+size(item.file.size)
}
const report=text=>{news.textContent=text}
const button=(item,text,act)=>{item.act.textContent=text;item.act.hidden=!text;item.act.onclick=act}
const fail=(item,word,text,act)=>{
if(!item.bad){item.bad=true;bad++}
report(item.path+': '+word)
item.row.className='bad';item.said.textContent=word;button(item,text,act)
}
const folders=async(item,names)=>{
let path=''
for(const name of names){
path+=name+'/'
if(!made.has(path))made.set(path,ask(item,'MKCOL',href(path)))
const x=await made.get(path)
if(x.status!==201&&x.status!==405){made.delete(path);item.why=why(x);return x.status}
}
return 201
}
const send=async item=>{
const {file}=item,fresh=item.replace?{}:{'If-None-Match':'*'},url=href(item.path)
const parent=await folders(item,item.path.split('/').slice(0,-1))
if(item.gone||parent!==201)return parent
if(file.size<=SMALL)return(await ask(item,'PUT',url,fresh,file)).status
let at=item.at
for(let tries=0;;){
if(item.gone)return -1
if(!at){
const begun=await ask(item,'PUT',url,{...fresh,'Upload-Complete':'?0','Upload-Length':file.size})
if(begun.status!==201)return begun.status
at=item.at=new URL(begun.getResponseHeader('Location'),url).href
}
const from=item.offset,sent=await ask(item,'PATCH',at,{'Content-Type':'application/partial-upload','Upload-Offset':from,'Upload-Complete':'?1'},from?file.slice(from):file)
if((sent.status===404||sent.status===410)&&tries++<TRIES){at=item.at=null;item.offset=0;continue}
if(sent.status&&sent.status<500&&sent.status!==409||sent.getResponseHeader('Upload-Complete')==='?1')return sent.status
do{
if(item.gone)return -1
if(tries++>=TRIES)return sent.status
item.said.textContent='broke off, goes on soon'
await pause(500<<tries)
const stood=await ask(item,'HEAD',at)
if(stood.status===404||stood.status===410){at=item.at=null;item.offset=0;break}
if(stood.status===204){
if(stood.getResponseHeader('Upload-Complete')==='?1')return 204
const offset=+stood.getResponseHeader('Upload-Offset')
if(offset>item.offset)tries=0
item.offset=offset
break
}
}while(true)
}
}
const run=async item=>{
if(item.file.size>max)return fail(item,'larger than '+size(max)+', the limit of this server','')
busy++
item.row.className='';item.gone=false
button(item,'Cancel',()=>{item.gone=true;item.request?.abort();if(item.at)fetch(item.at,{method:'DELETE'}).catch(()=>0);item.at=null;item.offset=0})
show(item,item.offset)
const status=await send(item).catch(()=>0)
busy--
if(item.gone)fail(item,'cancelled','Again',()=>again(item))
else if(status===201||status===204){
if(item.bad){item.bad=false;bad--}
show(item,item.file.size,'done');button(item,'')
report(++ended+(ended===1?' file':' files')+' uploaded')
}else if(status===412)fail(item,'is there already','Replace',()=>{item.replace=true;again(item)})
else fail(item,item.why||WORDS[status]||'failed ('+status+')','Again',()=>again(item))
next()
}
const again=item=>{waiting.push(item);next()}
const next=()=>{
while(busy<AT_ONCE&&waiting.length)run(waiting.shift())
if(!busy&&!bad&&list.children.length)location.reload()
}
const add=(file,path)=>{
const row=list.appendChild(document.createElement('li')),part=kind=>row.appendChild(document.createElement(kind))
const item={file,path,row,offset:0,name:part('b'),said:part('span'),act:part('button'),bar:part('progress')}
item.name.textContent=path;item.act.type='button'
waiting.push(item)
}
const walk=async(entry,path)=>{
if(entry.isFile)return add(await new Promise((done,failed)=>entry.file(done,failed)),path+entry.name)
const reader=entry.createReader()
for(;;){
const some=await new Promise((done,failed)=>reader.readEntries(done,failed))
if(!some.length)return
for(const one of some)await walk(one,path+entry.name+'/')
}
}
const choose=input=>{for(const file of input.files)add(file,file.webkitRelativePath||file.name);input.value='';next()}
box.classList.add('on')
files.onchange=()=>choose(files)
folder.onchange=()=>choose(folder)
addEventListener('dragover',event=>{event.preventDefault();box.classList.add('over')})
addEventListener('dragleave',event=>event.relatedTarget||box.classList.remove('over'))
addEventListener('drop',async event=>{
event.preventDefault();box.classList.remove('over')
const all=[...event.dataTransfer.items].filter(item=>item.kind==='file').map(item=>[item.webkitGetAsEntry&&item.webkitGetAsEntry(),item.getAsFile()])
for(const[entry,file]of all)entry?await walk(entry,'').catch(()=>0):file&&add(file,file.name)
next()
})
addEventListener('beforeunload',event=>{if(busy)event.preventDefault()})
})()"#;

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
