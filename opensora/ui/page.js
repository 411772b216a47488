// Runs in every panel of the page. A button says by its data what it is for: data-act names it, data-fill tells that
// the inputs change by it. The clip's playhead goes along. What needs no server is done here.
const video = () => [...document.querySelectorAll('#panel video')].find(one => !one.paused) || document.querySelector('#panel video');

// Pages that come by plain http from another machine have no clipboard: there the text is selected and copied as if by
// hand, and where the browser does not let us do that either, it stays selected.
async function copy(target) {
  const source = document.getElementById(target.dataset.from);
  let done = true;
  try {
    await navigator.clipboard.writeText(source.innerText);
  } catch {
    getSelection().selectAllChildren(source);
    done = document.execCommand('copy');
    if (done) getSelection().removeAllRanges();
  }
  target.dataset.told ??= target.innerText;
  target.innerText = done ? target.dataset.done : target.dataset.failed;
  setTimeout(() => { target.innerText = target.dataset.told; }, done ? 1500 : 6000);
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

// A file that is dropped anywhere but on a place for pictures and clips brings its settings back.
const dropped = event => event.dataTransfer?.types.includes('Files') && !event.target.closest?.('.os-slot');
const hint = shown => { const place = document.querySelector('#drop-here'); if (place) place.hidden = !shown; };
function takeDrops() {
  document.addEventListener('dragover', event => {
    hint(dropped(event));
    if (dropped(event)) event.preventDefault();
  });
  document.addEventListener('dragleave', event => { if (!event.relatedTarget) hint(false); });
  document.addEventListener('drop', event => {
    hint(false);
    const input = document.querySelector('.os-prompt-tools input[type=file]');
    if (!dropped(event) || !input) return;
    event.preventDefault();
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
  });
}

// Keys: only once for the whole page. Single ones only after a switch, and none of them while something is typed.
const SINGLE = 'opensora-single-keys';
const DO = {
  g: () => document.querySelector('#generate')?.click(),
  p: () => document.querySelector('#prompt textarea')?.focus(),
  r: () => document.querySelector('#random')?.click(),
  h: () => document.querySelector('#search input, #search textarea')?.focus(),
  ' ': () => { const shown = video(); if (shown) shown.paused ? shown.play() : shown.pause(); },
};
if (!window.openSoraKeys) {
  window.openSoraKeys = true;
  takeDrops();
  document.addEventListener('toggle', () => {
    const single = document.querySelector('#single-keys');
    if (single) single.checked = localStorage.getItem(SINGLE) === 'on';
  }, true);
  document.addEventListener('change', event => {
    if (event.target.id === 'single-keys') localStorage.setItem(SINGLE, event.target.checked ? 'on' : 'off');
  });
  document.addEventListener('keydown', event => {
    const typing = event.target.closest?.('input, textarea, select, button, a, video, summary, [contenteditable]');
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) return DO.g();
    if (localStorage.getItem(SINGLE) !== 'on' || typing || event.ctrlKey || event.metaKey || event.altKey || !DO[event.key]) return;
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
