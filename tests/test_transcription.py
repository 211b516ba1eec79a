"""The transcriber hears notes whose answer is known; the scores are right for cases worked by hand."""

import importlib.util

import numpy as np
import pytest

from miao.errors import DataError
from miao.evaluation import transcription as tr
from miao.score import NOTE

RATE = 44_100

needs_model = pytest.mark.skipif(tr.model_path() is None, reason="basic-pitch is not installed")
needs_mir_eval = pytest.mark.skipif(
    importlib.util.find_spec("mir_eval") is None, reason="mir_eval is not installed (extra `evaluate`)"
)


def heard(*notes):
    return np.array(list(notes), tr.HEARD)


def tones(notes, seconds):
    """Plucked harmonic tones [2, S]: each note six partials that fall off, and a soft end."""
    sound = np.zeros(round(seconds * RATE))
    for start, end, pitch in notes.tolist():
        first, n = round(start * RATE), round((end - start) * RATE)
        t = np.arange(n) / RATE
        wave = sum(np.sin(2 * np.pi * k * 440 * 2 ** ((pitch - 69) / 12) * t) / k**1.5 for k in range(1, 7))
        sound[first : first + n] += 0.2 * wave * np.exp(-1.5 * t) * np.minimum((end - start - t) / 0.02, 1)
    return np.stack([sound, sound])


MELODY = heard(*[(0.3 + 0.4 * i, 0.65 + 0.4 * i, p) for i, p in enumerate([60, 62, 64, 67, 72, 55, 48, 76, 69, 64])])


@needs_model
@needs_mir_eval
def test_a_melody_of_harmonic_tones_is_heard_note_for_note():
    found = tr.BasicPitch(n_threads=1)(tones(MELODY, 5), RATE)
    assert tr.note_f1(MELODY, found).f1 >= 0.95


@needs_model
def test_heard_starts_are_right_on_average_also_in_later_windows():
    """A step from window to window that is not a whole number of frames would make later notes come too late."""
    late = MELODY.copy()
    late["start"] += 40
    late["end"] += 40
    both = np.concatenate([MELODY, late])
    found = tr.BasicPitch(n_threads=1)(tones(both, 46), RATE)
    for notes in (MELODY, late):
        errors = []
        for note in notes:
            same = found[found["pitch"] == note["pitch"]]
            if len(same):
                errors.append(same["start"][np.argmin(np.abs(same["start"] - note["start"]))] - note["start"])
        assert len(errors) >= 9
        assert abs(np.median(errors)) < 0.015


@needs_model
def test_a_chord_is_heard_as_its_notes():
    chord = heard((0.5, 1.8, 48), (0.5, 1.8, 64), (0.5, 1.8, 67))
    found = tr.BasicPitch(n_threads=1)(tones(chord, 2.5), RATE)
    assert set(chord["pitch"]) <= set(found["pitch"])
    assert len(found) <= 4


@needs_model
def test_nothing_is_heard_in_silence_and_in_no_sound_at_all():
    model = tr.BasicPitch(n_threads=1)
    assert len(model(np.zeros((2, RATE)), RATE)) == 0
    assert len(model(np.zeros((2, 1)), RATE)) == 0


def test_a_missing_model_says_what_to_install(tmp_path):
    with pytest.raises(DataError, match="pip install --no-deps basic-pitch"):
        tr.BasicPitch(tmp_path / "nmp.onnx")


# decoding, by hand


def activations(*cells):
    """[100, 88] with (first frame, last frame + 1, pitch) active."""
    activation = np.zeros((100, tr.N_PITCHES), np.float32)
    for begin, end, pitch in cells:
        activation[begin:end, pitch - tr.LOWEST_PITCH] = 0.8
    return activation


def onsets_at(*cells):
    onsets = np.zeros((100, tr.N_PITCHES), np.float32)
    for frame, pitch in cells:
        onsets[frame, pitch - tr.LOWEST_PITCH] = 0.9
    return onsets


def frames_of(notes):
    scale = tr.SAMPLE_RATE / tr.FRAME_SAMPLES
    return [(round(n["start"] * scale), round(n["end"] * scale), int(n["pitch"])) for n in notes]


def test_a_note_lasts_from_its_onset_until_it_is_inactive():
    assert frames_of(tr.decode_notes(activations((20, 50, 60)), onsets_at((20, 60)))) == [(20, 50, 60)]


def test_two_onsets_in_one_activation_are_two_notes():
    found = tr.decode_notes(activations((20, 70, 60)), onsets_at((20, 60), (45, 60)))
    assert frames_of(found) == [(20, 45, 60), (45, 70, 60)]


