// The piano roll: tiles of ten seconds, each drawn once into a picture, so that a million notes cost what one does.
import { ask } from "./link.js";

const TILE = 10, MOST_TILES = 24, AHEAD = 0.3;      // seconds; the share of the picture left of now
const FRAME = 4;                                    // milliseconds after which no other tile is begun
export const COLOURS = ["#7c5cff", "#e8590c", "#1098ad", "#d6336c", "#2f9e44", "#b8860b", "#1c7ed6", "#9c36b5", "#5c940d", "#c2410c", "#0b7285", "#a61e4d", "#4263eb", "#846358", "#087f5b", "#e03131"];
export const colour = (track) => COLOURS[track % COLOURS.length];
const motion = matchMedia("(prefers-reduced-motion: reduce)");

export class Roll {
  constructor(canvas) {
    this.canvas = canvas; this.pen = canvas.getContext("2d");
    this.span = 12; this.silent = new Set(); this.transpose = 0; this.loop = null; this.now = 0;
    this.clear();
    new ResizeObserver(() => { this.pictures.clear(); this.draw(); }).observe(canvas);
  }
  clear() { this.song = null; this.tiles = new Map(); this.pictures = new Map(); }
  show(song) {
    this.clear(); this.song = song; this.now = 0;
    const low = Math.min(...song.tracks.map((t) => t.lowest)), high = Math.max(...song.tracks.map((t) => t.highest));
    this.low = Math.max(low - 3, 0); this.high = Math.min(Math.max(high + 3, this.low + 24), 127);
    this.draw();
  }
  repaint() { this.pictures.clear(); this.draw(); }
  get start() { return Math.max(this.now - AHEAD * this.span, Math.min(0, this.now - AHEAD * this.span)); }

  async tile(number) {
    const song = this.song;
    this.tiles.set(number, null);
    try {
      const data = await (await ask(`/api/songs/${song.song}/notes?from=${number * TILE}&to=${(number + 1) * TILE}`)).arrayBuffer();
      if (song !== this.song) return;
      const view = new DataView(data), n = data.byteLength / 12;
      const notes = { n, start: new Float32Array(n), end: new Float32Array(n), track: new Uint16Array(n), pitch: new Uint8Array(n), velocity: new Uint8Array(n) };
      for (let i = 0; i < n; i++) {
        notes.start[i] = view.getFloat32(12 * i, true); notes.end[i] = view.getFloat32(12 * i + 4, true);
        notes.track[i] = view.getUint16(12 * i + 8, true); notes.pitch[i] = view.getUint8(12 * i + 10); notes.velocity[i] = view.getUint8(12 * i + 11);
      }
      this.tiles.set(number, notes);
      for (const old of this.tiles.keys()) { if (this.tiles.size <= MOST_TILES) break; if (Math.abs(old - number) > 3) { this.tiles.delete(old); this.pictures.delete(old); } }
      this.draw();
    } catch { this.tiles.delete(number); }
  }
  size() {
    const scale = Math.min(devicePixelRatio || 1, 2), width = Math.round(this.canvas.clientWidth * scale), height = Math.round(this.canvas.clientHeight * scale);
    if (this.canvas.width !== width || this.canvas.height !== height) { this.canvas.width = width; this.canvas.height = height; }
    return [width, height, width / this.span, height / (this.high - this.low + 1)];
  }
  // A tile's picture, if there is one or there is time left in this frame to draw it; else in the next.
  picture(number, perSecond, perPitch, height, until) {
    const notes = this.tiles.get(number);
    if (!notes) return null;
    if (!this.pictures.has(number)) {
      if (performance.now() > until) { this.draw(); return null; }
      const picture = new OffscreenCanvas(Math.max(Math.ceil(TILE * perSecond), 1), height), pen = picture.getContext("2d");
      for (let i = 0; i < notes.n; i++) {
        const x = Math.max((notes.start[i] - number * TILE) * perSecond, 0), until = (notes.end[i] - number * TILE) * perSecond;
        const y = (this.high - notes.pitch[i]) * perPitch, track = notes.track[i];
        pen.globalAlpha = this.silent.has(track + 1) ? 0.13 : 0.45 + 0.55 * notes.velocity[i] / 127;
        pen.fillStyle = colour(track);
        pen.fillRect(x, y + 0.5, Math.max(until - x - 1, 2), Math.max(perPitch - 1, 1.5));
      }
      this.pictures.set(number, picture);
    }
    return this.pictures.get(number);
  }
  draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => { this.isDue = false; this.paint(); });
  }
  paint() {
    if (!this.song || !this.canvas.clientWidth) return;
    const [width, height, perSecond, perPitch] = this.size(), pen = this.pen, style = getComputedStyle(this.canvas), from = this.now - AHEAD * this.span;
    pen.globalAlpha = 1; pen.fillStyle = style.getPropertyValue("--roll"); pen.fillRect(0, 0, width, height);
    pen.fillStyle = style.getPropertyValue("--row");
    for (let pitch = this.low; pitch <= this.high; pitch++) if ([1, 3, 6, 8, 10].includes(pitch % 12)) pen.fillRect(0, (this.high - pitch) * perPitch, width, perPitch);
    pen.fillStyle = style.getPropertyValue("--line");
    for (let second = Math.ceil(Math.max(from, 0)); second < from + this.span; second += this.span > 30 ? 5 : 1) pen.fillRect((second - from) * perSecond, 0, 1, height);
    if (this.loop) { pen.globalAlpha = 0.16; pen.fillStyle = style.getPropertyValue("--accent"); pen.fillRect((this.loop[0] - from) * perSecond, 0, (this.loop[1] - this.loop[0]) * perSecond, height); pen.globalAlpha = 1; }
    const until = performance.now() + FRAME;
    const first = Math.max(Math.floor(from / TILE), 0), last = Math.min(Math.floor((from + this.span) / TILE), Math.floor(this.song.seconds / TILE));
    for (let number = first; number <= last; number++) {
      if (!this.tiles.has(number)) this.tile(number);
      const picture = this.picture(number, perSecond, perPitch, height, until);
      if (picture) pen.drawImage(picture, (number * TILE - from) * perSecond, -this.transpose * perPitch);
      this.light(number, from, perSecond, perPitch);
    }
    pen.fillStyle = style.getPropertyValue("--head"); pen.fillRect(AHEAD * width - 1, 0, 2, height);
  }
  light(number, from, perSecond, perPitch) {                // the notes that sound now
    const notes = this.tiles.get(number), pen = this.pen;
    if (!notes || notes.n > 6000 || motion.matches) return;
    for (let i = 0; i < notes.n; i++) {
      if (notes.start[i] > this.now || notes.end[i] < this.now || this.silent.has(notes.track[i] + 1)) continue;
      pen.fillStyle = colour(notes.track[i]);
      pen.shadowColor = pen.fillStyle; pen.shadowBlur = 12;
      pen.fillRect((notes.start[i] - from) * perSecond, (this.high - notes.pitch[i] - this.transpose) * perPitch - 1, Math.max((notes.end[i] - notes.start[i]) * perSecond - 1, 2), perPitch + 1);
    }
    pen.shadowBlur = 0;
  }
  seconds(x) { return this.now - AHEAD * this.span + x / this.canvas.clientWidth * this.span; }
  // Notes from a moment on, for who reads them.
  async text(from, most) {
    const song = this.song, data = await (await ask(`/api/songs/${song.song}/notes?from=${from}&to=${from + 10}`)).arrayBuffer(), view = new DataView(data), found = [];
    for (let i = 0; i < data.byteLength / 12; i++) found.push({ start: view.getFloat32(12 * i, true), end: view.getFloat32(12 * i + 4, true), track: view.getUint16(12 * i + 8, true), pitch: view.getUint8(12 * i + 10) });
    return found.sort((a, b) => a.start - b.start).slice(0, most);
  }
}

