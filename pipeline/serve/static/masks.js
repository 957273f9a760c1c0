// The masks of a video, of detections or of tracks: fetched a few frames at a time, and drawn under
// the boxes.

const STRETCH = 32;
const KEPT = 8;
const OPACITY = 0.45; // As `frameledger render` has it.

export class Masks {
  // `ask(start, stop)` gives what the server says of these frames.
  constructor(ask, onLoaded) {
    this.ask = ask;
    this.onLoaded = onLoaded;
    this.stretches = new Map();
  }

  // Masks of a sampled frame, none where they are not here yet.
  of(frame) {
    const at = Math.floor(frame / STRETCH);
    const known = this.stretches.get(at);
    if (known === undefined) this.load(at);
    else if (!this.stretches.has(at + 1)) this.load(at + 1);
    return known?.get(frame) ?? [];
  }

  async load(at) {
    this.stretches.set(at, null);
    while (this.stretches.size > KEPT) this.stretches.delete(this.stretches.keys().next().value);
    const of = new Map();
    try {
      const found = await this.ask(at * STRETCH, (at + 1) * STRETCH);
      // Of tracks, where the rows end with one; else of classes.
      const colors = new Map(found.colors ?? found.classes.map((one) => [one.id, one.color]));
      for (const [frame, classId, [height, width], counts, id = classId] of found.masks) {
        if (!of.has(frame)) of.set(frame, []);
        of.get(frame).push({ classId, color: colors.get(id), height, width, counts });
      }
    } catch {
      // The boxes say what is wrong.
    }
    this.stretches.set(at, of);
    this.onLoaded();
  }
}

// Of a canvas that was cleared; the boxes come over them.
export function drawMasks(canvas, masks) {
  const context = canvas.getContext('2d');
  context.globalAlpha = OPACITY;
  context.imageSmoothingEnabled = false;
  for (const mask of masks) {
    mask.picture ??= pictureOf(mask);
    if (!mask.picture) continue;
    const { image, left, top } = mask.picture;
    const [across, down] = [canvas.width / mask.width, canvas.height / mask.height];
    context.drawImage(
      image, left * across, top * down, image.width * across, image.height * down,
    );
  }
  context.globalAlpha = 1;
}

// The pixels of a mask in its colour, no larger than they reach; null where there are none.
function pictureOf({ width, height, counts, color }) {
  const spans = spansOf(counts, width * height);
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (const [start, stop] of spans) {
    const [first, last] = [Math.floor(start / height), Math.floor((stop - 1) / height)];
    left = Math.min(left, first);
    right = Math.max(right, last);
    top = Math.min(top, first === last ? start % height : 0);
    bottom = Math.max(bottom, first === last ? (stop - 1) % height : height - 1);
  }
  if (right < left) return null;
  const image = document.createElement('canvas');
  [image.width, image.height] = [right - left + 1, bottom - top + 1];
  const context = image.getContext('2d');
  const data = context.createImageData(image.width, image.height);
  const pixels = new Uint32Array(data.data.buffer);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const ink = new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0];
  for (const [start, stop] of spans) {
    for (let at = start; at < stop; at++) {
      const [x, y] = [Math.floor(at / height) - left, (at % height) - top];
      pixels[y * image.width + x] = ink;
    }
  }
  context.putImageData(data, 0, 0);
  return { image, left, top };
}

// COCO's compressed run lengths (`rleFrString` of pycocotools) as [start, stop) of the pixels that
// are covered, column by column.
export function spansOf(text, most) {
  const counts = [];
  let place = 0;
  while (place < text.length) {
    let [value, shift, code] = [0, 0, 0];
    do {
      code = text.charCodeAt(place++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32 && place < text.length);
    if (code & 16 && shift < 32) value |= -1 << shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  const spans = [];
  let at = 0;
  counts.forEach((count, number) => {
    const stop = Math.min(most, at + Math.max(0, count));
    if (number % 2 && stop > at) spans.push([at, stop]);
    at = stop;
  });
  return spans;
}
