// Boxes of each class over the time of a video; a click goes to the frame of that time.

import { chip, clock, count, h, svg } from './dom.js';

const MOST = 12;

export class TimelineView {
  constructor(found, times, { onSeek, onToggle, moment }) {
    this.times = times;
    this.head = h('div', { class: 'playhead' });
    const classes = found.classes.slice(0, MOST);
    const highest = Math.max(1e-9, ...classes.flatMap((one) => one.density));
    const labels = classes.map((one) => h('button', {
      class: 'label', 'aria-pressed': 'true', title: `${one.name}: ${count(one.boxes)} boxes`,
      onclick: (event) => {
        const shown = event.currentTarget.getAttribute('aria-pressed') !== 'true';
        event.currentTarget.setAttribute('aria-pressed', String(shown));
        onToggle(one.id, shown);
      },
    }, chip(one.color), h('span', {}, one.name)));
    const marks = [times.start, (times.start + times.end) / 2, times.end];
    this.tracks = h('div', {
      class: 'tracks', role: 'slider', 'aria-label': 'Time', 'aria-valuemin': 0,
      'aria-valuemax': times.count - 1,
    },
      h('div', { class: 'axis' }, marks.map((seconds) => h('span', {}, clock(seconds)))),
      classes.map((one) => this.track(one, found, highest)),
      classes.length ? null : h('div', { class: 'track bare' }));
    if (moment) {
      const [from, to] = moment.map((frame) => this.share(times.clamp(frame)));
      this.tracks.append(this.place(h('div', { class: 'moment' }), from, to));
    }
    for (const part of found.failed) {
      const at = (n) => this.of(found.start_s + ((found.stop_s - found.start_s) * n) / found.parts);
      this.tracks.append(this.place(h('div', { class: 'lost' }), at(part), at(part + 1)));
    }
    this.tracks.append(this.head);
    const more = found.classes.length - classes.length;
    this.element = h('section', { class: 'timeline' },
      h('div', { class: 'labels' }, h('div', { class: 'axis' }), labels),
      this.tracks,
      more > 0 ? h('p', { class: 'soft small' }, `and ${more} classes with fewer boxes`) : null);
    this.drag(onSeek);
  }

  drag(onSeek) {
    const go = (event) => {
      const { left, width } = this.tracks.getBoundingClientRect();
      const share = Math.max(0, Math.min(1, (event.clientX - left) / width));
      onSeek(this.times.nearest(this.times.start + share * (this.times.end - this.times.start)));
    };
    this.tracks.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      this.tracks.setPointerCapture(event.pointerId);
      go(event);
    });
    this.tracks.addEventListener('pointermove', (event) => {
      if (this.tracks.hasPointerCapture(event.pointerId)) go(event);
    });
  }

  // Where a time lies in the video, from 0 to 1.
  of(seconds) {
    const span = this.times.end - this.times.start;
    return span ? Math.max(0, Math.min(1, (seconds - this.times.start) / span)) : 0;
  }

  share(frame) { return this.of(this.times.seconds[frame]); }

  place(element, from, to) {
    element.style.left = `${100 * from}%`;
    element.style.width = `${100 * (to - from)}%`;
    return element;
  }

  track(one, found, highest) {
    const box = { viewBox: `0 0 ${found.parts} 1`, preserveAspectRatio: 'none' };
    const steps = svg('svg', { ...box, 'aria-hidden': 'true' },
      svg('path', { d: path(one.density, highest), fill: one.color }));
    this.place(steps, this.of(found.start_s), this.of(found.stop_s) || 1);
    return h('div', { class: 'track' }, steps);
  }

  at(frame) {
    this.head.style.left = `${100 * this.share(frame)}%`;
    this.tracks.setAttribute('aria-valuenow', frame);
  }
}

function path(density, highest) {
  let drawn = '';
  for (let at = 0; at < density.length;) {
    let stop = at + 1;
    while (stop < density.length && density[stop] === density[at]) stop++;
    if (density[at] > 0) {
      const top = 1 - Math.max(0.12, density[at] / highest);
      drawn += `M${at} 1V${top.toFixed(3)}H${stop}V1Z`;
    }
    at = stop;
  }
  return drawn;
}
