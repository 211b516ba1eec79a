import numpy as np
import pytest

from miao.errors import ConfigError
from miao.sound.chorus import CHORUS_LEVEL, CHORUS_TYPES, Chorus, _between

RATE = 44_100


def tone(seconds, hz=440.0):
    wave = np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave, wave]).astype(np.float32)


@pytest.mark.parametrize("kind", CHORUS_TYPES)
def test_blocks_of_any_size_give_the_same_samples(kind):
    sent = tone(0.5)
    whole = Chorus(RATE, kind).process(sent)
    chorus, parts, first = Chorus(RATE, kind), [], 0
    for size in (1, 7, 64, 4096, 3, 20_000):
        parts.append(chorus.process(sent[:, first : first + size]))
        first += size
    np.testing.assert_array_equal(np.concatenate([p for p in parts if p.size], axis=1), whole[:, : sent.shape[1]])


def test_nothing_sent_is_nothing_heard_and_silence_comes_back_after_the_tail():
    chorus = Chorus(RATE, "flanger")
    assert not chorus.process(np.zeros((2, 100), np.float32)).any()
    chorus.process(tone(0.1))
    tail = chorus.tail()
    assert np.abs(tail[:, -10:]).max() < 1e-3 < np.abs(tail[:, :100]).max()


def test_an_impulse_comes_back_once_within_the_swing_on_each_side():
    """Without feedback the delay lies between 4 ms and 4 ms and the depth."""
    sent = np.zeros((2, 2000), np.float32)
    sent[:, 0] = 1
    back = Chorus(RATE, "chorus 1").process(sent)
    for side in back:
        heard = np.flatnonzero(np.abs(side) > 1e-3)
        assert heard[0] >= 0.004 * RATE - 2 and heard[-1] <= (0.004 + 0.0019) * RATE + 2
        assert side.sum() == pytest.approx(CHORUS_LEVEL, abs=0.02)


def test_the_pitch_swings_against_each_other_left_and_right():
    """A delay that grows lowers the pitch: while it grows on one side it shrinks on the other."""
    back = Chorus(RATE, "chorus 2").process(tone(1.0))
    crossings = [np.flatnonzero((side[:-1] < 0) & (side[1:] >= 0)) for side in back[:, 3000:12_000]]
    hz = [RATE * (len(c) - 1) / (c[-1] - c[0]) for c in crossings]
    assert hz[0] < 440 < hz[1]
    assert hz[1] - hz[0] > 4


def test_between_samples_lies_the_parabola_that_they_lie_on():
    """Catmull's and Rom's cubic is exact for polynomials up to the second degree."""
    at, whole, part = np.arange(12.0), np.array([1, 4, 7, 9]), np.array([0.0, 0.25, 0.5, 0.875])
    for powers in ((1.0,), (0.3, -2.0), (0.5, 1.0, -3.0)):
        line, wanted = (np.polyval(powers, x) for x in (at, whole + part))
        np.testing.assert_allclose(_between(line, whole, part), wanted, rtol=0, atol=1e-12)  # double precision
    steps = _between(np.sign(at - 5.5), np.full(4, 5), part)  # and goes from the one to the other where they jump
    np.testing.assert_allclose(steps, -1 + part + 3 * part**2 - 2 * part**3, rtol=0, atol=1e-12)


def test_another_name_is_one_line():
    with pytest.raises(ConfigError, match="there are chorus 1"):
        Chorus(RATE, "phaser")


def test_what_was_silent_before_does_not_matter_to_the_swing_of_a_song(toy_bank, midi):
    """In long blocks and in an excerpt the chorus swings as it does in the whole."""
    from miao.midi.score import read_score
    from miao.synth.rendering import rows_of
    from miao.synth.settings import PlaySettings

    notes = [(3.0, 4.5, 69, 100)]
    score = read_score(midi({"notes": notes, "controls": [(0, 91, 0), (0, 93, 127)]}))
    whole, later = (
        np.concatenate(list(rows_of(toy_bank, score, PlaySettings(start=start), {}, False)), axis=2)[0]
        for start in (0.0, 2.5)
    )
    n, fade = later.shape[1], 1000
    whole = whole[:, round(2.5 * 44_100) :][:, :n]
    np.testing.assert_allclose(later[:, fade:n], whole[:, fade:], atol=1e-4 * np.abs(whole).max())
