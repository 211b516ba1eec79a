"""Learnt voices in the place of programs: who plays what, over which keys, how even, and what a bank says of it."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.defaults import AS_TAUGHT, default_path, default_programs, default_voices, kits_of, kits_with
from miao.bank.folder import bank_folder
from miao.bank.kits import GENERAL_MIDI
from miao.bank.lasting import STEADY_CHUNK
from miao.bank.learnt_voice import LearntVoice, find_voice
from miao.errors import BankError
from miao.training.default_voice import FADE_SEMITONES, Range, over_the_keyboard, smooth
from miao.training.evenness import first_second_db

OBOE = 68


@pytest.fixture(scope="module")
def taught():
    """What the nets of the bank were taught of General MIDI."""
    return Bank.load("gm", 1, has_more=False)


@pytest.fixture(scope="module")
def oboe(taught):
    """A voice that plays the recorded range of an alto saxophone in place of the oboe."""
    learnt = find_voice("alto-sax")
    kind = np.full(1, taught.table.kind[OBOE], np.int8)
    learnt = dataclasses.replace(learnt, table=dataclasses.replace(learnt.table, kind=kind))
    return over_the_keyboard(taught, learnt, OBOE, Range(49, 80), lasts=True)


def notes(voices, pitch):
    """What decoders ask for an attack of each of some voices."""
    n = len(voices)
    return {"voice": np.array(voices), "pitch": np.full(n, pitch, np.float32), "velocity": np.full(n, 0.7, np.float32),
            "index": np.zeros(n, np.int64), "age": np.zeros(n, np.float32),
            "previous": np.zeros((n, tk.N_CELLS), np.float32), "context": np.zeros((n, 96), np.float32)}  # fmt: skip


def test_a_default_voice_plays_its_program_and_the_program_is_a_variation(taught, oboe):
    bank = taught.with_defaults([oboe])
    number = len(taught.table.kind)
    assert bank.voice(OBOE, 60, is_drum=False) == number
    assert bank.voice(OBOE, 60, is_drum=False, bank=AS_TAUGHT << 7) == OBOE
    assert bank.voice(OBOE, 60, is_drum=False, bank=2) == number  # an LSB of GS asks for the same sound
    assert bank.voice(OBOE + 1, 60, is_drum=False) == OBOE + 1
    assert bank.kits.has_variation(OBOE, AS_TAUGHT << 7) and not bank.kits.has_variation(OBOE + 1, AS_TAUGHT << 7)
    plain, own = (b.decode(tk.ATTACK, **notes([OBOE], 60))[0] for b in (taught, bank))
    np.testing.assert_array_equal(plain, own)


def test_voices_of_users_lie_behind_those_and_play_as_they_do_alone(taught, oboe):
    guitar = find_voice("spanish-guitar")
    alone = taught.with_voices([guitar])
    both = taught.with_defaults([oboe]).with_voices([guitar])
    first = len(taught.table.kind)
    assert both.added == ("spanish-guitar",) and len(both.table.kind) == first + 2
    theirs, ours = alone.decode(tk.ATTACK, **notes([first], 60))[0], both.decode(tk.ATTACK, **notes([first + 1], 60))[0]
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    default = both.decode(tk.ATTACK, **notes([first], 60))[0]
    assert np.abs(default - ours).max() > 3


def test_beyond_the_recorded_range_the_program_is_left(taught, oboe):
    bank, number = taught.with_defaults([oboe]), len(taught.table.kind)
    for pitch, is_program in (
        (60, False),
        (80, False),
        (80 + 3 + FADE_SEMITONES, True),
        (49 - 3 - FADE_SEMITONES, True),
    ):
        learnt, program = bank.decode(tk.ATTACK, **notes([number, OBOE], pitch))[0]
        furthest = np.abs(learnt - program)[:, : tk.PITCH_CELL].max()
        assert furthest < 0.1 if is_program else furthest > 3


def test_its_keys_are_even_and_as_loud_as_the_programs(taught, oboe):
    bank, number, keys = taught.with_defaults([oboe]), len(taught.table.kind), np.arange(40, 90)
    ours, theirs = (first_second_db(bank, voice, keys, 96) for voice in (number, OBOE))
    assert np.abs(np.diff(ours)).max() < 1.0
    inside = (keys >= 49) & (keys <= 80)
    assert abs(np.median((ours - theirs)[inside])) < 1.0
    assert np.abs(ours - theirs).max() < 6.0


def test_a_voice_that_lasts_repeats_itself_at_one_level(taught, oboe):
    number = len(taught.table.kind)
    bank = taught.with_defaults([oboe])
    assert bank.repeats_from(number) == STEADY_CHUNK and not bank.courses.at(number, 60).any()
    dying = taught.with_defaults([dataclasses.replace(oboe, about=oboe.about | {"lasts": "no"})])
    assert dying.courses.at(number, 60) is None


def test_a_share_fades_beyond_a_range():
    some = Range(50, 70)
    assert some.share(np.array([50, 60, 70])).tolist() == [1, 1, 1]
    assert some.share(np.array([70 + FADE_SEMITONES, 50 - FADE_SEMITONES, 127])).tolist() == [0, 0, 0]
    assert some.share(np.array([70 + FADE_SEMITONES / 3]))[0] == pytest.approx(2 / 3, abs=1e-6)


def test_smoothing_keeps_a_level_and_halves_what_sticks_out():
    assert smooth(np.full(9, 3.0), 2.0) == pytest.approx(np.full(9, 3.0))
    assert smooth(np.eye(9)[4], 2.0)[4] < 0.3


def test_partials_of_another_kind_are_refused(taught):
    learnt = find_voice("alto-sax")
    other = np.full(1, 1 - taught.table.kind[OBOE], np.int8)
    learnt = dataclasses.replace(learnt, table=dataclasses.replace(learnt.table, kind=other))
    with pytest.raises(ValueError, match="another kind"):
        over_the_keyboard(taught, learnt, OBOE, Range(49, 80), lasts=True)


def test_a_folder_says_which_programs_are_played_by_learnt_voices(oboe, tmp_path):
    oboe.save(default_path(tmp_path, OBOE))
    assert default_programs(tmp_path) == [OBOE] and default_voices(tmp_path)[0].about["lowest"] == "49"
    assert kits_of(tmp_path).has_variation(OBOE, AS_TAUGHT << 7)
    assert kits_with(GENERAL_MIDI, [OBOE, 70], 189).programs[0, 70] == 190
    dataclasses.replace(oboe, about=oboe.about | {"program": "129"}).save(default_path(tmp_path, 70))
    for read in (default_programs, default_voices):
        with pytest.raises(BankError, match=r'default_071.*its program is "129"; it must be 1 to 128'):
            read(tmp_path)


def test_the_banks_own_defaults_are_what_its_folder_holds():
    bank = Bank.load("gm", 1)
    programs = default_programs(bank_folder("gm"))
    for program in programs:
        number = bank.voice(program, 60, is_drum=False)
        assert number >= len(bank.table.kind) - len(programs)
        assert bank.voice(program, 60, is_drum=False, bank=AS_TAUGHT << 7) == program
    assert len(bank.defaults) == len(programs)
    for voice in bank.defaults:
        assert isinstance(voice, LearntVoice) and voice.about["licence"] and voice.about["origin"]
