"""What sounds while it is changed: unchanged it is the rendering, and a change makes no more anew than it must."""

from dataclasses import replace

import numpy as np
import pytest

from miao.midi.score import Curve, read_score
from miao.synth.arrangement import Arrangement
from miao.synth.running import DRUM_SECONDS, LATE_SECONDS, RISE_SECONDS, Running
from miao.synth.settings import PlaySettings
from miao.synth.sources import UNWANTED_SECONDS, is_played_alike

SETTINGS = PlaySettings(gain_db=6.0, room="hall")
RATE = SETTINGS.sample_rate


@pytest.fixture(scope="module")
def score(song):
    return read_score(song)


@pytest.fixture(scope="module")
def deaf(toy_bank):
    """A bank whose notes do not hear each other, as those that are shipped."""
    return replace(toy_bank, encode=None)


def whole(running, *sizes):
    parts, n = [], 0
    while not running.is_over:
        parts.append(running.block(sizes[n % len(sizes)]))
        n += 1
    return np.concatenate(parts, axis=1)


def some(running, n_samples, size=4096):
    parts = []
    while sum(part.shape[1] for part in parts) < n_samples:
        parts.append(running.block(size))
    return np.concatenate(parts, axis=1)[:, :n_samples]


def ran(bank, score, settings=SETTINGS, **more):
    return Running(bank, score, settings, {}, **more)


def changed(running, bank, score, told, at, settings=SETTINGS):
    """What plays on from a sample as arranged, of what has played until then."""
    arrangement = Arrangement.of(told)
    numbers = [number for number in range(1, len(score.tracks) + 1) if arrangement.is_heard(number)]
    return ran(
        bank, arrangement.score(score), replace(settings, room=arrangement.room or settings.room), start=at / RATE,
        past=running.sent_until(at), known=dict(running.known), numbers=numbers, before=running, is_urgent=True,
    )  # fmt: skip


def counted(bank):
    """The bank, and a list of how many chunks were asked of it at a time, and of which voices."""
    asked = []

    def decode(kind, **inputs):
        asked.extend(inputs["voice"].tolist())
        return bank.decode(kind, **inputs)

    return replace(bank, decode=decode), asked


def test_what_runs_is_what_is_rendered_however_it_is_cut(score, synthesizer):
    expected = np.concatenate(list(synthesizer.stream(score, SETTINGS)), axis=1)
    for sizes in ((4096,), (777, 20_000), (65536,)):
        heard = whole(ran(synthesizer.bank, score), *sizes)
        n = expected.shape[1]
        assert np.abs(expected).max() > 0.1 and heard.shape[1] >= n
        np.testing.assert_allclose(heard[:, :n], expected, atol=2e-5)  # far below what 16 bits hold
        assert np.abs(heard[:, n:]).max(initial=0) < 1e-4  # the room's last, which a file leaves out


@pytest.mark.parametrize("has_past", [False, True])
def test_from_the_middle_it_is_as_if_it_had_never_stopped(score, synthesizer, has_past):
    first, at = ran(synthesizer.bank, score), 5 * 16384
    heard = np.concatenate([first.block(16384) for _ in range(8)], axis=1)
    past = first.sent_until(at) if has_past else None
    second = ran(synthesizer.bank, score, start=at / RATE, past=past)
    again = np.concatenate([second.block(16384) for _ in range(3)], axis=1)
    n = min(again.shape[1], heard.shape[1] - at)
    begin = round(0.02 * RATE) if has_past else 0  # a note begins at its level then, and filters without a past
    np.testing.assert_allclose(again[:, begin:n], heard[:, at + begin : at + n], atol=1e-3)
    dry = ran(synthesizer.bank, score, start=at / RATE, past=np.zeros((2, 0), np.float32))
    without = np.concatenate([dry.block(16384) for _ in range(3)], axis=1)
    assert np.abs(without[:, :n] - heard[:, at : at + n]).max() > 5e-3  # the room's past is heard


@pytest.mark.parametrize("moved", [-0.003, 0.003])
def test_a_fader_that_moves_where_one_jumps_moves_at_its_own_time(deaf, midi, moved):
    notes = {"notes": [(0.0, 3.0, 69, 90)], "controls": [(0, 91, 0), (1.0 + moved, 7, 20)]}
    score = read_score(midi(notes))
    settings = replace(SETTINGS, room="none")
    heard = some(ran(deaf, score, settings), 2 * RATE)[:, RATE:]
    again = some(ran(deaf, score, settings, start=1.0), RATE)
    begin = round(0.001 * RATE)  # a note begins at its level
    np.testing.assert_allclose(again[:, begin:], heard[:, begin:], atol=1e-3)


def test_tracks_of_the_same_notes_and_controllers_are_played_alike_whoever_made_them(score):
    def copied(track, **more):
        controls = {name: Curve(c.times.copy(), c.values.copy(), c.initial) for name, c in track.controls.items()}
        return replace(track, **{"notes": track.notes.copy(), "controls": controls} | more)

    track = score.tracks[1]
    assert is_played_alike(track, copied(track))
    notes = track.notes.copy()
    notes["velocity"] -= 1
    bend = Curve(np.array([1.0]), np.array([2.0]), 0.0)
    for other in (copied(track, notes=notes), copied(track, notes=track.notes[:0]), copied(track, channel=5),
                  copied(track, controls=track.controls | {"bend": bend})):  # fmt: skip
        assert not is_played_alike(track, other)


