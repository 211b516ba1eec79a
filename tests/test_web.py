"""The server: what it answers, whom it refuses, what it forgets, and that it is the command by another door."""

import io
import json
import struct
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from miao.bank.folder import bank_folder
from miao.bank.learnt_voice import find_voice
from miao.bank.matching import Matcher
from miao.expression.written import performance_bytes
from miao.midi.score import read_score
from miao.sound.audio import Audio, read_audio
from miao.synth.arrangement import Arrangement
from miao.synth.synthesizer import Synthesizer

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
TestClient = pytest.importorskip("starlette.testclient").TestClient

from miao.web.app import PAGE, create_app  # noqa: E402
from miao.web.guard import POLICY  # noqa: E402
from miao.web.limits import Limits  # noqa: E402
from miao.web.songs import DRAWN, EXAMPLES  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0  # seconds for what takes a hundredth: other work may have the processors
OWN, LINE = "http://127.0.0.1:8000", "ws://127.0.0.1:8000/api/session"
ARRANGED = {"tempo": 1.25, "transpose": -2, "room": "studio", "tracks": {"2": {"volume_db": -6}, "3": {"muted": True}}}


@pytest.fixture(scope="module")
def client(synthesizer):
    with TestClient(create_app(synthesizer), base_url=OWN) as client:
        yield client


def limited(synthesizer, **limits):
    return TestClient(create_app(synthesizer, Limits(**limits)), base_url=OWN)


