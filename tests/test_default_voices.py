"""Learnt voices in the place of programs: who plays what, over which keys, how even, and what a bank says of it."""

import dataclasses

import midi_bytes as midi
import numpy as np
import pytest
from typer.testing import CliRunner

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.defaults import (
    AS_TAUGHT,
    default_path,
    default_programs,
    default_voices,
    kits_of,
    kits_with,
    learnt_programs,
    program_of,
)
from miao.bank.folder import bank_folder
from miao.bank.key_gains import VELOCITIES, KeyGains
from miao.bank.kits import GENERAL_MIDI
from miao.bank.lasting import FIRST_CHUNK, STEADY_CHUNK
from miao.bank.learnt_voice import LearntVoice, find_voice
from miao.bank.voices import N_PITCHES, pitch_hz
from miao.cli.main import app
from miao.datasets.samples import Recording
from miao.errors import BankError
from miao.measuring.roundtrip import one_note_score, play
from miao.midi.score import read_score
from miao.sound.loudness import energy_db
from miao.sound.spectrum import SAMPLE_RATE
from miao.synth.note import Strike
from miao.synth.player import Player
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems
from miao.training.balance import in_balance, louder_db
from miao.training.dampers import release_pace
from miao.training.default_voice import (
    FADE_SEMITONES,
    Range,
    _fading_keys,
    _ringing,
    cut_below,
    dying_course,
    over_the_keyboard,
)
from miao.training.evenness import first_second_db
from miao.training.key_gains import heard_db, recorded_dynamics, rising, smooth, wanted_db
from miao.training.new_voice import program_copy

BELLS, OBOE = 14, 68
SECOND = 960


@pytest.fixture(scope="module")
def taught():
    """What the nets of the bank were taught of General MIDI, without what is added as notes open, which a learnt voice
    has none of."""
    return Bank.load("gm", 1, has_more=False).with_openings(None)


@pytest.fixture(scope="module")
def programs():
    """The programs of the bank with all that is added."""
    return Bank.load("gm", 1, has_more=False)


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


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
    bank, number, keys = taught.with_defaults([oboe]), len(taught.table.kind), np.arange(28, 100)
    levels = np.array([first_second_db(bank, number, keys, velocity) for velocity in (20, 56, 100, 127)])
    assert np.abs(np.diff(levels, axis=1)).max() < 1.2
    assert np.diff(levels, axis=0).min() > 1
    inside = (keys >= 49) & (keys <= 80)
    assert abs(np.median((levels[2] - first_second_db(taught, OBOE, keys, 100))[inside])) < 0.5


def test_a_voice_is_as_loud_in_songs_as_the_program_whose_place_it_takes(taught, oboe):
    louder = dataclasses.replace(
        oboe, table=dataclasses.replace(oboe.table, trim_db=oboe.table.trim_db + np.float32(4))
    )
    assert louder_db(taught, louder, 68) - louder_db(taught, oboe, 68) == pytest.approx(4, abs=0.1)
    found = in_balance(taught, louder, 68)
    assert louder_db(taught, found, 68) == pytest.approx(0, abs=0.1)
    np.testing.assert_allclose(np.ptp(found.table.trim_db - louder.table.trim_db), 0, atol=1e-5)


def test_gains_make_a_note_louder_all_through_and_change_nothing_else_of_it(taught, oboe):
    gains = np.full((N_PITCHES, len(VELOCITIES)), 3, np.float16)
    plain, louder = (taught.with_voices([dataclasses.replace(oboe, gains=g)]) for g in (None, KeyGains(gains)))
    asked, before = notes([len(taught.table.kind)], 60), None
    for kind in (tk.ATTACK, tk.SUSTAIN, tk.SUSTAIN, tk.RELEASE):
        ours, theirs = ((b.decode(kind, **asked | ({} if p is None else {"previous": p})))[0]
                        for b, p in zip((plain, louder), before or (None, None), strict=True))  # fmt: skip
        heard = (ours > 4) & (ours < 55)
        heard[..., tk.PITCH_CELL] = False
        np.testing.assert_allclose(theirs[heard], ours[heard] + 3, atol=0.01)
        np.testing.assert_allclose(theirs[..., tk.PITCH_CELL], ours[..., tk.PITCH_CELL], atol=0.01)
        before = (ours[:, -1], theirs[:, -1])


