// One video: its picture with boxes, controls, what is on the frame, the timeline of classes.

import { api, pictureUrl, videoLink } from './api.js';
import { Boxes, detectionOf, drawBoxes, scoreOf } from './boxes.js';
import { chip, clock, count, h, notice, plural, svg } from './dom.js';
import { Masks } from './masks.js';
import { Stage } from './stage.js';
import { TimelineView } from './timeline.js';
import { Times } from './times.js';
import { TrackList, trackOf } from './tracks.js';

const ICONS = {
  play: 'M7 4l13 8-13 8z', pause: 'M6 4h4v16H6zM14 4h4v16h-4z',
  back: 'M16 4v16L5 12z', next: 'M8 4v16l11-8z',
  back10: 'M12 5v14l-9-7zM21 5v14l-9-7z', next10: 'M3 5v14l9-7zM12 5v14l9-7z',
};
const icon = (name) =>
  svg('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] }));
const PARTS = 160; // Of the timeline, of a few frames each: with less, a part may have none.

export async function playerPage({ parts, query }) {
  const id = parts[1];
  const [meta, index] = await Promise.all([api.video(id), api.index(id)]);
  const page = new Player(meta, new Times(index), query);
  const wide = Math.max(1, Math.min(PARTS, Math.ceil(index.frame_count / 4)));
  api.timeline(id, wide).then((found) => page.addTimeline(found), () => {});
  page.trackList.load().then((any) => page.addTracks(any), () => {});
  return { element: page.element, ready: () => page.begin(), leave: () => page.leave() };
}

class Player {
  constructor(meta, times, query) {
    this.meta = meta;
    this.times = times;
    const number = (name) => (/^\d+$/.test(query.get(name) ?? '') ? Number(query.get(name)) : null);
    this.first = number('frame') ?? 0;
    this.moment = number('from') === null ? null : [number('from'), number('to') ?? number('from')];
    this.options = {
      boxes: true, masks: true, labels: true, hold: true, exact: true, tracks: query.has('tracks'),
    };
    this.hiddenClasses = new Set();
    this.focus = null;
    this.followed = null; // The track that was chosen from the list.
    this.note = h('p', { class: 'notice warn', hidden: true, role: 'status' });
    const id = meta.video_id;
    const drawn = () => this.redraw();
    const asked = (what) => (start, stop) => api[what](id, start, stop);
    const layer = (boxes, boxOf, masks) => ({
      boxes: new Boxes(asked(boxes), boxOf, times.count, drawn),
      masks: new Masks(asked(masks), drawn),
    });
    this.detections = layer('boxes', detectionOf, 'masks');
    this.tracks = layer('tracks', trackOf, 'trackMasks');
    this.trackList = new TrackList(id, (track) => this.follow(track));
    this.stage = new Stage(meta, times, {
      onFrame: (frame, source) => this.onFrame(frame, source),
      onNote: (text, lasting) => this.say(text, lasting),
      onState: () => this.onState(),
    });
    this.stage.element.addEventListener('click', () => this.stage.toggle());
    this.timelineAt = h('div', { class: 'timeline-at' });
    this.element = h('div', { class: 'page player' },
      h('div', { class: 'head' }, h('h1', { title: meta.name }, meta.name), facts(meta)),
      times.count ? null : notice('This video has no frames.', 'bad'),
      h('div', { class: 'columns' },
        h('div', { class: 'left' },
          this.note, this.stage.element, this.controls(), this.timelineAt),
        this.side()));
    this.onKey = (event) => this.key(event);
  }

  begin() {
    document.addEventListener('keydown', this.onKey);
    this.stage.begin();
    this.onState();
    if (this.first >= this.times.count && this.times.count) {
      this.say(`there is no frame ${this.first}; this is the last one`, true);
    }
    this.stage.seek(this.first);
  }

  leave() {
    document.removeEventListener('keydown', this.onKey);
    clearTimeout(this.naming);
    this.stage.leave();
  }

  say(text, lasting = false) {
    if (lasting) this.lasting = text;
    const line = text || this.lasting || '';
    this.note.textContent = line ? `${line[0].toUpperCase()}${line.slice(1)}.` : '';
    this.note.hidden = !line;
  }

  // -- controls -----------------------------------------------------------------------

  controls() {
    const button = (name, title, act, id) =>
      h('button', { class: 'icon', title, 'aria-label': title, id, onclick: act }, icon(name));
    const step = (by) => () => this.stage.seek(this.stage.wanted + by);
    this.playButton = button('play', 'Play (space)', () => this.stage.toggle(), 'play');
    this.frameBox = h('input', {
      id: 'frame', type: 'number', min: 0, max: this.times.count - 1, value: 0,
      'aria-label': 'Frame',
      onchange: () => {
        this.frameBox.blur();
        this.stage.seek(Math.round(Number(this.frameBox.value)) || 0);
      },
    });
    this.time = h('span', { class: 'time', id: 'time' }, clock(0));
    this.speed = h('select', { 'aria-label': 'Speed', onchange: () => {
      if (this.stage.video) this.stage.video.playbackRate = Number(this.speed.value);
    } }, [0.1, 0.25, 0.5, 1, 2, 4].map((rate) => h('option', { value: rate }, `${rate}×`)));
    this.speed.value = '1';
    return h('div', { class: 'controls' },
      button('back10', '10 frames back (shift ←)', step(-10)),
      button('back', 'One frame back (←)', step(-1), 'back'),
      this.playButton,
      button('next', 'One frame on (→)', step(1), 'next'),
      button('next10', '10 frames on (shift →)', step(10)),
      h('label', { class: 'frame' }, h('span', {}, 'frame'), this.frameBox,
        h('span', { class: 'soft' }, `of ${count(this.times.count)}`)),
      this.time, this.speed);
  }

  onState() {
    this.playButton.replaceChildren(icon(this.stage.playing ? 'pause' : 'play'));
    this.playButton.disabled = this.speed.disabled = !this.stage.video;
  }

  key(event) {
    const typing = event.target.closest('input:not([type=checkbox]), select');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = event.shiftKey ? 10 : 1;
    const acts = {
      ArrowLeft: () => this.stage.seek(this.stage.wanted - by),
      ArrowRight: () => this.stage.seek(this.stage.wanted + by),
      Home: () => this.stage.seek(0),
      End: () => this.stage.seek(this.times.count - 1),
      ' ': () => !event.target.closest('button, input') && (this.stage.toggle(), true),
      b: () => this.set('boxes', !this.options.boxes),
      m: () => this.set('masks', !this.options.masks),
      e: () => this.set('exact', !this.options.exact),
      t: () => !this.trackList.element.hidden && this.set('tracks', !this.options.tracks),
    };
    const act = acts[event.key];
    if (act && act() !== false) event.preventDefault();
  }

  // -- what is on the frame -----------------------------------------------------------

  side() {
    this.source = h('span', { class: 'badge', id: 'source' }, '');
    this.sampled = h('p', { class: 'soft small', id: 'sampled' });
    this.list = h('ul', { class: 'boxes' });
    this.save = h('a', { class: 'more', target: '_blank', rel: 'noopener' }, 'PNG');
    this.checks = {};
    const check = (name, text) => {
      this.checks[name] = h('input', {
        type: 'checkbox', checked: this.options[name], name,
        onchange: (event) => this.set(name, event.target.checked),
      });
      return h('label', { class: 'check', hidden: name === 'tracks' }, this.checks[name], text);
    };
    return h('aside', { class: 'side' },
      h('div', { class: 'panel' },
        h('h2', {}, h('span', { id: 'shown' }, 'Frame'), this.source, this.save),
        this.sampled, this.list),
      h('div', { class: 'panel' },
        h('h2', {}, 'Show'),
        check('tracks', 'Tracks in place of detections'),
        check('boxes', 'Boxes'), check('masks', 'Masks'), check('labels', 'Labels'),
        check('hold', 'Hold boxes between sampled frames, dashed'),
        check('exact', 'Exact picture when it stands still')),
      this.trackList.element,
      h('p', { class: 'keys soft small' },
        h('kbd', {}, '←'), h('kbd', {}, '→'), ' a frame, with shift ten; ',
        h('kbd', {}, 'space'), ' plays; ', h('kbd', {}, 'b'), ' boxes; ', h('kbd', {}, 'm'), ' masks; ',
        h('kbd', {}, 't'), ' tracks; ', h('kbd', {}, 'e'), ' exact picture; ',
        h('kbd', {}, '/'), ' search'));
  }

  set(name, on) {
    this.options[name] = on;
    this.checks[name].checked = on;
    if (name === 'exact') this.stage.setExact(on);
    if (name === 'tracks' && this.stage.frame >= 0) this.name(this.stage.frame);
    this.redraw();
  }

  onFrame(frame, source) {
    this.element.dataset.frame = frame;
    this.element.dataset.source = source;
    if (document.activeElement !== this.frameBox) this.frameBox.value = frame;
    this.time.textContent = clock(this.times.seconds[frame], 3);
    this.view?.at(frame);
    this.redraw();
    this.name(frame);
  }

  // The address names the frame on screen. Browsers bear a change now and then only.
  name(frame) {
    clearTimeout(this.naming);
    this.naming = setTimeout(() => {
      const moment = this.moment ? { from: this.moment[0], to: this.moment[1] } : {};
      const tracks = this.options.tracks ? { tracks: 1 } : {};
      const link = videoLink(this.meta.video_id, { frame, ...moment, ...tracks });
      history.replaceState(null, '', link);
    }, 200);
  }

  redraw() {
    const { frame, source, overlay } = this.stage;
    if (frame < 0) return;
    const tracks = this.options.tracks;
    const layer = tracks ? this.tracks : this.detections;
    const found = layer.boxes.upTo(frame);
    const held = found !== null && found.frame !== frame;
    const of = found && (!held || this.options.hold) ? found.boxes : [];
    const shown = of.filter((box) => !this.hiddenClasses.has(box.class.id));
    const masks = this.options.masks && shown.length ? layer.masks.of(found.frame) : [];
    const covered = masks.filter((mask) => !this.hiddenClasses.has(mask.classId));
    const followed = shown.find((box) => box.track !== null && box.track === this.followed);
    const focus = shown.includes(this.focus) ? this.focus : followed;
    drawBoxes(overlay, this.meta, this.options.boxes ? shown : [], covered, {
      labels: this.options.labels, held, focus,
    });
    overlay.dataset.what = tracks ? 'tracks' : 'detections';
    overlay.dataset.frame = frame;
    overlay.dataset.masks = covered.length;
    overlay.dataset.of = found === null ? '' : found.frame;
    this.tell(frame, source, found, held, shown);
  }

  tell(frame, source, found, held, shown) {
    const hidden = [...this.hiddenClasses].join();
    const { hold, tracks } = this.options;
    const key = [frame, source, found?.frame, shown.length, hidden, hold, tracks].join('/');
    if (key === this.told) return;
    this.told = key;
    this.element.querySelector('#shown').textContent = `Frame ${count(frame)}`;
    this.source.textContent = source === 'picture' ? 'exact' : "browser's";
    this.source.classList.toggle('ok', source === 'picture');
    this.source.title = source === 'picture'
      ? 'Decoded by the server: this frame and no other' : 'What the browser plays, by its pts';
    this.save.href = pictureUrl(this.meta.video_id, frame);
    if (found === null) this.sampled.textContent = 'No sampled frame up to here.';
    else if (held) this.sampled.textContent = `Not sampled; boxes of frame ${count(found.frame)}.`;
    else {
      const lost = shown.filter((box) => box.lost).length;
      const said = tracks ? plural(shown.length, 'track') : plural(shown.length, 'box', 'boxes');
      this.sampled.textContent = lost ? `${said}, ${count(lost)} lost` : said;
    }
    this.list.replaceChildren(...shown.map((box) => h('li', {
      onpointerenter: () => { this.focus = box; this.redraw(); },
      onpointerleave: () => { this.focus = null; this.redraw(); },
    }, chip(box.color), h('span', {}, box.name), h('span', { class: 'n' }, scoreOf(box, 3)))));
  }

  // Once it is known whether the video has tracks.
  addTracks(any) {
    this.checks.tracks.parentElement.hidden = !any;
    if (!any && this.options.tracks) this.set('tracks', false);
  }

  follow(track) {
    this.followed = track?.id ?? null;
    if (!track) this.redraw();
    else {
      this.set('tracks', true);
      this.stage.seek(track.first_frame);
    }
  }

  addTimeline(found) {
    this.view = new TimelineView(found, this.times, {
      moment: this.moment,
      onSeek: (frame) => this.stage.seek(frame),
      onToggle: (classId, shown) => {
        if (shown) this.hiddenClasses.delete(classId);
        else this.hiddenClasses.add(classId);
        this.redraw();
      },
    });
    this.timelineAt.replaceChildren(this.view.element);
    if (this.stage.frame >= 0) this.view.at(this.stage.frame);
  }
}

function facts(meta) {
  const said = [
    `${meta.width}×${meta.height}`, `${meta.codec} in ${meta.container}`,
    clock(meta.duration_s ?? 0), meta.rotation ? `stored turned by ${meta.rotation}°` : null,
  ].filter(Boolean).join(' · ');
  return h('p', { class: 'soft facts' },
    meta.status === 'ok' ? null
      : h('span', { class: `badge ${meta.status}`, title: meta.reason }, meta.status),
    said);
}