def brought(client, song, session=""):
    answer = client.post(
        "/api/songs", params={"name": "My song.mid"} | ({"session": session} if session else {}), content=song
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def finished(client, job, patience=PATIENCE):
    until = time.monotonic() + patience
    while job["state"] in ("waiting", "running"):
        assert time.monotonic() < until
        time.sleep(0.02)
        job = client.get(f"/api/jobs/{job['job']}").json()
    return job


def exported(client, key, format, told=ARRANGED):
    job = client.post(f"/api/songs/{key}/exports", json={"format": format, "arrangement": told}).json()
    job = finished(client, job)
    assert job["state"] == "done" and job["done"] == 1, job
    (name,) = job["files"]
    answer = client.get(f"/api/jobs/{job['job']}/files/{name}")
    assert answer.status_code == 200 and name in answer.headers["content-disposition"].replace("%20", " ")
    return answer.content


def frame(data):
    generation, n, position = struct.unpack_from("<IId", data)
    return generation, position, np.frombuffer(data, "<f4", offset=16).reshape(2, n)


def played(socket, message, n_samples):
    """The first samples of what is asked for, and what was told before."""
    socket.send_json({"do": "play"} | message)
    began, parts = socket.receive_json(), []
    while sum(part.shape[1] for part in parts) < n_samples:
        parts.append(frame(socket.receive_bytes())[2])
    return began, np.concatenate(parts, axis=1)[:, :n_samples]


def left(socket):
    """All samples until the song is over."""
    parts = []
    while True:
        received = socket.receive()
        if received.get("text"):
            return json.loads(received["text"]), np.concatenate(parts, axis=1)
        parts.append(frame(received["bytes"])[2])


# the page


def test_the_page_is_small_and_asks_nothing_of_anybody_else(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-security-policy"] == POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assets = [path for path in PAGE.iterdir() if path.is_file()]
    assert len(assets) > 6 and sum(path.stat().st_size for path in assets) < 200_000
    for path in assets:
        text = path.read_text()
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "").replace("}://${location.host}", ""), path
        assert 'style="' not in text and 'onclick="' not in text, "the policy forbids both"
        answer = client.get("/" if path.name == "index.html" else f"/page/{path.name}")
        assert answer.status_code == 200 and answer.content == path.read_bytes()


def test_the_examples_are_those_of_the_project(client):
    names = [example["name"] for example in client.get("/api/about").json()["examples"]]
    assert names == ["greensleeves", "gymnopedie", "ode_to_joy"]
    for name in names:
        assert (EXAMPLES / f"{name}.mid").read_bytes() == (ROOT / "examples" / f"{name}.mid").read_bytes()
        opened = client.post("/api/songs", params={"example": name}).json()
        assert opened["notes"] == read_score(ROOT / "examples" / f"{name}.mid").n_notes
    assert client.post("/api/songs", params={"example": "../../pyproject"}).status_code == 404


def test_what_is_told_of_a_song_is_what_is_in_it(client, song):
    told = brought(client, song)
    assert told["name"] == "My song.mid" and told["seconds"] == 6.0
    assert [t["name"] for t in told["tracks"]] == ["Melody", "Bass: a/b", ""]
    assert [t["is_drum"] for t in told["tracks"]] == [False, False, True]
    assert told["tracks"][0]["program"] == 74 and told["tracks"][1]["pan"] < -0.5


def test_the_roll_gets_the_notes_of_a_stretch(client, song):
    key = brought(client, song)["song"]
    notes = np.frombuffer(client.get(f"/api/songs/{key}/notes", params={"from": 0.55, "to": 0.9}).content, DRAWN)
    found = sorted(zip(notes["track"].tolist(), notes["pitch"].tolist(), np.round(notes["start"], 2), strict=True))
    assert found == [(0, 81, 0.75), (1, 45, 0.0), (2, 38, 0.5)]
    image = np.frombuffer(client.get(f"/api/songs/{key}/picture").content, np.uint8).reshape(128, -1)
    assert (image[45] == 2).all() and 0 < (image[81] == 1).sum() < image.shape[1] and not image[60].any()
    assert client.get(f"/api/songs/{key}/notes", params={"from": "x"}).status_code == 400


# as the command does


def test_export_is_what_the_library_writes_with_the_same_arrangement(client, song, synthesizer, tmp_path):
    key = brought(client, song)["song"]
    score, arrangement = read_score(song), Arrangement.of(ARRANGED)
    for format in ("wav", "flac", "mp3", "ogg"):
        target, content = tmp_path / f"song.{format}", exported(client, key, format)
        synthesizer.render_file(arrangement.score(score), target, arrangement.settings(score))
        if format == "ogg":  # each such stream has a number of its own, drawn by lot
            (tmp_path / "x.ogg").write_bytes(content)
            assert content.startswith(b"OggS")
            np.testing.assert_array_equal(read_audio(tmp_path / "x.ogg").samples, read_audio(target).samples)
        else:
            assert content == target.read_bytes()


def test_stems_are_those_of_the_library_add_up_and_a_muted_track_has_none(client, song, synthesizer, tmp_path):
    content = exported(client, brought(client, song)["song"], "stems")
    score, arrangement = read_score(song), Arrangement.of(ARRANGED)
    (tmp_path / "own").mkdir()
    synthesizer.render_file(
        arrangement.score(score), tmp_path / "own" / "My song.wav", arrangement.settings(score),
        stems_folder=tmp_path / "own" / "stems",
    )  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        for name in packed.namelist():
            assert packed.read(name) == (tmp_path / "own" / name).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        packed.extractall(tmp_path)
    stems = sorted((tmp_path / "stems").iterdir())
    assert [path.name for path in stems] == ["01 Melody.wav", "02 Bass_ a_b.wav", "room.wav"]
    total = sum(read_audio(path).samples for path in stems)
    np.testing.assert_allclose(total, read_audio(tmp_path / "My song.wav").samples, atol=4 * 2**-23)


def test_the_changed_midi_file_plays_what_is_heard(client, song):
    key = brought(client, song)["song"]
    assert exported(client, key, "mid", {"room": "church"}) == song
    assert exported(client, key, "mid") == performance_bytes(Arrangement.of(ARRANGED).score(read_score(song)))
    again, expected = read_score(exported(client, key, "mid")), Arrangement.of(ARRANGED).score(read_score(song))
    assert [t.name for t in again.tracks] == [t.name for t in expected.tracks]
    for a, b in zip(again.tracks, expected.tracks, strict=True):
        np.testing.assert_allclose(a.notes["start"], b.notes["start"], atol=2e-3)
        np.testing.assert_array_equal(a.notes["pitch"], b.notes["pitch"])
        assert abs(a.controls["volume"].at(1.0) - b.controls["volume"].at(1.0)) < 1 / 127
    assert json.loads(exported(client, key, "json")) == ARRANGED


def test_one_request_renders_a_file(client, song, synthesizer, tmp_path):
    synthesizer.render_file(song, tmp_path / "song.wav")
    answer = client.post("/api/render", content=song)
    assert answer.content == (tmp_path / "song.wav").read_bytes() and answer.headers["content-type"] == "audio/wav"
    flac = client.post("/api/render", content=song, params={"format": "flac", "arrangement": json.dumps(ARRANGED)})
    assert flac.content[:4] == b"fLaC"
    assert client.post("/api/render", content=song, params={"format": "aiff"}).status_code == 400


def test_a_survey_tells_the_gain_and_the_shape(client, song, synthesizer):
    key = brought(client, song)["song"]
    job = finished(client, client.post(f"/api/songs/{key}/survey", json={"arrangement": {}}).json())
    audio = synthesizer.render(song)
    by_gain = synthesizer.render(song, gain_db=job["result"]["gain_db"])
    np.testing.assert_allclose(by_gain.samples, audio.samples, atol=1e-4)
    shape = np.array(job["result"]["shape"])
    assert len(shape) == 1200 and abs(shape.max() - np.abs(audio.samples).max()) < 0.05


# what is heard


def test_what_streams_is_what_is_rendered(client, song, synthesizer):
    expected = np.concatenate(list(synthesizer.stream(song, gain_db=10.0)), axis=1)
    with client.websocket_connect(LINE) as socket:
        session = socket.receive_json()["session"]
        key = brought(client, song, session)["song"]
        began, first = played(socket, {"song": key, "generation": 1, "gain_db": 10.0}, 60_000)
        assert began["generation"] == 1 and began["seconds"] == 6.0 and began["clock"] == [[0.0, 6.0], [0.0, 6.0]]
        np.testing.assert_allclose(first, expected[:, :60_000], atol=2e-5)


def test_no_more_is_sent_than_a_few_seconds_ahead_and_the_end_is_told(client, song, synthesizer):
    with client.websocket_connect(LINE) as socket:
        key = brought(client, song, socket.receive_json()["session"])["song"]
        _, first = played(socket, {"song": key, "generation": 7}, 3 * 44_100)
        time.sleep(0.2)
        stream = next(iter(client.app.state.studio.sessions.values())).stream
        assert 3 * 44_100 < stream.n_samples < 4.6 * 44_100
        socket.send_json({"do": "heard", "generation": 7, "samples": 10**9})
        told, rest = left(socket)
        assert told["tell"] == "over" and told["generation"] == 7
        expected = np.concatenate(list(synthesizer.stream(song, gain_db=14.0)), axis=1)
        assert first.shape[1] + rest.shape[1] <= told["samples"] and told["samples"] >= expected.shape[1]


def test_another_word_changes_what_is_heard_from_where_the_listener_is(client, song, synthesizer):
    quieter = {"tracks": {"1": {"muted": True}, "3": {"muted": True}}}
    with client.websocket_connect(LINE) as socket:
        key = brought(client, song, socket.receive_json()["session"])["song"]
        played(socket, {"song": key, "generation": 1}, 30_000)
        change = {"do": "play", "song": key, "generation": 2, "echo": 1, "heard": 30_000, "arrangement": quieter}
        socket.send_json(change)
        while True:
            received = socket.receive()
            if received.get("bytes") and frame(received["bytes"])[0] == 2:
                _, position, samples = frame(received["bytes"])
                break
        assert round(position * 44_100) == 30_000
        score = Arrangement.of(quieter).score(read_score(song))
        expected = np.concatenate(list(synthesizer.stream(score, gain_db=14.0, start=position)), axis=1)
        loud = np.sqrt(np.square(samples[:, 1000:]).mean()) / np.sqrt(np.square(expected[:, 1000:4000]).mean())
        assert 0.7 < loud < 1.4  # the bass alone, and the room still tells of what was before


def test_a_loop_goes_round(client, song):
    with client.websocket_connect(LINE) as socket:
        key = brought(client, song, socket.receive_json()["session"])["song"]
        socket.send_json({"do": "play", "song": key, "generation": 1, "at": 1.0, "loop": [1.0, 1.5]})
        assert socket.receive_json()["tell"] == "began"
        positions = []
        for _ in range(12):
            _, position, samples = frame(socket.receive_bytes())
            assert samples.shape[1] and position + samples.shape[1] / 44_100 <= 1.5 + 1e-6
            positions.append(round(position, 3))
            socket.send_json({"do": "heard", "generation": 1, "samples": 10**9})
        assert positions.count(1.0) >= 3


def test_time_runs_as_the_tempo_says(client, song):
    with client.websocket_connect(LINE) as socket:
        key = brought(client, song, socket.receive_json()["session"])["song"]
        began, _ = played(socket, {"song": key, "generation": 1, "at": 3.0, "arrangement": {"tempo": 0.5}}, 1000)
        assert began["clock"] == [[0.0, 6.0], [0.0, 12.0]] and began["from"] == 6.0


# who is refused, and what is forgotten


@pytest.mark.parametrize(
    ("content", "status", "what"),
    [(b"", 400, "empty"), (b"nonsense", 400, "not a MIDI file|no notes|MIDI"), (b"MThd\x00\x00\x00\x06", 400, "")],
)
def test_a_file_that_is_no_song_is_told_in_one_line(client, content, status, what):
    answer = client.post("/api/songs", content=content)
    assert answer.status_code == status
    assert "\n" not in answer.json()["error"] and answer.json()["error"]
    if what:
        import re

        assert re.search(what, answer.json()["error"])


def test_what_is_too_large_is_refused_before_it_is_read(synthesizer, song):
    with limited(synthesizer, midi_bytes=100, notes=3, seconds=2.0) as client:
        assert client.post("/api/songs", content=song).status_code == 413
    for limits in ({"notes": 3}, {"seconds": 2.0}):
        with limited(synthesizer, **limits) as client:
            answer = client.post("/api/songs", content=song)
            assert answer.status_code == 413 and "most" in answer.json()["error"]


def test_another_page_or_another_name_gets_nothing(client, song):
    for headers in ({"origin": "https://elsewhere.example"}, {"host": "rebound.example"}, {"origin": "null"}):
        assert client.post("/api/songs", content=song, headers=headers).status_code == 403
        with pytest.raises(Exception), client.websocket_connect(LINE, headers=headers) as socket:  # noqa: B017
            socket.receive_json()
    assert client.post("/api/songs", content=song, headers={"origin": OWN}).status_code == 201


def test_nothing_of_a_client_is_reached_by_guessing(client, song):
    for path in ("/api/songs/1", "/api/jobs/1", "/api/songs/1/notes", "/api/jobs/1/files/../../etc/passwd"):
        assert client.get(path).status_code == 404
    assert client.get("/page/../app.py").status_code == 404
    key = brought(client, song)["song"]
    assert len(key) >= 20
    job = finished(client, client.post(f"/api/songs/{key}/exports", json={"format": "mid"}).json())
    assert client.get(f"/api/jobs/{job['job']}/files/..%2F..%2Fsecret").status_code == 404


@pytest.mark.parametrize(
    "told", [{"room": "/etc/passwd"}, {"room": "pyproject.toml"}, {"tracks": {"1": {"voice": "/x.safetensors"}}}]
)
def test_a_client_names_rooms_and_voices_and_never_files(client, song, told):
    key = brought(client, song)["song"]
    job = finished(client, client.post(f"/api/songs/{key}/exports", json={"arrangement": told}).json())
    assert job["state"] == "failed" and job["error"].startswith(("no room", "no voice"))


def test_a_page_that_goes_takes_all_that_was_its(client, song):
    studio = client.app.state.studio
    with client.websocket_connect(LINE) as socket:
        session = socket.receive_json()["session"]
        key = brought(client, song, session)["song"]
        job = client.post(f"/api/songs/{key}/exports", json={"format": "wav"}).json()
        socket.send_json({"do": "play", "song": key, "generation": 1})
        socket.receive_json()
        stream = studio.sessions[session].stream
    until = time.monotonic() + PATIENCE
    while studio.sessions and time.monotonic() < until:
        time.sleep(0.01)
    assert not studio.sessions and stream._task is None
    assert client.get(f"/api/songs/{key}").status_code == client.get(f"/api/jobs/{job['job']}").status_code == 404
    assert client.post("/api/songs", params={"session": session}, content=song).status_code == 404


def test_cancelled_work_stops_and_leaves_nothing(synthesizer, midi):
    long = midi({"notes": [(t, t + 0.4, 60 + t % 12, 90) for t in range(900)]})
    with TestClient(create_app(synthesizer), base_url=OWN) as client:
        jobs = client.app.state.studio.jobs
        key = brought(client, long)["song"]
        job = client.post(f"/api/songs/{key}/exports", json={"format": "wav"}).json()
        work = jobs.get(job["job"])
        while work.state == "waiting":
            time.sleep(0.005)
        assert client.delete(f"/api/jobs/{job['job']}").status_code == 204
        until = time.monotonic() + PATIENCE
        while (not work.is_over or work.folder.exists()) and time.monotonic() < until:
            time.sleep(0.01)
        assert work.state == "cancelled" and work.done < 1 and not work.folder.exists()


def test_there_are_bounds_on_pages_work_and_songs(synthesizer, song):
    with limited(synthesizer, sessions=1, jobs=1, songs=2) as client, client.websocket_connect(LINE) as socket:
        session = socket.receive_json()["session"]
        with client.websocket_connect(LINE) as other:
            assert "most that are served" in other.receive_json()["message"]
        keys = [brought(client, song, session)["song"] for _ in range(3)]
        assert [client.get(f"/api/songs/{key}").status_code for key in keys] == [404, 200, 200]
        answers = [client.post(f"/api/songs/{keys[1]}/exports", json={"format": "wav"}) for _ in range(3)]
        assert answers[0].status_code == 202 and 429 in [a.status_code for a in answers]


def test_nonsense_through_the_socket_is_told_and_in_the_end_sent_away(client):
    with client.websocket_connect(LINE) as socket:
        socket.receive_json()
        socket.send_text("{" * 1000)
        assert "JSON object" in socket.receive_json()["message"]
        socket.send_bytes(b"\x00" * 100)
        assert socket.receive_json()["tell"] == "error"
        for message in ({"do": "fly"}, {"do": "play", "song": "x"}, {"do": "play", "song": ["x"]}):
            socket.send_json(message)
            assert socket.receive_json()["tell"] == "error"
        for _ in range(20):
            socket.send_text("[]")
        while True:
            if socket.receive()["type"] == "websocket.close":
                break


def test_a_mistake_of_ours_is_an_answer_and_no_end(synthesizer, song, monkeypatch):
    with TestClient(create_app(synthesizer), base_url=OWN, raise_server_exceptions=False) as client:
        monkeypatch.setattr("miao.web.songs.read_score", lambda data: 1 / 0)
        answer = client.post("/api/songs", content=song)
        assert answer.status_code == 500 and answer.json() == {"error": "the server made a mistake; its log says which"}
        assert client.get("/health").json()["status"] == "ok"


# learning and matching


def sound_file(samples):
    data = io.BytesIO()
    soundfile.write(data, samples.T, 44_100, format="WAV")
    return data.getvalue()


def brought_sound(client, session, name, content):
    return client.post("/api/sounds", params={"session": session, "name": name}, content=content)


def test_a_sound_is_matched_with_a_song_and_where_they_part_is_told(toy_bank):
    score = read_score(EXAMPLES / "greensleeves.mid").between(0, 16)
    audio = Synthesizer.from_pretrained("gm").render(score, sample_rate=22_050, end=16.0).samples
    audio = np.repeat(audio, 2, axis=1)
    audio[:, 6 * 44_100 :] = np.random.default_rng(0).normal(0, 0.1, audio[:, 6 * 44_100 :].shape)
    synthesizer = Synthesizer(replace(toy_bank, folder=bank_folder("gm")))
    with TestClient(create_app(synthesizer), base_url=OWN) as client, client.websocket_connect(LINE) as socket:
        session = socket.receive_json()["session"]
        key = client.post("/api/songs", params={"session": session, "example": "greensleeves"}).json()["song"]
        heard = brought_sound(client, session, "clip.wav", sound_file(audio)).json()
        assert abs(heard["seconds"] - 16.0) < 0.01
        job = finished(client, client.post(f"/api/songs/{key}/matches", json={"sound": heard["sound"]}).json())
        result = job["result"]
        expected = Matcher(bank_folder("gm")).match(
            read_score(EXAMPLES / "greensleeves.mid"), Audio(_as_16_bits(audio), 44_100)
        )
        assert abs(result["probability"] - expected.probability) < 1e-3
        assert result["apart"] and result["apart"][0][0] >= 5.0 and result["windows"][0] > 0.5


def _as_16_bits(samples):
    return (np.round(np.clip(samples, -1, 1) * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


def test_a_voice_is_learnt_from_what_was_brought_and_kept_by_whom_it_is(synthesizer, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    import miao.training.new_voice as module

    asked = {}
    voice = replace(find_voice("alto-sax"), about=find_voice("alto-sax").about | {"name": "mine"})

    def stand_in(bank, recordings, name, about, tell):
        asked.update(bank=bank, pitches=[r.pitch for r in recordings], name=name)
        tell(0.5)
        take = Audio(np.zeros((2, 100), np.float32), 44_100)
        return module.NewVoice(voice, 0, None, module.LEARNT, 1.0, {"recorded": take, "before": take, "after": take})

    monkeypatch.setattr(module, "new_voice", stand_in)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    time_ = np.arange(44_100) / 44_100
    limits = Limits(keeps_voices=True)
    with TestClient(create_app(synthesizer, limits), base_url=OWN) as client, client.websocket_connect(LINE) as socket:
        session = socket.receive_json()["session"]
        sounds = []
        for name, hz in (("A4.wav", 440.0), ("A3.wav", 220.0)):
            tone = np.tile(0.3 * np.sin(2 * np.pi * hz * time_) * np.exp(-3 * time_), (2, 1))
            sounds.append(brought_sound(client, session, name, sound_file(tone)).json()["sound"])
        wish = {"session": session, "name": "mine", "sounds": sounds}
        job = finished(client, client.post("/api/voices", json=wish).json())
        assert job["state"] == "done", job
        assert sorted(asked["pitches"]) == [57, 69] and asked["name"] == "mine" and asked["bank"] is synthesizer.bank
        assert set(job["files"]) == {"mine.safetensors", "recorded.wav", "before.wav", "after.wav"}
        assert client.post(f"/api/jobs/{job['job']}/keep").json() == {"voice": "mine", "is_saved": True}
        assert find_voice("mine").name == "mine" and "mine" in client.get("/api/about").json()["voices"]
        assert "there is a voice" in client.post("/api/voices", json=wish).json()["error"]
        assert client.post("/api/voices", json=wish | {"name": "../x"}).status_code == 400


def test_sounds_belong_to_a_page_and_are_bounded(synthesizer, song):
    good = sound_file(np.zeros((2, 4410)))
    with limited(synthesizer, sounds=1, sound_bytes=100_000) as client:
        assert brought_sound(client, "", "a.wav", good).status_code == 400
        with client.websocket_connect(LINE) as socket:
            session = socket.receive_json()["session"]
            assert "not a readable sound" in brought_sound(client, session, "a.wav", b"noise").json()["error"]
            assert "sounds are" in brought_sound(client, session, "a.exe", good).json()["error"]
            assert brought_sound(client, session, "a.wav", b"x" * 200_000).status_code == 413
            key = brought_sound(client, session, "../../a.wav", good).json()["sound"]
            path = client.app.state.studio.sounds.get(key, session).path
            assert path.is_file() and path.parent.name == key
            assert brought_sound(client, session, "b.wav", good).status_code == 413
            theirs = brought(client, song)["song"]
            assert client.post(f"/api/songs/{theirs}/matches", json={"sound": key}).status_code == 404
        until = time.monotonic() + PATIENCE
        while path.exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert not path.exists()


# playing


@pytest.fixture
def keyboard(client):
    from miao.live.stage import _compiled

    if _compiled is None:
        pytest.skip("the package was installed without a compiler")
    with client.websocket_connect(LINE.replace("session", "keyboard")) as socket:
        socket.send_json({"do": "choose", "program": 1, "room": "none"})
        while not (told := socket.receive()).get("text"):
            pass
        assert json.loads(told["text"]) == {"tell": "ready", "is_new": True}, told
        yield socket


def listened(socket, seconds, until=lambda sound: False):
    """What comes in some seconds of sound, f4[2, n]."""
    parts, n = [], 0
    while n < seconds * 44_100:
        received = socket.receive()
        if received.get("bytes"):
            part = np.frombuffer(received["bytes"], "<f4").reshape(-1, 2).T
            parts.append(part)
            n += part.shape[1]
            if until(part):
                break
    return np.concatenate(parts, axis=1)


def hertz(samples):
    spectrum = np.abs(np.fft.rfft(samples[0] * np.hanning(samples.shape[1]), 1 << 17))
    return float(spectrum.argmax() * 44_100 / (1 << 17))


def test_keys_that_are_pressed_sound_until_they_are_let_go(keyboard):
    assert not listened(keyboard, 0.1).any()
    keyboard.send_bytes(bytes([0x90, 69, 100]))
    listened(keyboard, 5.0, lambda part: np.abs(part).max() > 0.01)
    assert abs(hertz(listened(keyboard, 0.3)) - 440) < 2
    keyboard.send_bytes(bytes([0x80, 69, 64]))
    listened(keyboard, 10.0, lambda part: not part.any())
    assert not listened(keyboard, 0.1).any()


def test_the_room_changes_while_keys_are_held_and_they_sound_on(keyboard):
    keyboard.send_bytes(bytes([0x90, 69, 100]))
    listened(keyboard, 5.0, lambda part: np.abs(part).max() > 0.01)
    keyboard.send_json({"do": "choose", "program": 1, "room": "studio"})
    while not (told := keyboard.receive()).get("text"):
        pass
    assert json.loads(told["text"]) == {"tell": "ready", "is_new": False}
    assert abs(hertz(listened(keyboard, 0.3)) - 440) < 2


def test_panic_silences_and_nonsense_is_told(keyboard, client):
    for pitch in (60, 64, 67):
        keyboard.send_bytes(bytes([0x90, pitch, 100]))
    listened(keyboard, 5.0, lambda part: np.abs(part).max() > 0.01)
    for number in (123, 120):
        keyboard.send_bytes(bytes([0xB0, number, 0]))
    listened(keyboard, 10.0, lambda part: not part.any())
    keyboard.send_bytes(b"\x90" * 50)
    while not (told := keyboard.receive()).get("text"):
        pass
    assert "one MIDI message" in json.loads(told["text"])["message"]
    keyboard.send_json({"do": "ping", "at": 5})
    while not (told := keyboard.receive()).get("text"):
        pass
    pong = json.loads(told["text"])
    assert (pong["tell"], pong["at"], pong["block"]) == ("pong", 5.0, 256 / 44_100)


def test_one_who_plays_and_goes_leaves_no_thread(client, keyboard):
    studio, until = client.app.state.studio, time.monotonic() + PATIENCE
    while studio.n_keyboards > 1 and time.monotonic() < until:  # one of a test before, that is going
        time.sleep(0.01)
    assert studio.n_keyboards == 1
    keyboard.close()
    while studio.n_keyboards and time.monotonic() < until:
        time.sleep(0.01)
    assert studio.n_keyboards == 0
    while any(t.name == "miao live" for t in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(t.name == "miao live" for t in threading.enumerate())


# what programs read


def test_every_address_is_described_and_every_description_has_an_address(client):
    told = client.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    there = {(route.path, method.lower()) for route in client.app.routes if hasattr(route, "methods")
             for method in (route.methods or ()) if method != "HEAD"}  # fmt: skip
    described = {(path, method) for path, item in told["paths"].items() for method in item}
    assert described == there - {("/", "get"), ("/openapi.json", "get")}
    fields = set(told["components"]["schemas"]["Arrangement"]["properties"])
    assert fields == set(Arrangement.__dataclass_fields__)
    track = told["components"]["schemas"]["Arrangement"]["properties"]["tracks"]["additionalProperties"]["properties"]
    from miao.synth.arrangement import TrackChanges

    assert set(track) == set(TrackChanges.__dataclass_fields__)


def test_the_metrics_count(client, song):
    def value(name):
        (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
        return float(line.split()[1])

    before = value("miao_uploads_total"), value("miao_uploaded_bytes_total")
    brought(client, song)
    assert (value("miao_uploads_total"), value("miao_uploaded_bytes_total")) == (before[0] + 1, before[1] + len(song))
    assert value("miao_sessions") == 0 <= value("miao_streamed_samples_total")
