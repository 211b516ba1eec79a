// The song: what is dropped, how it is changed, what is heard of it, and the files it becomes.
import { ask, follow, on, post, send, sessionKey, upload } from "./link.js";
import { Roll, Shape } from "./roll.js";
import * as sound from "./sound.js";
import { make, showTracks, silentTracks } from "./tracks.js";

const $ = (id) => document.getElementById(id);
const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
export const noteName = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
export const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const short = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

let page = null, song = null, source = null, changes = {}, loop = null, surveyJob = 0, roll, shape, isSeeking = false;
export const current = () => song;
export const loopOf = () => loop;

export function arrangement() {
  const told = { tracks: {} }, number = (id) => Number($(id).value);
  if (number("tempo") !== 100) told.tempo = number("tempo") / 100;
  if (number("transpose")) told.transpose = number("transpose");
  if ($("room").value) told.room = $("room").value;
  if (number("wet") !== 100) told.wet = number("wet") / 100;
  if (number("loudness") !== -16) told.loudness = number("loudness");
  for (const [id, most] of [["expression", 100], ["valence", 100], ["arousal", 100]]) if (number(id)) told[id] = number(id) / most;
  for (const [track, own] of Object.entries(changes)) {
    const kept = Object.fromEntries(Object.entries(own).filter(([key, value]) => value !== false && !(key === "volume_db" && value === 0)));
    if (Object.keys(kept).length) told.tracks[track] = kept;
  }
  if (!Object.keys(told.tracks).length) delete told.tracks;
  return told;
}

export function setUp(shell) {
  page = shell;
  roll = new Roll($("roll")); shape = new Shape($("shape"));
  $("choose").onclick = $("another").onclick = () => $("file").click();
  $("file").onchange = () => { if ($("file").files[0]) open($("file").files[0]); $("file").value = ""; };
  for (const example of page.about.examples) $("examples").append(make("button", { onclick: () => open(example.name) }, example.title));
  $("room").append(make("option", { value: "" }, "As the song asks"), ...page.about.rooms.map((name) => make("option", { value: name }, name === "none" ? "No room" : name[0].toUpperCase() + name.slice(1))));
  $("play").onclick = toggle;
  $("to-start").onclick = () => seek(0);
  $("loop-a").onclick = () => setLoop(sound.songTime(), loop ? loop[1] : song.seconds);
  $("loop-b").onclick = () => setLoop(loop ? loop[0] : 0, sound.songTime());
  $("loop-off").onclick = () => setLoop(null);
  $("seek").oninput = () => { isSeeking = true; showTime(Number($("seek").value)); };
  $("seek").onchange = () => { isSeeking = false; seek(Number($("seek").value)); };
  $("zoom-in").onclick = () => zoom(0.6); $("zoom-out").onclick = () => zoom(1 / 0.6);
  $("roll").onpointerdown = (event) => seek(Math.min(Math.max(roll.seconds(event.offsetX), 0), song.seconds));
  $("roll").addEventListener("wheel", (event) => { if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2); } }, { passive: false });
  for (const id of ["tempo", "transpose", "room", "wet", "loudness", "expression", "valence", "arousal"]) $(id).oninput = () => { showSettings(); change(); };
  setUpPad();
  $("reset").onclick = () => { reset(); if (song) showRows(); change(); };
  for (const button of document.querySelectorAll("[data-format]")) button.onclick = () => { $("export").open = false; save(button.dataset.format); };
  document.addEventListener("pointerdown", (event) => { if (!$("export").contains(event.target)) $("export").open = false; });
  $("export").addEventListener("keydown", (event) => { if (event.key === "Escape") { $("export").open = false; $("export").querySelector("summary").focus(); } });
  $("text").ontoggle = showText;
  sound.onSound("heard", moved);
  sound.onSound("over", () => { showPlaying(); seek(loop ? loop[0] : 0); page.say("The song is over."); });
  sound.onSound("began", (message) => { if (message.generation === sound.state.asked) page.clear("song"); });
  on("error", (message) => { if (message.generation === undefined || message.generation === sound.state.asked) page.tell(message.message, "song"); });
  on("open", () => { if (source) again(); });
  on("lost", () => { if (song) { sound.pause(); showPlaying(); } });
  showSettings();
}

export async function open(what) {
  page.select("song"); page.clear();
  const isFile = what instanceof File;
  if (isFile && what.size > page.about.limits.midi_bytes) return page.tell(`${what.name} is larger than ${page.about.limits.midi_bytes / 1e6} MB, the most that is taken. Is it a MIDI file?`);
  if (isFile && !what.size) return page.tell(`${what.name} is empty.`);
  sound.start().catch(() => {});                   // meanwhile; what is wrong with it is told when it is to sound
  const done = page.busy(isFile ? `Reading ${what.name}` : "Opening the example");
  try {
    const path = `/api/songs?session=${sessionKey()}`;
    const opened = isFile ? await upload(`${path}&name=${encodeURIComponent(what.name)}`, what, done.tell) : await (await ask(`${path}&example=${what}`, { method: "POST" })).json();
    source = what; song = opened; sound.empty(); changes = {}; loop = null; reset();
    const asked = sound.ask({ song: song.song, arrangement: arrangement(), at: 0, loop, gain: 14 });
    await new Promise((resolve) => setTimeout(resolve));   // the server is at work while the page is drawn
    shown(opened);
    await asked; await begin();
  } catch (error) { page.tell(`${isFile ? `${what.name}: ` : ""}${error.message.replace(/^MIDI data: /, "")}`); }
  finally { done.end(); }
}

