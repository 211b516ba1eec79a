"""Recordings become pairs: aligned, measured, told about; interrupted and divided work gives the same.

Where notes are placed, how near is a bar of method: less than a token of 20 ms.
"""

import json

import numpy as np
import pytest
import soundfile

from miao.bank.frames import WINDOW_SECONDS
from miao.bank.voices import VoiceTable
from miao.datasets import folder
from miao.datasets.pairs import read_shard, shards_of
from miao.datasets.prepare import finish, prepare
from miao.errors import DataError
from miao.measuring.part_voices import joined_fits

RATE = 16_000


def melody(seed, seconds=8.0):
    rng = np.random.default_rng(seed)
    return [(t, t + 0.4, int(48 + rng.integers(0, 24)), 90) for t in np.arange(0.5, seconds, 0.5)]


def played(notes, offset=0.0, seconds=None):
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 1e-4, int((seconds or notes[-1][1] + 1) * RATE))
    for start, _, pitch, _ in notes:
        first = round((start + offset) * RATE)
        t = np.arange(max(min(int(0.45 * RATE), len(sound) - first), 0)) / RATE
        hz = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * hz * t) / k**1.5 for k in range(1, 5))
        sound[first : first + len(t)] += 0.1 * tone * np.exp(-3 * t) * np.clip((0.45 - t) / 0.05, 0, 1)
    return sound


@pytest.fixture
def place(tmp_path, midi):
    """A folder with two good recordings; more are put into it by `put`."""

    def put(name, notes, sound):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".mid").write_bytes(midi({"notes": notes, "program": 4}))
        soundfile.write(path.with_suffix(".wav"), sound, RATE)
        return path

    put("first", melody(1), played(melody(1), 0.12))
    few = melody(2)[::2]
    put("test/second", few, played(few))
    return tmp_path / "mine", put


def prepared(root, output, **how):
    reports = {r.name: r for r in prepare(folder.recordings(root), output, **how)}
    return reports, finish(output)


def all_pairs(output):
    return {pair.name: pair for split in ("train", "validation", "test") if (output / split).is_dir()
            for shard in shards_of(output / split) for pair in read_shard(shard)}  # fmt: skip


def test_recordings_become_aligned_pairs_with_tokens(place, tmp_path):
    reports, summary = prepared(place[0], tmp_path / "out")
    (first,) = reports["folder/first"].parts
    assert first.offset_seconds == pytest.approx(0.12, abs=0.012)
    assert first.confidence > 0.2
    assert first.n_measured >= 0.8 * first.n_notes
    assert reports["folder/test/second"].split == "test"
    assert summary["rejected"] == []
    assert summary["recordings"]["test"] == 1
    pairs = all_pairs(tmp_path / "out")
    assert {p.rsplit("@")[1] for p in pairs} == {"0_00", "5_12"}
    pair = pairs["folder/first/mix@0_00"]
    assert len(pair.notes) >= 8
    assert (pair.notes["voice"] == 4).all()
    assert pair.notes["start"][0] == pytest.approx(0.62, abs=0.012)
    for n, tokens in pair.tokens.items():
        assert 0 <= pair.notes["start"][n] < WINDOW_SECONDS
        assert tokens.held[0, 4:20, 0].min() > 20
    rise = np.diff(pair.mel.astype(float).max(axis=1))
    assert abs(int(rise[:100].argmax()) - 62) <= 3
    table = VoiceTable.load(tmp_path / "out" / "voices.safetensors")
    assert abs(table.tune_cents[4, 60]) < 5
    assert sum(len(pair.tokens) for pair in pairs.values()) == summary["measured"]  # each note once
    assert summary["measured"] == sum(part.n_measured for report in reports.values() for part in report.parts)
    assert (table.tune_cents[5] == 0).all()


