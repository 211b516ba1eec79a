// The page as a whole: tabs, messages, theme, what is dropped, keys for all.
import { ask, connect, on } from "./link.js";
import * as keys from "./keys.js";
import * as song from "./song.js";
import * as sound from "./sound.js";
import * as studio from "./studio.js";

const $ = (id) => document.getElementById(id);
const TABS = ["song", "play", "learn", "match"];
const page = { about: null, learnt: [], tell, clear, say, busy, select, voices: () => [...page.learnt, ...page.about.voices] };
let noticeOf = "";

function tell(text, of = "") { $("notice").querySelector("span").textContent = text; $("notice").hidden = false; noticeOf = of; }
function clear(of) { if (of === undefined || of === noticeOf) { $("notice").hidden = true; noticeOf = ""; } }
function say(text) { $("news").textContent = text; }
// Something that may last: after half a second the page says so.
function busy(what) {
  const box = document.createElement("div");
  box.className = "progress"; box.innerHTML = "<label><span></span> <progress></progress></label>";
  box.querySelector("span").textContent = what;
  const timer = setTimeout(() => $("main").prepend(box), 400);
  return { tell: (share) => { box.querySelector("progress").value = share >= 1 ? "" : share; if (share >= 1) box.querySelector("progress").removeAttribute("value"); }, end: () => { clearTimeout(timer); box.remove(); } };
}
function select(name, isFocused = false) {
  for (const tab of TABS) {
    const button = $(`tab-${tab}`);
    button.setAttribute("aria-selected", String(tab === name)); button.tabIndex = tab === name ? 0 : -1; $(`panel-${tab}`).hidden = tab !== name;
  }
  if (isFocused) $(`tab-${name}`).focus();
  if (location.hash.slice(1) !== name) history.replaceState(null, "", name === "song" ? location.pathname : `#${name}`);
  document.dispatchEvent(new CustomEvent("tab", { detail: name }));
}
export const selected = () => TABS.find((tab) => !$(`panel-${tab}`).hidden);

function setUpShell() {
  for (const tab of TABS) {
    $(`tab-${tab}`).onclick = () => select(tab);
    $(`tab-${tab}`).onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) select(TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length], true);
    };
  }
  $("notice").querySelector("button").onclick = () => clear();
  const root = document.documentElement, kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  $("theme").onclick = () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark"; localStorage.setItem("theme", root.dataset.theme);
    dispatchEvent(new Event("resize"));
  };
  let depth = 0;
  const isFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  addEventListener("dragenter", (event) => { if (isFiles(event)) { depth++; $("over").hidden = false; } });
  addEventListener("dragleave", () => { depth = Math.max(depth - 1, 0); if (!depth) $("over").hidden = true; });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault(); depth = 0; $("over").hidden = true;
    const files = [...(event.dataTransfer?.files || [])];
    if (!files.length) return;
    const taken = new CustomEvent("files", { detail: files, cancelable: true });
    if (["learn", "match"].includes(selected()) && !$(`panel-${selected()}`).dispatchEvent(taken)) return;
    song.open(files.find((file) => /\.(midi?|rmi|kar)$/i.test(file.name)) || files[0]);
  });
  addEventListener("keydown", (event) => {
    if (event.target.closest("input:not([type=range]), select, textarea, button, summary, a") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (selected() !== "song" || !song.current()) return;
    if (event.key === " ") { event.preventDefault(); song.toggle(); }
    else if (event.target.type !== "range" && ["ArrowLeft", "ArrowRight"].includes(event.key)) { event.preventDefault(); song.seek(Math.min(Math.max(sound.songTime() + (event.key === "ArrowRight" ? 5 : -5), 0), song.current().seconds)); }
  });
}

on("lost", (wasOpen) => tell(wasOpen ? "The server is gone. This page goes on by itself when it is back." : "The server does not answer; trying again.", "lost"));
on("open", () => clear("lost"));
on("refused", (message) => tell(message, "refused"));

setUpShell();
try {
  page.about = await (await ask("/api/about")).json();
  $("version").textContent = `miao ${page.about.version}`;
  song.setUp(page);
  keys.setUp(page);
  studio.setUp(page);
  connect();
  const name = location.hash.slice(1);
  if (TABS.includes(name)) select(name);
} catch (error) { tell(error.message); }
window.miao = { keys, sound, song, page };            // for who looks in by the console, and for the tests