// After the server was away: the same song anew, as it was arranged, where it was.
async function again() {
  const at = sound.songTime();
  try {
    const path = `/api/songs?session=${sessionKey()}`;
    const opened = source instanceof File ? await upload(`${path}&name=${encodeURIComponent(source.name)}`, source) : await (await ask(`${path}&example=${source}`, { method: "POST" })).json();
    shown(opened);
    sound.empty(); await sound.ask({ song: song.song, arrangement: arrangement(), at, loop });
    roll.now = at; roll.draw();
  } catch (error) { page.tell(error.message); }
}

function shown(opened) {
  song = opened;
  $("welcome").hidden = true; $("song").hidden = false;
  $("song-name").textContent = song.name.replace(/\.(midi?|rmi|kar)$/i, "");
  document.title = `${$("song-name").textContent} · miao`;
  $("song-about").textContent = `${song.tracks.length} track${song.tracks.length === 1 ? "" : "s"} · ${song.notes.toLocaleString("en")} notes · ${short(song.seconds)}`;
  $("seek").max = song.seconds; $("seek").value = 0;
  showRows();
  const told = [...song.warnings, ...song.ignored.map((line) => `Not as the file asks: ${line}`)];
  $("told").hidden = !told.length;
  $("told").querySelector("summary").textContent = `${told.length} thing${told.length === 1 ? "" : "s"} to know about this file`;
  $("told").querySelector("ul").replaceChildren(...told.map((line) => make("li", {}, line)));
  shape.clear(); roll.show(song);
  ask(`/api/songs/${song.song}/picture`).then((answer) => answer.arrayBuffer()).then((data) => shape.setPicture(new Uint8Array(data))).catch(() => {});
  survey(700);
  if ($("text").open) showText();
}

async function begin() {
  if (await sound.unlock()) { sound.resume(); page.say(`${$("song-name").textContent} plays.`); }
  else page.tell("Your browser wants a click before it lets a page sound. Press Play.", "locked");
  showPlaying();
}

export async function toggle() {
  if (!song) return;
  if (sound.state.isPlaying) { sound.pause(); showPlaying(); return; }
  if (!await sound.unlock()) return page.tell("Your browser does not let this page sound. Allow sound for this page in its settings, then press Play.", "locked");
  page.clear("locked");
  if (sound.state.generation < 0 && sound.state.asked < 0) await sound.ask({ song: song.song, arrangement: arrangement(), at: 0, loop });
  sound.resume(); showPlaying();
}

export async function seek(at) {
  if (!song) return;
  showTime(at); roll.now = at; roll.draw();
  await sound.ask({ song: song.song, arrangement: arrangement(), at, loop });
  if ($("text").open) showText();
}

// Something was changed, and is heard at once.
function change() {
  if (!song) return;
  roll.silent = silentTracks(song, changes); roll.transpose = Number($("transpose").value); roll.repaint();
  for (const row of document.querySelectorAll(".track")) row.classList.toggle("is-silent", roll.silent.has(Number(row.dataset.track)));
  if (roll.silent.size === song.tracks.length) { page.tell("All tracks are muted; nothing is heard.", "song"); }
  sound.ask({ song: song.song, arrangement: arrangement(), loop });
  survey(1500);
}

// How loud it is and what shape it has, worked out behind what plays.
let surveyTimer = 0;
function survey(wait) {
  clearTimeout(surveyTimer);
  surveyTimer = setTimeout(async () => {
    const mine = ++surveyJob, of = song, told = arrangement();
    try {
      const job = await (await post(`/api/songs/${of.song}/survey`, { arrangement: told })).json();
      const done = await follow(job, (job) => { if (mine !== surveyJob) return false; if (job.result.shape && job.result.is_whole) shape.show(job.result.shape); });
      if (mine !== surveyJob || of !== song) return;
      if (Math.abs(done.result.gain_db - sound.state.gain) > 0.02) sound.ask({ song: song.song, arrangement: arrangement(), loop, gain: done.result.gain_db, fade: 13230 });
    } catch { /* the shape is an extra; what matters tells of itself */ }
  }, wait);
}

