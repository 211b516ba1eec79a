"""How held notes of a bank's voices waver: at which key's pace, for how long, and what it is measured from."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.waver import PARTS, STEP_SECONDS
from miao.bank.wavers import Wavering, Wavers
from miao.datasets.notes import HELD_OUT_PITCHES, Source
from miao.errors import BankError
from miao.measuring.roundtrip import one_note_score, play
from miao.training import wavers as training
from miao.training.courses import held_chunks

TRUMPET = 56


def wavering(tops, slopes, n_steps=73):
    """Rows that rise by so many levels a step, there and back after the last one; pitches by half of it."""
    rise = np.minimum(np.arange(n_steps), 15)[:, None] * np.ones(tk.N_CELLS)
    rise[:, tk.PITCH_CELL] /= 2
    moves = np.array(slopes)[:, None, None] * rise * PARTS
    return Wavering(np.array(tops, np.uint8), np.clip(np.rint(moves), -127, 127).astype(np.int8))


WAVERS = Wavers.of([None, wavering([60, 72], [1.0, -1.0]), None, wavering([50], [0.5])])


def added(kind, voice, pitch, age, level=30.0):
    chunk = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), level, np.float32)
    chunk[..., 5] = 0  # silent
    before = chunk.copy()
    out = WAVERS.added(kind, chunk, np.array([voice]), np.array([pitch], np.float32), np.zeros(1, int), np.array([age]))
    np.testing.assert_array_equal(chunk, before)
    assert not out[..., 5].any()
    return out[0, :, 3] - np.float32(level)


def test_a_key_does_what_the_highest_of_its_sample_does_at_its_own_pace():
    steps = np.arange(13, 15)  # from 0.25 s on, in full
    at_top = added(tk.SUSTAIN, 1, 60, 13 * STEP_SECONDS)[:2]
    np.testing.assert_allclose(at_top, steps, atol=1e-4)
    np.testing.assert_allclose(added(tk.SUSTAIN, 1, 48, 13 * STEP_SECONDS)[:2], steps / 2, atol=1e-4)
    np.testing.assert_allclose(added(tk.SUSTAIN, 1, 61, 13 * STEP_SECONDS)[:2], -steps / 2 ** (11 / 12), atol=1e-4)
    assert added(tk.SUSTAIN, 1, 84, 13 * STEP_SECONDS)[0] == pytest.approx(-15, abs=1e-4)  # beyond the last: its sample
    assert added(tk.SUSTAIN, 3, 90, 1.0)[0] == pytest.approx(7.5)


def test_it_sets_in_and_leaves_others_as_they_are():
    assert not added(tk.ATTACK, 1, 60, 0.0)[:10].any() and added(tk.ATTACK, 1, 60, 0.0)[-1] > 3
    for voice in (0, 700):
        assert not added(tk.SUSTAIN, voice, 60, 1.0).any()


@pytest.mark.parametrize("index", [0, 1])
def test_what_was_added_last_is_taken_off_again(index):
    before, age = (tk.ATTACK, tk.SUSTAIN)[index], tk.ATTACK_SECONDS + index * tk.CHUNK_STEPS * STEP_SECONDS
    lasted = tk.CHUNK_STEPS * tk.STEP_SECONDS[before]
    voice, pitch = np.array([0, 1]), np.array([55.0, 55.0])
    chunks = np.full((2, tk.CHUNK_STEPS, tk.N_CELLS), 30.0, np.float32)
    last = WAVERS.added(before, chunks, voice, pitch, np.zeros(2, int), np.full(2, age - lasted))[:, -1]
    asked = WAVERS.taken_off(tk.SUSTAIN, last, voice, pitch, np.full(2, index), np.full(2, age))
    np.testing.assert_allclose(asked, chunks[:, 0], atol=1e-4)
    assert abs(last[1] - asked[1]).max() > 3 and (last[0] == asked[0]).all()


def test_a_file_gives_back_what_was_written_and_one_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "wavers.safetensors"
    WAVERS.save(path)
    again = Wavers.load(path)
    assert all(np.array_equal(getattr(WAVERS, f), getattr(again, f)) for f in Wavers.ARRAYS)
    beyond = dataclasses.replace(WAVERS, n_keys=WAVERS.n_keys + np.uint8(9))
    falling = dataclasses.replace(WAVERS, top=WAVERS.top[[1, 0, 2]])
    for wrong in (beyond, falling, dataclasses.replace(WAVERS, moves=WAVERS.moves[:, :0])):
        wrong.save(path)
        with pytest.raises(BankError, match=r"wavers\.safetensors"):
            Wavers.load(path)


@pytest.fixture(scope="module")
def bank():
    return Bank.load("gm", 1, has_more=False).with_wavers(None)


def test_a_bank_goes_on_as_if_nothing_had_been_added(bank):
    pitches = np.array([60, 67])
    waver = wavering([60, 72], [0.2, -0.2])
    both = bank, training.with_waver(bank, TRUMPET, waver)
    still, moving = (held_chunks(b, TRUMPET, pitches, 90.0, 2) for b in both)
    ages = 0.0, tk.ATTACK_SECONDS, tk.ATTACK_SECONDS + tk.CHUNK_STEPS * STEP_SECONDS
    for kind, age, ours, theirs in zip((tk.ATTACK, tk.SUSTAIN, tk.SUSTAIN), ages, moving, still, strict=True):
        alone = Wavers.of([waver])
        wanted = alone.added(kind, theirs, np.zeros(2, np.int64), pitches, np.zeros(2, int), np.full(2, age))
        clear = (wanted > 1) & (wanted < tk.N_LEVELS - 2)  # elsewhere levels end
        np.testing.assert_allclose(ours[clear], wanted[clear], atol=0.6)
    other = held_chunks(training.with_waver(bank, TRUMPET + 1, waver), TRUMPET, pitches, 90.0, 2)
    np.testing.assert_array_equal(np.stack(other), np.stack(still))


def tracks_of(keys, first_of_each, noise=0.0):
    """What keys do of which those from each of some on share a sample: a vibrato in the third partial, all its own."""
    random, found = np.random.default_rng(0), []
    for key in keys:
        home = max(first for first in first_of_each if first <= key)
        times = np.arange(90) * STEP_SECONDS * 2 ** ((key - home) / 12)
        track = random.normal(0, noise, (90, tk.N_CELLS))
        track[:, 2] += 3 * np.sin(2 * np.pi * (4 + home % 3) * times + home)
        found.append(track)
    return np.array(found)


def test_samples_are_parted_where_keys_no_longer_agree():
    keys = np.array([40, 41, 43, 44, 45, 47, 48, 49, 51, 52])
    found = training.samples(keys, tracks_of(keys, (40, 45, 49), noise=0.1))
    assert [keys[some].tolist() for some in found] == [[40, 41, 43, 44], [45, 47, 48], [49, 51, 52]]


def test_of_a_sample_is_kept_what_its_keys_agree_in_at_no_more_power():
    keys = np.array([60, 61, 63, 64])
    found = training.waver_of(keys, tracks_of(keys, (60,), noise=0.2), 0.5)
    assert found.tops.tolist() == [64] and found.moves.shape == (1, 73, tk.N_CELLS)
    levels = found.moves[0] / PARTS
    times = np.arange(73) * STEP_SECONDS * 2 ** (4 / 12)
    wanted = 1.5 * np.sin(2 * np.pi * 4 * times + 60)
    assert np.corrcoef(levels[:, 2], wanted)[0, 1] > 0.9
    assert np.ptp(levels[:, 2]) == pytest.approx(3.0, rel=0.3)
    noise = np.delete(levels[:, : tk.PITCH_CELL], 2, axis=1)
    assert np.square(noise).mean() < 0.001  # half of the mean of four is 0.0025
    powers = np.mean(10 ** (tk.LEVEL_STEP_DB * levels[:50, : tk.PITCH_CELL] / 10), axis=0)  # the first second
    np.testing.assert_allclose(powers, 1, atol=0.04)


class Teacher:
    """A sound bank that is a bank whose notes of a voice waver, or fall."""

    def __init__(self, bank, falls_db=0.0):
        self.bank, self.falls_db, self.asked = bank, falls_db, []

    def note(self, _program, pitch, velocity, seconds, **_):
        self.asked.append((pitch, velocity))
        sound = play(self.bank, one_note_score(TRUMPET, pitch, velocity, seconds), voice=TRUMPET)
        return sound * 10 ** (-self.falls_db * np.arange(sound.shape[1]) / 44_100 / 20).astype(np.float32)


@pytest.fixture
def few_keys(monkeypatch):
    monkeypatch.setattr(training, "MEASURED_KEYS", [61, 63, 64, 65])
    monkeypatch.setattr(training, "CHECKED_KEYS", (60, 66))


def trembling(n=73):
    """All levels go up and down by two, five times a second, at C#5; lower keys slower."""
    moves = np.zeros((1, n, tk.N_CELLS))
    moves[..., : tk.PITCH_CELL] = 2 * np.sin(2 * np.pi * 5 * np.arange(n) * STEP_SECONDS)[None, :, None]
    return Wavering(np.array([73], np.uint8), np.rint(moves * PARTS).astype(np.int8))