// The seek bar: the shape of the sound where it is known, else where there are notes.
export class Shape {
  constructor(canvas) { this.canvas = canvas; this.columns = null; this.picture = null; this.at = 0; this.loop = null; new ResizeObserver(() => this.draw()).observe(canvas); }
  show(columns) { this.columns = columns; this.draw(); }
  clear() { this.columns = null; this.picture = null; this.at = 0; this.loop = null; this.draw(); }
  setPicture(bytes) {                                       // how many pitches sound, column by column
    const rows = 128, columns = bytes.length / rows, sums = new Array(columns).fill(0);
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) if (bytes[r * columns + c]) sums[c]++;
    const most = Math.max(...sums, 1);
    this.picture = sums.map((n) => 0.55 * n / most); this.draw();
  }
  draw() {
    const canvas = this.canvas, width = canvas.width = Math.round(canvas.clientWidth * Math.min(devicePixelRatio || 1, 2)), height = canvas.height = Math.round(canvas.clientHeight * Math.min(devicePixelRatio || 1, 2));
    const pen = canvas.getContext("2d"), style = getComputedStyle(canvas), columns = this.columns || this.picture;
    if (this.loop) { pen.globalAlpha = 0.25; pen.fillStyle = style.getPropertyValue("--accent"); pen.fillRect(this.loop[0] * width, 0, (this.loop[1] - this.loop[0]) * width, height); pen.globalAlpha = 1; }
    if (columns) {
      for (let x = 0; x < width; x += 3) {
        const a = Math.floor(x / width * columns.length), b = Math.max(Math.floor((x + 3) / width * columns.length), a + 1);
        let high = 0; for (let i = a; i < b; i++) high = Math.max(high, columns[i]);
        pen.fillStyle = style.getPropertyValue(x / width <= this.at ? "--accent" : "--faint"); pen.globalAlpha = x / width <= this.at ? 1 : 0.5;
        const tall = Math.max(high * height * 0.9, 2); pen.fillRect(x, (height - tall) / 2, 2, tall);
      }
      pen.globalAlpha = 1;
    }
    pen.fillStyle = style.getPropertyValue("--head"); pen.fillRect(Math.min(this.at * width, width - 2), 0, 2, height);
  }
}
