// The search: a text, filters, the moments found; without a text, what the output holds.

import { api } from './api.js';
import { hitCard, videoCard } from './cards.js';
import { chip, count, h, notice, plural, said } from './dom.js';

export async function searchPage({ query }) {
  const overview = await api.overview();
  const asked = {
    q: query.get('q') ?? '',
    class: query.get('class') ?? '',
    min_score: query.get('min_score') ?? '',
    video: query.get('video') ?? '',
  };
  const below = h('section', { class: 'below' });
  const { form, box, off } = searchForm(asked, overview);
  api.searchable().then((state) => { if (!state.on) off(state.reason); }, () => {});
  if (asked.q) results(asked, below);
  else below.append(...(await welcome(overview)));
  return {
    element: h('div', { class: 'page' }, form, below),
    ready: () => { if (!asked.q && matchMedia('(hover: hover)').matches) box.focus(); },
  };
}

function searchForm(asked, overview) {
  const box = h('input', {
    id: 'query', type: 'search', name: 'q', value: asked.q, maxlength: 500, autocomplete: 'off',
    placeholder: 'Describe what to find', 'aria-label': 'What to find', enterkeyhint: 'search',
  });
  const button = h('button', { class: 'primary', type: 'submit' }, 'Search');
  const classes = h('select', { name: 'class' },
    h('option', { value: '' }, 'any class'),
    overview.classes.map((one) => h('option', { value: one.name }, one.name)));
  classes.value = asked.class;
  const least = h('input', {
    name: 'min_score', type: 'number', min: 0, max: 1, step: 0.05, value: asked.min_score,
    placeholder: 'any',
  });
  const video = h('input', {
    name: 'video', type: 'text', value: asked.video, placeholder: 'all videos', maxlength: 500,
  });
  const form = h('form', { class: 'search', role: 'search', onsubmit: (event) => {
    event.preventDefault();
    const given = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value.trim()) given.set(name, value.trim());
    const next = given.size ? `#/?${given}` : '#/';
    if (next === location.hash) window.dispatchEvent(new HashChangeEvent('hashchange'));
    else location.hash = next;
  } },
  h('div', { class: 'row' }, box, button),
  h('div', { class: 'filters' },
    h('label', {}, h('span', {}, 'with a box of'), classes),
    h('label', {}, h('span', {}, 'score at least'), least),
    h('label', {}, h('span', {}, 'in'), video)));
  const off = (reason) => {
    box.disabled = button.disabled = true;
    box.value = '';
    box.placeholder = 'Search is off';
    form.after(notice(`${reason[0].toUpperCase()}${reason.slice(1)}.`, 'warn'));
    for (const chips of document.querySelectorAll('.tries')) chips.remove();
  };
  return { form, box, off };
}

async function results(asked, below) {
  below.append(h('div', { class: 'grid' },
    Array.from({ length: 8 }, () =>
      h('div', { class: 'card ghost' }, h('div', { class: 'thumb' })))));
  try {
    const { hits } = await api.search({ ...asked, k: 24 });
    const videos = new Set(hits.map((hit) => hit.video_id)).size;
    below.replaceChildren(
      h('h2', {}, hits.length
        ? `${plural(hits.length, 'moment')} in ${plural(videos, 'video')}, best first`
        : 'Nothing found'),
      h('div', { class: 'grid', id: 'hits' }, hits.map(hitCard)));
  } catch (error) {
    below.replaceChildren(notice(error.message, 'bad'));
  }
}

async function welcome(overview) {
  const { videos, total } = await api.videos({ limit: 8 });
  const tile = (value, name) => h('div', { class: 'tile' }, h('b', {}, value), h('span', {}, name));
  const of = Object.values(overview.videos).reduce((a, b) => a + b, 0);
  const tries = overview.classes.slice(0, 6).map((one) =>
    h('a', { class: 'try', href: `#/?${new URLSearchParams({ q: one.name })}` },
      chip(one.color), one.name));
  return [
    tries.length ? h('p', { class: 'tries' }, h('span', { class: 'soft' }, 'Try'), tries) : null,
    h('div', { class: 'tiles' },
      tile(count(of), of === 1 ? 'video' : 'videos'),
      tile(said(overview.duration_s), 'of video'),
      tile(count(overview.frames), 'frames looked at'),
      tile(count(overview.boxes),
        `boxes of ${plural(overview.classes.length, 'class', 'classes')}`),
      overview.failures
        ? h('a', { class: 'tile bad', href: '#/failures' },
          h('b', {}, count(overview.failures)), h('span', {}, 'failures'))
        : tile('0', 'failures')),
    h('h2', {}, 'Videos', total > videos.length
      ? h('a', { class: 'more', href: '#/videos' }, `all ${count(total)}`) : null),
    h('div', { class: 'grid' }, videos.map(videoCard)),
  ].filter(Boolean);
}
