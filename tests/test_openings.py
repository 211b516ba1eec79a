"""What is added while notes open: to which cells, when, of which keys, and what it is measured from."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.openings import COARSE, END_SECONDS, FINE, Opening, Openings, shares
from miao.datasets.notes import Source
from miao.errors import BankError
from miao.measuring.roundtrip import one_note_score, play
from miao.training import evenness, key_levels
from miao.training import openings as training


def opening(lowest, semitones, by_key, is_fine=False):
    """An opening that adds so many levels to all cells at each knot, key by key."""
    knots = len(FINE if is_fine else COARSE)
    levels = np.repeat(np.array(by_key, np.float32)[:, None, None], knots, axis=1)
    return Opening(lowest, semitones, is_fine, np.repeat(levels, tk.N_CELLS - 1, axis=2))


OPENINGS = Openings.of([None, opening(60, 3, [2.0, 5.0]), None, opening(50, 1, [4.0], is_fine=True)])


def added(kind, voice, pitch, index=0, level=30.0):
    chunk = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), level, np.float32)
    out = OPENINGS.added(kind, chunk, np.array([voice]), np.array([pitch], np.float32), np.array([index]))
    assert (out[..., tk.PITCH_CELL] == level).all() and (chunk == level).all()
    return out[0, :, 3] - np.float32(level)


def test_between_measured_keys_it_runs_straight_and_beyond_them_stays():
    found = [added(tk.ATTACK, 1, pitch)[9] for pitch in (20, 60, 61, 62, 63, 100)]
    np.testing.assert_allclose(found, [2, 2, 3, 4, 5, 5])
    assert added(tk.ATTACK, 3, 90)[9] == 4  # a voice of one key
    assert not added(tk.ATTACK, 0, 60).any() and not added(tk.ATTACK, 9, 60).any()


@pytest.mark.parametrize("voice", [1, 3])
def test_it_fades_within_the_first_sustain_chunk_and_then_nothing_is_added(voice):
    opens = added(tk.SUSTAIN, voice, 60)
    assert opens[0] > 1.9 and (np.diff(opens) <= 0).all() and opens[-1] == 0
    assert not added(tk.SUSTAIN, voice, 60, index=1).any() and not added(tk.RELEASE, voice, 60).any()


def test_silence_stays_silence():
    assert not added(tk.ATTACK, 3, 50, level=0.2).any()


def test_nets_are_told_of_tokens_as_they_were_before_anything_was_added():
    def taken(kind, index, age):
        token = np.full((1, tk.N_CELLS), 30, np.float32)
        some = {"voice": np.array([1]), "pitch": np.array([60.0]), "index": np.array([index]), "age": np.array([age])}
        return 30 - float(OPENINGS.taken_off(kind, token, **some)[0, 3])

    assert taken(tk.SUSTAIN, 0, 0.16) == pytest.approx(2)
    assert taken(tk.SUSTAIN, 1, 0.8) == 0
    assert taken(tk.RELEASE, 0, 0.05) == pytest.approx(2)
    late = taken(tk.RELEASE, 0, 0.7)
    assert 0 < late < 1
    assert taken(tk.RELEASE, 0, END_SECONDS + 0.1) == 0 and taken(tk.RELEASE, 1, 0.05) == 0


def test_each_knot_is_itself_at_its_time():
    for knots in (COARSE, FINE):
        np.testing.assert_allclose(shares(knots, knots), np.eye(len(knots)), atol=1e-6)
        assert not shares(np.array([END_SECONDS, 2.0]), knots).any()


def test_a_file_gives_back_what_was_written_and_a_wrong_one_is_told(tmp_path):
    path = tmp_path / "openings.safetensors"
    OPENINGS.save(path)
    again = Openings.load(path)
    assert all(np.array_equal(getattr(OPENINGS, f), getattr(again, f)) for f in OPENINGS.__dataclass_fields__)
    dataclasses.replace(OPENINGS, n_keys=OPENINGS.n_keys + np.uint8(9)).save(path)
    with pytest.raises(BankError, match="names rows of keys that are not there"):
        Openings.load(path)


def test_voices_that_share_rows_share_openings_and_unknown_ones_have_none():
    chosen = OPENINGS.chosen(np.array([3, 1, 1, 700]))
    assert chosen.first[1] == chosen.first[2] == 0 and chosen.first[3] == -1
    assert chosen.is_fine.tolist()[:2] == [1, 0]


def test_a_bank_adds_them_to_the_voice_and_goes_on_as_before():
    bank = Bank.load("gm", 1, has_more=False).with_openings(None)
    moved = bank.with_openings(Openings.of([None] * 56 + [opening(60, 1, [-6.0])]))
    for voice, softer in ((56, True), (57, False)):
        score = one_note_score(voice, 60, 100, 1.6)
        a, b = (play(some, score, voice=voice) for some in (bank, moved))
        loud = [10 * np.log10(np.square(b[:, at]).sum() / np.square(a[:, at]).sum())
                for at in (slice(3000, 9000), slice(45_000, 65_000))]  # fmt: skip
        np.testing.assert_allclose(loud, [-10.5 if softer else 0.0, 0.0], atol=0.4)


class Teacher:
    """A sound bank that is a bank whose notes of a voice open otherwise, or are louder."""

    def __init__(self, bank, voice, gain_db=0.0):
        self.bank, self.voice, self.gain = bank, voice, 10 ** (gain_db / 20)

    def note(self, _program, pitch, velocity, seconds, **_):
        return self.gain * play(self.bank, one_note_score(self.voice, pitch, velocity, seconds), voice=self.voice)


@pytest.fixture
def few_keys(monkeypatch):
    monkeypatch.setattr(training, "KEYS", range(57, 64))
    monkeypatch.setattr(key_levels, "_CHECKED_KEYS", (58, 62))


def test_how_a_teachers_notes_open_is_found(few_keys):
    bank = Bank.load("gm", 1, has_more=False).with_openings(None)
    wanted = opening(57, 3, [-4.0] * 3)
    wanted.levels[:, 4:] = 0  # softer for the first 50 ms, then as ever
    teacher = Teacher(training.with_opening(bank, 56, wanted), 56)
    found = training.measure_opening(teacher, bank, 56, Source(56))
    assert found is not None and found.semitones == 3 and not found.is_fine
    loud = found.levels[1, :, :4].mean(axis=1)
    assert loud[1] == pytest.approx(-4, abs=1.5) and abs(loud[5:]).max() < 0.7
    before, after = (training.checked_error(teacher, b, 56, Source(56))
                     for b in (bank, training.with_opening(bank, 56, found)))  # fmt: skip
    assert after < 0.8 * before


def test_an_opening_that_brings_nothing_is_not_kept(few_keys):
    bank = Bank.load("gm", 1, has_more=False).with_openings(None)
    assert training.measure_opening(Teacher(bank, 56), bank, 56, Source(56)) is None


def test_far_voices_are_measured_token_by_token(few_keys, monkeypatch):
    monkeypatch.setattr(training, "TRIED", ((1, True, 0.0, 0.1),))
    monkeypatch.setattr(training, "KEYS", range(58, 63, 4))
    bank = Bank.load("gm", 1, has_more=False).with_openings(None)
    wanted = opening(58, 1, [0.0], is_fine=True)
    wanted.levels[:, 20:36, :8] = -9.0  # a gap of 0.1 s
    found = training.measure_opening(Teacher(training.with_opening(bank, 56, wanted), 56), bank, 56, Source(56))
    assert found is not None and found.is_fine
    assert found.levels[0, 24:32, :4].mean() == pytest.approx(-9, abs=2.5)
    assert abs(found.levels[0, 40:60, :4].mean()) < 1.5


@pytest.mark.parametrize("gain_db", [0.3, 4.0, -3.0])
def test_voices_become_as_loud_as_the_teachers_by_their_sound_within_half_a_decibel(monkeypatch, gain_db):
    monkeypatch.setattr(evenness, "_HEARD_KEYS", (60,))
    bank = Bank.load("gm", 1, has_more=False)
    ((voice, change),) = evenness.as_loud(Teacher(bank, 56, gain_db), bank, {56: Source(56)})
    assert voice == 56
    assert change == pytest.approx(gain_db - np.clip(gain_db, -0.5, 0.5), abs=0.1)
