"""The transcriber hears notes whose answer is known; the scores are right for cases worked by hand."""

import importlib.util
import shlex
import sys

import numpy as np
import pytest

from miao.errors import ConfigError, DataError
from miao.evaluation import transcription as tr
from miao.evaluation.transcribers import CommandTranscriber, harmonica
from miao.midi.score import notes_array, read_score
from miao.sound.audio import read_audio

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
    late["start"] += 24
    late["end"] += 24
    both = np.concatenate([MELODY, late])
    found = tr.BasicPitch(n_threads=1)(tones(both, 30), RATE)
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
    notes = notes_array([(1.0, 1.5, 3.0, 60, 90, 0, 0, False), (2.0, 2.0, 2.0, 62, 90, 0, 0, False)])
    found = tr.as_heard(notes)
    assert found["end"][0] == 3.0
    assert found["end"][1] > 2.0


# scores by program


def attributed(*notes):
    return np.array(list(notes), tr.ATTRIBUTED)


def random_notes(random, n, programs):
    start = random.uniform(0, 20, n)
    notes = np.zeros(n, tr.ATTRIBUTED)
    notes["start"], notes["end"] = start, start + random.uniform(0.1, 1.0, n)
    notes["pitch"], notes["program"] = random.integers(50, 62, n), random.choice(programs, n)
    notes["is_drum"] = random.random(n) < 0.25
    notes["program"][notes["is_drum"]] = 0
    return notes


@needs_mir_eval
def test_notes_of_another_program_match_only_where_programs_do_not_count():
    """A flute (73) heard as a recorder (74, same class), an oboe (68) as a violin (40), a piano right but too short."""
    played = attributed((0, 1, 60, 73, False), (1, 2, 62, 68, False), (2, 3, 64, 0, False), (3, 3.1, 38, 0, True))
    found = attributed((0, 1, 60, 74, False), (1, 2, 62, 40, False), (2, 2.3, 64, 0, False), (3, 3.5, 38, 0, True))
    scores = {g: tr.program_f1(played, found, g) for g in tr.GRANULARITIES}
    assert [scores[g].f1 for g in tr.GRANULARITIES] == pytest.approx([4 / 4, 3 / 4, 2 / 4])
    assert [scores[g].f1_with_offset for g in tr.GRANULARITIES] == pytest.approx([3 / 4, 2 / 4, 1 / 4])
    assert [scores[g].pitched_f1_with_offset for g in tr.GRANULARITIES] == pytest.approx([2 / 3, 1 / 3, 0])
    assert all(s.drum_f1 == 1 for s in scores.values())  # drums by starts


@needs_mir_eval
def test_a_drum_stroke_is_no_note_of_the_same_pitch():
    score = tr.program_f1(attributed((0, 1, 38, 0, True)), attributed((0, 1, 38, 0, False)), "flat")
    assert (score.f1, score.drum_f1, score.pitched_f1) == (0, 0, 0)


