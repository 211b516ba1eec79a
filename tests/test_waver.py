"""How notes of learnt voices waver: added while they are held, taken off before nets are asked."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.waver import PARTS, SETS_IN, STEP_SECONDS, Waver
from miao.datasets.samples import Recording
from miao.errors import BankError
from miao.training.by_sound import played
from miao.training.courses import held_chunks
from miao.training.new_voice import program_copy
from miao.training.wavering import HOLD_SECONDS, measured_waver, recorded_waver, waverers, wavering

VIOLIN, RATE = 40, 44_100


def waver():
    """Notes around 60 rise by a level a step for 20 steps, those around 72 fall; pitches by half a step."""
    rise = np.arange(21)[:, None] * np.full(tk.N_CELLS, PARTS)
    rise[:, tk.PITCH_CELL] //= 2
    return Waver(np.array([60, 72], np.uint8), np.clip(np.stack([rise, -rise]), -127, 127).astype(np.int8))


def chunk(level=30.0):
    levels = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), level, np.float32)
    levels[..., 5] = 0  # a partial that is silent
    return levels


def added(kind, pitch=60.0, age=1.0):
    return waver().added(kind, chunk(), np.array([pitch]), np.array([age]))


def test_a_note_wavers_as_the_nearest_that_was_measured_there_and_back():
    times = STEP_SECONDS * np.array([[13.0, 14.5, 20.0, 22.0, 40.0, 42.0]])
    up = waver().at(np.array([64.0]), times)[0, :, 0]
    np.testing.assert_allclose(up[1:4], np.array([14.5, 20, 18]).clip(max=127 / PARTS), atol=1e-5)
    assert up[4] == 0 and up[5] == pytest.approx(2)
    np.testing.assert_allclose(waver().at(np.array([68.0]), times)[0, :, 0], -up, atol=1e-5)


def test_it_sets_in_once_a_note_speaks():
    times = np.array([[0.0, SETS_IN[0], 0.5 * sum(SETS_IN), SETS_IN[1]]])
    share = waver().at(np.array([60.0]), times)[0, :, 0] / np.maximum(times[0] / STEP_SECONDS, 1)
    np.testing.assert_allclose(share, [0, 0, 0.5, 1], atol=1e-6)


def test_a_waver_may_say_when_it_sets_in():
    soon = dataclasses.replace(waver(), sets_in=np.array([0.0, 0.1], np.float32))
    times = np.array([[0.05, 0.1, 0.2]])
    share = soon.at(np.array([60.0]), times)[0, :, 0] / (times[0] / STEP_SECONDS)
    np.testing.assert_allclose(share, [0.5, 1, 1], atol=1e-6)


def test_silence_stays_silent_and_a_note_let_go_is_left_as_it_is():
    moved = added(tk.SUSTAIN)
    assert not moved[..., 5].any() and (moved[0, :, 0] != 30).any()
    np.testing.assert_array_equal(added(tk.RELEASE), chunk())


@pytest.mark.parametrize("index", [0, 1])
def test_what_was_added_last_is_taken_off_again(index):
    before = tk.ATTACK if index == 0 else tk.SUSTAIN
    age = tk.ATTACK_SECONDS + index * tk.CHUNK_STEPS * STEP_SECONDS
    lasted = tk.CHUNK_STEPS * tk.STEP_SECONDS[before]
    last = added(before, age=age - lasted)[:, -1]
    asked = waver().taken_off(tk.SUSTAIN, last, np.array([60.0]), np.array([index]), np.array([age]))
    np.testing.assert_allclose(asked, chunk()[:, 0], atol=1e-4)
    assert (last != asked).any()


@pytest.fixture(scope="module")
def bank():
    return Bank.load("gm", 1, has_more=False)


@pytest.fixture(scope="module")
def voice(bank):
    about = {"name": "violin", "bank": bank.name, "nets": bank.nets_checksum}
    return dataclasses.replace(program_copy(bank, VIOLIN, 0.0, about), waver=waver())


def test_nets_write_of_a_note_that_wavers_what_they_write_of_one_that_does_not(bank, voice):
    pitches, still = np.array([60, 72]), dataclasses.replace(voice, waver=None)
    ours, theirs = (held_chunks(bank.with_voices([v]), len(bank.table.kind), pitches, 90.0, 2) for v in (voice, still))
    ages = 0.0, tk.ATTACK_SECONDS, tk.ATTACK_SECONDS + tk.CHUNK_STEPS * STEP_SECONDS
    for kind, age, wavers, holds in zip((tk.ATTACK, tk.SUSTAIN, tk.SUSTAIN), ages, ours, theirs, strict=True):
        wanted = waver().added(kind, holds, pitches, np.full(2, age))
        clear = (wanted > 1) & (wanted < tk.N_LEVELS - 2)  # elsewhere levels end
        np.testing.assert_allclose(wavers[clear], wanted[clear], atol=0.6)


def test_a_file_keeps_it_and_one_whose_parts_do_not_fit_is_refused(voice, tmp_path):
    voice.save(tmp_path / "a.safetensors")
    kept = LearntVoice.load(tmp_path / "a.safetensors").waver
    np.testing.assert_array_equal(kept.moves, waver().moves)
    assert kept.sets_in is None
    for pitches, sets_in in (([60], None), ([72, 60], None), ([60, 72], [0.1, 0.1])):
        sets_in = None if sets_in is None else np.array(sets_in, np.float32)
        other = Waver(np.array(pitches, np.uint8), waver().moves, sets_in)
        dataclasses.replace(voice, waver=other).save(tmp_path / "b.safetensors")
        with pytest.raises(BankError, match="waver"):
            LearntVoice.load(tmp_path / "b.safetensors")


def vibrato(pitch, cents=12.0, hz=5.5):
    """Eight partials with a vibrato, of which the third is louder where it is sharp."""
    times = np.arange(int((HOLD_SECONDS + 0.3) * RATE)) / RATE
    wave = np.sin(2 * np.pi * hz * times)
    frequency = 440 * 2 ** ((pitch - 69) / 12 + cents * wave / 1200)
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    sound = sum((10 ** (0.3 * wave) if n == 3 else 1) * np.sin(n * phase) / n for n in range(1, 9))
    return (0.1 * np.stack([sound, sound])).astype(np.float32)


def rising(pitch):
    """A still note that rises for a tenth of a second."""
    times = np.arange(int((HOLD_SECONDS + 0.3) * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * n * 440 * 2 ** ((pitch - 69) / 12) * times) / n for n in range(1, 9))
    return (0.1 * np.minimum(times / 0.1, 1) * np.stack([sound, sound])).astype(np.float32)


def test_how_a_note_begins_is_no_waver():
    moves = measured_waver(rising, [69], 0, RATE).moves[0, :, :8] / PARTS
    assert np.abs(moves).max() < 0.5


def test_cells_keep_their_power():
    levels = measured_waver(vibrato, [69], 0, RATE).moves[0, :, :8] / PARTS * tk.LEVEL_STEP_DB
    assert np.ptp(levels[:, 2]) > 5
    np.testing.assert_allclose(10 * np.log10(np.mean(10 ** (levels / 10), axis=0)), 0, atol=0.1)


def test_a_vibrato_is_measured_with_what_it_does_to_partials():
    found = measured_waver(vibrato, [69], 0, RATE)
    moves = found.moves[0, 20:100].astype(float) / PARTS
    cents = tk.CENTS_STEP * moves[:, tk.PITCH_CELL]
    assert np.ptp(cents) == pytest.approx(24, rel=0.35)
    assert np.ptp(moves[:, 2]) == pytest.approx(12 / tk.LEVEL_STEP_DB, rel=0.35)
    assert np.corrcoef(cents, moves[:, 2])[0, 1] > 0.8
    assert np.ptp(moves[:, 0]) < 1.2


def recording(pitch, seconds=1.5, velocity=80, cents=12.0):
    sound = vibrato(pitch, cents)[:, : int(seconds * RATE)]
    return Recording(f"{pitch} {velocity} {seconds}", pitch, velocity, sound, seconds, False)


def still_one(note):
    """The same partials without vibrato."""
    times = np.arange(note.sound.shape[1]) / RATE
    hz = 440 * 2 ** ((note.pitch - 69) / 12)
    return 0.1 * np.stack([sum(np.sin(2 * np.pi * n * hz * times) / n for n in range(1, 9))] * 2).astype(np.float32)


def test_notes_that_are_long_enough_are_listened_to_three_semitones_apart():
    lengths = {
        (60, 33): 3.0,
        (60, 80): 1.2,
        (60, 90): 1.4,
        (60, 112): 3.0,
        (62, 80): 3.0,
        (63, 112): 1.1,
        (66, 80): 0.9,
    }
    notes = [recording(pitch, seconds, velocity) for (pitch, velocity), seconds in lengths.items()]
    assert [(r.pitch, r.velocity) for r in waverers(notes)] == [(60, 90), (63, 112)]
    assert recorded_waver(notes[-1:], still_one, 0) is None
    assert recorded_waver([*notes, recording(70, 0.9)], still_one, 0) is None  # too far from the next that is long


def test_of_a_recorded_note_counts_what_the_voice_does_not_do_by_itself():
    notes = [recording(69, 1.2), recording(72, 1.6)]
    found = recorded_waver(notes, still_one, 0)
    assert found.is_whole and found.pitches.tolist() == [69, 72]
    moves = found.moves[0] / PARTS
    assert np.ptp(tk.CENTS_STEP * moves[:, tk.PITCH_CELL]) == pytest.approx(24, rel=0.35)
    powers = np.mean(10 ** (tk.LEVEL_STEP_DB * moves[:, : tk.PITCH_CELL] / 10), axis=0)
    np.testing.assert_allclose(powers, 1, atol=0.06)
    assert np.ptp(moves[:, 2]) > 4
    turn = 44  # the last step of the shorter note, from which it goes back
    np.testing.assert_array_equal(moves[turn + 1 :], moves[2 * turn + 1 - len(moves) : turn][::-1])
    assert not recorded_waver(notes, lambda note: note.sound, 0).moves.any()


def as_it_plays(bank, voice, pitch, velocity=90):
    asked = recording(pitch, 1.3, velocity)
    sound = played(bank.with_voices([voice]), asked, len(bank.table.kind))
    return dataclasses.replace(asked, sound=sound)


def test_a_voice_takes_the_waver_of_its_notes_in_place_of_its_own_and_none_that_is_another_s(bank, voice):
    still = dataclasses.replace(voice, waver=None)
    wavers = [as_it_plays(bank, voice, pitch) for pitch in (60, 61)]
    found = wavering(bank, voice, wavers)
    assert found.waver is not None and np.ptp(found.waver.moves[0, :, 0]) > 2 * PARTS
    np.testing.assert_array_equal(found.waver.moves, wavering(bank, still, wavers).waver.moves)
    others = [as_it_plays(bank, still, pitch) for pitch in (61, 62)]  # what it would go away from
    assert wavering(bank, voice, [*wavers[:1], *others]).waver is None
