// All videos, by name.

import { api } from './api.js';
import { videoCard } from './cards.js';
import { h, plural } from './dom.js';

const PAGE = 60;

export async function videosPage({ query }) {
  const like = query.get('like') ?? '';
  const grid = h('div', { class: 'grid' });
  const more = h('button', { class: 'wide', onclick: () => load() }, 'Show more');
  const head = h('h1', {}, 'Videos');
  async function load() {
    const { total, videos } = await api.videos({ offset: grid.children.length, limit: PAGE, like });
    grid.append(...videos.map(videoCard));
    more.hidden = grid.children.length >= total;
    head.textContent = plural(total, 'video');
  }
  await load();
  const box = h('input', {
    type: 'search', name: 'like', value: like, placeholder: 'Part of a name',
    'aria-label': 'Part of a name',
  });
  const form = h('form', { class: 'inline', onsubmit: (event) => {
    event.preventDefault();
    const given = box.value.trim();
    location.hash = given ? `#/videos?${new URLSearchParams({ like: given })}` : '#/videos';
  } }, box);
  const top = h('div', { class: 'head' }, head, form);
  return { element: h('div', { class: 'page' }, top, grid, more) };
}
