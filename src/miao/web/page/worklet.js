// What is heard: frames of a song, one generation after the other, each joined to the last without a click.
// A generation that keeps time takes over at a moment of the clock, which counts the samples that are played; if it comes
// later, what has passed of it is skipped, and the last one sounds on until then.
const FADE = 441, JUMP = 882, REPORT = 1024, READY = 1024, ENOUGH = 6615;   // samples; after a gap so many are waited for

class Output extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = []; this.at = 0;           // frames of what is heard, and the place in the first
    this.coming = []; this.next = null;     // frames of the next generation, and how it is to join
    this.generation = -1; this.heard = 0; this.position = 0;
    this.clock = 0; this.sinceReport = 0; this.isPaused = true; this.isStarved = false;
    this.isFilling = false; this.isWhole = false; this.last = null; this.captured = null; this.tail = null; this.fade = 0; this.fadeLength = FADE;
    this.port.onmessage = (event) => this[event.data.do](event.data);
  }
  frame({ generation, position, left, right }) {
    const frame = { position, left, right };
    if (this.next && generation === this.next.generation) {
      if (!this.coming.length) this.next.late = this.clock - this.next.since;   // of its first frame, less than 0 where it is early
      this.coming.push(frame);
    }
    else if (generation === this.generation) this.queue.push(frame);
  }
  change({ generation, keep, since, fade }) {
    this.next = { generation, keep, since, fade: fade || (keep ? FADE : JUMP) }; this.coming = [];
    if (this.isPaused && !keep) { this.queue = []; this.at = 0; }   // nobody wants to hear of the old place any more
  }
  all({ generation }) { if (this.next && this.next.generation === generation) this.next.isAll = true; else if (generation === this.generation) this.isWhole = true; }
  pause() { this.isPaused = true; }
  resume() { this.isPaused = false; }
  empty() { this.queue = []; this.coming = []; this.next = null; this.at = 0; this.generation = -1; this.heard = 0; }
  capture({ seconds, isWhole }) {                  // what was made, without the gaps, or all that is heard
    const n = Math.round(seconds * sampleRate); this.captured = { isWhole, left: new Float32Array(n), right: new Float32Array(n), n: 0, generation: -1, from: 0 };
  }

  available(frames) { let n = -(frames === this.queue ? this.at : 0); for (const f of frames) n += f.left.length; return n; }

  join() {
    if (!this.next || !this.coming.length) return;
    const passed = this.next.keep ? this.clock - this.next.since : 0;
    if (passed < 0 && this.queue.length) return;
    if (this.available(this.coming) < passed + READY && !this.next.isAll) return;
    this.fade = this.fadeLength = this.last && this.queue.length ? this.next.fade : 0;   // after a silence nothing is to be faded
    this.tail = this.take(this.fade);        // of the old one, which fades out under the new
    this.queue = this.coming; this.coming = []; this.at = 0; this.heard = 0;
    const late = this.next.keep ? this.next.late : null;
    this.generation = this.next.generation; this.isWhole = Boolean(this.next.isAll); this.isFilling = false; this.next = null;
    this.skip(passed);
    if (this.queue.length) this.position = this.queue[0].position + this.at / sampleRate;
    this.report();                           // before anything is asked of what has joined
    this.port.postMessage({ tell: "joined", generation: this.generation, late });
  }
  skip(n) {
    while (n > 0 && this.queue.length) {
      const here = Math.min(n, this.queue[0].left.length - this.at);
      this.at += here; this.heard += here; n -= here;
      if (this.at === this.queue[0].left.length) { this.queue.shift(); this.at = 0; }
    }
  }
  take(n) {
    const left = new Float32Array(n), right = new Float32Array(n);
    let done = 0, at = this.at;
    for (const f of this.queue) {
      const here = Math.min(n - done, f.left.length - at);
      left.set(f.left.subarray(at, at + here), done); right.set(f.right.subarray(at, at + here), done);
      done += here; at = 0;
      if (done === n) break;
    }
    return { left, right };
  }
  process(_, [[left, right]]) {
    const n = left.length;
    let done = 0;
    if (!this.isPaused) {
      this.join();
      if (this.isFilling && (this.isWhole || this.available(this.queue) >= ENOUGH)) {
        this.isFilling = false;
        this.fade = this.fadeLength = FADE; this.tail = { left: new Float32Array(FADE), right: new Float32Array(FADE) };
      }
      while (done < n && this.queue.length && !this.isFilling) {
        const f = this.queue[0], here = Math.min(n - done, f.left.length - this.at);
        left.set(f.left.subarray(this.at, this.at + here), done);
        right.set(f.right.subarray(this.at, this.at + here), done);
        this.at += here; done += here; this.heard += here;
        this.position = f.position + this.at / sampleRate;
        if (this.at === f.left.length) { this.queue.shift(); this.at = 0; }
      }
      this.clock += done;
      if (this.fade > 0) {
        const length = this.fadeLength, from = length - this.fade;
        for (let i = 0; i < n && this.fade > 0; i++, this.fade--) {
          const g = (from + i) / length;
          left[i] = g * left[i] + (1 - g) * this.tail.left[from + i];
          right[i] = g * right[i] + (1 - g) * this.tail.right[from + i];
        }
      }
      this.isStarved = done < n;
      if (this.isStarved && (done || this.last)) {   // where sound is missing it does not break off with a click
        const ends = done ? [left[done - 1], right[done - 1]] : this.last;
        for (let i = done; i < n; i++) { const g = 1 - (i - done + 1) / (n - done); left[i] = ends[0] * g; right[i] = ends[1] * g; }
      }
      if (this.isStarved && !this.isWhole) this.isFilling = true;
    } else if (this.last) {                  // a pause does not click, either
      for (let i = 0; i < n; i++) { left[i] = this.last[0] * (1 - (i + 1) / n); right[i] = this.last[1] * (1 - (i + 1) / n); }
    }
    this.last = this.isPaused ? null : [left[n - 1], right[n - 1]];
    if (this.captured && (done || this.captured.isWhole)) this.keep(left, right, this.captured.isWhole ? n : done);
    if ((this.sinceReport += n) >= REPORT) { this.sinceReport = 0; this.report(); }
    return true;
  }
  keep(left, right, n) {
    const c = this.captured;
    if (c.generation < 0) { c.generation = this.generation; c.from = this.position - n / sampleRate; }
    const here = Math.min(n, c.left.length - c.n);
    c.left.set(left.subarray(0, here), c.n); c.right.set(right.subarray(0, here), c.n); c.n += here;
    if (c.n === c.left.length) { this.port.postMessage({ tell: "captured", left: c.left, right: c.right, from: c.from }); this.captured = null; }
  }
  report() {
    this.port.postMessage({ tell: "heard", generation: this.generation, heard: this.heard, position: this.position, clock: this.clock, time: currentTime,
      ahead: this.available(this.queue), isStarved: this.isStarved, isPaused: this.isPaused });
  }
}
registerProcessor("miao-output", Output);