def test_how_a_teachers_notes_waver_is_found_and_brings_notes_of_other_keys_nearer(bank, few_keys):
    teacher = Teacher(training.with_waver(bank, TRUMPET, trembling()))
    found = training.measure_waver(teacher, bank, TRUMPET, Source(TRUMPET))
    assert found is not None and found.tops.tolist() == [65]
    ours = found.moves[0, 14:60, :6].mean(axis=1) / PARTS
    theirs = 2 * np.sin(2 * np.pi * 5 * 2 ** (-8 / 12) * np.arange(14, 60) * STEP_SECONDS)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95 and np.ptp(ours) == pytest.approx(4, rel=0.3)
    checked = [(key, 100, teacher.note(0, key, 100, 1.9)) for key in (60, 66)]
    before, after = (training._error(b, TRUMPET, checked) for b in (bank, training.with_waver(bank, TRUMPET, found)))
    assert after < 0.7 * before


def test_what_ours_do_as_well_is_none_of_it(bank, few_keys):
    keys, tracks = training.measure_tracks(Teacher(bank), bank, TRUMPET, Source(TRUMPET))
    assert keys.tolist() == [61, 63, 64, 65] and tracks.shape == (4, 90, tk.N_CELLS)
    assert np.abs(tracks[:, 5:20, :6]).mean() < 0.28  # as they settle


