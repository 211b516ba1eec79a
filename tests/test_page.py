"""The page in a browser: a song is dropped, heard, changed and exported; what goes wrong is explained.

A page costs a second or two of the processor, so what can be seen on one page is, and the rest is slow.
"""

import base64
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from miao.expression.written import performance_bytes
from miao.midi.score import read_score
from miao.midi.writing import write_score
from miao.sound.audio import read_audio
from miao.synth.arrangement import Arrangement
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import Synthesizer

pytest.importorskip("starlette")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium; on Debian: apt install chromium", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
LOCKED = "--autoplay-policy=document-user-activation-required"
RULES = {"resultTypes": ["violations"]}  # what is well is not listed
SOUNDING = "--autoplay-policy=no-user-gesture-required"
RATE = 44_100
SLOW = pytest.mark.slow
PATIENCE = 90.0  # seconds for what takes one: other work may have the processors
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), files = new DataTransfer();
  files.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));
}"""
DROP_OF_SIZE = """([name, size]) => {
  const files = new DataTransfer(); files.items.add(new File([new Uint8Array(size)], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
}"""
NAMELESS = """[...document.querySelectorAll("input:not([hidden]), select, textarea, button")].filter((control) =>
  !(control.labels.length || control.ariaLabel || control.textContent.trim())).map((control) => control.outerHTML)"""
HEARD = """async (seconds, isWhole) => {
  const found = await miao.sound.capture(seconds, isWhole);
  const both = new Float32Array(2 * found.left.length); both.set(found.left); both.set(found.right, found.left.length);
  let text = ""; const bytes = new Uint8Array(both.buffer);
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return [found.from, btoa(text)];
}"""


class Server:
    """`miao serve` in a process of its own."""

    def __init__(self, *options, **environment):
        command = [sys.executable, "-m", "miao", "serve", "--port", "0", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"} | environment
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        line = self.process.stderr.readline()
        found = re.match(r"(http://localhost:(\d+)/)", line)
        assert found, line + self.process.stderr.read()
        self.address, self.port = found[1], found[2]

    def stop(self, how=signal.SIGINT):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        self.process.stderr.close()


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        yield driver.chromium


@pytest.fixture(scope="module")
def browser(chromium):
    browser = chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", SOUNDING])
    yield browser
    browser.close()


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None
    )
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(server.address)
    until(page, "window.miao && miao.page.about")
    yield page
    context.close()
    assert not wrong


@pytest.fixture(scope="module")
def gm():
    return Synthesizer.from_pretrained("gm")


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory):
    """Eight seconds of Beethoven for four of the orchestra, as a file."""
    path = tmp_path_factory.mktemp("song") / "ode.mid"
    everybody = read_score(ROOT / "examples" / "ode_to_joy.mid").between(48, 56)
    write_score(everybody.select([0, 1, 2, 9]), path)
    return path


def until(page, what, patience=PATIENCE):
    """Waits for something to be true on the page; its policy lets nothing be evaluated in it."""
    end = time.monotonic() + patience
    while not page.evaluate(what):
        assert time.monotonic() < end, f"never: {what}; {page.evaluate('miao.sound.state')}"
        page.wait_for_timeout(40)


def drop(page, name, content):
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def commanded(*words):
    """A command in a process of its own, which has the same loops as the server, whatever `--kernels` says here."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-m", "miao", *map(str, words)], check=True, env=environment, capture_output=True)


def opened(page, path):
    drop(page, path.name, path.read_bytes())
    until(page, "miao.sound.state.isPlaying && miao.sound.state.heard > 0")


def measured(page):
    """Waits until the song's loudness is known."""
    until(page, "miao.sound.state.gain !== 14")
    return page.evaluate("miao.sound.state.gain")


def heard_from(page, at, seconds):
    """What is heard from a moment on after a pause, in which what was before has died away."""
    page.evaluate("miao.sound.pause()")
    page.evaluate(f"miao.song.seek({at})")
    page.evaluate(f"void (window.wanted = ({HEARD})({seconds}))")
    page.evaluate("miao.song.toggle()")
    begin, content = page.evaluate("window.wanted")
    return round(begin * RATE), np.frombuffer(base64.b64decode(content), "<f4").reshape(2, -1)


def same_as(samples, expected, first):
    """How far from what was rendered, the loudest sample being 1."""
    part = expected[:, first : first + samples.shape[1]]
    assert part.shape == samples.shape and np.abs(part).max() > 0.02
    return np.abs(samples - part).max() / np.abs(part).max()