// What is played live: a stream without an end, of which as little as possible waits here. What comes too late makes
// the wait longer; what waits too long is passed over, in the quietest way there is: a short cross-fade.
const SHORTEST = 512, LONGEST = 8192, OVER = 64;
class Live extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Float32Array(2 * 65536); this.from = 0; this.n = 0; this.wait = SHORTEST; this.isFilling = true;
    this.isQuiet = true; this.sinceReport = 0; this.lowest = Infinity; this.gaps = 0; this.captured = null; this.last = null;
    this.port.onmessage = ({ data }) => data.sound ? this.take(data.sound) : data.capture ? this.capture(data.capture) : this.empty();
  }
  empty() { this.n = 0; this.isFilling = true; }
  capture(seconds) { const n = Math.round(seconds * sampleRate); this.captured = { left: new Float32Array(n), n: 0 }; }
  take(sound) {
    const size = this.ring.length / 2;
    for (let i = 0; i < sound.length / 2; i++) {
      const at = 2 * ((this.from + this.n + i) % size);
      this.ring[at] = sound[2 * i]; this.ring[at + 1] = sound[2 * i + 1];
    }
    this.n = Math.min(this.n + sound.length / 2, size);
  }
  process(_, [[left, right]]) {
    const n = left.length, size = this.ring.length / 2;
    if (this.isFilling && this.n >= this.wait) this.isFilling = false;
    if (!this.isFilling && this.n < n) { this.isFilling = true; this.gaps++; this.wait = Math.min(this.wait + 256, LONGEST); }
    if (!this.isFilling) {
      const excess = this.lowest - this.wait;
      const skip = this.sinceReport === 0 && excess > 256 && excess < Infinity ? Math.min(excess, this.n - n) : 0;
      for (let i = 0; i < n; i++) {
        const old = 2 * ((this.from + i) % size), at = 2 * ((this.from + skip + i) % size), g = skip ? Math.min(i / OVER, 1) : 1;
        left[i] = g * this.ring[at] + (1 - g) * this.ring[old]; right[i] = g * this.ring[at + 1] + (1 - g) * this.ring[old + 1];
      }
      this.from = (this.from + skip + n) % size; this.n -= skip + n;
      this.lowest = this.sinceReport === 0 ? this.n : Math.min(this.lowest, this.n);
    }
    // nothing breaks off or begins with a click where sound is missing
    if (!this.isFilling) {
      if (!this.last) for (let i = 0; i < n; i++) { left[i] *= i / n; right[i] *= i / n; }
      this.last = [left[n - 1], right[n - 1]];
    } else if (this.last) {
      for (let i = 0; i < n; i++) { left[i] = this.last[0] * (1 - (i + 1) / n); right[i] = this.last[1] * (1 - (i + 1) / n); }
      this.last = null;
    }
    let loud = 0;
    for (let i = 0; i < n; i++) loud = Math.max(loud, Math.abs(left[i]), Math.abs(right[i]));
    if (loud > 1e-3 && this.isQuiet) this.port.postMessage({ tell: "onset" });
    this.isQuiet = loud < 1e-3;
    if (this.captured) {
      const c = this.captured, here = Math.min(n, c.left.length - c.n);
      c.left.set(left.subarray(0, here), c.n); c.n += here;
      if (c.n === c.left.length) { this.port.postMessage({ tell: "captured", left: c.left }); this.captured = null; }
    }
    if ((this.sinceReport += n) >= 22050) { this.sinceReport = 0; this.wait = Math.max(this.wait - 32, SHORTEST); this.port.postMessage({ tell: "state", waiting: this.n, gaps: this.gaps, loud }); }
    return true;
  }
}
registerProcessor("miao-live", Live);
