"""Voices and rooms learnt from music: powers add up, shifts are what is heard, recorded notes lead, a room is found."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.level_shift import AGES, SINCE, LevelShift, knot_shares
from miao.bank.recorded_notes import RecordedNotes
from miao.bank.voices import PITCH_NODES
from miao.cli.main import app
from miao.measuring.power import cell_powers, noise_powers, note_courses, powers
from miao.measuring.rooms import room_of
from miao.measuring.roundtrip import one_note_score
from miao.midi.score import notes_array
from miao.sound.decay import measure_octaves
from miao.sound.spectrum import HOP_SAMPLES, SAMPLE_RATE, log_mel, log_mel_error
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems
from miao.training.new_voice import program_copy

ABOUT = {"name": "mine", "bank": "gm"}


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


def shift_of(held=0.0, let_go=0.0, by_velocity=0.0):
    levels = np.zeros((len(AGES), 2, PITCH_NODES, tk.N_CELLS - 1), np.float16)
    levels[:, 0], levels[:, 1] = held, by_velocity
    ends = np.full((len(SINCE), PITCH_NODES, tk.N_CELLS - 1), let_go, np.float16)
    ends[0] = 0
    return LevelShift(levels, ends, np.array([0.5], np.float32))


def voice_of(gm, **parts):
    return replace(program_copy(gm, 0, 0.0, ABOUT | {"nets": gm.nets_checksum}), **parts)


def asked(kind, voice):
    inputs = {"voice": np.array([voice]), "pitch": np.float32([60]), "velocity": np.float32([0.5]),
              "index": np.array([0]), "age": np.float32([0.16]),
              "previous": np.full((1, tk.N_CELLS), 30, np.float32)}  # fmt: skip
    return {"kind": kind, "context": np.zeros((1, 0), np.float32)} | inputs


def play(bank, **inputs):
    inputs["context"] = np.zeros((1, bank.context_width), np.float32)
    return bank.decode(inputs.pop("kind"), **inputs)[0]


# shifts


def test_a_shift_is_taken_off_where_it_was_added():
    rng = np.random.default_rng(0)
    shift = LevelShift(rng.normal(0, 2, (len(AGES), 2, PITCH_NODES, tk.N_CELLS - 1)).astype(np.float16),
                       np.zeros((len(SINCE), PITCH_NODES, tk.N_CELLS - 1), np.float16), np.float32([0.4]))  # fmt: skip
    levels = rng.uniform(20, 40, (3, tk.CHUNK_STEPS, tk.N_CELLS)).astype(np.float32)
    note = {"pitch": np.float32([40, 61, 80]), "velocity": np.float32([0.2, 0.5, 0.9]), "index": np.array([0, 1, 2])}
    age = np.float32([0.16, 0.8, 1.44])
    added = shift.added(tk.SUSTAIN, levels, **note, age=age)
    before = shift.taken_off(tk.SUSTAIN, added[:, 0], **note, age=age)
    np.testing.assert_allclose(before, levels[:, 0], atol=1e-3)
    assert np.abs(added - levels)[..., : tk.PITCH_CELL].mean() > 0.5
    np.testing.assert_array_equal(added[..., tk.PITCH_CELL], levels[..., tk.PITCH_CELL])


def test_a_voice_with_a_shift_is_what_the_program_writes_and_the_shift(gm):
    plain, louder = (gm.with_voices([voice_of(gm, shift=shift)]) for shift in (None, shift_of(held=4)))
    for kind in (tk.ATTACK, tk.SUSTAIN, tk.RELEASE):
        inputs = asked(kind, len(gm.table.kind))
        raised = inputs | {"previous": inputs["previous"] + np.float32(4) * (np.arange(tk.N_CELLS) < tk.PITCH_CELL)}
        expected, heard = play(plain, **inputs), play(louder, **raised)
        sounding = (expected > 1) & (expected < 58)
        sounding[..., tk.PITCH_CELL] = False
        np.testing.assert_allclose((heard - expected)[sounding], 4, atol=1e-2)


def test_a_shift_follows_velocity_and_the_time_since_the_key_came_up(gm):
    at = shift_of(let_go=3, by_velocity=10).at(
        np.float32([60, 60]), np.float32([0.5, 0.7]), np.float32([[1.0], [1.0]]), np.array([[0.0], [2.0]])
    )
    np.testing.assert_allclose(at[:, 0, 5], [0, 2 + 3], atol=0.02)
    np.testing.assert_allclose(knot_shares(np.array([0.0, 0.065, 99.0]), AGES)[:, :3].sum(axis=1), [1, 1, 0], atol=1e-6)


def test_a_voice_from_music_wavers_as_its_program_does_by_default(gm):
    pytest.importorskip("torch")
    from miao.training import music_voice

    by_default = music_voice.default_at(gm, gm.voice(40, 60, is_drum=False))
    fit = SimpleNamespace(shifts=(shift_of(), shift_of()))
    violin, organ = music_voice._voices(gm, [40, 19], [40, 19], ["violin", "organ"], fit, ABOUT)
    assert by_default.waver is not None and violin.waver is by_default.waver
    assert organ.waver is None


def test_a_voice_file_keeps_shift_and_recorded_notes(gm, tmp_path):
    notes = RecordedNotes.of([60, 64], [80, 90], [tokens(20), tokens(30)], [True, False], 5.0)
    voice = voice_of(gm, shift=shift_of(2, 1, 3), recorded=notes)
    voice.save(tmp_path / "v.safetensors")
    read = LearntVoice.load(tmp_path / "v.safetensors")
    for part, other in ((voice.shift, read.shift), (voice.recorded, read.recorded)):
        for name in part.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(part, name), getattr(other, name))
    replace(voice_of(gm), key_levels=None).save(tmp_path / "w.safetensors")
    plain = LearntVoice.load(tmp_path / "w.safetensors")
    assert plain.shift is None and plain.recorded is None and plain.about["format"] == "miao voice 1"


# recorded notes


def tokens(level, n_chunks=3, hold=1.0):
    held = np.full((n_chunks, tk.CHUNK_STEPS, tk.N_CELLS), level, np.uint8)
    release = np.full((2, tk.CHUNK_STEPS, tk.N_CELLS), level // 2, np.uint8)
    return tk.NoteTokens(held, release, hold)


def led(notes, kind, pitch, velocity=80 / 127, index=0, written=7.0, previous=None):
    levels = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), written, np.float32)
    before = None if previous is None else np.full((1, tk.N_CELLS), previous, np.float32)
    return notes.led(kind, levels, np.float32([pitch]), np.float32([velocity]), np.array([index]), before)[0]


def test_recorded_notes_are_said_again_and_between_them_levels_run_straight():
    notes = RecordedNotes.of([60, 64], [80, 80], [tokens(20), tokens(40)], [True, True], 0.0)
    assert (led(notes, tk.ATTACK, 60) == 20).all() and (led(notes, tk.ATTACK, 64) == 40).all()
    np.testing.assert_allclose(led(notes, tk.ATTACK, 61), 25)
    np.testing.assert_allclose(led(notes, tk.SUSTAIN, 63), 35)
    assert (led(notes, tk.ATTACK, 50) == 7).all() and (led(notes, tk.ATTACK, 55) == 20).all()  # far off: the nets


def test_between_two_strengths_levels_run_straight_and_beyond_they_rise_as_the_program():
    notes = RecordedNotes.of([60, 60], [40, 100], [tokens(20), tokens(30)], [True, True], 10.0)
    np.testing.assert_allclose(led(notes, tk.ATTACK, 60, 70 / 127)[:, 0], 25, atol=1e-4)
    np.testing.assert_allclose(led(notes, tk.ATTACK, 60, 127 / 127)[:, 0], 30 + 10 * 27 / 127, atol=1e-4)


def test_where_a_recording_ends_the_nets_go_on():
    note = tokens(20, hold=0.16 + 0.1)  # five steps into the sustain
    note.held[1, 5:] = 0
    notes = RecordedNotes.of([60], [80], [note], [True], 0.0)
    fall = 0.1 * np.arange(tk.CHUNK_STEPS)
    chunk = led(notes, tk.SUSTAIN, 60, written=7 - fall[:, None])
    assert (chunk[:5] == 20).all()
    np.testing.assert_allclose(chunk[4:, 3], 20 - fall[:-4], rtol=1e-5)  # falls on from there as the nets do
    assert (led(notes, tk.SUSTAIN, 60, index=1) == 7).all()


def test_a_release_falls_from_where_the_note_is():
    notes = RecordedNotes.of([60], [80], [tokens(20)], [True], 0.0)
    np.testing.assert_allclose(led(notes, tk.RELEASE, 60, previous=32)[:, 0], 22)
    np.testing.assert_allclose(led(notes, tk.RELEASE, 60, index=1, previous=22)[:, 0], 22)
    unheard = RecordedNotes.of([60], [80], [tokens(20)], [False], 0.0)
    assert (led(unheard, tk.RELEASE, 60, previous=32) == 7).all()


# powers


def notes_of(*rows):
    return notes_array([(start, damp, damp, pitch, velocity, 0, 0, False) for start, damp, pitch, velocity in rows])


def test_the_power_of_notes_is_that_of_their_rendering(gm):
    notes = notes_of((0.1, 1.0, 48, 90), (0.4, 0.8, 64, 60), (0.9, 1.5, 67, 110))
    n_frames = int(2.0 * SAMPLE_RATE / (2 * HOP_SAMPLES))
    voice = gm.voice(0, 60, is_drum=False)  # what plays by default
    courses = note_courses(gm, voice, notes, n_frames)
    matrices = {p: cell_powers(gm.table, voice, p, noise_powers()) for p in (48, 64, 67)}
    predicted = 10 * np.log10(np.maximum(powers(courses, matrices, 96), 1e-14))
    plain = one_note_score(0, 60, 80, 0.5)
    score = replace(plain, tracks=(replace(plain.tracks[0], notes=notes),))
    sound = np.concatenate([block.stems[0] for block in stream_stems(gm, score, PlaySettings())], axis=1)
    heard = log_mel(sound[:, : 2 * SAMPLE_RATE], hop_samples=2 * HOP_SAMPLES)[:n_frames]
    assert log_mel_error(heard, predicted) < 3.0
    late = np.roll(predicted, 3, axis=0)
    assert log_mel_error(heard, late) > log_mel_error(heard, predicted) + 1


def random_piece(gm, rng, seconds=8.0):
    starts = np.sort(rng.uniform(0, seconds - 1, 30))
    rows = [(s, s + rng.uniform(0.1, 0.8), int(rng.integers(45, 80)), int(rng.integers(40, 115))) for s in starts]
    return note_courses(gm, 0, notes_of(*rows), int(seconds * SAMPLE_RATE / (2 * HOP_SAMPLES)))


@pytest.mark.slow
def test_a_room_and_a_shift_are_learnt_back_from_the_sum_of_notes(gm):
    torch = pytest.importorskip("torch")
    from miao.training.learn_music import Fitted
    from miao.training.music_model import MusicConfig, Piece

    rng = np.random.default_rng(0)
    blank = [Piece((random_piece(gm, rng),), np.zeros((int(8.0 * SAMPLE_RATE / (2 * HOP_SAMPLES)), 73), np.float32))
             for _ in range(3)]  # fmt: skip
    truth = Fitted(gm, [0], blank, MusicConfig())
    with torch.no_grad():
        truth.music.decay += float(np.log(1.5 / 0.8))
        truth.music.tail += 1.5  # 3 dB
        truth.music.floor -= 50
        truth.music.levels[0].held[:, 0, -1] += 2.0
        pieces = [replace(piece, heard_db=truth.music.heard_db(truth.music.dry(ready, True)).numpy())
                  for piece, ready in zip(blank, truth.ready, strict=True)]  # fmt: skip
    fitted = Fitted(gm, [0], pieces, MusicConfig(room_steps=90, steps=30))
    errors = fitted.learn()
    assert errors["gain"] > 2.5 > 1.0 > errors["all"]
    found = fitted.result(8000)
    # what is predicted adds up in power for certain, so that nothing is found short
    np.testing.assert_allclose(fitted.music.times().detach().numpy()[3:6], 1.5, rtol=0.15)
    np.testing.assert_allclose(found.room_db[3:6], truth.result(8000).room_db[3:6], atol=1.5)
    assert found.known.tolist() == [True] * 7 + [False] * 2
    room = room_of(found.t60_seconds, found.room_db, found.known)
    heard = measure_octaves(room.response(44_100).reshape(4, -1), 44_100)
    assert heard[4].t60_seconds == pytest.approx(1.5, rel=0.2)


def test_a_piece_is_cut_in_time(gm):
    from miao.training.music_model import Piece

    courses = random_piece(gm, np.random.default_rng(1))
    piece = Piece((courses,), np.zeros((courses.n_frames, 10), np.float32))
    first, second = piece.part(0, 100), piece.part(100, courses.n_frames)
    (early,), (late,) = first.courses, second.courses
    assert len(early.frame) + len(late.frame) == len(courses.frame)
    assert early.frame.max() < 100 and late.frame.min() >= 0
    assert second.n_frames == late.n_frames == courses.n_frames - 100


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.wav", "--midi", "a.mid", "--midi", "b.mid"], "1 recordings and 2 MIDI files"),
        (["a.wav", "--midi", "a.mid"], "silent"),
        (["b.wav", "--midi", "a.mid"], "0.5 s are too little"),
        (["a.wav", "--midi", "a.mid", "--tracks", "7"], "there is no track 7"),
        (["c.wav", "--midi", "a.mid"], "does not sound like its notes"),
    ],
)
def test_mistakes_with_music_are_told_in_one_line(tmp_path, monkeypatch, midi, words, says):
    from miao.sound.audio import Audio

    monkeypatch.chdir(tmp_path)
    Audio(np.zeros((1, 8 * 8000)), 8000).save("a.wav")
    Audio(np.zeros((1, 4000)), 8000).save("b.wav")
    Audio(0.1 * np.random.default_rng(0).standard_normal((1, 8 * 8000)), 8000).save("c.wav")
    (tmp_path / "a.mid").write_bytes(midi({"notes": [(0.5 * i, 0.5 * i + 0.4, 60 + i, 80) for i in range(14)]}))
    result = CliRunner().invoke(
        app, ["learn", *words, "--name", "mine", "--voices", "v", "--rooms", "r"], prog_name="miao"
    )
    assert result.exit_code == 2 and says in result.stderr
    assert not (tmp_path / "v").exists() and not (tmp_path / "r").exists()
