// The tracks of a video: their boxes, and the list that leads to where each begins.

import { api } from './api.js';
import { chip, clock, count, h } from './dom.js';

const PAGE = 100;

// A box of a track, in the colour of the track; where it is lost, a predicted one.
export function trackOf([, x1, y1, x2, y2, score, classId, id, lost], classes, colors) {
  const of = classes.get(classId);
  const name = `${id} ${of.name}`;
  return { x1, y1, x2, y2, score, class: of, color: colors.get(id), name, track: id, lost };
}

export class TrackList {
  // `onChoose(track)` is told of the one that was clicked, null where it was let go.
  constructor(id, onChoose) {
    this.id = id;
    this.onChoose = onChoose;
    this.chosen = null;
    this.total = h('span', { class: 'soft small' });
    this.list = h('ul', { class: 'tracklist' });
    this.more = h('button', {
      class: 'more', hidden: true,
      onclick: () => this.load().catch(() => { this.more.disabled = false; }),
    }, 'More');
    this.element = h('div', { class: 'panel', id: 'tracks', hidden: true },
      h('h2', {}, 'Tracks', this.total), this.list, this.more);
  }

  // Resolves to whether there are any.
  async load() {
    this.more.disabled = true;
    const found = await api.trackList(this.id, this.list.childElementCount, PAGE);
    this.list.append(...found.tracks.map((track) => this.item(track)));
    this.total.textContent = count(found.total);
    this.more.disabled = false;
    this.more.hidden = this.list.childElementCount >= found.total;
    this.element.hidden = !found.total;
    return found.total > 0;
  }

  item(track) {
    const [seen, lost] = [track.frames, track.lost_frames].map(count);
    const button = h('button', {
      'aria-pressed': 'false', 'data-track': track.id, title: `${seen} frames with a detection, ${lost} without`,
      onclick: () => this.choose(this.chosen === track.id ? null : track, button),
    }, chip(track.color), h('span', { class: 'name' }, `${track.id} ${track.class.name}`),
    h('span', { class: 'n' }, `${clock(track.first_s, 1)} to ${clock(track.last_s, 1)}`));
    return h('li', {}, button);
  }

  choose(track, button) {
    this.list.querySelector('[aria-pressed=true]')?.setAttribute('aria-pressed', 'false');
    this.chosen = track?.id ?? null;
    button.setAttribute('aria-pressed', String(track !== null));
    this.onChoose(track);
  }
}
