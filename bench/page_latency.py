"""How long it takes on the page from an act to its being heard: changes, jumps, keys; in Debian's Chromium.

Time runs from the event in the page to the moment that the audio thread takes the changed sound into its output, and
what the browser says that its output adds. Needs playwright and chromium (`apt install chromium`).

    python bench/page_latency.py
    python bench/page_latency.py --song some.mid --times 40
"""

import argparse
import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
# drops a file, and waits until it is heard: milliseconds
DROP = """async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), files = new DataTransfer();
  files.items.add(new File([bytes], name));
  const { sound } = miao, began = performance.now();
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
  while (!(sound.state.isPlaying && sound.state.heard > 0)) {
    if (performance.now() - began > 20000) return NaN;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return performance.now() - began + 1000 * sound.latency();
}"""
# does something, and waits until what is asked for by it is heard: milliseconds
HEARD = """async (act) => {
  const { sound } = miao, n = act.n, rows = document.querySelectorAll(".track"), row = rows[n % rows.length];
  const tell = (input, name) => input.dispatchEvent(new Event(name, { bubbles: true }));
  const put = (input, value) => { input.value = value; tell(input, "input"); };
  const choose = (input, k) => {
    input.selectedIndex = k % input.options.length; tell(input, "input"); tell(input, "change");
  };
  const one = (id) => document.getElementById(id), sliders = row.querySelectorAll("input");
  const acts = {
    volume: () => put(sliders[0], -3 - n % 20), pan: () => put(sliders[1], 5 * (n % 15) - 35),
    mute: () => row.querySelector(".mute").click(), solo: () => row.querySelector(".solo").click(),
    instrument: () => choose(row.querySelector("select"), 1 + 7 * n), room: () => choose(one("room"), 1 + n),
    wet: () => put(one("wet"), 50 + 10 * (n % 10)), tempo: () => put(one("tempo"), 80 + n % 40),
    transpose: () => put(one("transpose"), n % 9 - 4), seek: () => miao.song.seek(act.at),
  };
  const before = sound.state.asked, began = performance.now();
  acts[act.kind]();
  for (;;) {
    const join = sound.state.joins.find(([generation]) => generation > before);
    if (join) return join[1] - began + 1000 * sound.latency();
    if (performance.now() - began > 10000) return NaN;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}"""
KINDS = {"volume": 150, "pan": 150, "mute": 150, "solo": 150, "room": 150, "wet": 150, "instrument": 150, "tempo": 150,
         "transpose": 150, "seek": 200}  # fmt: skip


def served() -> tuple[subprocess.Popen[str], str]:
    """`miao serve` in a process of its own, and its address."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "miao", "serve", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert server.stderr is not None
    found = re.match(r"(http://localhost:\d+/)", server.stderr.readline())
    assert found
    return server, found[1]


def until(page: Page, what: str, patience: float = 120.0) -> None:
    """Waits for something to be true on the page."""
    end = time.monotonic() + patience
    while not page.evaluate(what):
        assert time.monotonic() < end, what
        page.wait_for_timeout(50)


def settle(page: Page) -> None:
    """Until the server is as far ahead as it goes, and has nothing else to do: one act at a time is measured."""
    page.wait_for_timeout(500)
    end = time.monotonic() + 10
    while page.evaluate("miao.sound.state.ahead < 2.5 * 44100") and time.monotonic() < end:
        page.wait_for_timeout(50)


def changes(page: Page, n: int) -> dict[str, list[float]]:
    """Milliseconds of each kind of change, in turn, so that no place in the song is one kind's."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    random = np.random.default_rng(0)
    length = page.evaluate("miao.song.current().seconds")
    for k in range(n):
        for kind in KINDS:
            settle(page)
            place = float(random.uniform(0.05, 0.85) * length)
            found[kind].append(page.evaluate(HEARD, {"kind": kind, "n": k, "at": place}))
            if kind in ("mute", "solo"):  # and back again
                settle(page)
                found[kind].append(page.evaluate(HEARD, {"kind": kind, "n": k, "at": place}))
    return found


def keys(page: Page, n: int) -> list[float]:
    """Milliseconds from a key's going down to its sound."""
    page.get_by_role("tab", name="Play").click()
    page.locator("#keys-instrument").select_option("program:17")
    page.locator("#keys-room").select_option("none")
    page.get_by_role("button", name="Start").click()
    until(page, "miao.keys.state.isOpen")
    page.wait_for_timeout(1500)
    found = []
    for k in range(n):
        page.evaluate("miao.keys.state.measured = null")
        page.evaluate(f"miao.keys.press('bench', {50 + k % 24})")
        until(page, "miao.keys.state.measured")
        found.append(page.evaluate("miao.keys.state.measured"))
        page.evaluate("miao.keys.release('bench')")
        page.wait_for_timeout(700)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--song", type=Path, default=ROOT / "examples" / "ode_to_joy.mid")
    parser.add_argument("--times", type=int, default=20)
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    server, address = served()
    try:
        with sync_playwright() as driver:
            flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
            browser = driver.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address)
            until(page, "window.miao && miao.page.about")
            first = page.evaluate(DROP, [asked.song.name, base64.b64encode(asked.song.read_bytes()).decode()])
            until(page, "miao.sound.state.gain !== 14")
            page.wait_for_timeout(1000)
            output = 1000 * page.evaluate("miao.sound.latency()")
            print(f"{asked.song.name}, load {os.getloadavg()[0]:.1f}; dropped to heard {first:.0f} ms (500)")
            print(f"of each time {output:.0f} ms are the output's, as the browser says")
            print(f"{'':12}{'n':>4}{'median':>8}{'p95':>8}{'worst':>8}{'bar':>8}   ms")
            for kind, times in (changes(page, asked.times) | {"key": keys(page, 2 * asked.times)}).items():
                ms = np.array(times)
                bar = KINDS.get(kind, "")
                print(f"{kind:12}{len(ms):4}{np.median(ms):8.0f}{np.percentile(ms, 95):8.0f}{ms.max():8.0f}{bar:>8}")
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


if __name__ == "__main__":
    main()
