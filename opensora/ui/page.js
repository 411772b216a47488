// Runs in every panel of the page. A button says by its data what it is for: data-act names it, data-fill tells that
// the inputs change by it. The clip's playhead goes along. What needs no server is done here.
const video = () => [...document.querySelectorAll('#panel video')].find(one => !one.paused) || document.querySelector('#panel video');

function copy(target) {
  const text = document.getElementById(target.dataset.from).innerText;
  const told = target.innerText;
  navigator.clipboard.writeText(text).then(() => {
    target.innerText = target.dataset.done;
    setTimeout(() => { target.innerText = told; }, 1500);
  });
}

function save(target) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([target.dataset.content], {type: 'application/json'}));
  link.download = `${target.dataset.name.replace(/[^\p{L}\p{N}]+/gu, '-')}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A clip in another form: the server writes it first, which may take a while; then it is saved like any other file.
async function otherForm(target) {
  const told = target.innerText;
  target.parentElement.querySelector('[role=alert]')?.remove();
  target.disabled = true;
  target.innerText = target.dataset.doing;
  try {
    const answer = await fetch(target.dataset.url, {headers: {Range: 'bytes=0-0'}});
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    const link = document.createElement('a');
    link.href = target.dataset.url;
    link.download = '';
    link.click();
  } catch (error) {
    const note = document.createElement('p');
    note.className = 'os-note';
    note.setAttribute('role', 'alert');
    note.innerText = error.message;
    target.parentElement.append(note);
  }
  target.disabled = false;
  target.innerText = told;
}

// Keys: only once for the whole page. None of them is taken while something is typed, but for Generate itself.
const DO = {
  g: () => document.querySelector('#generate')?.click(),
  p: () => document.querySelector('#prompt textarea')?.focus(),
  r: () => document.querySelector('#random')?.click(),
  h: () => document.querySelector('#search input, #search textarea')?.focus(),
  ' ': () => { const shown = video(); if (shown) shown.paused ? shown.play() : shown.pause(); },
};
if (!window.openSoraKeys) {
  window.openSoraKeys = true;
  document.addEventListener('keydown', event => {
    const typing = event.target.closest?.('input, textarea, select, button, a, video, summary, [contenteditable]');
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) return DO.g();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !DO[event.key]) return;
    event.preventDefault();
    DO[event.key]();
  });
}

element.addEventListener('click', event => {
  const target = event.target.closest('[data-act]');
  if (!target || target.disabled) return;
  const data = {...target.dataset};
  if (data.act === 'copy') return copy(target);
  if (data.act === 'save-file') return save(target);
  if (data.act === 'form') return otherForm(target);
  if (data.confirm && !confirm(data.confirm)) return;
  const shown = video();
  if (shown) {
    data.time = shown.currentTime;
    data.file = [...document.querySelectorAll('#panel video')].indexOf(shown);
  }
  trigger(data.fill ? 'select' : 'click', data);
});

// Two clips side by side play, stop and move together; media events do not bubble, but they can be caught on the way.
// They come late: one that tells of a state that is over would set the clips to stop and start each other for ever.
for (const kind of ['play', 'pause', 'seeked', 'ratechange']) {
  element.addEventListener(kind, event => {
    const pair = event.target.closest?.('[data-together]');
    if (!pair) return;
    for (const other of pair.querySelectorAll('video')) {
      if (other === event.target) continue;
      if (Math.abs(other.currentTime - event.target.currentTime) > 0.03) other.currentTime = event.target.currentTime;
      if (other.playbackRate !== event.target.playbackRate) other.playbackRate = event.target.playbackRate;
      if (kind === 'play' && !event.target.paused && other.paused) other.play().catch(() => {}); // stopped meanwhile
      if (kind === 'pause' && event.target.paused && !other.paused) other.pause();
    }
  }, true);
}
