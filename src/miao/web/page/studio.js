// Learning an instrument from recordings, and matching a sound with a song.
import { ask, follow, post, sessionKey, upload } from "./link.js";
import * as keys from "./keys.js";
import * as song from "./song.js";
import { make } from "./tracks.js";

const $ = (id) => document.getElementById(id);
const isMidi = (file) => /\.(midi?|rmi|kar)$/i.test(file.name);
const clock = song.clock;
let page = null;

// A box that files are dropped into or chosen for; gives them, and tells what it holds.
function tray(id, what, accept, changed) {
  const input = make("input", { type: "file", multiple: true, accept, hidden: true });
  input.setAttribute("aria-label", what);
  const list = make("ul", { className: "files" }), choose = make("button", { type: "button" }, "Choose files"), files = [];
  const show = () => {
    list.replaceChildren(...files.map((file, n) => { const remove = make("button", { className: "quiet", type: "button" }, "✕"); remove.setAttribute("aria-label", `Leave out ${file.name}`); remove.onclick = () => { files.splice(n, 1); show(); }; return make("li", {}, file.name, remove); }));
    changed(files);
  };
  const add = (more) => { for (const file of more) if (!files.some((other) => other.name === file.name)) files.push(file); show(); };
  choose.onclick = () => input.click();
  input.onchange = () => { add([...input.files]); input.value = ""; };
  $(id).replaceChildren(make("p", {}, what), choose, input, list);
  return { files, add, clear: () => { files.length = 0; show(); } };
}

// Work with its progress shown in a box, and a way to stop it.
async function shown(box, what, act) {
  const bar = make("progress", { max: 1 }), words = make("span", {}, what), cancel = make("button", { className: "quiet", type: "button" }, "Cancel");
  let isWanted = true;
  cancel.onclick = () => { isWanted = false; };
  box.replaceChildren(make("div", { className: "progress" }, make("label", {}, words, bar), cancel));
  const tell = (share, text) => { if (share > 0) bar.value = share; if (text) words.textContent = text; return isWanted; };
  try { return await act(tell); }
  catch (error) { if (error.status !== 499) page.tell(error.message); box.replaceChildren(); return null; }
}
const started = async (path, content) => (await post(path, content)).json();
async function brought(files, tell) {
  const found = [];
  for (const [n, file] of files.entries()) {
    if (file.size > page.about.limits.sound_bytes) throw new Error(`${file.name} is larger than ${page.about.limits.sound_bytes / 1e6} MB, the most that is taken.`);
    found.push((await upload(`/api/sounds?session=${sessionKey()}&name=${encodeURIComponent(file.name)}`, file, (share) => tell((n + share) / files.length, `Sending ${file.name}`))).sound);
  }
  return found;
}
const songOf = (file) => upload(`/api/songs?session=${sessionKey()}&name=${encodeURIComponent(file.name)}`, file);

export function setUp(shell) {
  page = shell;
  const learnt = tray("learn-tray", "Recordings of single notes whose names say the pitch (A4.wav, cello_C3.flac), or one recording of music with its MIDI file.", "audio/*,.mid,.midi", (files) => { $("learn-go").disabled = !files.some((file) => !isMidi(file)); });
  $("panel-learn").addEventListener("files", (event) => { event.preventDefault(); learnt.add(event.detail); });
  if (page.about.learn) { $("learn-why").textContent = page.about.learn; $("learn-why").hidden = false; $("learn-form").hidden = true; }
  $("learn-form").onsubmit = (event) => { event.preventDefault(); learn(learnt.files); };
  const matched = tray("match-tray", "A MIDI file and a sound file.", "audio/*,.mid,.midi", (files) => { $("match-go").disabled = !(files.some(isMidi) && files.some((file) => !isMidi(file))); });
  $("panel-match").addEventListener("files", (event) => { event.preventDefault(); matched.add(event.detail); });
  $("match-form").onsubmit = (event) => { event.preventDefault(); match(matched.files); };
}