def test_gains_run_straight_between_keys_and_strengths_and_stay_beyond_them():
    levels = np.zeros((N_PITCHES, len(VELOCITIES)), np.float16)
    levels[60, 4], levels[61, 4], levels[127, -1] = 2, 4, 1
    at = KeyGains(levels).at
    middle = (VELOCITIES[4] + VELOCITIES[5]) / 2 / 127
    assert at(np.array([60, 61, 60.5, 127]), np.array([VELOCITIES[4] / 127, middle, middle, 1.0])) == pytest.approx(
        [2, 2, 1.5, 1], abs=1e-5
    )
    assert at(np.array([140.0]), np.array([2.0])) == pytest.approx([1])


def recordings(levels):
    """Notes of three pitches, of which each has its own level, at velocities with levels (dB)."""
    noise = np.random.default_rng(3).normal(size=(1, 4410)).astype(np.float32)
    return [Recording("", pitch, velocity, noise * np.float32(10 ** ((level + own) / 20)), 0.1, False)
            for pitch, own in ((60, 0), (64, -7), (67, 3)) for velocity, level in levels for _ in range(2)]  # fmt: skip


def test_dynamics_are_the_recordings_unless_they_were_levelled():
    strengths, levels = recorded_dynamics(recordings([(33, -9), (80, -4), (112, 0)]))
    assert strengths.tolist() == [33, 80, 112] and np.diff(levels) == pytest.approx([5, 4], abs=0.1)
    assert recorded_dynamics(recordings([(33, 1), (80, 0), (112, 2)])) is None
    assert recorded_dynamics(recordings([(96, 1)])) is None


def test_what_lies_below_a_note_is_cut_off_a_recording_and_the_note_stays():
    seconds = np.arange(44_100) / 44_100
    rumble, note = (np.sin(2 * np.pi * hz * seconds).astype(np.float32)[None] for hz in (60, pitch_hz(60.0)))
    some = [Recording("", 60, 90, sound, 1.0, False) for sound in (rumble, note, rumble + note)]
    cut = [recording.sound for recording in cut_below(some, lasts=True)]
    power = [10 * np.log10(np.square(sound[:, 4410:-4410]).mean() / 0.5) for sound in cut]
    assert power[0] < -35 and abs(power[1]) < 0.1 and cut[2].shape == note.shape
    np.testing.assert_allclose(cut[2], cut[0] + cut[1], atol=1e-5)


@pytest.mark.parametrize("fall_db", [0, 12])
def test_a_rumble_below_a_note_that_dies_away_is_cut_off_and_its_knock_stays(fall_db):
    seconds = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    note = np.sin(2 * np.pi * pitch_hz(60.0) * seconds) * 10 ** (-20 * seconds / 20)
    low = np.sin(2 * np.pi * 60 * seconds) * 10 ** (-fall_db * seconds / 20) * 0.02
    knock = np.sin(2 * np.pi * 60 * seconds) * np.exp(-seconds / 0.03)
    sound = (note + low + knock).astype(np.float32)[None]
    cut = cut_below([Recording("", 60, 90, sound, 3.0, False)], lasts=False)[0].sound
    left = cut[0] - note.astype(np.float32)
    assert np.square(left[:4410]).sum() == pytest.approx(np.square(low + knock)[:4410].sum(), rel=0.1)
    if fall_db:  # it dies away, too, so it is the instrument's
        np.testing.assert_array_equal(cut, sound)
    else:
        assert 10 * np.log10(np.square(left[SAMPLE_RATE:]).mean() / np.square(low).mean()) < -30


def test_numbers_that_fall_become_one():
    assert rising([1, 3, 2, 5], [1, 1, 1, 1]).tolist() == [1, 2.5, 2.5, 5]
    assert rising([3, 0], [1, 2]).tolist() == [1, 1]


def test_the_wanted_loudness_is_the_programs_at_100_made_even_and_rises():
    taught = np.linspace(-60, -20, len(VELOCITIES))[:, None] + np.where(np.arange(85) > 50, 6.0, 0.0)
    wanted = wanted_db(taught, 30, None)
    assert np.abs(np.diff(wanted, axis=1)).max() <= 0.71 and np.diff(wanted, axis=0).min() > 0
    at = VELOCITIES.tolist().index(100)
    assert wanted[at, :40] == pytest.approx(taught[at, :40], abs=0.3)
    softer = wanted_db(taught, 30, (np.array([33, 112]), np.array([-2.0, 0.0])))
    flat = slice(VELOCITIES.tolist().index(40), at + 1)
    assert np.diff(softer[flat, 0]) == pytest.approx(np.diff(wanted[flat, 0]) / 2)
    assert softer[-1, 0] - softer[at, 0] < wanted[-1, 0] - wanted[at, 0]
    assert softer[1, 0] - softer[0, 0] == pytest.approx(wanted[1, 0] - wanted[0, 0])


