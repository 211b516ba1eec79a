"""What is added while notes rise: to which cells, when, of which keys and strengths, and what it is measured from."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.openings import END_SECONDS, FINE
from miao.bank.rises import Rise, Rises
from miao.bank.wavers import Wavering, Wavers
from miao.datasets.notes import Source
from miao.errors import BankError
from miao.measuring.attack import attack_time
from miao.measuring.roundtrip import one_note_score, play
from miao.training import rises as training


def rise(lowest, by_key, by_strength=(1, 1, 1, 1), share=1.0):
    """A rise that adds so many levels at each token, key by key, times something by strength."""
    power = np.array(by_key, np.float32)[:, None, None] * np.array(by_strength, np.float32)[:, None]
    cells = np.full((len(by_key), tk.N_CELLS - 1), share, np.float32)
    cells[:, 0] = 0
    return Rise(lowest, np.repeat(power, len(FINE), axis=2), cells)


RISES = Rises.of([None, rise(60, [2.0, -4.0]), None, rise(50, [4.0], (0, 1, 2, 4), 0.5)])


def added(kind, voice, pitch, velocity=64, index=0, level=30.0):
    chunk = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), level, np.float32)
    note = (np.array([voice]), np.array([pitch], np.float32), np.array([velocity / 127]), np.array([index]))
    out = RISES.added(kind, chunk, *note)
    assert (out[..., [0, tk.PITCH_CELL]] == level).all() and (chunk == level).all()
    return out[0, :, 3] - np.float32(level)


def test_a_key_has_its_own_and_those_beyond_that_of_the_outermost():
    assert [added(tk.ATTACK, 1, pitch)[9] for pitch in (20, 60, 60.4, 61, 62, 100)] == [2, 2, 2, -4, -4, -4]
    assert not added(tk.ATTACK, 0, 60).any() and not added(tk.ATTACK, 9, 60).any()


def test_between_strengths_it_runs_straight_and_a_cell_gets_its_share():
    found = [added(tk.ATTACK, 3, 50, velocity)[4] for velocity in (1, 40, 52, 64, 76, 88, 112, 127)]
    np.testing.assert_allclose(found, [0, 0, 1, 2, 3, 4, 8, 8], rtol=0.005)


def test_it_ends_with_the_first_sustain_chunk():
    opens = added(tk.SUSTAIN, 1, 60)
    assert (opens[:-1] == 2).all() and opens[-1] == 0
    assert not added(tk.SUSTAIN, 1, 60, index=1).any() and not added(tk.RELEASE, 1, 60).any()


def test_silence_stays_silence():
    assert not added(tk.ATTACK, 3, 50, level=0.2).any()


def test_each_token_of_a_chunk_gets_what_is_added_at_its_time():
    own = rise(60, [1.0])
    own.power[:] = np.arange(len(FINE)) / 4
    chunks = [np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), 20, np.float32)] * 2
    note = (np.array([0]), np.array([60.0]), np.array([0.5]), np.array([0]))
    after = [Rises.of([own]).added(kind, chunk, *note)[0, :, 5] - 20 for kind, chunk in enumerate(chunks)]
    np.testing.assert_allclose(np.concatenate(after)[: len(FINE)], np.arange(len(FINE)) / 4)


def test_nets_are_told_of_tokens_as_they_were_before_anything_was_added():
    def taken(kind, index, age):
        token = np.full((1, tk.N_CELLS), 30, np.float32)
        note = {"voice": np.array([1]), "pitch": np.array([60.0]), "velocity": np.array([0.5]),
                "index": np.array([index]), "age": np.array([age])}  # fmt: skip
        return 30 - float(RISES.taken_off(kind, token, **note)[0, 3])

    assert taken(tk.SUSTAIN, 0, 0.16) == 2 and taken(tk.RELEASE, 0, 0.05) == pytest.approx(2)
    assert taken(tk.SUSTAIN, 1, 0.8) == 0
    assert 0 < taken(tk.RELEASE, 0, END_SECONDS - 0.01) < 2
    assert taken(tk.RELEASE, 0, END_SECONDS + 0.1) == 0 and taken(tk.RELEASE, 1, 0.05) == 0


def test_a_file_gives_back_what_was_written_and_a_wrong_one_is_told(tmp_path):
    path = tmp_path / "rises.safetensors"
    RISES.save(path)
    again = Rises.load(path)
    assert all(np.array_equal(getattr(RISES, f), getattr(again, f)) for f in RISES.__dataclass_fields__)
    dataclasses.replace(RISES, n_keys=RISES.n_keys + np.uint8(2)).save(path)
    with pytest.raises(BankError, match="names rows of keys that are not there; there are 3"):
        Rises.load(path)


def test_voices_that_share_rows_share_rises_and_one_alone_has_its_own():
    chosen = RISES.chosen(np.array([3, 1, 1, 700]))
    assert chosen.first.tolist() == [2, 0, 0, -1]
    alone = RISES.alone(3)
    assert alone.first.tolist() == [0] and len(alone.power) == len(alone.cells) == 1
    np.testing.assert_array_equal(alone.power[0], RISES.power[2])
    assert RISES.alone(0) is None and RISES.alone(700) is None


@pytest.fixture(scope="module")
def bank():
    return Bank.load("gm", 1, has_more=False).with_openings(None)


def late(n_tokens, levels=-14.0):
    """A rise of keys 58 to 62 that keeps notes softer for so many tokens."""
    own = rise(58, [1.0] * 5)
    own.power[:] = 0
    own.power[..., :n_tokens] = levels
    own.cells[:] = 1
    return own


def test_a_bank_adds_them_to_the_voice_and_goes_on_as_before(bank):
    moved = bank.with_openings(bank.additions.openings, Rises.of([None] * 56 + [late(len(FINE), -6.0)]))
    for voice, softer in ((56, True), (57, False)):
        score = one_note_score(voice, 60, 100, 1.6)
        a, b = (play(some, score, voice=voice) for some in (bank, moved))
        loud = [10 * np.log10(np.square(b[:, at]).sum() / np.square(a[:, at]).sum())
                for at in (slice(3000, 9000), slice(45_000, 65_000))]  # fmt: skip
        np.testing.assert_allclose(loud, [-10.5 if softer else 0.0, 0.0], atol=0.4)
    assert moved.with_openings(None).additions.rises is None and moved.with_key_levels(None).additions.rises is None


class Teacher:
    """A sound bank that is a bank."""

    def __init__(self, bank):
        self.bank = bank

    def note(self, _program, pitch, velocity, seconds, **_):
        return play(self.bank, one_note_score(56, pitch, velocity, seconds), voice=56)


@pytest.fixture
def few_keys(monkeypatch):
    monkeypatch.setattr(training, "KEYS", range(59, 62))
    monkeypatch.setattr(training, "CHECKED_KEYS", (60, 60))


def test_how_a_teachers_notes_rise_is_found(few_keys, bank):
    teacher = Teacher(training.with_rise(bank, 56, late(12)))
    found = training.measure_rise(teacher, bank, 56, Source(56))
    assert found is not None and found.lowest == 59
    assert found.power[1, :, 1:10].mean() < -9 and abs(found.power[1, :, 16:40]).max() < 2
    assert found.cells.max(axis=1).tolist() == [1, 1, 1] and found.cells.min() == 0
    heard = training.with_rise(bank, 56, found)
    theirs, ours, before = (
        attack_time(play(b, one_note_score(56, 60, 80, 0.5), voice=56)) for b in (teacher.bank, heard, bank)
    )
    assert abs(ours - theirs) < 0.2 * abs(before - theirs)


def test_whether_a_rise_is_kept_is_no_chance_of_one_drawing(few_keys, bank, monkeypatch):
    """One of three drawings is 100 ms late."""
    asked = []

    def played(_bank, score, seed=0, voice=None, seconds=np.inf):
        asked.append((seed, int(score.tracks[0].notes[0]["velocity"]), seconds))
        sound = np.zeros((2, 30_000))
        sound[:, 4410 * (seed % 2) :] = 0.1
        return sound

    monkeypatch.setattr(training, "play", played)
    note = training.Checked(60, 52, played(None, one_note_score(56, 60, 52, 0.9)), 0.0)
    late = training.off(bank, 56, [note]).attack_seconds
    assert late < 0.001
    assert asked[1:] == [(0, 52, np.inf), (1, 51, 0.3), (2, 53, 0.3)]
    late = dataclasses.replace(note, attack_seconds=0.5)
    assert training.off(bank, 56, [note, late]).attack_seconds == pytest.approx(0.015, abs=0.001)


def test_a_rise_that_brings_nothing_is_not_kept(few_keys, bank):
    assert training.measure_rise(Teacher(bank), bank, 56, Source(56)) is None


def test_a_sound_bank_without_notes_teaches_nothing(few_keys, bank):
    class Silent:
        def note(self, *_, **__):
            return np.zeros((2, 1000), np.float32)

    assert training.measure_rise(Silent(), bank, 56, Source(56)) is None
    assert training.rise_of(training.measure_powers(Silent(), bank, 56, Source(56)), 0.005) is None


def test_power_of_tokens_is_that_of_their_sound(bank):
    tokens = np.concatenate(training.held_chunks(bank, 56, np.array([60]), 90, 1), axis=1)[0, : len(FINE)]
    power = training.cell_powers(bank.table, 56, 60, tokens)
    sound = play(bank, one_note_score(56, 60, 90, 1.0), voice=56)
    every = np.ones(tk.N_CELLS - 1)
    lacks = training.rise_levels(training.block_powers(sound), power, every, 0.01)
    assert abs(lacks[8:50]).max() * tk.LEVEL_STEP_DB < 1  # phases and noise are chance
    louder = training.rise_levels(training.block_powers(2 * sound), power, every, 0.01)
    np.testing.assert_allclose((louder - lacks)[8:50], 6.02 / tk.LEVEL_STEP_DB, atol=0.01)
    half = training.rise_levels(training.block_powers(2 * sound), power, every / 2, 0.01)
    np.testing.assert_allclose(half[8:50] / 2, louder[8:50], atol=0.05)  # cells that get half of it need twice as much


def test_notes_that_waver_are_measured_at_several_strengths_and_as_they_waver(bank, monkeypatch):
    """Theirs begin elsewhere in a sample at each strength: a click that comes later the harder it is struck."""
    monkeypatch.setattr(training, "KEYS", range(60, 61))
    asked = []

    class Clicks:
        def note(self, _program, pitch, velocity, seconds, **_):
            asked.append(velocity)
            sound = np.zeros((2, 40_000), np.float32)
            sound[:, 220 * (velocity - 30) :][:, :44] = 0.01 * velocity
            return sound

    still = bank.with_wavers(None)
    moves = np.zeros((1, 73, tk.N_CELLS), np.int8)
    moves[:, 20:, : tk.PITCH_CELL] = 16
    wavering = still.with_wavers(Wavers.of([None] * 56 + [Wavering(np.array([60], np.uint8), moves)]))
    plain, own = (training.measure_powers(Clicks(), some, 56, Source(56)) for some in (still, wavering))
    assert asked[:4] == [40, 64, 88, 112]
    assert asked[4:9] == [34, 37, 40, 43, 46]
    assert (plain.theirs[0] > 0).sum(axis=1).max() <= 2
    for strength, power, one in zip((40, 64), own.theirs[0], plain.theirs[0], strict=False):
        assert np.flatnonzero(power > 0.1 * power.max()).tolist() == pytest.approx(
            [5 * (strength + beside - 30) for beside in training.DRAWN], abs=2
        )
        assert power.sum() == pytest.approx(one.sum(), rel=0.05)
    louder = 10 * np.log10(own.ours[0, :, 46:54].sum(axis=2) / plain.ours[0, :, 46:54].sum(axis=2))
    np.testing.assert_allclose(louder, 2 * tk.LEVEL_STEP_DB, atol=0.3)


def test_a_rise_takes_the_place_of_one_that_is_further_off_alone(few_keys, bank):
    teacher = Teacher(training.with_rise(bank, 56, late(12)))
    known = training.measure_rise(teacher, bank, 56, Source(56))
    assert training.measure_rise(teacher, training.with_rise(bank, 56, known), 56, Source(56)) is None
    wrong = training.with_rise(bank, 56, late(24))
    assert training.measure_rise(teacher, wrong, 56, Source(56)) is not None
    old, new = Rises.of([late(3), None, late(4)]), Rises.of([None, None, late(5)])
    both = training.replaced(old, new)
    assert both.first.tolist() == [0, -1, 5] and both.n_rows() == 10
    assert (both.power[0, 0, :6] < 0).tolist() == [True] * 3 + [False] * 3
    assert (both.power[5, 0, :6] < 0).tolist() == [True] * 5 + [False]