def test_who_jumps_in_a_hurry_hears_at_once_what_is_held_and_soon_all_that_rings(score, deaf, midi):
    # notes let go and drums struck a second before, which a room and their voices go on with; one that is held
    score = read_score(
        midi(
            {"notes": [(0.2, 1.3, 60, 100), (1.9, 4.0, 72, 80)]},
            {"notes": [(0.2, 3.5, 52, 90)], "channel": 1},
            {"notes": [(t, t + 0.1, 49, 110) for t in (0.5, 1.2, 2.6)], "channel": 9},
        )
    )
    at, rate = 2.0, RATE
    assert DRUM_SECONDS < 2.0 - 1.2
    heard = some(ran(deaf, score), 4 * rate)[:, 2 * rate :]
    counting, asked = counted(deaf)
    urgent = ran(counting, score, start=at, is_urgent=True)
    first = urgent.block(2048)
    n_at_once = len(asked)
    rest = some(urgent, 2 * rate - first.shape[1])
    assert 0 < n_at_once < len(asked)  # what is over may wait
    again = np.concatenate([first, rest], axis=1)
    settled = round((LATE_SECONDS + RISE_SECONDS) * rate) + 4096
    np.testing.assert_allclose(again[:, settled:], heard[:, settled:], atol=1.5e-3)
    held = np.square(again[:, :settled]).mean() / np.square(heard[:, :settled]).mean()
    assert 0.4 < held < 1.1  # and before, too, most of it is there
    step = np.abs(np.diff(again[:, :settled])).max() / np.abs(np.diff(heard[:, :settled])).max()
    assert step < 1.3  # no click


@pytest.mark.parametrize(
    "told",
    [{"tracks": {"1": {"volume_db": -9, "pan": 0.8}}}, {"tracks": {"1": {"muted": True}}}, {"room": "church"},
     {"tracks": {"2": {"solo": True}}}],
)  # fmt: skip
def test_what_is_only_mixed_anew_is_not_made_anew(score, deaf, told):
    bank, asked = counted(deaf)
    running, at = ran(bank, score), 61_234
    some(running, 3 * RATE)
    n = len(asked)
    heard = some(changed(running, bank, score, told, at), RATE)
    assert len(asked) == n
    arrangement = Arrangement.of(told)
    settings = replace(SETTINGS, room=arrangement.room or "hall")
    anew = ran(deaf, arrangement.score(score), settings, start=at / RATE, past=running.sent_until(at))
    begin = round(0.02 * RATE)
    np.testing.assert_allclose(heard[:, begin:], some(anew, RATE)[:, begin:], atol=2e-3)


def test_what_was_silenced_is_there_again_at_once_and_in_the_end_no_longer_played(score, deaf, monkeypatch):
    bank, asked = counted(deaf)
    running = ran(bank, score)
    some(running, RATE)
    quiet = changed(running, bank, score, {"tracks": {"2": {"muted": True}}}, RATE)
    some(quiet, 2 * RATE)
    n = len(asked)
    some(changed(quiet, bank, score, {}, 2 * RATE), RATE // 2)
    assert len(asked) == n
    (source,) = changed(quiet, bank, score, {"tracks": {"2": {"muted": True}}}, 2 * RATE).sources
    monkeypatch.setattr("miao.synth.sources.UNWANTED_SECONDS", 1.5)
    source.make(5 * RATE)
    assert not source.has(2, score.tracks[1], 2 * RATE) and source.has(1, score.tracks[0], 2 * RATE)


def test_another_instrument_is_made_and_the_others_are_kept(score, deaf):
    bank, asked = counted(deaf)
    running = ran(bank, score)
    some(running, 2 * RATE)
    asked.clear()
    told = {"tracks": {"1": {"program": 3}}}
    other = changed(running, bank, score, told, RATE)
    some(other, RATE // 2)
    assert set(asked) == {2}
    first, *more = other.sources
    assert first is running.sources[0] and set(first.unwanted) == {1} and all(set(s.tracks) == {1} for s in more)


def test_after_many_changes_there_are_no_more_sources_than_tracks_that_were_wanted_lately(score, deaf):
    running, at = ran(deaf, score), RATE
    some(running, 2 * RATE)
    for n in range(6):
        running = changed(running, deaf, score, {"tracks": {str(1 + n % 3): {"program": 1 + n}}}, at)
        some(running, 8000)
        at += 4000
    assert len(running.sources) > 3
    for source in running.sources:
        source.make(at + round((UNWANTED_SECONDS + 1) * RATE))
    running.heard(at + 6 * RATE)
    running.block(4096)
    assert len(running.sources) <= 3


def test_a_loop_ends_where_it_is_to_and_its_seam_is_faded(score, synthesizer):
    running = ran(synthesizer.bank, score, start=1.0, end=2.5)
    heard = whole(running, 10_000)
    assert heard.shape[1] == round(1.5 * RATE)
    assert np.abs(heard[:, -1]).max() < 1e-3 < np.abs(heard[:, -2000]).max()
    assert running.block(100).shape == (2, 0)


def test_a_chunk_that_was_written_is_not_written_again(score, deaf):
    bank, asked = counted(deaf)
    known = {}
    ran(bank, score, known=known).block(65536)
    n = len(asked)
    ran(bank, score, known=known).block(65536)
    assert n >= 2 and len(asked) == n


def test_what_is_behind_the_listener_is_forgotten(score, deaf):
    running = ran(deaf, score)
    for n in range(10):
        running.heard(16384 * n)
        running.block(16384)
    assert sum(block.stems.shape[2] for block in running.sources[0]._made) < 4 * 16384
