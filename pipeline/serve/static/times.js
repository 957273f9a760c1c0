// When each frame of a video is shown: seconds, exactly as the tables have them.

export class Times {
  constructor(index) {
    const [over, under] = index.time_base;
    this.count = index.frame_count;
    this.seconds = new Float64Array(this.count);
    let [at, pts] = [0, index.first_pts];
    if (this.count) this.seconds[at++] = (pts * over) / under;
    for (const [step, often] of index.steps) {
      for (let i = 0; i < often; i++) this.seconds[at++] = ((pts += step) * over) / under;
    }
  }

  get start() { return this.count ? this.seconds[0] : 0; }

  get end() { return this.count ? this.seconds[this.count - 1] : 0; }

  // The frame whose time is nearest.
  nearest(seconds) {
    let [low, high] = [0, this.count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.seconds[middle] < seconds) low = middle + 1;
      else high = middle;
    }
    if (low > 0 && seconds - this.seconds[low - 1] < this.seconds[low] - seconds) return low - 1;
    return low;
  }

  // A time at which this frame is on screen, far from where it comes and goes.
  within(frame) {
    const next = frame + 1 < this.count ? this.seconds[frame + 1] : null;
    if (next !== null) return (this.seconds[frame] + next) / 2;
    const step = frame > 0 ? this.seconds[frame] - this.seconds[frame - 1] : 0.02;
    return this.seconds[frame] + step / 4;
  }

  clamp(frame) { return Math.max(0, Math.min(this.count - 1, frame)); }
}