function setLoop(a, b) {
  loop = a === null ? null : [Math.min(a, b), Math.max(a, b)];
  if (loop && loop[1] - loop[0] < 0.1) { loop = null; page.tell("A loop lasts a tenth of a second or longer: set A and B at different places.", "song"); }
  roll.loop = loop; shape.loop = loop && loop.map((s) => s / song.seconds);
  $("loop-off").disabled = !loop;
  $("loop-a").classList.toggle("is-on", Boolean(loop)); $("loop-b").classList.toggle("is-on", Boolean(loop));
  roll.draw(); shape.draw();
  page.say(loop ? `Loop from ${clock(loop[0])} to ${clock(loop[1])}` : "No loop");
  const now = sound.songTime();
  sound.ask({ song: song.song, arrangement: arrangement(), loop, at: loop && (now >= loop[1] || now < loop[0]) ? loop[0] : null });
}

function moved(state) {
  if (!song) return;
  $("buffering").hidden = !state.isStarved;
  if (isSeeking || sound.jumpTarget() !== null) return;
  const now = Math.min(sound.songTime(), song.seconds);
  roll.now = now; roll.draw();
  if (Math.abs(now - shown_at) > 0.08) showTime(now);
}
let shown_at = -1;
function showTime(now) {
  shown_at = now;
  $("time").textContent = `${clock(now)} / ${short(song.seconds)}`;
  if (!isSeeking) $("seek").value = now;
  $("seek").setAttribute("aria-valuetext", `${clock(now)} of ${short(song.seconds)}`);
  shape.at = now / Math.max(song.seconds, 1e-9); shape.draw();
}
function showPlaying() {
  const isOn = sound.state.isPlaying;
  $("play").classList.toggle("is-on", isOn); $("play").setAttribute("aria-label", isOn ? "Pause" : "Play");
}

function showSettings() {
  const number = (id) => Number($(id).value), signed = (n) => (n > 0 ? "+" : n < 0 ? "−" : "") + Math.abs(n);
  const words = { tempo: `${number("tempo")} %`, transpose: number("transpose") ? `${signed(number("transpose"))} semitones` : "0", wet: `${number("wet")} %`, loudness: `${signed(number("loudness"))} LUFS`,
    expression: number("expression") ? `${number("expression")} %` : "as written", valence: signed(number("valence")), arousal: signed(number("arousal")) };
  for (const [id, text] of Object.entries(words)) { $(`${id}-out`).textContent = text; $(id).setAttribute("aria-valuetext", text); }
  $("dot").style.left = `${50 + number("valence") / 2}%`; $("dot").style.top = `${50 - number("arousal") / 2}%`;
}
function setUpPad() {
  const pad = $("pad"), put = (event) => {
    const box = pad.getBoundingClientRect(), at = (x) => Math.max(-100, Math.min(100, Math.round(x / 5) * 5)), snap = (x) => Math.abs(x) < 9 ? 0 : x;
    $("valence").value = snap(at(200 * (event.clientX - box.left) / box.width - 100));
    $("arousal").value = snap(at(100 - 200 * (event.clientY - box.top) / box.height));
    showSettings(); change();
  };
  pad.onpointerdown = (event) => { pad.setPointerCapture(event.pointerId); put(event); };
  pad.onpointermove = (event) => { if (pad.hasPointerCapture(event.pointerId)) put(event); };
}
function reset() {
  for (const [id, value] of Object.entries({ tempo: 100, transpose: 0, room: "", wet: 100, loudness: -16, expression: 0, valence: 0, arousal: 0 })) $(id).value = value;
  changes = {}; showSettings();
}
function showRows() { showTracks($("tracks"), song, page.about, page.voices(), changes, () => change()); roll.silent = silentTracks(song, changes); roll.transpose = Number($("transpose").value); roll.loop = loop; roll.repaint(); }
export function voicesChanged() { if (song) showRows(); }
function zoom(factor) { roll.span = Math.min(Math.max(roll.span * factor, 3), 60); roll.repaint(); }

async function showText() {
  if (!$("text").open || !song) return;
  const notes = await roll.text(sound.songTime(), 200).catch(() => []);
  $("text-rows").replaceChildren(...notes.map((n) => {
    const track = song.tracks[n.track], row = make("tr");
    for (const cell of [clock(n.start), track.name || track.instrument, track.is_drum ? `drum ${n.pitch}` : noteName(n.pitch), `${(n.end - n.start).toFixed(2)} s`]) row.append(make("td", {}, cell));
    return row;
  }));
}

async function save(format) {
  const box = $("export-progress"), bar = box.querySelector("progress"), cancel = box.querySelector("button"), link = box.querySelector("a");
  let isWanted = true;
  box.hidden = false; cancel.hidden = false; link.hidden = true; bar.removeAttribute("value"); bar.value = 0;
  cancel.onclick = () => { isWanted = false; };
  try {
    const job = await (await post(`/api/songs/${song.song}/exports`, { format, arrangement: arrangement() })).json();
    const done = await follow(job, (job) => { bar.value = job.done; return isWanted; });
    const name = done.files[0];
    link.href = `/api/jobs/${done.job}/files/${encodeURIComponent(name)}`; link.download = name; link.textContent = `Save ${name}`;
    link.hidden = false; cancel.hidden = true; page.say(`${name} is ready.`);
    link.click();
  } catch (error) { box.hidden = true; if (error.status !== 499) page.tell(error.message); }
}