def test_a_dropped_song_is_heard_as_it_is_exported_and_as_the_command_renders_it(page, orchestra, gm, tmp_path):
    opened(page, orchestra)
    score = read_score(orchestra)
    assert page.locator(".track").count() == len(score.tracks)
    measured(page)
    begin, samples = heard_from(page, 0, 0.6)
    page.get_by_text("Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="WAV").click()
    rendered = tmp_path / "command.wav"
    commanded("render", orchestra, "-o", rendered)
    assert Path(download.value.path()).read_bytes() == rendered.read_bytes()
    assert download.value.suggested_filename == "ode.wav"
    assert same_as(samples, read_audio(rendered).samples, begin) < 2e-3  # 16 bits


@pytest.mark.slow
def test_every_export_of_a_changed_song_is_what_the_command_makes_of_it(page, tmp_path):
    short = tmp_path / "short.mid"
    write_score(read_score(ROOT / "examples" / "ode_to_joy.mid").between(48, 51), short)
    opened(page, short)
    page.locator(".track").nth(1).get_by_role("button", name="Mute").click()
    page.locator(".track").nth(0).locator("select").select_option(label="· Ukulele")
    page.locator("#tempo").fill("120")
    saved = {}
    for button in ("WAV", "FLAC", "Ogg", "MP3", "Stems, packed", "Changed MIDI", "Arrangement"):
        page.get_by_text("Export", exact=True).click()
        with page.expect_download(timeout=60_000) as download:
            page.get_by_role("button", name=button, exact=True).click()
        saved[button] = Path(download.value.path()).read_bytes()
    (tmp_path / "told.json").write_bytes(saved["Arrangement"])
    told = Arrangement.load(tmp_path / "told.json")
    assert told.tempo == 1.2 and told.tracks[1].program == 25 and told.tracks[1].variation == 8 and told.tracks[2].muted

    def rendered(name, *options):
        commanded("render", short, "-o", tmp_path / name, *options, "--arrangement", tmp_path / "told.json")
        return (tmp_path / name).read_bytes()

    for button, name in (("WAV", "short.wav"), ("FLAC", "short.flac"), ("MP3", "short.mp3")):
        assert saved[button] == rendered(name)
    rendered("short.ogg")
    (tmp_path / "saved.ogg").write_bytes(saved["Ogg"])
    np.testing.assert_array_equal(
        read_audio(tmp_path / "saved.ogg").samples, read_audio(tmp_path / "short.ogg").samples
    )
    (tmp_path / "stemmed").mkdir()
    rendered("stemmed/short.wav", "--stems", tmp_path / "stemmed" / "stems")
    with zipfile.ZipFile(io.BytesIO(saved["Stems, packed"])) as packed:
        assert len(packed.namelist()) > 5
        for name in packed.namelist():
            assert packed.read(name) == (tmp_path / "stemmed" / name).read_bytes()
    assert saved["Changed MIDI"] == performance_bytes(told.score(read_score(short)))


def test_a_file_that_is_no_song_is_explained_and_what_is_changed_of_one_is_heard_from_where_one_is(page, orchestra, gm):
    for name, content, said in (
        ("empty.mid", b"", "empty"), ("broken.mid", b"MThd\x00\x00\x00\x06\x00\x01", ""),
        ("photo.jpg", b"\xff\xd8\xff" * 99, ""), ("large.mid", 17_000_000, "larger than 16 MB"),
    ):  # fmt: skip
        if isinstance(content, int):  # made there: it would take long to send
            page.evaluate(DROP_OF_SIZE, [name, content])
        else:
            drop(page, name, content)
        notice = page.get_by_role("alert").filter(has_text=name)
        notice.wait_for()
        assert said in notice.inner_text()
        assert page.locator("#welcome").is_visible()
    opened(page, orchestra)
    gain = measured(page)
    before = page.evaluate("miao.sound.songTime()")
    track = page.locator(".track").nth(2)
    track.locator("select").select_option(label="Harpsichord")
    track.get_by_role("button", name="Solo").click()
    until(page, "Object.keys(miao.song.arrangement().tracks || {}).length === 1")
    page.wait_for_timeout(150)
    until(page, "miao.sound.state.generation === miao.sound.state.asked && miao.sound.state.heard > 9000")
    told = page.evaluate("miao.song.arrangement()")
    assert told == {"tracks": {"3": {"program": 7, "solo": True}}}
    assert page.evaluate("miao.sound.songTime()") > before
    begin, samples = heard_from(page, 0, 0.3)
    gain = page.evaluate("miao.sound.state.gain")
    expected = gm.render(Arrangement.of(told).score(read_score(orchestra)), PlaySettings(gain_db=gain))
    assert same_as(samples, expected.samples, begin) < 2e-2


@SLOW
def test_a_loop_stays_within_its_bounds_and_seeking_goes_where_it_says(page, orchestra):
    opened(page, orchestra)
    page.locator("#seek").fill("2")
    until(page, "Math.abs(miao.sound.songTime() - 2.2) < 0.25")
    page.get_by_role("button", name="Loop from here").click()
    page.evaluate("miao.song.seek(2.9)")
    until(page, "miao.sound.songTime() > 2.85")
    page.get_by_role("button", name="Loop to here").click()
    a, b = page.evaluate("miao.song.loopOf()")
    times = []
    for _ in range(30):
        times.append(page.evaluate("miao.sound.songTime()"))
        page.wait_for_timeout(60)
    assert min(times[8:]) >= a - 0.05 and max(times[8:]) <= b + 0.05
    assert sum(later < earlier for earlier, later in pairwise(times)) >= 1  # it went round


def large_midi(n_notes, seconds):
    """A file of so many short notes for eight instruments."""
    random, chunks = np.random.default_rng(0), [b"MThd" + struct.pack(">IHHH", 6, 1, 8, 1000)]  # 2,000 ticks a second
    event = np.dtype([("delta", "u1"), ("status", "u1"), ("pitch", "u1"), ("velocity", "u1")])
    for channel in range(8):
        events = np.zeros(2 * n_notes // 8, event)
        gaps = random.integers(0, 2 * min(2000 * seconds / len(events), 63) + 1, len(events))
        n_idle = int(2000 * seconds - gaps.sum()) // 127  # events that only let time pass
        events["delta"], events["status"][0::2], events["status"][1::2] = gaps, 0x90 | channel, 0x80 | channel
        events["pitch"] = np.repeat(random.integers(30, 100, len(events) // 2), 2)
        events["velocity"] = 80
        if n_idle > 0:
            idle = np.zeros(n_idle, event)
            idle["delta"], idle["status"], idle["pitch"], idle["velocity"] = 127, 0xB0 | channel, 20, 0
            at = 2 * random.integers(0, len(events) // 2 + 1, n_idle)
            events = np.insert(events, np.sort(at), idle)
        data = bytes([0, 0xC0 | channel, 8 * channel]) + events.tobytes() + b"\x00\xff\x2f\x00"
        chunks.append(b"MTrk" + struct.pack(">I", len(data)) + data)
    return b"".join(chunks)


@SLOW
@pytest.mark.parametrize(("n_notes", "minutes"), [(1_000_000, 60), (30_000, 60)])
def test_a_large_file_never_stops_the_page(page, browser, tmp_path, n_notes, minutes):
    """Nothing takes the page's own thread for longer than a fifth of a second, of its processor's time."""
    path = tmp_path / "large.mid"
    path.write_bytes(large_midi(n_notes, 60 * minutes))
    page.wait_for_timeout(500)
    browser.start_tracing(page=page, categories=["toplevel"])
    page.locator("#file").set_input_files(path)
    until(page, "miao.sound.state.isPlaying && miao.sound.state.heard > 0", 240)
    assert page.evaluate("miao.song.current().notes") == n_notes
    assert abs(page.evaluate("miao.song.current().seconds") - 60 * minutes) < 60
    page.wait_for_timeout(2000)
    for k in range(4):
        page.evaluate(f"miao.song.seek({300 + 700 * k})")
        page.wait_for_timeout(800)
        page.locator("#zoom-out" if k % 2 else "#zoom-in").click()
    page.get_by_text("Notes as text").click()
    until(page, "document.querySelectorAll('#text-rows tr').length > 5")
    page.locator(".track").nth(1).get_by_role("button", name="Mute").click()
    until(page, "miao.sound.state.generation === miao.sound.state.asked", 60)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    tasks = [e for e in events if names.get((e["pid"], e["tid"])) == "CrRendererMain" and "RunTask" in e["name"]]
    took = [e["tdur"] / 1000 for e in tasks if "tdur" in e]
    assert len(took) > 1000 and max(took) < 200, sorted(took)[-5:]


@SLOW
def test_a_browser_that_wants_a_click_first_is_explained_and_obeyed(chromium, server, orchestra):
    strict = chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", LOCKED])
    try:
        page = strict.new_page()
        content = base64.b64encode(orchestra.read_bytes()).decode()
        # all from within: whatever a test evaluates counts as a click
        page.add_init_script(
            f"""const wait = setInterval(() => {{
              if (!window.miao?.page.about) return;
              clearInterval(wait); ({DROP})({json.dumps([orchestra.name, content])});
              const look = setInterval(() => {{
                const notice = document.getElementById("notice");
                if (!notice.hidden) {{ clearInterval(look); console.log("told: " + notice.innerText); }}
              }}, 20);
            }}, 20);"""
        )
        with page.expect_console_message(lambda message: message.text.startswith("told: ")) as told:
            page.goto(server.address)
        assert "wants a click before it lets a page sound" in told.value.text
        page.get_by_role("button", name="Play", exact=True).click()
        until(page, "miao.sound.state.isPlaying && miao.sound.state.heard > 4410")
        assert page.get_by_role("alert").is_hidden()
    finally:
        strict.close()


@SLOW
def test_a_server_that_goes_is_told_and_the_page_goes_on_when_it_is_back(browser, orchestra):
    server = Server()
    page = browser.new_page()
    try:
        page.goto(server.address)
        until(page, "window.miao && miao.page.about")
        opened(page, orchestra)
        page.locator("#tempo").fill("80")
        server.stop(signal.SIGKILL)
        page.get_by_text("The server is gone").wait_for()
        until(page, "!miao.sound.state.isPlaying")
        server = Server("--port", server.port)
        page.get_by_role("alert").wait_for(state="hidden")
        page.get_by_role("button", name="Play", exact=True).click()
        until(page, "miao.sound.state.isPlaying && miao.sound.state.heard > 4410")
        assert page.evaluate("miao.song.arrangement()") == {"tempo": 0.8}
    finally:
        page.close()
        server.stop()


@SLOW
def test_the_notes_are_there_as_text_and_all_is_reached_by_keys(page, orchestra):
    opened(page, orchestra)
    page.locator("body").press("Space")
    until(page, "!miao.sound.state.isPlaying")
    at = page.evaluate("miao.sound.songTime()")
    page.locator("body").press("ArrowRight")
    until(page, f"Number(document.getElementById('seek').value) > {at + 1}")
    page.evaluate("miao.song.seek(0)")
    page.get_by_text("Notes as text").click()
    until(page, "document.querySelectorAll('#text-rows tr').length > 20")
    names = {track.name for track in read_score(orchestra).tracks}
    row = page.locator("#text-rows tr").first.locator("td").all_inner_texts()
    assert row[1] in names and re.match(r"[A-G]♯?\d|drum", row[2])
    assert page.locator("#play").get_attribute("aria-label") == "Play"
    assert page.evaluate(NAMELESS) == []


def test_a_key_that_is_pressed_is_heard_and_how_soon_is_shown(page):
    page.get_by_role("tab", name="Play").click()
    page.get_by_role("button", name="Start").click()
    until(page, "miao.keys.state.isOpen")
    page.locator("#octave").click()  # so that keys go to the page
    page.keyboard.down("h")  # A4
    until(page, "miao.keys.state.measured > 0")
    content = page.evaluate(
        """async () => { const samples = await miao.keys.capture(0.5); let text = "";
        const bytes = new Uint8Array(samples.buffer);
        for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
        return btoa(text); }"""
    )
    samples = np.frombuffer(base64.b64decode(content), "<f4")
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 17))
    heard = spectrum[round(430 * (1 << 17) / RATE) : round(450 * (1 << 17) / RATE)]
    assert abs((heard.argmax() * RATE / (1 << 17) + 430) - 440) < 2 and heard.max() > 0.5 * spectrum.max()
    assert "ms from key to sound, measured" in page.locator("#latency").inner_text()
    page.keyboard.up("h")
    page.locator("#piano [data-pitch='60']").dispatch_event("pointerdown", {"pointerId": 1})
    page.keyboard.press("Space")
    until(page, "document.querySelectorAll('#piano .is-on').length === 0")


@SLOW
def test_a_midi_keyboard_that_is_refused_is_explained(page):
    page.get_by_role("tab", name="Play").click()
    page.evaluate("void (navigator.requestMIDIAccess = () => Promise.reject(new DOMException('no', 'SecurityError')))")
    page.get_by_role("button", name="Connect a MIDI keyboard").click()
    page.get_by_text("The browser was not allowed to use MIDI").wait_for()


@SLOW
def test_a_sound_is_compared_with_a_song_as_a_picture(page, orchestra, tmp_path):
    rendered = tmp_path / "ode.wav"
    Synthesizer.from_pretrained("gm").render(read_score(orchestra)).save(rendered)
    page.get_by_role("tab", name="Match").click()
    page.locator("#match-tray input").set_input_files([orchestra, rendered])
    page.get_by_role("button", name="Compare").click()
    page.locator(".verdict").wait_for()
    assert int(page.locator(".verdict").inner_text().split()[0]) >= 50
    assert "Notes" in page.locator("canvas.match").get_attribute("aria-label")


@SLOW
def test_a_voice_is_learnt_from_music_on_the_page_and_plays(browser, tmp_path, midi):
    """A recording of a few notes with its MIDI, all the way: sent, learnt, listened to, kept, chosen."""
    pytest.importorskip("torch")
    notes, recording = tmp_path / "notes.mid", tmp_path / "recording.wav"
    melody = [(0.6 * n, 0.6 * n + 0.5, (60, 64, 67, 72, 71, 67, 62, 65)[n % 8], 60 + 7 * (n % 8)) for n in range(16)]
    notes.write_bytes(midi({"notes": melody, "program": 71}))
    Synthesizer.from_pretrained("gm").render(notes.read_bytes()).save(recording)
    server = Server(XDG_DATA_HOME=str(tmp_path))
    page = browser.new_page()
    try:
        page.goto(server.address)
        until(page, "window.miao && miao.page.about")
        page.get_by_role("tab", name="Learn").click()
        page.locator("#learn-tray input").set_input_files([notes, recording])
        page.locator("#learn-name").fill("learnt-here")
        page.get_by_role("button", name="Learn", exact=True).click()
        page.locator("#learn-result .take").first.wait_for(timeout=900_000)
        takes = "[...document.querySelectorAll('#learn-result audio')].map((audio) => audio.duration > 5)"
        until(page, f"JSON.stringify({takes}) === '[true,true,true]'")  # as recorded, before and after
        page.get_by_role("button", name="Keep the voice").click()
        page.get_by_text("Kept among your voices").wait_for()
        assert (tmp_path / "miao" / "voices" / "learnt-here.safetensors").is_file()
        page.get_by_role("tab", name="Song").click()
        drop(page, notes.name, notes.read_bytes())
        until(page, "miao.sound.state.isPlaying && miao.sound.state.heard > 0")
        page.locator(".track select").first.select_option("voice:learnt-here")
        until(page, "miao.sound.state.asked > 1 && miao.sound.state.generation === miao.sound.state.asked", 60)
        assert page.evaluate("miao.song.arrangement()") == {"tracks": {"1": {"voice": "learnt-here"}}}
    finally:
        page.close()
        server.stop()


DRAGGED = """async ([first, last]) => {
  const slider = document.getElementById("tempo"), heard = [];
  for (let k = 0; k <= 40; k++) {
    slider.value = first + (last - first) * k / 40;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((resolve) => setTimeout(resolve, 25));
    heard.push(miao.sound.state.generation);
  }
  return new Set(heard).size;
}"""


@SLOW
def test_a_slider_that_is_dragged_is_heard_all_the_while_and_does_not_click(page, orchestra):
    opened(page, orchestra)
    measured(page)
    _, still = heard_from(page, 3, 2.5)
    page.evaluate("miao.song.seek(3)")
    until(page, "miao.sound.jumpTarget() === null")
    page.evaluate(f"void (window.wanted = ({HEARD})(1.5, true))")
    n_heard = page.evaluate(DRAGGED, [100, 120])
    dragged = np.frombuffer(base64.b64decode(page.evaluate("window.wanted")[1]), "<f4").reshape(2, -1)
    assert n_heard >= 3
    assert np.abs(np.diff(dragged)).max() < 2 * np.abs(np.diff(still)).max()
    until(page, "miao.sound.state.generation === miao.sound.state.asked && miao.song.arrangement().tempo === 1.2")


@SLOW
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_nobody_is_shut_out(browser, server, look, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    size = {"width": 390, "height": 844} if look == "phone" else {"width": 1280, "height": 900}
    context = browser.new_context(viewport=size, color_scheme="dark" if look == "dark" else "light", bypass_csp=True)
    try:
        page = context.new_page()
        page.goto(server.address)
        until(page, "window.miao && miao.page.about")
        few = tmp_path / "few.mid"
        write_score(read_score(ROOT / "examples" / "greensleeves.mid").select([0, 1]).between(0, 6), few)
        found = []
        for tab in ("Match", "Learn", "Play", "Song") if look == "light" else ("Play", "Song"):
            page.get_by_role("tab", name=tab).click()
            found += axe.run(page, options=RULES).response["violations"] if tab != "Song" else []
        opened(page, few)
        page.get_by_text("Notes as text").click()
        page.get_by_text("Export", exact=True).click()
        found += axe.run(page, options=RULES).response["violations"]
        assert not [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it must not scroll sideways"
    finally:
        context.close()
