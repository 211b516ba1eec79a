"""A sound bank as a teacher: a SoundFont of one looped tone, written byte by byte, from file to shards."""

import struct
import warnings

import numpy as np
import pytest

from miao.bank.folder import bank_folder
from miao.bank.frames import window_mel
from miao.bank.voices import N_PROGRAMS, N_VOICES, drum_voice
from miao.datasets import kits
from miao.datasets import notes as notes_module
from miao.datasets.bank_pairs import PairSettings, _voices_in, _voices_of, make_pair, make_pairs
from miao.datasets.kits import find_extras, own_voices
from miao.datasets.notes import (
    HELD_OUT_PITCHES,
    Source,
    draw_notes,
    load_notes,
    load_table,
    prepare,
    source_of,
    training_pitches,
)
from miao.datasets.soundfont import SAMPLE_RATE, PlayedNote, SoundFont
from miao.errors import DataError
from miao.measuring.partials import spectral_peaks
from miao.midi.score import read_score
from miao.sound.spectrum import log_mel, log_mel_error

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fluidsynth  # noqa: F401
    HAS_FLUIDSYNTH = True
except ImportError:
    HAS_FLUIDSYNTH = False

needs_fluidsynth = pytest.mark.skipif(not HAS_FLUIDSYNTH, reason="FluidSynth is not installed")


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_soundfont(path):
    """Program 0 and drum kit 0: a tone of three harmonics at A4, looped over whole periods, at all keys."""
    n = 44_100 // 10  # 44 periods of 440 Hz
    t = np.arange(n + 64) / 44_100
    tone = sum(a * np.sin(2 * np.pi * 440 * k * t) for k, a in ((1, 0.5), (2, 0.25), (3, 0.1)))
    samples = np.concatenate([(tone * 32_000).astype("<i2"), np.zeros(46, "<i2")]).tobytes()
    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0") + chunk(b"INAM", b"one\0")
    name = lambda text: text.encode().ljust(20, b"\0")  # noqa: E731
    records = {
        b"phdr": struct.pack("<20sHHHIII", name("tone"), 0, 0, 0, 0, 0, 0)
        + struct.pack("<20sHHHIII", name("kit"), 0, 128, 1, 0, 0, 0)
        + struct.pack("<20sHHHIII", name("EOP"), 0, 0, 2, 0, 0, 0),
        b"pbag": struct.pack("<HH", 0, 0) + struct.pack("<HH", 1, 0) + struct.pack("<HH", 2, 0),
        b"pmod": bytes(10),
        b"pgen": 2 * struct.pack("<HH", 41, 0) + bytes(4),  # instrument 0
        b"inst": struct.pack("<20sH", name("tone"), 0) + struct.pack("<20sH", name("EOI"), 1),
        b"ibag": struct.pack("<HH", 0, 0) + struct.pack("<HH", 2, 0),
        b"imod": bytes(10),
        b"igen": struct.pack("<HH", 54, 1) + struct.pack("<HH", 53, 0) + bytes(4),  # loop, sample 0
        b"shdr": struct.pack("<20sIIIIIBbHH", name("tone"), 0, n + 64, 0, n, 44_100, 69, 0, 0, 1)
        + struct.pack("<20sIIIIIBbHH", name("EOS"), 0, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    pdta = b"".join(chunk(key, value) for key, value in records.items())
    body = chunk(b"LIST", b"INFO" + info) + chunk(b"LIST", b"sdta" + chunk(b"smpl", samples))
    path.write_bytes(chunk(b"RIFF", b"sfbk" + body + chunk(b"LIST", b"pdta" + pdta)))
    return path


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    opened = SoundFont(write_soundfont(tmp_path_factory.mktemp("font") / "tone.sf2"))
    yield opened
    opened.close()


def test_held_out_pitches_are_never_rendered_for_training():
    for part in (0, 1):
        assert not set(training_pitches(Source(0), part)) & set(HELD_OUT_PITCHES)
    velocities = {velocity for _, velocity, _ in draw_notes(source_of(N_PROGRAMS + 5), 0, np.random.default_rng(0))}
    assert not velocities & {44, 45, 46, 79, 80, 81, 114, 115, 116}


@needs_fluidsynth
def test_a_note_is_rendered_at_its_pitch(font):
    sound = font.note(0, 57, 100, 0.5)
    hz, power, _ = spectral_peaks(sound, SAMPLE_RATE, 0.4)
    assert hz[np.argmax(power)] == pytest.approx(220, rel=0.002)


@needs_fluidsynth
def test_a_drum_kit_that_is_not_there_sounds_as_the_standard_kit(font):
    there, not_there = (font.note(kit, 60, 100, 0.2, is_drum=True) for kit in (0, 30))
    assert there.any()
    np.testing.assert_allclose(np.std(not_there), np.std(there), rtol=0.05)
    with pytest.raises(DataError, match="has no program 30"):
        font.note(30, 60, 100, 0.2)


def test_a_kit_that_sounds_like_the_standard_one_at_another_loudness_shares_its_voice(monkeypatch):
    """Teacher: kit 8 is the standard kit 6 dB softer, but for key 36, which is another sound; kit 16 is kit 8."""
    random = np.random.default_rng(0)
    hits = random.normal(0, 0.1, (3, 2, 8000)) * np.exp(-np.arange(8000) / 2000)
    hits[2] *= np.sin(np.arange(8000) / 20)

    class Teacher:
        def has(self, program, bank):
            return bank == 0

    def rendered(font, source, pitch, velocity, seconds):
        if source.key is None:
            return np.zeros((2, 100))
        softer = 10 ** (-6 / 20) if source.program in (8, 16) else 1.0
        return hits[2] if source.program in (8, 16) and pitch == 36 else softer * hits[pitch % 2]

    monkeypatch.setattr(kits, "render", rendered)
    monkeypatch.setattr(kits, "KITS", (8, 16))
    extras = {(e.source.program, e.source.key): e for e in find_extras(Teacher(), keys=range(35, 38))}
    assert set(extras) == {(kit, key) for kit in (8, 16) for key in (35, 36, 37)}
    own = extras[8, 36]
    assert own.voice == own.row == N_VOICES and own.gain_db == 0
    assert (extras[16, 36].voice, extras[16, 36].row) == (N_VOICES, N_VOICES)
    assert own_voices([*extras.values()]) == [own]
    for key in (35, 37):
        assert extras[8, key].row == drum_voice(key) and extras[8, key].gain_db == -6
        assert extras[8, key].voice == extras[16, key].voice > N_VOICES


@needs_fluidsynth
def test_a_phrase_is_the_sum_of_its_notes(font):
    """Why notes measured alone are true targets inside a phrase, too."""
    played = [PlayedNote(0.0, 0.4, 60, 100), PlayedNote(0.2, 0.5, 67, 60)]
    phrase = font.phrase(0, played, 0.5)
    total = sum(font.phrase(0, [note], 0.5) for note in played)
    # as spectra: starts are exact to FluidSynth's blocks of 64 samples only
    assert log_mel_error(log_mel(total), log_mel(phrase)) < 1.5
    assert log_mel_error(log_mel(font.phrase(0, played[:1], 0.5)), log_mel(phrase)) > 3


@needs_fluidsynth
def test_shards_are_made_once_and_read_back(tmp_path, monkeypatch):
    path = write_soundfont(tmp_path / "tone.sf2")
    monkeypatch.setattr(notes_module, "PITCHES", range(57, 62))
    shards = sorted(prepare(path, tmp_path / "notes", {0: Source(0)}, 1))
    assert [s.name for s in shards] == ["voice_000.0.npz", "voice_000.1.npz"]
    before = [s.stat().st_mtime_ns for s in shards]
    assert sorted(prepare(path, tmp_path / "notes", {0: Source(0)}, 1)) == shards
    assert [s.stat().st_mtime_ns for s in shards] == before
    notes, table = load_notes(tmp_path / "notes"), load_table(tmp_path / "notes")
    assert {n.pitch for n in notes} == {57, 58, 59, 60, 61}
    assert abs(table.tune_cents[0, 60]) < 3
    loudest = notes[0].tokens.held[1, 5]
    assert np.argmax(loudest[:48]) == 0 and loudest[0] > loudest[1] > loudest[2] > loudest[5]


def test_a_missing_or_broken_sound_bank_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing.sf2: no such SoundFont"):
        SoundFont(tmp_path / "nothing.sf2")
    if HAS_FLUIDSYNTH:
        (tmp_path / "broken.sf2").write_bytes(b"RIFF....sfbk")
        with pytest.raises(DataError, match="not a SoundFont that FluidSynth can read"):
            SoundFont(tmp_path / "broken.sf2")


def test_a_folder_without_shards_says_how_to_make_them(tmp_path):
    with pytest.raises(DataError, match="miao data soundfont"):
        load_notes(tmp_path)


@needs_fluidsynth
def test_pairs_of_a_bank_hold_notes_image_sound_and_tokens(font, midi, tmp_path):
    scores = tmp_path / "scores"
    scores.mkdir()
    notes = [(0.4 * n, 0.4 * n + 0.3, 60 + n % 12, 90) for n in range(16)]
    (scores / "tune.mid").write_bytes(midi({"notes": notes}))
    (track,) = read_score(scores / "tune.mid").tracks
    _, keys, table = _voices_of(bank_folder("gm"))
    settings = PairSettings(measured=2, mixes=0, keeps_sound=True)
    pair = make_pair(font, (track,), 0.5, ([0], keys, table), settings, np.random.default_rng(0), "tune")
    assert pair.sound.shape == (225_792,) and np.abs(pair.sound).max() > 0.01
    assert set(pair.notes["voice"]) == {0} and len(pair.tokens) == 2
    first = pair.notes[pair.notes["start"] >= 0][0]
    begin = round(first["start"] * SAMPLE_RATE)
    before, after = pair.sound[max(begin - 2000, 0) : begin], pair.sound[begin : begin + 2000]
    assert np.square(after).mean() > np.square(before).mean(), "it starts where its notes say"
    mel = window_mel(pair.sound)
    np.testing.assert_allclose(mel.astype(float), pair.mel.astype(float), atol=0.2)
    silent = PairSettings(measured=0)
    without = make_pair(font, (track,), 0.5, ([0], keys, table), silent, np.random.default_rng(0), "tune")
    assert without.sound is None and not without.tokens


@needs_fluidsynth
def test_pairs_want_voices_and_enough_scores(font, tmp_path):
    path = write_soundfont(tmp_path / "tone.sf2")
    with pytest.raises(DataError, match=r"neither voice_.*nor a bank's voices"):
        list(make_pairs(path, [tmp_path], tmp_path, tmp_path / "pairs", PairSettings(1), 1))
    with pytest.raises(DataError, match=r"too few MIDI files \(0\)"):
        list(make_pairs(path, [tmp_path], bank_folder("gm"), tmp_path / "pairs", PairSettings(1), 1))
    assert _voices_in(bank_folder("gm"))[0] == list(range(N_VOICES))
