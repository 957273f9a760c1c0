// What could not be done, the latest first.

import { api, videoLink } from './api.js';
import { count, h, plural } from './dom.js';

const PAGE = 100;

export async function failuresPage() {
  const body = h('tbody');
  const head = h('h1', {}, 'Failures');
  const more = h('button', { class: 'wide', onclick: () => load() }, 'Show more');
  let seen = 0;
  async function load() {
    const { total, failures } = await api.failures({ offset: seen, limit: PAGE });
    body.append(...failures.map(row));
    seen += failures.length;
    more.hidden = seen >= total;
    head.textContent = plural(total, 'failure');
    return total;
  }
  const total = await load();
  const titles = ['Video', 'Stage', 'Reason', 'Frames', 'Tries', 'When (UTC)'];
  const table = h('div', { class: 'scroll' }, h('table', {},
    h('thead', {}, h('tr', {}, titles.map((title) => h('th', {}, title)))), body));
  const none = h('div', { class: 'empty' },
    h('b', {}, 'Nothing failed.'),
    h('span', {}, 'Every sampled frame of every video is in the tables.'));
  const top = h('div', { class: 'head' }, head);
  return { element: h('div', { class: 'page' }, top, total ? table : none, more) };
}

function framesText(first, last) {
  if (first === null) return '';
  if (last === null) return `${count(first)} to the end`;
  return first === last ? count(first) : `${count(first)} to ${count(last)}`;
}

function row(failure) {
  const { first_frame: first, last_frame: last } = failure;
  const frames = framesText(first, last);
  const at = first === null ? {} : { frame: first };
  const name = failure.video_id
    ? h('a', { href: videoLink(failure.video_id, at) }, failure.name)
    : failure.name;
  const cell = (label, ...inside) => h('td', { 'data-label': label }, ...inside);
  return h('tr', {},
    cell('Video', name),
    cell('Stage', h('span', { class: 'badge' }, failure.stage)),
    cell('Reason', failure.reason),
    cell('Frames', frames),
    cell('Tries', count(failure.attempts)),
    cell('When', failure.recorded_at.replace('T', ' ').replace(/(\+00:00|Z)$/, '')));
}
