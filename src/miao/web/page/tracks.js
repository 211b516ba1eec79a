// The mixer: a row a track, with instrument, volume, place, mute and solo.
import { colour } from "./roll.js";

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) key in element && key !== "list" ? element[key] = value : element.setAttribute(key, value);
  element.append(...children);
  return element;
};
export { make };
export const decibels = (db) => db <= -60 ? "off" : `${db > 0 ? "+" : db < 0 ? "−" : ""}${Math.abs(db)} dB`;
const place = (pan) => Math.abs(pan) < 0.02 ? "centre" : `${Math.round(Math.abs(pan) * 100)} % ${pan < 0 ? "left" : "right"}`;
const FAMILIES = ["Piano", "Chromatic percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass", "Reed", "Pipe", "Synth lead", "Synth pad", "Synth effects", "Ethnic", "Percussive", "Sound effects"];

// What a choice asks for: a program, perhaps a variation of it, a kit, or a voice (whose name may hold colons).
export function chosen(choice) {
  const [kind, ...rest] = choice.split(":");
  if (!kind) return {};
  if (kind === "voice") return { voice: rest.join(":") };
  return rest[1] ? { program: Number(rest[0]), variation: Number(rest[1]) } : { [kind]: Number(rest[0]) };
}

// All instruments to choose from. The list is made once and copied: many tracks, many lists.
let list = null, listOf = "";
export function instruments(about, usual, voices) {
  if (!list || listOf !== voices.join()) { list = filled(about, voices); listOf = voices.join(); }
  const select = list.cloneNode(true);
  if (usual) select.prepend(make("option", { value: "", selected: true }, usual));
  return select;
}
function filled(about, voices) {
  const select = make("select");
  const learnt = make("optgroup", { label: "Learnt from recordings" });
  for (const name of voices) learnt.append(make("option", { value: `voice:${name}` }, name.replace(/[-_]/g, " ")));
  const kits = make("optgroup", { label: "Drum kits" });
  for (const kit of about.kits) kits.append(make("option", { value: `kit:${kit.number}` }, kit.name));
  if (voices.length) select.append(learnt);
  FAMILIES.forEach((family, n) => {
    const group = make("optgroup", { label: family });
    for (let i = 8 * n; i < 8 * n + 8; i++) {
      group.append(make("option", { value: `program:${i + 1}` }, about.programs[i]));
      for (const { program, number, name } of about.variations) {
        if (program === i + 1) group.append(make("option", { value: `program:${program}:${number}` }, `· ${name}`));
      }
    }
    select.append(group);
  });
  select.append(kits);
  return select;
}

// Shows the tracks of a song as they are changed; `changed()` is called after each change of `changes`, by track number.
export function showTracks(box, song, about, voices, changes, changed) {
  const rows = song.tracks.map((track) => {
    const own = () => changes[track.number] ||= {}, kept = changes[track.number] || {}, title = track.name || track.instrument;
    const select = instruments(about, track.instrument, voices);
    select.setAttribute("aria-label", `Instrument of ${title}`);
    select.onchange = () => {
      for (const key of ["program", "variation", "kit", "voice"]) delete own()[key];
      Object.assign(own(), chosen(select.value));
      changed();
    };
    for (const key of ["program", "kit", "voice"]) if (kept[key] !== undefined) select.value = `${key}:${kept[key]}`;
    if (kept.variation) select.value = `program:${kept.program}:${kept.variation}`;
    const db = kept.volume_db ?? 0, pans = kept.pan ?? track.pan;
    const volume = make("input", { type: "range", min: -40, max: 6, step: 1, value: db }), volumeOut = make("span", {}, decibels(db));
    volume.setAttribute("aria-label", `Volume of ${title}`);
    volume.oninput = () => { const db = Number(volume.value) <= -40 ? -60 : Number(volume.value); own().volume_db = db; volumeOut.textContent = decibels(db); volume.setAttribute("aria-valuetext", decibels(db)); changed(); };
    const pan = make("input", { type: "range", min: -100, max: 100, step: 5, value: Math.round(pans * 100) }), panOut = make("span", {}, place(pans));
    pan.setAttribute("aria-label", `Place of ${title}, left to right`);
    pan.oninput = () => { own().pan = Number(pan.value) / 100; panOut.textContent = place(own().pan); pan.setAttribute("aria-valuetext", panOut.textContent); changed(); };
    const button = (label, word, key) => {
      const made = make("button", { className: key === "muted" ? "mute" : "solo", type: "button" }, label);
      made.setAttribute("aria-label", `${word} ${title}`); made.setAttribute("aria-pressed", String(Boolean(kept[key])));
      made.onclick = () => { own()[key] = !own()[key]; made.setAttribute("aria-pressed", String(own()[key])); changed(); };
      return made;
    };
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colour(track.number - 1);
    const row = make("div", { className: "track", role: "group" }, swatch,
      make("div", { className: "name", title }, title, make("small", {}, `${track.notes.toLocaleString("en")} notes, channel ${track.channel}`)),
      select, make("label", { className: "slide" }, volumeOut, volume), make("label", { className: "slide" }, panOut, pan),
      make("div", { className: "ms" }, button("M", "Mute", "muted"), button("S", "Solo", "solo")));
    row.setAttribute("aria-label", `Track ${track.number}, ${title}`);
    row.dataset.track = track.number;
    return row;
  });
  box.replaceChildren(...rows);
}

export function silentTracks(song, changes) {
  const anySolo = Object.values(changes).some((c) => c.solo);
  return new Set(song.tracks.map((t) => t.number).filter((n) => anySolo ? !changes[n]?.solo : changes[n]?.muted));
}
