"""Keys that a voice was taught: what plays beyond them, and who says which they are."""

import dataclasses

import numpy as np
import pytest

from miao.bank.bank import Bank
from miao.bank.defaults import program_of
from miao.bank.taught import TaughtKeys
from miao.bank.voices import LEARNT_PITCHES
from miao.datasets.notes import Source
from miao.errors import BankError
from miao.measuring.roundtrip import one_note_score, play
from miao.training.courses import held_chunks
from miao.training.key_levels import heard_keys

PIANO, SLAP_BASS, VOICE_OOHS, OBOE = 0, 36, 53, 68
SOME = TaughtKeys.of([range(30, 61), None])


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


def attacks(bank, voice, *keys):
    return held_chunks(bank, voice, np.array(keys), 90, 0)[0]


def test_beyond_its_outermost_keys_a_voice_plays_these():
    pitches = np.array([20.0, 45.5, 70.0])
    assert SOME.nearest(0, pitches).tolist() == [30, 45.5, 60]
    assert SOME.nearest(np.array([1, 0, 1]), pitches).tolist() == [22, 45.5, 70]
    both = TaughtKeys.joined([SOME, SOME]).chosen(np.array([2, 99, 0]))
    assert [both.keys(n) for n in range(3)] == [range(30, 61), LEARNT_PITCHES, range(30, 61)]


def test_a_file_gives_back_what_was_written_and_one_that_cannot_be_is_refused(tmp_path):
    path = tmp_path / "taught.safetensors"
    SOME.save(path)
    again = TaughtKeys.load(path)
    assert again.keys(0) == range(30, 61) and again.keys(1) == LEARNT_PITCHES
    for wrong, said in (
        (dataclasses.replace(SOME, highest=np.array([29, 106], np.uint8)), "ends below its lowest key"),
        (dataclasses.replace(SOME, highest=SOME.highest + np.uint8(60)), "highest has values from"),
    ):
        wrong.save(path)
        with pytest.raises(BankError, match=said):
            TaughtKeys.load(path)


def test_a_bass_beyond_its_highest_key_is_that_key_however_long_it_is_held(gm):
    """Its teacher ends at C6, and a key above it was 15 dB off."""
    top = gm.taught.keys(SLAP_BASS)[-1]
    assert top == 84
    at_top, above, far, below = attacks(gm, SLAP_BASS, top, top + 1, top + 18, top - 1)
    np.testing.assert_array_equal(at_top, above)
    np.testing.assert_array_equal(at_top, far)
    assert np.abs(at_top - below).max() > 1
    assert np.ptp(attacks(gm, PIANO, 104, 105), axis=0).max() > 0.5  # which the teacher has
    sounds = [play(gm, one_note_score(0, key, 90, 3.5), voice=SLAP_BASS) for key in (top, top + 2)]
    early, late = (
        [10 * np.log10(np.square(x[:, round(a * 44100) : round(b * 44100)]).mean()) for x in sounds]
        for a, b in ((0.1, 0.4), (2.5, 3.4))
    )
    assert abs(np.diff(early)) < 0.5 and abs(np.diff(late)) < 1.5


def test_a_learnt_voice_has_the_keys_of_its_program_and_those_that_were_recorded(gm):
    first = len(gm.table.kind) - len(gm.defaults)
    known = {program_of(voice): (first + n, voice) for n, voice in enumerate(gm.defaults)}
    for program, (number, voice) in known.items():
        own, recorded = gm.taught.keys(program), range(int(voice.about["lowest"]), int(voice.about["highest"]) + 1)
        wanted = {*own, *recorded} & {*LEARNT_PITCHES}
        assert gm.taught.keys(number) == range(min(wanted), max(wanted) + 1)
    oboe, _ = known[OBOE]
    top = gm.taught.keys(oboe)[-1]
    at_top, above = attacks(gm, oboe, top, top + 5)
    np.testing.assert_array_equal(at_top, above)
    assert gm.table.trim(oboe, top) == gm.table.trim(oboe, top + 5) != gm.table.trim(oboe, top - 5)


def test_a_voice_of_no_program_has_all_keys(gm):
    voice = dataclasses.replace(gm.defaults[0], about={k: v for k, v in gm.defaults[0].about.items() if k != "program"})
    assert gm.with_voices([voice]).taught.keys(len(gm.table.kind)) == LEARNT_PITCHES


def test_keys_that_there_are_lie_between_the_outermost_that_are_heard_at_any_strength():
    class Teacher:
        def note(self, program, key, velocity, seconds, **_):
            assert program == 7
            return np.full((2, 9), (key in (40, 60) or (key == 64 and velocity > 90)) * 0.1, np.float32)

    assert heard_keys(Teacher(), Source(7)) == range(40, 65)
    Teacher.note = lambda *_, **__: np.zeros((2, 9), np.float32)
    assert heard_keys(Teacher(), Source(7)) is None


def test_variations_have_their_own(gm):
    """Brass 2, which ends where its program does."""
    number = gm.voice(61, 60, is_drum=False, bank=8 << 7)
    assert gm.taught.keys(number)[-1] == 96
    np.testing.assert_array_equal(*attacks(gm, number, 96, 101))


def test_a_held_note_beyond_them_goes_on_as_the_outermost(gm, monkeypatch):
    asked = []
    monkeypatch.setattr("miao.bank.lasting.Courses.at", lambda _, voice, pitch: asked.append((voice, pitch)))
    for key in (80, 103):
        play(gm, one_note_score(0, key, 90, 3.0), voice=VOICE_OOHS)
    assert set(asked) == {(VOICE_OOHS, 80), (VOICE_OOHS, 96)}