@pytest.mark.parametrize("is_levelled", [False, True])
def test_registers_are_as_loud_against_each_other_as_was_heard_at_each_strength(is_levelled):
    """An instrument whose high notes are never soft; levelled recordings say nothing of strengths."""
    keys, soft, at = np.arange(85), 0, VELOCITIES.tolist().index(100)
    inside = (keys >= 20) & (keys <= 60)
    wanted = np.repeat(np.linspace(-60, -20, len(VELOCITIES))[:, None], 85, axis=1)
    wave = 2.0 * np.sin(keys / 6)
    is_soft = (np.maximum(at - np.arange(len(VELOCITIES)), 0) / at)[:, None]
    heard = wanted + wave + (np.clip(keys - 40, 0, 16) / 4 + 3.0) * is_soft - 7.0
    found = heard_db(wanted, heard, inside, is_levelled=is_levelled)
    middle = slice(28, 56)
    for row, high in ((at, 0.0), (soft, 4.0)):
        register = found[row] - wanted[row]
        off = (register - wave)[middle]
        assert off[-1] - off[0] == pytest.approx(0.8 * high, abs=0.25 * high + 0.6)
    assert np.median((found - wanted)[at, inside]) == pytest.approx(0, abs=0.6)
    assert np.median((found - wanted)[soft, inside]) == pytest.approx(0 if is_levelled else 4, abs=0.6)
    assert found[:, :20] - wanted[:, :20] == pytest.approx((found - wanted)[:, 20:21].repeat(20, axis=1), abs=1e-6)
    assert np.diff(found, axis=0).min() > 0 and np.abs(np.diff(found, axis=1)).max() < 0.9


def test_single_strokes_that_stick_out_move_their_register_by_nine_decibels_at_most():
    wanted = np.repeat(np.linspace(-60, -20, len(VELOCITIES))[:, None], 85, axis=1)
    heard = wanted + np.where((np.arange(85) > 40) & (np.arange(85) < 44), 40.0, 0.0)
    found = heard_db(wanted, heard, np.ones(85, bool), is_levelled=False)
    assert (found - wanted).max() < 9.0 and np.abs(np.diff(found, axis=1)).max() <= 0.851


@pytest.mark.parametrize("way", ["with_defaults", "with_voices"])
def test_a_voice_that_lasts_repeats_itself_at_one_level_in_place_of_a_program_and_beside_it(taught, oboe, way):
    number, played_by = len(taught.table.kind), getattr(taught, way)
    bank = played_by([oboe])
    assert bank.repeats_from(number) == STEADY_CHUNK and not bank.courses.at(number, 60).any()
    dying = played_by([dataclasses.replace(oboe, about=oboe.about | {"lasts": "no"})])
    assert dying.courses.at(number, 60) is None and dying.repeats_from(number) > STEADY_CHUNK
    assert bank.repeats_from(0) == taught.repeats_from(0)


@pytest.mark.parametrize("way", ["with_defaults", "with_voices"])
def test_a_voice_that_dies_goes_on_falling_at_any_pitch_and_for_ever(taught, oboe, way):
    course = dying_course(taught, oboe)  # whose notes nets hold
    struck = dataclasses.replace(oboe, about=oboe.about | {"lasts": "no"}, course=course)
    bank, number = getattr(taught, way)([struck]), len(taught.table.kind)
    assert bank.repeats_from(number) == FIRST_CHUNK
    for pitch in (40, 60, 90):
        fall = bank.courses.at(number, pitch)[:, : tk.PITCH_CELL] * tk.LEVEL_STEP_DB
        assert (fall[0] == 0).all() and (np.diff(fall[1:], axis=0) <= 0).all() and (fall[-1] < -80).all()
        assert fall.max(axis=1)[-2] - fall.max(axis=1)[-3] == pytest.approx(-15, abs=2)


def lasting(taught, program, **about):
    """A bank with a copy of a program, and the number that the copy has."""
    about = {"name": "copy", "bank": taught.name, "nets": taught.nets_checksum} | about
    return taught.with_voices([program_copy(taught, program, 0.0, about)]), len(taught.table.kind)


