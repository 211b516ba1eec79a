"""When notes are there: of those whose moment is chance, by several drawings."""

import numpy as np
import pytest

from miao.datasets.notes import Source
from miao.evaluation import notes as evaluation
from miao.measuring.attack import AROUND, WITHIN_SECONDS, attack_time, usual_attack_time
from miao.sound.spectrum import SAMPLE_RATE

N = round(WITHIN_SECONDS * SAMPLE_RATE)


def noise(seed, later_seconds=0.0):
    """Noise that swells by 20 dB in 150 ms, as a breath does."""
    times = np.arange(N) / SAMPLE_RATE - later_seconds
    swell = 10 ** (np.clip(times - 0.15, -0.15, 0.0) * 20 / 0.15 / 20)
    return np.random.default_rng(seed).normal(0, 0.1, (2, N)) * swell


def test_of_notes_whose_moment_is_chance_several_drawings_tell_what_single_ones_do_not():
    single = [abs(attack_time(noise(n)) - attack_time(noise(1000 + n))) for n in range(40)]
    usual = [
        abs(usual_attack_time(map(noise, range(n, n + 5))) - usual_attack_time(map(noise, range(n + 500, n + 505))))
        for n in range(0, 200, 5)
    ]
    assert np.mean(usual) < 0.6 * np.mean(single)
    late = usual_attack_time([noise(n, 0.05) for n in range(5)]) - usual_attack_time(map(noise, range(5)))
    assert late == pytest.approx(0.05, abs=0.02)


def test_one_odd_drawing_is_of_no_matter():
    early = np.zeros((2, N))
    early[:, :2000] = 0.5
    early[:, 2000:] = 0.4
    plain = [noise(n) for n in range(4)]
    assert attack_time(early) < 0.01
    assert min(map(attack_time, plain)) <= usual_attack_time([early, *plain]) <= max(map(attack_time, plain))


def test_how_far_off_and_how_much_of_it_may_be_chance_by_hand():
    found = evaluation.Attacks(theirs=[0.010, 0.010, 0.013, 0.010, 0.012], ours=[0.020, 0.031, 0.030, 0.032, 0.045])
    assert found.off() == pytest.approx(0.021)
    assert found.chance() == pytest.approx((0.001, 0.0054))
    rows = [{"attacks": {"theirs": [0.01] * 5, "ours": [ours] * 5}} for ours in (0.005, 0.012, 0.04)]
    assert evaluation.attack_ms(rows) == pytest.approx((5.0, 0.0, 0.0))


def test_a_note_is_drawn_at_strengths_around_its_own_ours_each_with_another_seed(monkeypatch):
    asked = []

    def rendered(font, source, pitch, velocity, seconds):
        asked.append(("theirs", source, pitch, velocity))
        return np.zeros((2, SAMPLE_RATE))

    def played(bank, score, seed, voice, seconds):
        (note,) = score.tracks[0].notes
        asked.append(("ours", seed, voice, int(note["pitch"]), int(note["velocity"]), float(note["end"])))
        assert seconds == WITHIN_SECONDS
        return np.zeros((2, SAMPLE_RATE))

    monkeypatch.setattr(evaluation, "render", rendered)
    monkeypatch.setattr(evaluation, "play", played)
    evaluation.drawn_attacks(None, Source(7, 8), None, 0, 60, 80, 300)
    assert [a[3] for a in asked if a[0] == "theirs"] == [80 + beside for beside in AROUND] == [78, 79, 80, 81, 82]
    assert [a[1:] for a in asked if a[0] == "ours"] == [(n, 300, 60, 78 + n, 1.0) for n in range(5)]
    assert {a[1] for a in asked if a[0] == "theirs"} == {Source(7, 8)}
