(()=>{
const box=document.forms[0].q,said=document.querySelector('output'),first=said.textContent,asked=box.defaultValue.toLowerCase()
const rows=[...document.querySelectorAll('main>table tr.e')],names=rows.map(row=>row.cells[0].textContent.replace(/\/$/,'').toLowerCase())
const filter=()=>{
const text=box.value.toLowerCase(),wider=!text.includes(asked)
let shown=0
rows.forEach((row,at)=>{const hide=!wider&&!names[at].includes(text);if(row.hidden!==hide)row.hidden=hide;shown+=!hide})
said.textContent=text===asked?first:wider?'Enter searches all names':shown.toLocaleString('en')+' of '+said.dataset.of
}
const move=by=>{
const links=[...document.querySelectorAll('main>table tr:not([hidden]) td a')],at=links.indexOf(document.activeElement)
const to=links[at<0?(by>0?0:-1):at+by]
to?to.focus():by<0&&box.focus()
}
box.addEventListener('input',filter)
addEventListener('pageshow',filter)
addEventListener('keydown',event=>{
if(event.ctrlKey||event.metaKey||event.altKey)return
const here=document.activeElement===box,key=event.key
if(key==='/'&&!here){box.focus();box.select()}
else if(key==='Escape'&&here){if(box.value){box.value='';filter()}else box.blur()}
else if(key==='ArrowDown')move(1)
else if(key==='ArrowUp'&&!here)move(-1)
else return
event.preventDefault()
})
const findHeading=()=>{
let name=location.hash.slice(1)
try{name=decodeURIComponent(name)}catch{}
if(name&&!document.getElementById(name))document.getElementById('user-content-'+name)?.scrollIntoView()
}
addEventListener('hashchange',findHeading)
findHeading()
})()