@needs_mir_eval
@pytest.mark.parametrize("granularity", tr.GRANULARITIES)
def test_program_scores_are_mt3s_sums_over_mir_evals_groups(granularity):
    """As MT3 has it: precision and recall of each group, weighted by its notes; drums without offsets."""
    from mir_eval.transcription import precision_recall_f1_overlap

    random = np.random.default_rng(0)
    played, found = (random_notes(random, n, [0, 3, 40, 41, 73]) for n in (150, 130))
    found[:90] = played[:90]
    found["start"][:90] += random.normal(0, 0.03, 90)
    found["end"][:90] = np.maximum(found["end"][:90] + random.normal(0, 0.1, 90), found["start"][:90] + 0.05)
    found["program"][:20] = random.choice([0, 3, 40, 41, 73], 20)

    def of(notes):
        width = {"flat": 1000, "class": 8, "full": 1}[granularity]
        return [(-1 if d else p // width) for p, d in zip(notes["program"].tolist(), notes["is_drum"], strict=True)]

    def mir(notes):
        return np.stack([notes["start"], notes["end"]], 1), 440 * 2 ** ((notes["pitch"] - 69) / 12)

    sums = np.zeros((2, 4))  # with offsets or not; of precision, heard, recall, played
    groups = of(played), of(found)
    for group in set(groups[0]) | set(groups[1]):
        p, f = played[np.equal(groups[0], group)], found[np.equal(groups[1], group)]
        for row, ratio in zip(sums, (None, None if group == -1 else 0.2), strict=True):
            precision, recall, _, _ = precision_recall_f1_overlap(*mir(p), *mir(f), offset_ratio=ratio)
            row += precision * len(f), len(f), recall * len(p), len(p)
    expected = [2 / (n_f / matched + n_p / again) for matched, n_f, again, n_p in sums]
    score = tr.program_f1(played, found, granularity)
    assert [score.f1, score.f1_with_offset] == pytest.approx(expected)
    assert 0.2 < score.f1_with_offset < score.f1 < 0.8


@needs_mir_eval
def test_program_scores_of_one_pitched_program_are_note_f1():
    random = np.random.default_rng(1)
    played, found = (tr.with_program(random_notes(random, 60, [0]), 5) for _ in range(2))
    plain, score = tr.note_f1(played, found), tr.program_f1(played, found)
    assert plain.f1 > 0
    assert (score.f1, score.f1_with_offset) == pytest.approx((plain.f1, plain.f1_with_offset))


def test_program_scores_of_empty_lists_and_of_a_granularity_that_is_none():
    none, one = attributed(), attributed((0, 1, 60, 0, False))
    assert tr.program_f1(none, none).f1 == 1
    assert tr.program_f1(one, none).f1 == tr.program_f1(none, one).f1_with_offset == 0
    assert tr.program_f1(one, none).drum_f1 == 1  # none played, none heard
    with pytest.raises(ValueError, match="no granularity half; there are flat, class, full"):
        tr.program_f1(none, none, "half")


def test_notes_of_a_score_know_their_programs_and_drums(song):
    notes = tr.score_notes(read_score(song))
    assert sorted(set(notes["program"][~notes["is_drum"]].tolist())) == [33, 73]
    assert set(notes["pitch"][notes["is_drum"]].tolist()) == {38}
    assert len(notes) == read_score(song).n_notes
    assert (np.diff(notes["start"]) >= 0).all()


# other programs


def command(tmp_path, code):
    """A transcriber that is a few lines of Python, with the two files in `audio` and `midi`."""
    script = tmp_path / "fake.py"
    script.write_text(f"import sys\nfrom pathlib import Path\naudio, midi = map(Path, sys.argv[1:])\n{code}\n")
    return CommandTranscriber(shlex.join([sys.executable, str(script)]) + " {audio} {midi}", "fake 1.0")


def test_a_command_hears_what_it_writes_from_the_sound_that_it_gets(tmp_path, song):
    (tmp_path / "answer.mid").write_bytes(song)
    copy = tmp_path / "copy of the sound.wav"
    fake = command(
        tmp_path,
        f"""
midi.write_bytes(Path({str(tmp_path / "answer.mid")!r}).read_bytes())
Path({str(copy)!r}).write_bytes(audio.read_bytes())""",
    )
    sound = tones(MELODY, 5)
    found = fake(sound, RATE)
    assert fake.name == "fake 1.0"
    np.testing.assert_array_equal(found, tr.score_notes(read_score(song)))
    given = read_audio(copy)
    assert given.sample_rate == RATE
    np.testing.assert_allclose(given.samples, sound, atol=2e-4)


def test_a_midi_file_without_notes_is_a_transcription_of_silence(tmp_path, midi):
    (tmp_path / "empty.mid").write_bytes(midi({"notes": []}))
    fake = command(tmp_path, f"midi.write_bytes(Path({str(tmp_path / 'empty.mid')!r}).read_bytes())")
    found = fake(np.zeros((1, RATE)), RATE)
    assert found.dtype == tr.ATTRIBUTED
    assert len(found) == 0


@pytest.mark.parametrize(("code", "message"), [
    ("sys.exit('first line\\nno such model: huge')", "failed with 1: no such model: huge"),
    ("sys.exit(3)", "failed with 3: no message"),
    ("pass", "wrote no MIDI file to the place given as {midi}"),
    ("midi.write_bytes(b'RIFF')", "wrote no readable MIDI file: notes.mid: not a MIDI file"),
])  # fmt: skip
def test_a_command_that_fails_is_told_in_one_line(tmp_path, code, message):
    with pytest.raises(DataError) as caught:
        command(tmp_path, code)(np.zeros((1, RATE)), RATE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_command_that_is_not_there_or_takes_too_long_is_named():
    with pytest.raises(DataError, match="no-such-transcriber: cannot be run: no such file"):
        CommandTranscriber("no-such-transcriber {audio} {midi}")(np.zeros((1, 10)), RATE)
    sleeper = CommandTranscriber(shlex.join([sys.executable, "-c", "import time; time.sleep(60)"]) + " {audio} {midi}",
                                 seconds=0.2)  # fmt: skip
    with pytest.raises(DataError, match=r"has not finished after 0\.2 s"):
        sleeper(np.zeros((1, 10)), RATE)


def test_a_command_without_its_files_or_of_a_size_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"transcribe in\.wav: says nowhere \{audio\}"):
        CommandTranscriber("transcribe in.wav")
    with pytest.raises(ConfigError, match=r"says nowhere \{midi\}"):
        CommandTranscriber("transcribe {audio}")
    with pytest.raises(ConfigError, match="not a command"):
        CommandTranscriber("transcribe '{audio} {midi}")
    assert CommandTranscriber("/opt/mt3/run {audio} {midi}").name == "run"
    with pytest.raises(ConfigError, match="no size huge; Harmonica has nano, small"):
        harmonica("huge")
    assert harmonica("small").command == "harmonica-amt {audio} -o {midi} --model small"


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
