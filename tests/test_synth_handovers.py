"""What the synthesis core hands over: to the nets every chunk that it asks for, to the oscillators every note."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import make_toy_bank

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.frames import FRAMES_PER_TOKEN, TOKEN_SECONDS
from miao.bank.voices import balance_of, drum_voice
from miao.measuring.roundtrip import one_note_score, play
from miao.midi.score import Curve, read_score
from miao.synth import oscillators
from miao.synth.note import ONSET_SECONDS, RING_SECONDS, Strike
from miao.synth.player import Player
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems

RATE = 44_100
WIDTH = 3


class RecordingBank:
    """Writes chunks in which every token says where it stands, and keeps every row that it is asked for."""

    def __init__(self, table=None, encode=None):
        self.asked = []
        table = table or make_toy_bank().table
        self.bank = Bank("recording", Path("recording"), table, self.decode, encode, WIDTH)

    @staticmethod
    def token(kind, index, step):
        token = np.zeros(tk.N_CELLS, np.float32)
        token[tk.PITCH_CELL] = tk.CENTS_CENTRE
        token[0], token[1], token[2] = 50, 10 + 10 * kind + index, step
        if kind == tk.RELEASE and index:
            token[:3] = 0  # the second chunk is silence, so there is no third
        return token

    def decode(self, kind, **inputs):
        rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
        self.asked += [{"kind": kind} | row for row in rows]
        levels = [[self.token(kind, int(row["index"]), n) for n in range(tk.CHUNK_STEPS)] for row in rows]
        return np.array(levels, np.float32), np.full((len(rows), tk.CHUNK_STEPS, tk.N_CELLS), 0.5, np.float32)

    def play(self, score):
        """The stems; what was asked for is then in order of pitch and age."""
        stems = np.concatenate([block.stems for block in stream_stems(self.bank, score)], axis=2)
        self.asked.sort(key=lambda row: (row["pitch"], row["age"]))
        return stems


def where(previous):
    """(kind, index, step) of the token that a chunk was told to set out from, None if there was none."""
    if not previous.any():
        return None
    kind, index = divmod(int(previous[1]) - 10, 10)
    return kind, index, int(previous[2])


# chunks


@pytest.mark.parametrize(("hold", "expected"), [
    (1.0, [(tk.ATTACK, 0, 0.0, None), (tk.SUSTAIN, 0, 0.16, (tk.ATTACK, 0, 31)),
           (tk.SUSTAIN, 1, 0.8, (tk.SUSTAIN, 0, 31)), (tk.RELEASE, 0, 1.0, (tk.SUSTAIN, 1, 9)),
           (tk.RELEASE, 1, 1.32, (tk.RELEASE, 0, 31))]),
    (0.05, [(tk.ATTACK, 0, 0.0, None), (tk.RELEASE, 0, 0.05, (tk.ATTACK, 0, 9)),
            (tk.RELEASE, 1, 0.37, (tk.RELEASE, 0, 31))]),
])  # fmt: skip
def test_a_note_is_asked_for_chunk_by_chunk_each_from_the_token_before_it(midi, hold, expected):
    recording = RecordingBank()
    recording.play(read_score(midi({"notes": [(0.3, 0.3 + hold, 62, 90)], "program": 40})))
    found = [(row["kind"], int(row["index"]), pytest.approx(float(row["age"]), abs=1e-4), where(row["previous"]))
             for row in recording.asked]  # fmt: skip
    assert found == expected
    for row in recording.asked:
        assert (row["voice"], row["pitch"], row["velocity"]) == (40, 62, np.float32(90 / 127))


def test_chunks_far_into_a_note_have_the_highest_number_there_is_and_their_true_age(midi):
    recording = RecordingBank()
    recording.play(read_score(midi({"notes": [(0.0, 0.64 * (tk.MAX_CHUNK_INDEX + 3), 62, 90)]})))
    held = [row for row in recording.asked if row["kind"] == tk.SUSTAIN]
    assert [int(row["index"]) for row in held] == [min(n, tk.MAX_CHUNK_INDEX) for n in range(len(held))]
    ages = [float(row["age"]) for row in held]
    np.testing.assert_allclose(ages, 0.16 + 0.64 * np.arange(len(held)), rtol=1e-6)
    assert len(held) > tk.MAX_CHUNK_INDEX + 1


def test_what_is_fetched_beforehand_is_asked_of_the_nets():
    recording = RecordingBank()
    player = Player(recording.bank, (0,))
    player.prefetch(40, (60, 62))
    assert {(row["kind"], int(row["voice"]), int(row["pitch"])) for row in recording.asked} >= {
        (tk.ATTACK, 40, 60), (tk.ATTACK, 40, 62)
    }  # fmt: skip
    assert not player.block(512).stems.any()


def test_a_pedal_that_holds_a_note_holds_its_release_back(midi):
    recording = RecordingBank()
    controls = [(0.0, 64, 127), (0.9, 64, 0)]
    recording.play(read_score(midi({"notes": [(0.1, 0.3, 62, 90)], "controls": controls})))
    (release,) = [row for row in recording.asked if row["kind"] == tk.RELEASE and row["index"] == 0]
    assert release["age"] == pytest.approx(0.8, abs=1e-6)


def test_a_drum_is_its_keys_voice_and_is_never_let_go(midi):
    recording = RecordingBank()
    recording.play(read_score(midi({"notes": [(0.0, 0.1, 38, 90), (0.0, 0.1, 49, 50)], "channel": 9})))
    assert {(int(row["voice"]), int(row["pitch"])) for row in recording.asked} == {(drum_voice(k), k) for k in (38, 49)}
    assert {row["kind"] for row in recording.asked} == {tk.ATTACK, tk.SUSTAIN}
    assert max(row["age"] for row in recording.asked) < 8


class DyingBank(RecordingBank):
    """A release falls silent within its first chunk, before its last eight tokens."""

    @staticmethod
    def token(kind, index, step):
        token = RecordingBank.token(kind, index, step)
        if kind == tk.RELEASE and step >= tk.CHUNK_STEPS - 8:
            token[:3] = 0
        return token


def test_a_chunk_that_ends_in_silence_is_a_notes_last():
    recording = DyingBank()
    recording.play(one_note_score(0, 60, 100, 0.3))
    assert [(row["kind"], int(row["index"])) for row in recording.asked if row["kind"] == tk.RELEASE] == [
        (tk.RELEASE, 0)
    ]


def test_a_drum_that_was_struck_long_before_a_moment_still_rings_there(midi):
    score = read_score(midi({"notes": [(0.0, 0.1, 49, 90), (9.0, 9.1, 38, 90)], "channel": 9}))
    for start, rings in ((RING_SECONDS - 0.5, True), (RING_SECONDS + 0.5, False)):
        first = next(stream_stems(RecordingBank().bank, score, start=start))
        assert bool(first.stems[..., : RATE // 8].any()) == rings


def test_the_soft_pedal_softens_the_notes_that_start_while_it_is_down(midi):
    recording = RecordingBank()
    notes = [(t, t + 0.1, pitch, 100) for t, pitch in ((0.0, 60), (0.6, 61), (1.4, 62), (2.0, 63))]
    recording.play(read_score(midi({"notes": notes, "controls": [(0.5, 67, 127), (1.5, 67, 20)]})))
    velocities = {int(row["pitch"]): float(row["velocity"]) for row in recording.asked}
    full = 100 / 127
    assert velocities == pytest.approx({60: full, 61: 0.8 * full, 62: 0.8 * full, 63: full})


# contexts


def count_onsets(frames):
    """An encoder whose tokens tell how many notes have started by their end, of those the window holds; and where
    they stand in it."""
    n = np.cumsum(frames[:, 0].astype(bool).sum(axis=2), axis=1)[:, FRAMES_PER_TOKEN - 1 :: FRAMES_PER_TOKEN]
    return np.stack([n, np.broadcast_to(np.arange(n.shape[1]), n.shape), np.ones(n.shape)], axis=2).astype(np.float32)


def test_every_chunk_gets_what_its_own_track_has_played_by_then_and_not_a_token_less_or_more(midi):
    recording = RecordingBank(encode=count_onsets)
    starts = np.arange(40) * 0.11 + 0.013  # all within the first window, at all places within a token
    tracks = [{"notes": [(t, t + 0.3, 40 + n, 100) for n, t in enumerate(starts[part::2])], "channel": part}
              for part in (0, 1)]  # fmt: skip
    for track in tracks:
        recording.asked.clear()
        recording.play(read_score(midi(track)))
        alone = [(row["kind"], row["pitch"], row["context"].tolist()) for row in recording.asked]
        assert {row["kind"] for row in recording.asked} == {tk.ATTACK, tk.SUSTAIN, tk.RELEASE}
        mine = np.array([note[0] for note in track["notes"]])
        for row in recording.asked:
            moment = mine[int(row["pitch"]) - 40] + float(row["age"])
            if row["kind"] == tk.SUSTAIN or row["index"]:  # it is heard from the last token of the chunk before on
                moment -= tk.STEP_SECONDS[tk.ATTACK if (row["kind"], row["index"]) == (tk.SUSTAIN, 0) else row["kind"]]
            n_tokens = int(moment / TOKEN_SECONDS + 1e-4)  # that have ended
            heard = (np.rint(mine / 0.005) * 0.005 < n_tokens * TOKEN_SECONDS - 1e-9).sum()
            assert row["context"].tolist() == ([heard, n_tokens - 1, 1] if n_tokens else [0, 0, 0])
        together = RecordingBank(encode=count_onsets)
        together.play(read_score(midi(*tracks)))
        both = [(row["kind"], row["pitch"], row["context"].tolist()) for row in together.asked]
        assert all(both.count(one) >= alone.count(one) for one in alone)


# what reaches the oscillators


@pytest.fixture
def handed(monkeypatch):
    """Every note that the oscillators are given, in the order of blocks."""
    found, work_on = [], oscillators.work_on_notes

    def recorded(orders, *rest):
        found.extend(oscillators.NotePart(*part.arrays()) for _, parts, *_ in orders for part in parts)
        return work_on(orders, *rest)

    monkeypatch.setattr(oscillators, "work_on_notes", recorded)
    return found


def table_with(**changes):
    return dataclasses.replace(make_toy_bank().table, **changes)


def test_partials_and_noise_come_from_where_the_voices_table_says(handed):
    plain = make_toy_bank().table
    balance = plain.balance.copy()
    balance[0, 60, : tk.N_PARTIALS] = balance_of(np.linspace(0.1, 0.9, tk.N_PARTIALS))
    balance[0, 60, tk.N_PARTIALS :] = balance_of(0.8)
    recording = RecordingBank(table_with(balance=balance, trim_db=plain.trim_db + 6))
    sound = play(recording.bank, one_note_score(0, 60, 100, 0.5))
    gains = recording.bank.table.gains(0, 60)  # [C - 1, 2]
    assert gains[0, 0] < gains[0, 1] and gains[tk.N_PARTIALS, 0] == pytest.approx(10**0.3 * np.sqrt(2 * 0.8), rel=0.01)
    part = handed[0]
    np.testing.assert_array_equal(part.balance, gains[tk.N_PARTIALS :])
    between = (1 - part.shares)[:, None] * gains[part.cells] + part.shares[:, None] * gains[part.cells + 1]
    np.testing.assert_allclose(part.gains[:, :2], between, rtol=1e-5)
    assert not part.gains[:, 2].any()
    np.testing.assert_allclose(part.ratios, np.arange(1, len(part.ratios) + 1))
    # and it is heard: the loud first partial is to the right by that much
    left, right = np.sqrt(np.mean(np.square(sound, dtype=float), axis=1))
    assert right / left == pytest.approx(gains[0, 1] / gains[0, 0], rel=0.1)


@pytest.mark.parametrize("is_wide", [False, True])
def test_noise_is_two_noises_where_the_voice_is_wide_and_one_where_it_is_not(handed, is_wide):
    plain = make_toy_bank()
    bank = dataclasses.replace(plain, table=table_with(is_wide=np.full_like(plain.table.is_wide, is_wide)))
    sound = play(bank, one_note_score(drum_voice(38), 38, 100, 0.5))
    for part in handed:
        assert part.is_wide == is_wide
    alike = np.corrcoef(sound)[0, 1]
    assert alike < 0.8 if is_wide else (sound[0] == sound[1]).all()


def test_a_note_goes_on_from_block_to_block_and_starts_at_phases_of_its_own(handed):
    recording = RecordingBank()
    recording.play(one_note_score(0, 60, 100, 9.0))
    assert len(handed) > 2
    for part in handed[1:]:
        np.testing.assert_array_equal(part.offsets, handed[0].offsets)
        np.testing.assert_array_equal(part.gains, handed[0].gains)
    assert handed[0].offsets.min() >= 0 and handed[0].offsets.max() < 1 and np.ptp(handed[0].offsets) > 0.5
    other, once_more = (RecordingBank() for _ in range(2))
    n = len(handed)
    other.play(one_note_score(0, 61, 100, 0.5))
    assert (handed[n].offsets[:20] != handed[0].offsets[:20]).all()
    n = len(handed)
    once_more.play(one_note_score(0, 60, 100, 0.5))
    np.testing.assert_array_equal(handed[n].offsets, handed[0].offsets)


# what moves the pitch


def cents_over_time(sound, pitch):
    """Cents from a pitch every 5 ms, of a single sine."""
    hz = 440 * 2 ** ((pitch - 69) / 12)
    n = np.arange(len(sound))
    slow = sound * np.exp(-2j * np.pi * hz * n / RATE)
    kernel = np.hanning(441)
    smooth = np.convolve(slow, kernel / kernel.sum(), "same")[:: RATE // 200]
    return 1200 * np.log2(1 + np.diff(np.unwrap(np.angle(smooth))) * 200 / (2 * np.pi) / hz)


@pytest.mark.parametrize(("controls", "depth"), [
    ({"modulation": 1.0}, 50), ({"pressure": 1.0}, 50), ({"modulation": 0.5}, 25),
    ({"modulation": 0.2, "pressure": 0.6}, 30), ({"modulation": 0.6, "pressure": 0.2}, 30), ({}, 0),
], ids=str)  # fmt: skip
def test_modulation_and_pressure_are_vibrato_of_55_tenths_of_a_hertz_and_half_a_semitone(toy_bank, controls, depth):
    score = one_note_score(0, 81, 100, 4.0)
    curves = {name: Curve(np.zeros(0), np.zeros(0), value) for name, value in controls.items()}
    (track,) = score.tracks
    score = dataclasses.replace(score, tracks=(dataclasses.replace(track, controls=curves),))
    cents = cents_over_time(play(toy_bank, score)[0], 81)[20:748]  # 3.64 s, 20 turns of the vibrato
    power = np.abs(np.fft.rfft(cents)) * 2 / len(cents)
    assert abs(cents.mean()) < 1 and power.argmax() * bool(depth) == 20 * bool(depth)
    # a window of 10 ms and knots 5 ms apart flatten a wave of 182 ms by under a hundredth each
    assert power[20] == pytest.approx(depth, rel=0.05, abs=0.1)


def test_the_depth_of_vibrato_follows_the_wheel_and_the_bend_is_added(toy_bank):
    (track,) = (score := one_note_score(0, 81, 100, 4.0)).tracks
    curves = {"modulation": Curve(np.array([2.0]), np.array([1.0]), 0.0), "bend": Curve(np.zeros(0), np.zeros(0), 0.5)}
    score = dataclasses.replace(score, tracks=(dataclasses.replace(track, controls=curves),))
    cents = cents_over_time(play(toy_bank, score)[0], 81)
    np.testing.assert_allclose(cents[40:390], 50, atol=1)
    assert np.ptp(cents[410:790]) > 80 and abs(cents[410:774].mean() - 50) < 5


def test_a_note_has_a_knot_at_each_of_its_tokens_and_sets_out_from_silence(toy_bank):
    steps, told = np.arange(tk.CHUNK_STEPS), {tk.ATTACK: (20, 0.25), tk.SUSTAIN: (40, 0.25), tk.RELEASE: (30, -0.25)}

    def decode(kind, index, **_):
        levels = np.zeros((len(index), tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
        levels[:, :, tk.PITCH_CELL] = tk.CENTS_CENTRE
        first, slope = told[kind]
        levels[:, :, 0] = first + slope * steps
        return levels, np.zeros_like(levels)

    player = Player(dataclasses.replace(toy_bank, decode=decode, encode=None), (0,), PlaySettings())
    handle = player.start(Strike(0.1, 0, 0, 60, 0.7))
    player.release(handle, 1.5)
    player.decide(3.0)
    player.write(1.8)
    course = player.notes[handle].course
    attack, sustain, release = (seconds * steps for seconds in tk.STEP_SECONDS)
    times = [0.0, ONSET_SECONDS, *attack[1:], *(0.16 + sustain), *(0.8 + sustain[: round(0.6 / 0.02) + 1])]
    levels = [0.0, *(20 + 0.25 * steps), *(40 + 0.25 * steps), *(40 + 0.25 * steps[: round(0.6 / 0.02) + 1])]
    np.testing.assert_allclose(course.times[: len(times)], 0.1 + np.array(times), atol=1e-9)
    np.testing.assert_allclose(course.levels[: len(levels), 0], levels)
    np.testing.assert_allclose(course.times[len(times) :][:31], 1.5 + release[1:], atol=1e-9)
    np.testing.assert_allclose(course.levels[len(levels) :][:31, 0], 30 - 0.25 * steps[1:])