def test_a_short_gap_is_bridged_and_a_long_one_ends_the_note():
    onsets = onsets_at((10, 60))
    onsets[:, 0] = 1.0  # strong onsets elsewhere, without a peak, keep the second rise from counting
    short = activations((10, 30, 60), (35, 60, 60))
    assert frames_of(tr.decode_notes(short, onsets, onset_threshold=1.1)) == [(10, 60, 60)]
    long = activations((10, 30, 60), (50, 80, 60))
    assert frames_of(tr.decode_notes(long, onsets, onset_threshold=1.1)) == [(10, 30, 60), (50, 80, 60)]


def test_a_note_without_onset_is_found_by_what_is_left():
    found = tr.decode_notes(activations((20, 50, 60)), onsets_at(), onset_threshold=0.5)
    assert frames_of(found) == [(20, 50, 60)]


def test_notes_that_are_too_short_are_dropped():
    assert len(tr.decode_notes(activations((20, 28, 60)), onsets_at((20, 60)))) == 0
    assert len(tr.decode_notes(activations((20, 28, 60)), onsets_at((20, 60)), shortest_seconds=0.05)) == 1


def test_the_lowest_and_the_highest_key_can_be_heard():
    found = tr.decode_notes(activations((20, 50, 21), (20, 50, 108)), onsets_at((20, 21), (20, 108)))
    assert frames_of(found) == [(20, 50, 21), (20, 50, 108)]


# scores, by hand


@needs_mir_eval
def test_f1_counts_starts_within_50_ms_and_equal_pitches():
    played = heard((0.0, 1.0, 60), (1.0, 2.0, 62), (2.0, 3.0, 64), (3.0, 4.0, 65))
    found = heard((0.04, 1.0, 60), (1.06, 2.0, 62), (2.0, 2.2, 64), (3.0, 4.0, 66), (3.5, 4.0, 70))
    score = tr.note_f1(played, found)
    assert score.recall == pytest.approx(2 / 4)
    assert score.precision == pytest.approx(2 / 5)
    assert score.f1 == pytest.approx(4 / 9)
    assert score.f1_with_offset == pytest.approx(2 / 9)  # the third ends too early
    assert (score.n_played, score.n_heard) == (4, 5)


@needs_mir_eval
def test_a_wider_tolerance_lets_more_notes_match():
    assert tr.note_f1(heard((1.0, 2.0, 60)), heard((1.08, 2.0, 60))).f1 == 0
    assert tr.note_f1(heard((1.0, 2.0, 60)), heard((1.08, 2.0, 60)), onset_tolerance=0.1).f1 == 1


def test_empty_lists_agree_with_each_other_and_with_nothing_else():
    assert tr.note_f1(heard(), heard()).f1 == 1
    assert tr.note_f1(heard((0.0, 1.0, 60)), heard()).f1 == 0
    assert tr.note_f1(heard(), heard((0.0, 1.0, 60))).f1 == 0
    assert tr.onset_f1(np.zeros(0), np.zeros(0)) == 1
    assert tr.onset_f1(np.array([1.0]), np.zeros(0)) == 0


def test_a_score_note_is_heard_until_it_is_damped():
    notes = np.array([(1.0, 1.5, 3.0, 60, 90, 0, 0, False), (2.0, 2.0, 2.0, 62, 90, 0, 0, False)], NOTE)
    found = tr.as_heard(notes)
    assert found["end"][0] == 3.0
    assert found["end"][1] > 2.0


# drums


def strokes(times, seconds):
    rng = np.random.default_rng(3)
    sound = np.zeros((2, round(seconds * RATE)))
    for time in times:
        first = round(time * RATE)
        n = min(round(0.15 * RATE), sound.shape[1] - first)
        sound[:, first : first + n] += rng.standard_normal(n) * 0.3 * np.exp(-np.arange(n) / (0.03 * RATE))
    return sound


@needs_mir_eval
def test_strokes_of_noise_are_found_where_they_are():
    times = np.array([0.2, 0.45, 0.7, 0.83, 1.2, 1.9])
    found = tr.flux_onsets(strokes(times, 2.5))
    assert tr.onset_f1(times, found, tolerance=0.02) == 1


def test_a_steady_noise_has_one_onset_at_most():
    steady = 0.1 * np.random.default_rng(1).standard_normal((2, 3 * RATE))
    assert len(tr.flux_onsets(steady)) <= 1
    assert len(tr.flux_onsets(np.zeros((2, RATE)))) == 0


def test_strokes_at_one_time_are_one_onset():
    np.testing.assert_allclose(tr.merged_onsets(np.array([1.0, 0.5, 1.01, 1.02, 1.04])), [0.5, 1.0, 1.04])
