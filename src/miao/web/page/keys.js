// Playing: keys on the screen, keys of the computer, a MIDI keyboard; and how long it takes until they are heard.
import { address, sessionKey } from "./link.js";
import * as sound from "./sound.js";
import { chosen, instruments, make } from "./tracks.js";

const $ = (id) => document.getElementById(id);
const ROW = "awsedftgyhujkolp;'", FIRST = 36, N_KEYS = 61;
const NAMES = ["C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B"];
let page = null, socket = null, node = null, octave = 5, velocity = 90, isDrum = false, captured = null, pressedAt = 0;
const held = new Map();                       // what is pressed: where -> pitch
export const state = { isOpen: false, measured: null, roundTrip: 0, block: 0, waiting: 0, gaps: 0, voices: 0 };

export function setUp(shell) {
  page = shell;
  if (page.about.play) { $("keys-why").textContent = page.about.play; $("keys-why").hidden = false; $("keys-start").hidden = true; return; }
  fill();
  $("keys-start").onclick = start;
  $("keys-room").append(...page.about.rooms.map((name) => make("option", { value: name, selected: name === "hall" }, name === "none" ? "No room" : name[0].toUpperCase() + name.slice(1))));
  $("keys-room").onchange = choose;
  $("velocity").oninput = () => setVelocity(Number($("velocity").value));
  $("hold").onchange = () => midi([0xB0, 64, $("hold").checked ? 127 : 0]);
  $("panic").onclick = panic;
  $("midi").onclick = askMidi;
  $("octave-down").onclick = () => setOctave(octave - 1); $("octave-up").onclick = () => setOctave(octave + 1);
  piano(); setOctave(5);
  addEventListener("keydown", down); addEventListener("keyup", up);
  addEventListener("blur", releaseAll);
  document.addEventListener("tab", (event) => { if (event.detail !== "play") releaseAll(); else if ($("piano").children.length) setOctave(octave); });
}
export function fill() {
  const select = instruments(page.about, null, page.voices());
  select.id = "keys-instrument"; select.value = "program:1"; select.onchange = choose;
  $("keys-instrument").replaceWith(select);
}