async function learn(files) {
  const box = $("learn-result"), midi = files.find(isMidi), name = $("learn-name").value.trim();
  $("learn-go").disabled = true;
  const done = await shown(box, "Sending", async (tell) => {
    const sounds = await brought(files.filter((file) => !isMidi(file)), tell), its = midi ? (await songOf(midi)).song : null;
    const job = await started("/api/voices", { session: sessionKey(), name, sounds, song: its });
    return follow(job, (job) => tell(job.done, job.state === "waiting" ? "Waiting for its turn" : "Learning; this takes a few minutes"));
  });
  $("learn-go").disabled = false;
  if (!done) return;
  const { result } = done, address = (file) => `/api/jobs/${done.job}/files/${file}`;
  const players = ["recorded", "before", "after"].filter((take) => done.files.includes(`${take}.wav`)).map((take) => {
    const audio = make("audio", { controls: true, src: address(`${take}.wav`), preload: "metadata" });
    audio.setAttribute("aria-label", { recorded: "As recorded", before: "Before learning", after: "After learning" }[take]);
    return make("div", { className: "take" }, make("h4", {}, { recorded: "As recorded", before: `Before: ${result.from}`, after: `After: ${name}` }[take]), audio);
  });
  const isProgram = result.kept.startsWith("the program");
  const scores = isProgram ? `Nothing that was learnt comes closer than ${result.from}, so the voice is that, at its best gain.` : result.scores.after === undefined ? "There were too few pitches to hold any out, so nothing is measured." : `What was held out is ${result.scores.before} dB from the recording before, ${result.scores.after} dB after.`;
  const keep = make("button", { className: "strong", type: "button" }, "Keep the voice"), words = make("p", { className: "faint" }, scores, result.room ? ` Its room lasts ${result.room} s.` : "");
  keep.onclick = async () => {
    try {
      const kept = await started(`/api/jobs/${done.job}/keep`, {});
      page.learnt.push(kept.voice); keys.fill(); song.voicesChanged(); keep.disabled = true;
      keep.textContent = kept.is_saved ? "Kept among your voices" : "Kept while this page is open";
      page.say(`${kept.voice} can be chosen as an instrument.`);
    } catch (error) { page.tell(error.message); }
  };
  const file = done.files.find((one) => one.endsWith(".safetensors"));
  box.replaceChildren(make("div", { className: "card" }, make("h3", {}, name), words, make("div", { className: "takes" }, ...players), make("p", { className: "kept" }, keep, " ", make("a", { className: "button", href: address(file), download: file }, "Save as a file"))));
  page.say("Learnt. Listen to before and after.");
}

async function match(files) {
  const box = $("match-result"), midi = files.find(isMidi), sound = files.find((file) => !isMidi(file));
  const found = await shown(box, "Sending", async (tell) => {
    const its = await songOf(midi), [heard] = await brought([sound], tell);
    const done = await follow(await started(`/api/songs/${its.song}/matches`, { sound: heard }), (job) => tell(job.done, job.state === "waiting" ? "Waiting for its turn" : "Comparing"));
    const picture = new Uint8Array(await (await ask(`/api/songs/${its.song}/picture`)).arrayBuffer());
    return { ...done.result, picture, length: its.seconds };
  });
  if (!found) return;
  const percent = Math.round(100 * found.probability), where = found.apart.map(([a, b]) => `${clock(a)} to ${clock(Math.min(b, found.seconds))}`);
  const verdict = percent >= 80 ? "They belong together." : percent >= 50 ? "They may belong together." : "They do not belong together.";
  const canvas = make("canvas", { className: "match", width: 1100, height: 300 });
  canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", `Notes, and below how alike song and sound are; ${where.length ? `they part from ${where.join(", ")}` : "they part nowhere"}`);
  box.replaceChildren(make("div", { className: "card" }, make("p", { className: "verdict" }, `${percent} %`), make("p", {}, verdict), make("p", { className: "faint" }, where.length ? `They part from ${where.join(", ")}.` : percent >= 50 ? "They part nowhere." : ""), canvas));
  draw(canvas, found);
  page.say(`${percent} percent a match.`);
}

function draw(canvas, found) {
  const pen = canvas.getContext("2d"), { width } = canvas, style = getComputedStyle(canvas), x = (s) => s / found.seconds * width, rows = 128, columns = found.picture.length / rows, roll = 190, base = 290;
  pen.fillStyle = style.getPropertyValue("--roll"); pen.fillRect(0, 0, width, 300);
  for (const [a, b] of found.apart) { pen.globalAlpha = 0.22; pen.fillStyle = style.getPropertyValue("--head"); pen.fillRect(x(a), 0, x(b) - x(a), 300); pen.globalAlpha = 1; }
  let low = rows, high = 0;
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) if (found.picture[r * columns + c]) { low = Math.min(low, r); high = Math.max(high, r); }
  pen.fillStyle = style.getPropertyValue("--accent");
  for (let r = low; r <= high; r++) for (let c = 0; c < columns; c++) if (found.picture[r * columns + c]) pen.fillRect(x(c / columns * found.length), 8 + (high - r) / Math.max(high - low, 12) * (roll - 16), Math.max(x(found.length / columns), 1), 3);
  pen.strokeStyle = style.getPropertyValue("--line"); pen.beginPath(); pen.moveTo(0, roll + 4); pen.lineTo(width, roll + 4); pen.stroke();
  pen.strokeStyle = style.getPropertyValue("--head"); pen.lineWidth = 2.5; pen.beginPath();
  let isOn = false;
  found.similarity.forEach((alike, n) => {
    if (alike === null) { isOn = false; return; }
    const at = [x((n + 0.5) * found.segment_seconds), base - Math.max(alike, 0) * (base - roll - 14)];
    if (isOn) pen.lineTo(...at); else pen.moveTo(...at);
    isOn = true;
  });
  pen.stroke();
  pen.fillStyle = style.getPropertyValue("--faint"); pen.font = "13px system-ui, sans-serif"; pen.fillText("notes", 8, 20); pen.fillText("alike", 8, roll + 22);
}
