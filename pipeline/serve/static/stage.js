// The picture: a <video> that plays, and over it the exact picture of a frame, made by the server.
//
// A browser lands near where it is sent, so a frame that is asked for is shown from the server's
// own decoder. While the video plays, the browser says of each frame which time it has
// (requestVideoFrameCallback), and the pts of the tables say which frame that is. Either way
// onFrame is told of the frame that is on screen, in the task that puts it there.

import { api, mediaUrl } from './api.js';
import { h } from './dom.js';

const HIGHEST = 0.66; // Of the window: controls and timeline are seen as well.
const SETTLE_MS = 90; // Who steps quickly does not wait for each exact picture on the way.

export class Stage {
  constructor(meta, times, { onFrame, onNote, onState }) {
    Object.assign(this, { meta, times, onFrame, onNote, onState });
    this.frame = -1; // On screen.
    this.source = ''; // Where that comes from: 'picture' or 'video'.
    this.wanted = 0;
    this.presented = 0; // What the video shows, under the picture.
    this.playing = false;
    this.exact = true;
    this.offset = null; // Seconds from the browser's time to that of the tables.
    this.picture = h('canvas', { class: 'layer', width: meta.width, height: meta.height });
    this.overlay = h('canvas', { class: 'layer', id: 'boxes' });
    this.video = meta.not_played || !('requestVideoFrameCallback' in HTMLVideoElement.prototype)
      ? null : this.makeVideo();
    this.element = h('div', { class: 'stage', id: 'stage', tabindex: 0, 'aria-label': 'Picture' },
      this.video, this.picture, this.overlay);
    if (!this.video) {
      const why = meta.not_played || 'this browser does not tell which frame it shows';
      onNote(`${why}: shown frame by frame`, true);
    }
    this.onResize = () => this.fit();
    this.resized = new ResizeObserver(this.onResize);
  }

  makeVideo() {
    const video = h('video', {
      class: 'layer', preload: 'auto', playsinline: true, src: mediaUrl(this.meta.video_id),
    });
    video.addEventListener('error', () => this.unplayable('this browser cannot play the file'));
    video.addEventListener('loadedmetadata', () => {
      const [wide, high] = [video.videoWidth, video.videoHeight];
      const turned = (wide - high) * (this.meta.width - this.meta.height) < 0;
      if (!wide) this.unplayable('this browser cannot play the file');
      else if (turned) this.unplayable('this browser shows the video turned');
    });
    video.addEventListener('ended', () => this.pause());
    const presented = (_now, of) => {
      if (this.video !== video) return;
      video.requestVideoFrameCallback(presented);
      this.onPresented(of.mediaTime);
    };
    video.requestVideoFrameCallback(presented);
    return video;
  }

  unplayable(why) {
    if (!this.video) return;
    this.video.remove();
    this.video = null;
    this.playing = false;
    this.onNote(`${why}: shown frame by frame`, true);
    this.seek(this.wanted);
  }

  onPresented(mediaTime) {
    // The first frame that a video shows is frame 0, whatever the browser calls its time.
    if (this.offset === null) {
      this.offset = this.times.start - mediaTime;
      if (this.wanted !== 0) this.aim();
    }
    this.presented = this.times.nearest(mediaTime + this.offset);
    if (this.playing) this.show(this.presented, 'video');
    else if (this.presented === this.wanted) {
      const exactIsUp = this.source === 'picture' && this.frame === this.wanted;
      if (!exactIsUp) this.show(this.presented, 'video');
    }
  }

  show(frame, source) {
    this.picture.hidden = source === 'video';
    this.frame = frame;
    this.source = source;
    this.onFrame(frame, source);
  }

  aim() {
    if (this.video && this.offset !== null) {
      this.video.currentTime = Math.max(0, this.times.within(this.wanted) - this.offset);
    }
  }

  // Show this frame and no other.
  seek(frame) {
    if (!this.times.count) return;
    this.wanted = this.times.clamp(frame);
    if (this.playing) {
      this.playing = false;
      this.video?.pause();
    }
    this.aim();
    this.onState();
    clearTimeout(this.settling);
    this.asking?.abort();
    if (!this.exact && this.video && this.offset !== null && this.presented === this.wanted) {
      this.show(this.wanted, 'video');
    } else if (this.exact || !this.video) {
      const quick = !this.video || this.source === '';
      this.settling = setTimeout(() => this.fetchPicture(this.wanted), quick ? 0 : SETTLE_MS);
    }
  }

  async fetchPicture(frame) {
    this.asking = new AbortController();
    this.element.classList.add('waiting');
    try {
      const bitmap = await api.picture(this.meta.video_id, frame, this.asking.signal);
      if (frame !== this.wanted || this.playing) return;
      this.picture.width = bitmap.width;
      this.picture.height = bitmap.height;
      this.picture.getContext('2d').drawImage(bitmap, 0, 0);
      bitmap.close();
      this.onNote('');
      this.show(frame, 'picture');
    } catch (error) {
      const isDue = error.name !== 'AbortError' && frame === this.wanted;
      if (isDue) this.onNote(`frame ${frame}: ${error.message}`);
    } finally {
      this.element.classList.remove('waiting');
    }
  }

  play() {
    if (!this.video || this.offset === null) return;
    clearTimeout(this.settling);
    this.asking?.abort();
    this.playing = true;
    if (this.video.ended || this.wanted >= this.times.count - 1) this.video.currentTime = 0;
    this.video.play().catch(() => { this.playing = false; this.onState(); });
    this.onState();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.video.pause();
    this.seek(this.presented);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  setExact(on) {
    this.exact = on;
    if (this.playing) return;
    if (on) this.seek(this.wanted);
    else if (this.video && this.presented === this.wanted) this.show(this.presented, 'video');
  }

  // To be called when the element is in the page.
  begin() {
    this.resized.observe(this.element.parentElement);
    window.addEventListener('resize', this.onResize);
    this.fit();
  }

  // As large as there is room, in whole pixels: lines stay as sharp as they are drawn.
  fit() {
    const room = this.element.parentElement.clientWidth;
    const shape = this.meta.width / this.meta.height;
    const width = Math.floor(Math.min(room, HIGHEST * window.innerHeight * shape));
    const height = Math.round(width / shape);
    const left = Math.floor((room - width) / 2);
    const px = { width: `${width}px`, height: `${height}px`, marginLeft: `${left}px` };
    Object.assign(this.element.style, px);
    const ratio = window.devicePixelRatio || 1;
    this.overlay.width = Math.round(width * ratio);
    this.overlay.height = Math.round(height * ratio);
    if (this.frame >= 0) this.onFrame(this.frame, this.source);
  }

  leave() {
    clearTimeout(this.settling);
    this.asking?.abort();
    this.resized.disconnect();
    window.removeEventListener('resize', this.onResize);
    const video = this.video;
    this.video = null;
    if (video) {
      video.pause();
      video.removeAttribute('src'); // Ends its connection.
      video.load();
    }
  }
}