def test_a_program_that_fades_soon_stays_still(bank, few_keys):
    teacher = Teacher(training.with_waver(bank, TRUMPET, trembling()), falls_db=10.0)
    assert training.measure_waver(teacher, bank, TRUMPET, Source(TRUMPET)) is None


def test_a_waver_that_takes_other_keys_away_is_not_kept(bank, few_keys, monkeypatch):
    monkeypatch.setattr(
        training, "_error", lambda b, *_: 2.0 if b.additions.wavers is None else 2.0 + 2 * training.MOST_WORSE_DB
    )
    assert training.measure_waver(Teacher(bank), bank, TRUMPET, Source(TRUMPET)) is None


def test_keys_that_are_asked_are_neither_measured_nor_held_out():
    assert not {*training.CHECKED_KEYS} & {*training.MEASURED_KEYS, *HELD_OUT_PITCHES}
    assert not {*training.MEASURED_KEYS} & {*HELD_OUT_PITCHES}


def test_what_was_measured_is_kept_and_those_said_to_be_still_are(bank, few_keys, monkeypatch, tmp_path):
    teacher = Teacher(training.with_waver(bank, TRUMPET, trembling()))
    monkeypatch.setattr(training, "SoundFont", lambda _: teacher)
    for _ in range(2):
        list(training.prepare_wavers(tmp_path, tmp_path, bank, {TRUMPET: Source(TRUMPET)}))
    assert teacher.asked.count((61, training.VELOCITY)) == 1
    assert training.gathered_wavers(tmp_path, 128).first.tolist() == [-1] * TRUMPET + [0] + [-1] * (127 - TRUMPET)
    monkeypatch.setattr(training, "STILL", (TRUMPET,))
    assert (training.gathered_wavers(tmp_path, 128).first < 0).all()
