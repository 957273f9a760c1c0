// Cards of videos and of what a search found.

import { thumbnail, videoLink } from './api.js';
import { clock, count, h } from './dom.js';

function picture(id, frame) {
  const img = h('img', { src: thumbnail(id, frame), alt: '', loading: 'lazy', decoding: 'async' });
  const box = h('div', { class: 'thumb' }, img);
  img.addEventListener('error', () => img.replaceWith(h('span', { class: 'none' }, 'no picture')));
  return box;
}

export function videoCard(video) {
  const bad = video.status !== 'ok';
  const facts = [
    video.frame_count === null ? null : `${video.width}×${video.height}`,
    video.codec,
    video.frame_count === null ? null : `${count(video.frame_count)}\u00a0frames`,
  ].filter(Boolean).join(' · ');
  const inside = [
    video.video_id && video.frame_count
      ? picture(video.video_id, Math.floor(video.frame_count / 2))
      : h('div', { class: 'thumb' }, h('span', { class: 'none' }, 'could not be read')),
    h('div', { class: 'caption' },
      h('b', { title: video.name }, video.name),
      h('span', { class: 'right' }, video.duration_s === null ? '' : clock(video.duration_s, 0)),
      h('span', { class: 'soft' }, bad ? video.reason : facts),
      bad ? h('span', { class: `badge ${video.status} right` }, video.status) : null),
  ];
  return video.video_id
    ? h('a', { class: 'card', href: videoLink(video.video_id) }, inside)
    : h('div', { class: 'card' }, inside);
}

export function hitCard(hit) {
  const span = hit.end_frame > hit.start_frame
    ? `${clock(hit.start_s)} to ${clock(hit.end_s)}`
    : 'one frame';
  const link = videoLink(hit.video_id, {
    frame: hit.frame_index, from: hit.start_frame, to: hit.end_frame,
  });
  return h('a', { class: 'card hit', href: link, 'data-frame': hit.frame_index },
    picture(hit.video_id, hit.frame_index),
    h('div', { class: 'caption' },
      h('b', { title: hit.name }, hit.name),
      h('span', { class: 'score right', title: 'cosine of text and frame' }, hit.score.toFixed(3)),
      h('span', { class: 'soft' }, `frame ${count(hit.frame_index)} at ${clock(hit.pts_s)}`),
      h('span', { class: 'soft right' }, span)));
}
