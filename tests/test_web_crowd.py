"""The server among many, and among those who mean no good: it stays up, frees what it held; nobody hears another."""

import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_midi

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
websockets = pytest.importorskip("websockets.sync.client")
websockets_closed = pytest.importorskip("websockets.exceptions").ConnectionClosed

from miao.web.app import PING_SECONDS, PONG_SECONDS, create_app, server_config  # noqa: E402
from miao.web.limits import Limits  # noqa: E402
from miao.web.songs import DRAWN, Songs  # noqa: E402
from miao.web.studio import SWEEP_SECONDS  # noqa: E402

RATE = 44_100


@pytest.fixture(scope="module")
def server(synthesizer):
    """A real one, in a thread: its port and its studio."""
    limits = Limits(midi_bytes=1_000_000)
    app = create_app(synthesizer, limits)
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    running = uvicorn.Server(server_config(app, limits))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]})
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield opened.getsockname()[1], app.state.studio
    running.should_exit = True
    thread.join(20)
    opened.close()


def asked(port, path, data=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


def line(port):
    return websockets.connect(f"ws://127.0.0.1:{port}/api/session", compression=None, max_size=None, close_timeout=0.5)


@contextmanager
def served():
    """`miao serve` in a process of its own: its port, and the process."""
    source = Path(__file__).resolve().parents[1] / "src"
    process = subprocess.Popen(
        [sys.executable, "-m", "miao", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield int(re.search(r":(\d+)/", process.stderr.readline())[1]), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        process.stderr.close()


def settled(what, patience=120.0):
    until = time.monotonic() + patience
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def hertz(samples):
    spectrum = np.abs(np.fft.rfft(samples[0] * np.hanning(samples.shape[1]), 1 << 17))
    return float(spectrum.argmax() * RATE / (1 << 17))


def test_twenty_at_once_hear_each_their_own(server):
    port, studio = server
    heard, wrong = {}, []

    def one(pitch):
        try:
            with line(port) as socket:
                session = json.loads(socket.recv())["session"]
                song = make_midi({"notes": [(0, 3, pitch, 100)]})
                key = asked(port, f"/api/songs?session={session}", song)["song"]
                socket.send(json.dumps({"do": "play", "song": key, "generation": pitch}))
                parts, n = [], 0
                while n < RATE:
                    received = socket.recv()
                    if isinstance(received, bytes):
                        of, count, _ = struct.unpack_from("<IId", received)
                        assert of == pitch
                        parts.append(np.frombuffer(received, "<f4", offset=16).reshape(2, count))
                        n += count
                heard[pitch] = np.concatenate(parts, axis=1)[:, RATE // 4 : RATE]
        except Exception as error:
            wrong.append(error)

    clients = [threading.Thread(target=one, args=(pitch,)) for pitch in range(50, 70)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    assert not wrong and len(heard) == 20
    for pitch, samples in heard.items():
        assert abs(12 * np.log2(hertz(samples) / 440) + 69 - pitch) < 0.1
    settled(lambda: not studio.sessions and not len(studio.songs))


def test_who_breaks_off_and_who_sends_rubbish_ends_nothing_and_leaves_nothing(server, song):
    port, studio = server

    def raw(content):
        opened = socket.create_connection(("127.0.0.1", port))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it is a reset
        opened.sendall(content)
        return opened

    head = f"POST /api/songs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    rubbish = [
        b"\x16\x03\x01\x02\x00" * 50, b"GET / HTTP/9.9\r\n\r\n", head.encode() + b"Content-Length: 900000\r\n\r\nMThd",
        head.encode() + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\nMThd",
        head.encode() + b"Content-Length: -5\r\n\r\n",
        b"GET /" + b"a" * 200_000, head.encode() + b"X: " + b"y" * 300_000,
    ]  # fmt: skip
    for content in rubbish * 3:
        with suppress(OSError):  # it may have hung up on us
            raw(content).close()
    endless = raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(OSError):
        for _ in range(100_000):  # it hangs up when more has come than is allowed
            endless.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    endless.close()
    for k in range(6):
        with suppress(OSError, websockets_closed), line(port) as client:
            session = json.loads(client.recv())["session"]
            key = asked(port, f"/api/songs?session={session}", song)["song"]
            client.send(json.dumps({"do": "play", "song": key, "generation": 1}))
            client.recv()
            if k % 3 == 0:
                client.send(b"\xff" * 400_000)  # more than a message may have
            elif k % 3 == 1:
                for _ in range(30):
                    client.send("[" * 5000)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.shutdown(socket.SHUT_RDWR)
    settled(lambda: not studio.sessions and not len(studio.songs) and studio.jobs.n_active == 0)
    assert asked(port, "/health")["status"] == "ok"
    with line(port) as client:  # and it still serves
        session = json.loads(client.recv())["session"]
        assert asked(port, f"/api/songs?session={session}", song)["seconds"] == 6.0


@pytest.mark.slow
def test_a_socket_that_is_closed_frees_all_within_a_second(server, song):
    port, studio = server
    for is_reset in (False, True):
        with suppress(OSError, websockets_closed), line(port) as client:
            session = json.loads(client.recv())["session"]
            key = asked(port, f"/api/songs?session={session}", song)["song"]
            client.send(json.dumps({"do": "play", "song": key, "generation": 1}))
            client.recv()
            assert studio.sessions and len(studio.songs)
            if is_reset:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
        settled(lambda: not studio.sessions and not len(studio.songs), 1.0)


@pytest.mark.slow
def test_who_says_nothing_more_though_the_line_is_open_is_gone_within_seconds(server):
    port, studio = server
    with socket.create_connection(("127.0.0.1", port)) as opened:
        opened.sendall(
            f"GET /api/session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        settled(lambda: bool(studio.sessions))
        settled(lambda: not studio.sessions, PING_SECONDS + PONG_SECONDS + 2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux how much memory is held")
def test_memory_returns_when_twenty_have_come_and_gone():
    with served() as (port, process):

        def held_megabytes():
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            return pages * resource.getpagesize() / 1e6

        def one():
            with line(port) as socket:
                session = json.loads(socket.recv())["session"]
                key = asked(port, f"/api/songs?session={session}&example=ode_to_joy", b"")["song"]
                socket.send(json.dumps({"do": "play", "song": key, "generation": 1, "at": 30.0}))
                n = 0
                while n < 2 * RATE:
                    received = socket.recv()
                    n += struct.unpack_from("<I", received, 4)[0] if isinstance(received, bytes) else 0

        def come_and_go():
            clients = [threading.Thread(target=one) for _ in range(20)]
            for client in clients:
                client.start()
            for client in clients:
                client.join(180)
            settled(lambda: asked(port, "/health")["sessions"] == 0)
            time.sleep(SWEEP_SECONDS + 1)

        one()
        time.sleep(SWEEP_SECONDS + 1)
        before = held_megabytes()
        come_and_go()
        after = held_megabytes()
        come_and_go()
        again = held_megabytes()
        assert after < before + 60, (before, after, again)  # threads and what they have at hand
        assert again < after + 15, (before, after, again)


def test_a_million_notes_are_drawn_by_what_is_seen_of_them(monkeypatch):
    from miao.midi.score import read_score

    one = read_score(make_midi({"notes": [(0, 1, 60, 90)]}))
    random = np.random.default_rng(0)
    n = 1_000_000
    notes = np.repeat(one.tracks[0].notes, n)
    notes["start"] = np.sort(random.uniform(0, 3600, n))
    notes["end"] = notes["damp"] = notes["start"] + 0.2
    notes["pitch"] = random.integers(21, 109, n)
    score = replace(one, tracks=(replace(one.tracks[0], notes=notes),), duration=3600.2, end=3600.2)
    monkeypatch.setattr("miao.web.songs.read_score", lambda data: score)
    song = Songs(Limits()).add("black.mid", b"", "somebody")
    tile = np.frombuffer(song.drawn(100.0, 110.0), DRAWN)
    expected = ((notes["start"] < 110) & (notes["end"] >= 100)).sum()
    assert len(tile) == expected > 2000
    whole = np.frombuffer(song.drawn(0.0, 3600.0), DRAWN)
    assert 5_000 < len(whole) <= 20_000 and whole["start"].max() > 3000
    picture = np.frombuffer(song.picture(), np.uint8).reshape(128, -1)
    assert picture.shape == (128, 1200) and not picture[:21].any() and (picture[21:109] == 1).mean() > 0.9
    assert song.about()["notes"] == n
