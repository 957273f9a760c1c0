// The pages, by what stands behind # in the address:
//   #/?q=TEXT&class=&min_score=&video=   #/videos?like=   #/video/ID?frame=N   #/failures

import { api } from './api.js';
import { notice } from './dom.js';
import { failuresPage } from './failures.js';
import { playerPage } from './player.js';
import { searchPage } from './search.js';
import { videosPage } from './videos.js';

const main = document.getElementById('main');
let leave = null;
let turn = 0;

function where() {
  const [path, query = ''] = location.hash.replace(/^#/, '').split('?');
  return { parts: path.split('/').filter(Boolean), query: new URLSearchParams(query) };
}

function choose(parts) {
  if (parts.length === 0) return ['search', 'Search', searchPage];
  if (parts[0] === 'videos' && parts.length === 1) return ['videos', 'Videos', videosPage];
  if (parts[0] === 'failures' && parts.length === 1) return ['failures', 'Failures', failuresPage];
  if (parts[0] === 'video' && parts.length === 2) return ['videos', 'Video', playerPage];
  return ['', 'Not found', async () => ({ element: notice('There is no such page here.', 'bad') })];
}

async function show() {
  const mine = ++turn;
  const { parts, query } = where();
  const [name, title, page] = choose(parts);
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.page === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${title} · frameledger`;
  const old = leave;
  leave = null;
  old?.();
  main.classList.add('waiting');
  let made;
  try {
    made = await page({ parts, query });
  } catch (error) {
    made = { element: notice(error.message, 'bad') };
  }
  if (mine !== turn) {
    made.leave?.();
    return;
  }
  main.classList.remove('waiting');
  main.replaceChildren(made.element);
  leave = made.leave ?? null;
  made.ready?.();
  window.scrollTo(0, 0);
}

document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.target.closest('input, select, textarea')) return;
  event.preventDefault();
  const box = document.getElementById('query');
  if (box) box.focus();
  else location.hash = '#/';
});

window.addEventListener('hashchange', show);
show();
api.overview().then(
  (overview) => { document.getElementById('output').textContent = overview.name; },
  () => {},
);
