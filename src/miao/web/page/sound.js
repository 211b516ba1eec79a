// The sound of a song: what is asked of the server, what the worklet has, and where the listener is.
import { on, send } from "./link.js";

const RATE = 44100, RESERVE = 13230, LATE = 512;   // samples; a first frame of 2048 may be so much late and be heard at once
const news = new EventTarget();
let context = null, node = null, starting = null;
let generation = 0, toldAt = 0, captures = [], isWaiting = false, isJoined = false, later = null, timer = 0, usual = 0.03;
const clocks = new Map();                    // generation -> [moments of the song, when they are heard]
const totals = new Map();                    // generation -> all its samples
const state = { generation: -1, heard: 0, position: 0, clock: 0, time: 0, ahead: 0, joins: [], jump: null, isStarved: false, isPlaying: false, asked: -1, gain: 14 };
export { state };
export const onSound = (name, act) => news.addEventListener(name, (event) => act(event.detail));
const tell = (name, detail) => news.dispatchEvent(new CustomEvent(name, { detail }));

export function start() {
  starting ||= (async () => {
    if (!window.AudioContext || !("audioWorklet" in AudioContext.prototype)) throw new Error("This browser cannot play sound here (it has no AudioWorklet); any current browser can.");
    context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    await context.audioWorklet.addModule("/page/worklet.js");
    node = new AudioWorkletNode(context, "miao-output", { numberOfInputs: 0, outputChannelCount: [2] });
    node.connect(context.destination);
    node.port.onmessage = ({ data }) => heard(data);
    context.onstatechange = () => tell("context", context.state);
  })();
  return starting;
}

export const contextOf = async () => { await start(); return context; };

// Whether the browser lets us sound; it may want a click first.
export async function unlock() {
  await start();
  if (context.state === "running") return true;
  await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, 400))]);
  return context.state === "running";
}

const post = (message, transfer) => node.port.postMessage(message, transfer || []);
function interpolate(value, from, to) {
  let low = 0, high = from.length - 1;
  if (value <= from[0]) return to[0];
  if (value >= from[high]) return to[high];
  while (high - low > 1) { const middle = (low + high) >> 1; if (from[middle] <= value) low = middle; else high = middle; }
  return to[low] + (to[high] - to[low]) * (value - from[low]) / Math.max(from[high] - from[low], 1e-9);
}
// The song's own time of what is heard now.
export function songTime(ahead = 0) {
  const to = jumpTarget();
  if (to !== null) return to;
  const clock = clocks.get(state.generation);
  return clock ? interpolate(state.position + ahead, clock[1], clock[0]) : 0;
}
export const heardTime = (seconds) => { const clock = clocks.get(state.generation); return clock ? interpolate(seconds, clock[0], clock[1]) : seconds; };

// Play a song from a moment, or (at null) go on from where the listener is in another way.
// What is asked while the last answer is on its way waits for it: a slider that is moved is heard all the while.
export async function ask(wish) {
  await start();
  if (wish.at === undefined) wish.at = null;
  if (wish.at !== null) { later = null; now(wish); }
  else if (isWaiting) later = { ...later, ...wish, at: null };
  else now({ ...wish, at: jumpTarget() });
}
// The moment that was jumped to and is not heard yet, or null.
export const jumpTarget = () => state.asked >= 0 && state.generation !== state.asked ? state.jump : null;
function release() {
  clearTimeout(timer); isWaiting = false;
  if (later) { const wish = later; later = null; ask(wish); }
}
function now({ song, arrangement, at = null, loop = null, gain = state.gain, fade = 0 }) {
  const keep = at === null && state.generation >= 0, next = ++generation;
  // by the time that it is there the clock will have gone on; what plays until then is not made again
  const since = state.clock + (state.isPlaying && !state.isStarved ? Math.max(Math.round((context.currentTime - state.time + usual) * RATE), 0) : 0);
  const heard = state.heard + since - state.clock;
  state.asked = next; state.gain = gain; state.jump = keep ? null : at ?? 0;
  isWaiting = true; isJoined = false; clearTimeout(timer); timer = setTimeout(release, state.isPlaying ? 1000 : 100);
  post({ do: "change", generation: next, keep, since, fade });
  send({ do: "play", generation: next, song, arrangement, at: keep ? songTime((since - state.clock) / RATE) : at ?? 0, loop, gain_db: gain, ...(keep ? { echo: state.generation, heard } : { hurry: state.isPlaying }) });
}
function joined(data) {
  state.joins.push([data.generation, performance.now()]);
  if (state.joins.length > 50) state.joins.shift();
  // About when it comes: what is early waits, what is late only costs what has passed of it by then.
  if (data.late !== null) usual = Math.min(Math.max(usual + 0.3 * (data.late - LATE) / RATE, 0), 0.12);
  for (const old of clocks.keys()) if (old < data.generation) { clocks.delete(old); totals.delete(old); }
  isJoined = data.generation === state.asked;
}
export function resume() { state.isPlaying = true; post({ do: "resume" }); }
export function pause() { state.isPlaying = false; if (node) post({ do: "pause" }); }
export function empty() { pause(); send({ do: "stop" }); if (node) post({ do: "empty" }); state.generation = -1; state.position = state.heard = 0; state.asked = -1; state.jump = later = null; isWaiting = false; clearTimeout(timer); }
export const latency = () => context ? (context.outputLatency || context.baseLatency || 0) : 0;
export const contextState = () => context ? context.state : "none";
export function capture(seconds, isWhole = false) { return new Promise((resolve) => { captures.push(resolve); post({ do: "capture", seconds, isWhole }); }); }

function heard(data) {
  if (data.tell === "captured") { captures.shift()(data); return; }
  if (data.tell === "joined") return joined(data);
  state.generation = data.generation; state.heard = data.heard; state.clock = data.clock; state.time = data.time; state.ahead = data.ahead; state.position = data.position;
  // as soon as it has enough for the time until the next one is there
  if (isWaiting && isJoined && (data.ahead > RESERVE || totals.has(data.generation))) release();
  state.isStarved = data.isStarved && state.isPlaying && !(totals.has(data.generation) && data.heard >= totals.get(data.generation));
  if (performance.now() - toldAt > 150) { toldAt = performance.now(); send({ do: "heard", generation: data.generation, samples: data.heard }); }
  if (state.isPlaying && totals.has(data.generation) && data.heard >= totals.get(data.generation) && state.asked === data.generation) { pause(); tell("over"); }
  tell("heard", state);
}
on("frame", (data) => {
  const view = new DataView(data), of = view.getUint32(0, true), n = view.getUint32(4, true), position = view.getFloat64(8, true);
  if (of !== generation || !node) return;
  const left = new Float32Array(data.slice(16, 16 + 4 * n)), right = new Float32Array(data.slice(16 + 4 * n, 16 + 8 * n));
  post({ do: "frame", generation: of, position, left, right }, [left.buffer, right.buffer]);
});
on("began", (message) => { clocks.set(message.generation, message.clock); tell("began", message); });
on("over", (message) => { totals.set(message.generation, message.samples); if (node) post({ do: "all", generation: message.generation }); });
