(()=>{
const box=document.querySelector('.up'),list=box.querySelector('ul'),news=box.querySelector('[role=status]'),max=+box.dataset.max,[files,folder]=box.querySelectorAll('input')
const SMALL=1<<20,AT_ONCE=3,TRIES=6
const WORDS={0:'the connection was lost',401:'a password is required',403:'not allowed',404:'the folder no longer exists',409:'another file or folder has this name',413:'too large',503:'the server is busy',507:'the disk is full'}
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
item.said.textContent='interrupted, continues soon'
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
if(item.gone)fail(item,'cancelled','Retry',()=>again(item))
else if(status===201||status===204){
if(item.bad){item.bad=false;bad--}
show(item,item.file.size,'done');button(item,'')
report(++ended+(ended===1?' file':' files')+' uploaded')
}else if(status===412)fail(item,'already exists','Replace',()=>{item.replace=true;again(item)})
else fail(item,item.why||WORDS[status]||'failed ('+status+')','Retry',()=>again(item))
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
})()