def test_what_cannot_be_used_is_left_out_and_named(place, tmp_path):
    root, put = place
    notes = melody(3)
    put("wrong", notes, played(melody(4)))
    put("silent", notes, np.zeros(5 * RATE))
    put("short", notes, played(notes)[: 6 * RATE])
    put("endless", notes, np.concatenate([played(notes), np.zeros(80 * RATE)]))
    put("broken sound", notes, played(notes)).with_suffix(".wav").write_bytes(b"no sound")
    put("broken score", notes, played(notes)).with_suffix(".mid").write_bytes(b"no score")
    reports, summary = prepared(root, tmp_path / "out", with_tokens=False)
    why = {row["name"]: row["why"] for row in summary["rejected"]}
    expected = {
        "folder/wrong/mix": "do not seem to be those of the sound", "folder/silent/mix": "silent",
        "folder/short/mix": "the sound ends after 6.0 s", "folder/endless/mix": "the notes end after",
        "folder/broken sound/mix": "not a readable sound file", "folder/broken score": "broken score.mid",
    }  # fmt: skip
    assert why.keys() == expected.keys()
    for name, words in expected.items():
        assert words in why[name]
    assert any("left out" in line for line in reports["folder/wrong"].lines())
    assert len(all_pairs(tmp_path / "out")) == 4
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["rejected"] == summary["rejected"]


def test_without_tokens_there_are_windows_all_the_same(place, tmp_path):
    _, summary = prepared(place[0], tmp_path / "out", with_tokens=False)
    pairs = all_pairs(tmp_path / "out")
    assert len(pairs) == summary["windows"] == 4
    assert not any(pair.tokens for pair in pairs.values())
    assert not (tmp_path / "out" / "voices.safetensors").exists()


def test_an_interrupted_run_goes_on(place, tmp_path):
    root, put = place
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepared(root, whole, with_tokens=False)
    next(prepare(folder.recordings(root), out, with_tokens=False))  # and no more
    for path in (out / "done").glob("000001*"):
        path.unlink()  # if a second one had begun
    first = (out / "train" / "pairs-000000.tar").stat().st_mtime_ns
    prepared(root, out, with_tokens=False)
    assert (out / "train" / "pairs-000000.tar").stat().st_mtime_ns == first
    assert contents(out) == contents(whole)
    put("another", melody(5), played(melody(5)))  # sorts before the others, and leaves their shards alone
    prepared(root, out, with_tokens=False)
    assert (out / "train" / "pairs-000000.tar").stat().st_mtime_ns == first
    assert len(all_pairs(out)) == 6


def contents(output):
    return {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_two_jobs_give_the_shards_of_one(place, tmp_path):
    prepared(place[0], tmp_path / "one", with_tokens=False)
    prepared(place[0], tmp_path / "two", with_tokens=False, n_jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_tracks_recorded_apart_are_parts(tmp_path, midi):
    root = tmp_path / "mine"
    root.mkdir()
    low = melody(1, 11.0)
    high = [(s + 0.25, e + 0.25, p + 24, v) for s, e, p, v in melody(2, 11.0)]
    (root / "duo.mid").write_bytes(midi({"notes": low, "program": 0}, {"notes": high, "program": 40, "channel": 1}))
    for number, notes in enumerate((low, high), start=1):
        soundfile.write(root / f"duo.{number}.wav", played(notes, 0.05), RATE)
    (report,) = prepare(folder.recordings(root), tmp_path / "out", with_tokens=False)
    assert [part.name for part in report.parts] == ["track 1", "track 2"]
    assert all(part.offset_seconds == pytest.approx(0.05, abs=0.012) for part in report.parts)
    voices = {name.split("/")[2]: set(pair.notes["voice"]) for name, pair in all_pairs(tmp_path / "out").items()}
    assert [v for _, v in sorted((k.split("@")[0], v) for k, v in voices.items())][:1] == [{0}]


def test_verify_names_what_has_no_partner(place):
    root, put = place
    put("alone", melody(1), played(melody(1))).with_suffix(".wav").unlink()
    put("sound", melody(1), played(melody(1))).with_suffix(".mid").unlink()
    faults = {fault.path: fault.what for fault in folder.verify(root)}
    assert faults == {"alone.mid": "there is no alone.wav or other sound beside it",
                      "sound.wav": "there is no sound.mid beside it"}  # fmt: skip


def test_unknown_and_missing_backends_are_named(place, tmp_path):
    recordings = folder.recordings(place[0])
    with pytest.raises(DataError, match="there are loky, dask, ray"):
        list(prepare(recordings, tmp_path / "out", backend="abacus"))
    for backend in ("dask", "ray"):
        try:
            __import__(backend)
        except ImportError:
            with pytest.raises(DataError, match=f"the backend {backend} needs a library"):
                list(prepare(recordings, tmp_path / "out", backend=backend))
    with pytest.raises(DataError, match="no recordings"):
        list(prepare([], tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no sound with a MIDI file"):
        folder.recordings(tmp_path / "empty")


def test_nothing_joined_is_nothing():
    assert joined_fits([]) == {}