def test_a_release_that_is_to_last_twice_as_long_falls_half_as_fast_and_begins_as_ever(taught):
    def heard(**about):
        bank, number = lasting(taught, 0, **about)
        return play(bank, one_note_score(0, 57, 80, 0.6), voice=number)

    def seconds(sound):
        power = np.square(sound).reshape(2, -1, 441).mean(axis=(0, 2))[60:]
        return 0.01 * np.argmax(power < 1e-4 * power[0])

    plain, same, twice = heard(), heard(release="1.00"), heard(release="2.00")
    until = round(0.6 * SAMPLE_RATE)
    assert np.array_equal(plain, same) and np.array_equal(plain[:, :until], twice[:, :until])
    plain, twice = (np.pad(x, ((0, 0), (0, 441 * 200 - x.shape[1] % 441))) for x in (plain, twice))
    assert seconds(twice) / seconds(plain) == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("release", ["", "0", "0.1", "5", "-1", "nan", "1e2", "long"])
def test_a_release_that_no_voice_can_have_is_refused(taught, release):
    with pytest.raises(BankError, match="its release is"):
        lasting(taught, 0, release=release)


def test_a_slow_release_sounds_the_same_in_blocks_of_any_size(taught):
    bank, number = lasting(taught, 0, release="3.00")

    def played(size):
        player, until = Player(bank, (0,), PlaySettings(sample_rate=SAMPLE_RATE)), 3 * SAMPLE_RATE
        handle = player.start(Strike(0.0, 0, number, 45, 0.7))
        player.release(handle, 0.5)
        return np.concatenate([player.block(size).stems[0] for _ in range(until // size)], axis=1)

    whole, parts = played(3 * SAMPLE_RATE), played(700)
    assert np.abs(whole[:, : parts.shape[1]] - parts).max() < 10 ** (-90 / 20) * np.abs(whole).max()


def test_a_slow_release_sounds_the_same_from_its_middle_on(taught):
    bank, number = lasting(taught, BELLS, release="3.00")
    notes = (0, midi.on(60)), (SECOND, midi.off(60)), (5 * SECOND, midi.on(84)), (9, midi.off(84))
    score = read_score(midi.smf(midi.track((0, midi.program(BELLS)), *notes)))
    whole, rest = (np.concatenate([b.stems for b in stream_stems(bank, score, voices={0: number}, start=s)], axis=2)
                   for s in (0.0, 6.5))  # fmt: skip
    whole = whole[..., round(6.5 * SAMPLE_RATE) :]  # later than any release lasts
    n = min(whole.shape[2], rest.shape[2])
    assert np.abs(whole[..., :n] - rest[..., :n]).max() < 10 ** (-90 / 20) * np.abs(whole).max()
    assert np.abs(rest[..., : SAMPLE_RATE // 2]).max() > 1e-4


@pytest.mark.parametrize("pitch", [40, 52, 64])
def test_damped_notes_of_a_program_last_as_long_as_is_asked_for(taught, pitch):
    pace = release_pace(taught, 0, 0.77, np.arange(21, 109))
    bank, number = lasting(taught, 0, release=f"{pace:.2f}")
    sound = play(bank, one_note_score(0, pitch, 80, 0.6), voice=number)
    at = [
        energy_db(sound[:, round(s * SAMPLE_RATE) : round((s + 0.05) * SAMPLE_RATE)]) for s in (0.45, 0.55, 0.62, 0.82)
    ]
    assert (at[2] - at[3]) / 0.2 - (at[0] - at[1]) / 0.1 == pytest.approx(60 / 0.77, rel=0.2)


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
    (back,) = default_voices(tmp_path)
    assert default_programs(tmp_path) == [OBOE] and back.about["lowest"] == "49"
    np.testing.assert_array_equal(back.gains.levels, oboe.gains.levels)
    assert kits_of(tmp_path).has_variation(OBOE, AS_TAUGHT << 7)
    assert kits_with(GENERAL_MIDI, [OBOE, 70], 189).programs[0, 70] == 190
    dataclasses.replace(oboe, about=oboe.about | {"program": "129"}).save(default_path(tmp_path, 70))
    for read in (default_programs, default_voices):
        with pytest.raises(BankError, match=r'default_071.*its program is "129"; it must be 1 to 128'):
            read(tmp_path)


def test_a_bank_for_some_programs_holds_their_learnt_voices_alone_and_sounds_the_same(gm, midi):
    flute, clarinet, organ = 73, 71, 19
    few = Bank.load("gm", 1, programs=[flute, organ])
    assert [program_of(voice) for voice in few.defaults] == [flute]
    assert [program_of(voice) for voice in gm.defaults] == default_programs(bank_folder("gm"))
    assert few.voice(clarinet, 60, is_drum=False) == clarinet != gm.voice(clarinet, 60, is_drum=False)
    score = read_score(
        midi(*({"notes": [(0, 0.3, 65, 90)], "channel": n, "program": p} for n, p in enumerate((flute, organ))))
    )
    both = [next(iter(stream_stems(bank, score))).stems for bank in (few, gm)]
    np.testing.assert_array_equal(*both)


def test_a_rendered_song_loads_its_own_learnt_voices_alone(midi, tmp_path, monkeypatch):
    asked = []
    load = Bank.load
    monkeypatch.setattr(Bank, "load", lambda *args, **how: asked.append(how["programs"]) or load(*args, **how))
    (tmp_path / "s.mid").write_bytes(
        midi({"notes": [(0, 0.1, 65, 90)], "program": 73}, {"notes": [(0, 0.1, 38, 90)], "channel": 9})
    )
    assert CliRunner().invoke(app, ["render", str(tmp_path / "s.mid")]).exit_code == 0
    assert asked == [{73}]


def test_of_notes_it_is_told_which_programs_learnt_voices_play():
    kits = kits_with(GENERAL_MIDI, [OBOE, 73], 400)
    rows = [(OBOE, 0, False), (73, 128 * AS_TAUGHT, False), (40, 0, False), (73, 0, True), (OBOE, 0, False)]
    notes = np.array(rows, [("program", "i2"), ("bank", "i2"), ("is_drum", "?")])
    assert learnt_programs(kits, notes) == [OBOE]
    assert learnt_programs(kits, notes[1:4]) == learnt_programs(GENERAL_MIDI, notes) == []


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


@pytest.mark.parametrize("program", default_programs(bank_folder("gm")))
def test_each_default_is_even_over_all_keys_rises_with_velocity_and_keeps_the_balance(gm, programs, program):
    number, keys = gm.voice(program, 60, is_drum=False), np.arange(28, 100)
    levels = np.array([first_second_db(gm, number, keys, velocity) for velocity in (30, 100)])
    assert np.abs(np.diff(levels, axis=1)).max() < 1
    own = next(voice for voice in gm.defaults if int(voice.about["program"]) == program + 1)
    assert louder_db(programs, own, program) == pytest.approx(0, abs=0.1)
    strokes = [first_second_db(gm, number, keys[::12], v) for v in (1, 6, 14, 30, 50, 72, 90, 110, 127)]
    assert np.diff(strokes, axis=0).min() > 0


@pytest.mark.parametrize("program", default_programs(bank_folder("gm")))
def test_no_default_grows_once_its_note_is_let_go(gm, program):
    number, hop = gm.voice(program, 60, is_drum=False), round(0.01 * SAMPLE_RATE)
    for pitch in range(30, 100, 8):
        sound = play(gm, one_note_score(0, pitch, 90, 0.6), voice=number)
        power = np.square(sound[:, : sound.shape[1] // hop * hop]).reshape(2, -1, hop).mean(axis=(0, 2))
        assert power[63:].max() < 1.6 * power[50:60].max()  # 2 dB, as what wavers may be at its least when it ends


@pytest.mark.parametrize("program", [0, 19, 48, 71])
def test_beyond_the_keys_that_were_taught_a_voice_is_its_outermost_key_moved(gm, program):
    number = gm.voice(program, 60, is_drum=False)
    for velocity in (40, 100):
        levels = first_second_db(gm, number, np.array([22, 0, 8, 16, 21, 106, 107, 108, 110, 112]), velocity)
        assert np.abs(levels[1:5] - levels[0]).max() < 0.5 and np.abs(levels[6:] - levels[5]).max() < 0.5


def test_few_strings_that_were_let_go_among_many_were_not():
    def note(pitch, is_released):
        return Recording(
            "", pitch, 90, np.zeros((1, 2 * SAMPLE_RATE), np.float32), 0.4 if is_released else 2.0, is_released
        )

    many = [note(40 + n, n == 5) for n in range(12)]
    assert [(r.is_released, r.hold_seconds) for r in _ringing(many)] == [(False, 2.0)] * 12
    damped = [note(40 + n, n < 2) for n in range(10)]
    assert _ringing(damped) == damped, "two in ten tell how dampers fall"


def test_a_programs_own_keys_count_as_far_as_it_leads(gm):
    program, pitches = 40, np.arange(N_PITCHES)
    keys = gm.additions.key_levels.alone(program)
    led = (pitches >= 60) & (pitches <= 70)
    faded = _fading_keys(gm, program, led.astype(np.float32))
    own = led[int(keys.lowest[0]) + np.arange(len(keys.levels))]
    assert keys.levels[own].any() and not faded.levels[own].any(), "recorded notes lead there"
    np.testing.assert_array_equal(faded.levels[~own], keys.levels[~own])
    assert _fading_keys(gm, program, np.ones(N_PITCHES, np.float32)) is None
