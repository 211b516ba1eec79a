// The line to the server: a socket that comes back by itself, requests that fail in words.
const news = new EventTarget();
let socket = null, session = "", wait = 500, isWanted = true;

export const on = (name, act) => news.addEventListener(name, (event) => act(event.detail));
const tell = (name, detail) => news.dispatchEvent(new CustomEvent(name, { detail }));
export const address = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
export const sessionKey = () => session;

export function connect() {
  socket = new WebSocket(address("/api/session"));
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") return tell("frame", data);
    const message = JSON.parse(data);
    if (message.tell === "session") { session = message.session; wait = 500; tell("open"); }
    else if (message.tell === "refused") { isWanted = false; tell("refused", message.message); }
    else tell(message.tell, message);
  };
  socket.onclose = () => {
    const wasOpen = session !== "";
    session = "";
    if (!isWanted) return;
    tell("lost", wasOpen);
    setTimeout(connect, wait);
    wait = Math.min(2 * wait, 5000);
  };
}

export function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

export class Failed extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

export async function ask(path, options = {}) {
  let answer;
  try { answer = await fetch(path, options); }
  catch { throw new Failed("The server does not answer. Is `miao serve` still running?", 0); }
  if (!answer.ok) {
    let message = `The server refuses (${answer.status}).`;
    try { message = (await answer.json()).error; } catch { /* it was not ours that answered */ }
    throw new Failed(message, answer.status);
  }
  return answer;
}

export const post = (path, content) => ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) });

// Sends a file and tells how much of it has gone, which fetch cannot.
export function upload(path, file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress && onProgress(event.loaded / Math.max(event.total, 1));
    request.onload = () => request.status < 300 ? resolve(request.response)
      : reject(new Failed(request.response?.error || `The server refuses (${request.status}).`, request.status));
    request.onerror = () => reject(new Failed("The server does not answer. Is `miao serve` still running?", 0));
    request.send(file);
  });
}

// Follows a piece of work to its end; `onProgress` may answer false to cancel it.
export async function follow(job, onProgress) {
  while (!["done", "failed", "cancelled"].includes(job.state)) {
    if (onProgress && onProgress(job) === false) { await ask(`/api/jobs/${job.job}`, { method: "DELETE" }); throw new Failed("Cancelled.", 499); }
    await new Promise((resolve) => setTimeout(resolve, 200));
    job = await (await ask(`/api/jobs/${job.job}`)).json();
  }
  if (job.state !== "done") throw new Failed(job.error || "Cancelled.", 400);
  onProgress && onProgress(job);
  return job;
}