export async function start() {
  try {
    const context = await sound.contextOf();
    if (!await sound.unlock()) return page.tell("Your browser does not let this page sound. Allow sound for this page in its settings.", "locked");
    sound.pause();
    node ||= new AudioWorkletNode(context, "miao-live", { numberOfInputs: 0, outputChannelCount: [2] });
    node.connect(context.destination);
    node.port.onmessage = ({ data }) => told(data);
  } catch (error) { return page.tell(error.message); }
  open();
}
function open() {
  socket = new WebSocket(`${address("/api/keyboard")}?session=${sessionKey()}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = choose;
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") { const samples = new Float32Array(data); node.port.postMessage({ sound: samples }, [samples.buffer]); return; }
    const message = JSON.parse(data);
    if (message.tell === "ready") ready(message.is_new);
    else if (message.tell === "pong") { state.roundTrip = performance.now() - message.at; state.block = message.block; state.voices = message.voices || 0; latency(); }
    else page.tell(message.message, "keys");
  };
  socket.onclose = () => { const was = state.isOpen; state.isOpen = false; node.port.postMessage({}); show(); if (was) page.tell("The line to the server is gone. Press Start to play again.", "keys"); };
}
function ready(isNew) {
  page.clear("keys");
  if (!isNew) return page.say("Another room.");
  state.isOpen = true; node.port.postMessage({}); show(); page.say("The keyboard is ready."); midi([0xB0, 64, $("hold").checked ? 127 : 0]);
}
setInterval(() => { if (state.isOpen) say({ do: "ping", at: performance.now() }); }, 1000);
const say = (message) => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); };
const midi = (bytes) => { if (state.isOpen && socket.readyState === WebSocket.OPEN) socket.send(new Uint8Array(bytes)); };
function choose() {
  const wish = chosen($("keys-instrument").value);
  isDrum = "kit" in wish;
  say({ do: "choose", ...wish, room: $("keys-room").value });
}
function show() { $("keys-start").hidden = state.isOpen; $("keys-state").hidden = !state.isOpen; $("piano").classList.toggle("is-off", !state.isOpen); }
function told(data) {
  if (data.tell === "onset" && pressedAt) { state.measured = performance.now() - pressedAt + 1000 * sound.latency(); pressedAt = 0; latency(); }
  else if (data.tell === "captured") { captured(data.left); captured = null; }
  else if (data.tell === "state") { state.waiting = data.waiting; state.gaps = data.gaps; latency(); }
}
function latency() {
  const sum = state.roundTrip + 1500 * state.block + 1000 * state.waiting / 44100 + 1000 * sound.latency();
  $("latency").textContent = state.measured ? `${Math.round(state.measured)} ms from key to sound, measured` : `about ${Math.round(sum)} ms from key to sound`;
  $("latency").title = `line ${state.roundTrip.toFixed(1)} ms, blocks ${(1500 * state.block).toFixed(1)} ms, waiting ${(1000 * state.waiting / 44100).toFixed(1)} ms, sound card ${(1000 * sound.latency()).toFixed(1)} ms`;
  $("keys-voices").textContent = `${state.voices} note${state.voices === 1 ? "" : "s"}${state.gaps ? `, ${state.gaps} gap${state.gaps === 1 ? "" : "s"}` : ""}`;
}
export function capture(seconds) { node.port.postMessage({ capture: seconds }); return new Promise((resolve) => { captured = resolve; }); }

// keys

export function press(where, pitch, force = velocity) {
  if (pitch < 0 || pitch > 127 || held.has(where)) return;
  if (!held.size) pressedAt = performance.now();
  held.set(where, pitch);
  midi([0x90 | (isDrum ? 9 : 0), pitch, force]); light(pitch, true);
}
export function release(where) {
  if (!held.has(where)) return;
  const pitch = held.get(where);
  held.delete(where);
  if (![...held.values()].includes(pitch)) { midi([0x80 | (isDrum ? 9 : 0), pitch, 64]); light(pitch, false); }
}
function releaseAll() { for (const where of [...held.keys()]) release(where); }
export function panic() {
  releaseAll();
  for (const channel of [0, 9]) for (const number of [123, 64, 120, 121]) midi([0xB0 | channel, number, 0]);
  $("hold").checked = false; page.say("Silence");
}
function light(pitch, isOn) { $("piano").querySelector(`[data-pitch="${pitch}"]`)?.classList.toggle("is-on", isOn); }
function setOctave(to) {
  octave = Math.min(Math.max(to, 1), 8); releaseAll();
  $("octave").textContent = `Computer keys from C${octave - 1}`;
  for (const key of $("piano").children) { const place = key.dataset.pitch - 12 * octave, letter = place >= 0 && place < ROW.length ? ROW[place].toUpperCase() : ""; key.querySelector("span").textContent = letter; }
  const box = $("piano").parentElement, first = $("piano").querySelector(`[data-pitch="${12 * octave}"]`);
  if (first) box.scrollLeft = Math.max(first.offsetLeft - 30, 0);   // where the screen is too narrow for all of them
}
function setVelocity(to) { velocity = Math.min(Math.max(to, 1), 127); $("velocity").value = velocity; $("velocity-out").textContent = String(velocity); }
function isTyping(event) { return event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea"); }
function down(event) {
  if ($("panel-play").hidden || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
  if (event.key === " " && state.isOpen) { event.preventDefault(); panic(); return; }
  const key = event.key.toLowerCase(), place = ROW.indexOf(key);
  if (event.repeat || !state.isOpen) return;
  if (place >= 0) { event.preventDefault(); press(`key ${event.code}`, 12 * octave + place); }
  else if (key === "z") setOctave(octave - 1);
  else if (key === "x") setOctave(octave + 1);
  else if (key === "c") setVelocity(velocity - 10);
  else if (key === "v") setVelocity(velocity + 10);
}
const up = (event) => release(`key ${event.code}`);

function piano() {
  const box = $("piano"), keys = [];
  let white = 0;
  for (let pitch = FIRST; pitch < FIRST + N_KEYS; pitch++) {
    const isBlack = [1, 3, 6, 8, 10].includes(pitch % 12), key = make("button", { type: "button", className: isBlack ? "black" : "white", tabIndex: pitch === 60 ? 0 : -1 }, make("span"));
    key.dataset.pitch = pitch; key.setAttribute("aria-label", `${NAMES[pitch % 12]} ${Math.floor(pitch / 12) - 1}`);
    key.style.setProperty("--at", white);
    if (!isBlack) white++;
    keys.push(key);
  }
  box.style.setProperty("--whites", white);
  box.replaceChildren(...keys);
  const of = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest("#piano button");
  const force = (event, key) => { const b = key.getBoundingClientRect(); return Math.round(Math.min(Math.max(45 + 80 * (event.clientY - b.top) / b.height, 30), 125)); };
  const fingers = new Map();
  box.onpointerdown = (event) => { const key = of(event); if (!key) return; event.preventDefault(); key.focus({ preventScroll: true }); box.setPointerCapture(event.pointerId); fingers.set(event.pointerId, key); press(`finger ${event.pointerId}`, Number(key.dataset.pitch), force(event, key)); };
  box.onpointermove = (event) => {
    if (!fingers.has(event.pointerId)) return;
    const key = of(event);
    if (key && key !== fingers.get(event.pointerId)) { release(`finger ${event.pointerId}`); fingers.set(event.pointerId, key); press(`finger ${event.pointerId}`, Number(key.dataset.pitch), force(event, key)); }
  };
  box.onpointerup = box.onpointercancel = (event) => { fingers.delete(event.pointerId); release(`finger ${event.pointerId}`); };
  box.onkeydown = (event) => {
    const key = event.target.closest("button"), step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 12, ArrowDown: -12 }[event.key];
    if (step) { event.preventDefault(); const other = box.querySelector(`[data-pitch="${Number(key.dataset.pitch) + step}"]`); if (other) { key.tabIndex = -1; other.tabIndex = 0; other.focus(); } }
    else if (event.key === "Enter" && !event.repeat) { event.preventDefault(); press("enter", Number(key.dataset.pitch)); }
  };
  box.onkeyup = (event) => { if (event.key === "Enter") release("enter"); };
}

// a MIDI keyboard, which the browser asks about

async function askMidi() {
  if (!navigator.requestMIDIAccess) return page.tell("This browser has no Web MIDI. Chrome, Edge and Firefox have it; or play on the computer's keys.", "midi");
  let access;
  try { access = await navigator.requestMIDIAccess(); }
  catch { return page.tell("The browser was not allowed to use MIDI. Allow it for this page (the icon left of the address), then try again; or play on the computer's keys.", "midi"); }
  const listen = () => {
    const inputs = [...access.inputs.values()];
    for (const input of inputs) input.onmidimessage = ({ data }) => {
      if (data[0] >= 0xF0) return;
      const kind = data[0] & 0xF0;
      if (kind === 0x90 && data[2]) press(`${input.id} ${data[1]}`, data[1], data[2]);
      else if (kind === 0x80 || kind === 0x90) release(`${input.id} ${data[1]}`);
      else midi([kind | (isDrum ? 9 : 0), ...data.slice(1)]);
    };
    $("midi-names").textContent = inputs.length ? inputs.map((input) => input.name).join(", ") : "no MIDI keyboard is connected; plug one in";
  };
  access.onstatechange = listen; listen();
  page.clear("midi");
  if (!state.isOpen) start();
}
