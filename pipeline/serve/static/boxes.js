// The boxes of a video, of detections or of tracks: fetched a stretch of frames at a time, and
// drawn on a canvas.

import { drawMasks } from './masks.js';

const STRETCH = 2048;
const LOOK_BACK = 2;

export class Boxes {
  // `ask(start, stop)` gives what the server says of these frames, `boxOf` a box from a row of it.
  constructor(ask, boxOf, frameCount, onLoaded) {
    this.ask = ask;
    this.boxOf = boxOf;
    this.frameCount = frameCount;
    this.onLoaded = onLoaded;
    this.stretches = new Map();
  }

  // {frame, boxes}: what the last sampled frame up to this one has; null where that is not known.
  upTo(frame) {
    const own = Math.floor(frame / STRETCH);
    for (let at = own; at >= Math.max(0, own - LOOK_BACK); at--) {
      const stretch = this.stretch(at);
      if (!stretch) return null;
      const sampled = lastUpTo(stretch.sampled, frame);
      if (sampled !== null) return { frame: sampled, boxes: stretch.of.get(sampled) ?? [] };
    }
    return null;
  }

  stretch(at) {
    const known = this.stretches.get(at);
    if (known === undefined) this.load(at);
    // The next one, in time for whoever plays on.
    const next = at + 1;
    const isDue = known && next * STRETCH < this.frameCount && !this.stretches.has(next);
    if (isDue) this.load(next);
    return known;
  }

  async load(at) {
    this.stretches.set(at, null);
    try {
      const found = await this.ask(at * STRETCH, (at + 1) * STRETCH);
      const classes = new Map(found.classes.map((one) => [one.id, one]));
      const colors = new Map(found.colors ?? []);
      const of = new Map();
      for (const row of found.boxes) {
        if (!of.has(row[0])) of.set(row[0], []);
        of.get(row[0]).push(this.boxOf(row, classes, colors));
      }
      this.stretches.set(at, { sampled: found.sampled, of });
    } catch {
      this.stretches.set(at, { sampled: [], of: new Map() });
    }
    this.onLoaded();
  }
}

// A box of the detector, in the colour of its class.
export function detectionOf([, x1, y1, x2, y2, score, classId], classes) {
  const of = classes.get(classId);
  return { x1, y1, x2, y2, score, class: of, color: of.color, name: of.name, track: null };
}

// What is said of a box behind its name.
export function scoreOf(box, digits) {
  if (box.lost) return 'lost';
  return box.score === null ? '' : box.score.toFixed(digits);
}

function lastUpTo(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low ? sorted[low - 1] : null;
}

// An outline lies inside its box: its outer edge is where the table says, to the pixel.
export function drawBoxes(canvas, size, boxes, masks, { labels, held, focus }) {
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, canvas.width, canvas.height);
  drawMasks(canvas, masks);
  const [across, down] = [canvas.width / size.width, canvas.height / size.height];
  const ratio = window.devicePixelRatio || 1;
  const line = Math.max(2, Math.round(2 * ratio));
  const placed = boxes.map((box) => {
    const [left, top] = [Math.round(box.x1 * across), Math.round(box.y1 * down)];
    const [right, bottom] = [Math.round(box.x2 * across), Math.round(box.y2 * down)];
    return { box, left, top, width: Math.max(1, right - left), height: Math.max(1, bottom - top) };
  }).reverse(); // The best score on top.
  for (const one of placed) {
    context.globalAlpha = focus && focus !== one.box ? 0.3 : 1;
    if (held || one.box.lost) dashed(context, one, line);
    else outline(context, one, line);
  }
  if (labels) for (const one of placed) {
    context.globalAlpha = focus && focus !== one.box ? 0.3 : 1;
    label(context, canvas, one, ratio);
  }
  context.globalAlpha = 1;
}

function outline(context, { box, left, top, width, height }, line) {
  context.fillStyle = box.color;
  const thick = Math.min(line, width, height);
  context.fillRect(left, top, width, thick);
  context.fillRect(left, top + height - thick, width, thick);
  context.fillRect(left, top, thick, height);
  context.fillRect(left + width - thick, top, thick, height);
}

function dashed(context, { box, left, top, width, height }, line) {
  context.strokeStyle = box.color;
  context.lineWidth = line;
  context.setLineDash([4 * line, 3 * line]);
  const inside = [Math.max(0, width - line), Math.max(0, height - line)];
  context.strokeRect(left + line / 2, top + line / 2, ...inside);
  context.setLineDash([]);
}

function label(context, canvas, { box, left, top }, ratio) {
  context.font = `600 ${Math.round(11 * ratio)}px system-ui, sans-serif`;
  const text = `${box.name} ${scoreOf(box, 2)}`;
  const width = Math.ceil(context.measureText(text).width + 8 * ratio);
  const height = Math.round(16 * ratio);
  const x = Math.max(0, Math.min(left, canvas.width - width));
  const y = top >= height ? top - height : Math.max(top, 0);
  context.fillStyle = box.color;
  context.fillRect(x, y, width, height);
  context.fillStyle = inkOn(box.color);
  context.textBaseline = 'middle';
  context.fillText(text, x + 4 * ratio, y + height / 2 + ratio / 2);
}

function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? '#000' : '#fff';
}
