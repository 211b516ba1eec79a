"""Expression and mood: what holds of every score, and what single rules and cues do to scores made for them."""

import io
import logging
import subprocess
import sys
from dataclasses import replace

import mido
import numpy as np
import pytest
from midi_bytes import END, smf

from miao.errors import ConfigError
from miao.expression import MOODS, cues_of, expressed
from miao.expression.beats import Bars, Pulse, bar_positions, infer_bars, metrical_weights
from miao.expression.learnt import predict
from miao.expression.moods import Cues, parse_mood
from miao.expression.performances import flattened
from miao.expression.phrases import Line, boundary_strengths, find_phrases
from miao.expression.reading import read
from miao.expression.rules import RULES, Timeline
from miao.expression.time_warp import Warp
from miao.expression.written import performance_bytes
from miao.midi.score import Curve, Score, read_score


def band(make, n_bars=16, bpm=120, velocity=80):
    """A song of a tune with rests every four bars, chords, a bass and drums, straight as printed; 2 s a bar."""
    beat = 60 / bpm
    tune, chords, bass, drums = [], [], [], []
    scale = (0, 2, 4, 5, 7, 9, 11, 12)
    for bar in range(n_bars):
        at = 4 * bar * beat
        for i in range(4 if bar % 4 == 3 else 8):
            pitch = 72 + scale[(3 * bar + i * (1 + bar % 3)) % 8]
            tune.append((at + i * beat / 2, at + (i + 1) * beat / 2, pitch, velocity))
        for pitch in (60, 64, 67):
            chords.append((at, at + 2 * beat, pitch, velocity))
            chords.append((at + 2 * beat, at + 4 * beat, pitch + 2, velocity))
        bass += [(at, at + 2 * beat, 36, velocity), (at + 2 * beat, at + 4 * beat, 43, velocity)]
        drums += [(at + i * beat / 2, at + i * beat / 2 + 0.05, 42, velocity) for i in range(8)]
        drums += [(at + beat, at + beat + 0.05, 38, velocity), (at + 3 * beat, at + 3 * beat + 0.05, 38, velocity)]
    return make(
        {"name": "Melody", "notes": tune, "program": 40, "channel": 0},
        {"name": "Piano", "notes": chords, "program": 0, "channel": 1, "controls": [(3.0, 7, 90)]},
        {"name": "Bass", "notes": bass, "program": 33, "channel": 2},
        {"name": "Drums", "notes": drums, "channel": 9},
    )


@pytest.fixture(scope="module")
def song_bytes(midi):
    return band(midi)


@pytest.fixture(scope="module")
def score(song_bytes):
    return read_score(song_bytes)


def decibels(score, reference):
    """The level that each note gained, all tracks one after another."""
    new, old = (np.concatenate([t.notes["velocity"] for t in s.tracks]).astype(float) for s in (score, reference))
    return 40 * np.log10(new / old)


def starts(score):
    return np.concatenate([t.notes["start"] for t in score.tracks])


# what holds of every score


def test_nothing_asked_for_gives_the_very_same_score(score):
    assert score.expressed() is score
    assert score.expressed(0.0, mood={"sad": 0.0}) is score


def test_a_score_from_miao_knows_how_it_is_played_and_a_bare_one_says_who_does(
    score, tmp_path, song_bytes, monkeypatch
):
    (tmp_path / "in.mid").write_bytes(song_bytes)
    code = "import sys, miao; print(miao.read_score(sys.argv[1]).expressed(mood='sad').duration)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "in.mid"], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(expressed(score, mood="sad").duration)
    monkeypatch.setattr(Score, "performer", None)
    with pytest.raises(ConfigError, match=r"import miao\.expression"):
        score.expressed(1.0)


@pytest.mark.parametrize("how", [{"amount": 1.0}, {"amount": 2.0}, {"mood": "angry:2"}, {"amount": 1, "mood": "sad"},
                                 {"valence": 1.0, "arousal": -1.0}])  # fmt: skip
@pytest.mark.parametrize("style", ["rules", "pianists"])
def test_no_note_is_lost_or_short_and_none_overtakes_another_of_its_track(score, how, style):
    played = score.expressed(**how, style=style)
    for old, new in zip(score.tracks, played.tracks, strict=True):
        notes = new.notes
        assert len(notes) >= len(old.notes)
        assert (notes["end"] - notes["start"] >= 0.02 - 1e-9).all()
        assert (notes["damp"] >= notes["start"]).all()
        assert ((notes["velocity"] >= 1) & (notes["velocity"] <= 127)).all()
        if len(notes) == len(old.notes):
            order = np.lexsort((old.notes["pitch"], old.notes["start"]))
            assert (np.diff(notes["start"]) >= 0).all()
            is_later = np.diff(old.notes["start"][order]) > 1e-6
            assert (old.notes["pitch"] == notes["pitch"]).mean() > 0.3
            groups = np.cumsum(np.append(0, is_later))
            for group in range(groups[-1] + 1):  # each stroke holds the same pitches as before
                assert set(notes["pitch"][groups == group]) == set(old.notes["pitch"][groups == group])


def test_what_is_written_together_parts_by_30_ms_at_the_most_also_at_the_end(score):
    played = score.expressed(2.0, seed=3)
    written, heard = starts(score), starts(played)
    for moment in np.unique(written):
        together = heard[written == moment]
        assert together.max() - together.min() <= 0.03 + 1e-9


def test_drums_are_on_the_common_time_and_others_never_before_it(score):
    played = score.expressed(1.0, seed=1, style="rules")
    at = dict(zip(score.tracks[3].notes["start"].round(6), played.tracks[3].notes["start"], strict=True))
    for track, new in zip(score.tracks[:3], played.tracks[:3], strict=True):
        for start, heard in zip(track.notes["start"].round(6), new.notes["start"], strict=True):
            if start in at:
                assert 0 <= heard - at[start] <= 0.03


def test_expression_keeps_the_length_but_for_the_last_slowing(score):
    played = score.expressed(1.0, style="rules")
    assert 0 < played.duration - score.duration < 3
    before = starts(score) < score.duration - 8
    assert np.abs(starts(played) - starts(score))[before].max() < 0.6


def test_level_and_time_grow_linearly_with_the_amount(score):
    half, whole = (score.expressed(amount, seed=2, style="rules") for amount in (0.5, 1.0))
    coarse = 40 * np.log10(81 / 80)  # a step of velocity
    assert np.abs(2 * decibels(half, score) - decibels(whole, score)).max() < 3 * coarse
    assert decibels(whole, score).std() > 1.0
    drums = [s.tracks[3].notes["start"] for s in (score, half, whole)]  # the common time alone
    assert np.allclose(2 * (drums[1] - drums[0]), drums[2] - drums[0], atol=1e-6)
    assert np.abs(drums[2] - drums[0]).max() > 0.01


def test_a_mood_grows_linearly_with_its_share():
    for name, cues in MOODS.items():
        half = cues_of(f"{name}:0.5")
        assert half.tempo == pytest.approx(cues.tempo / 2) and half.level == pytest.approx(cues.level / 2)
    both = cues_of("sad:0.5,happy:0.25")
    assert both.tempo == pytest.approx(0.5 * MOODS["sad"].tempo + 0.25 * MOODS["happy"].tempo)


def test_beats_of_the_performance_are_those_of_the_score(score):
    played = score.expressed(1.0, mood="happy", style="rules")
    old, new = Pulse.of(score.tempi), Pulse.of(played.tempi)
    quarters = old.quarters(score.tracks[3].notes["start"])
    assert np.allclose(new.quarters(played.tracks[3].notes["start"]), quarters, atol=1e-4)


def test_controllers_and_key_pressure_move_with_the_notes(midi):
    data = midi({"notes": [(t, t + 0.5, 60, 80) for t in range(8)], "controls": [(4.0, 10, 20)]})
    score = read_score(data)
    played = score.expressed(mood="sad")
    (time,) = played.tracks[0].controls["pan"].times
    notes = played.tracks[0].notes
    assert time == pytest.approx(notes["start"][notes["pitch"] == 60][4], abs=0.03)
    assert time == pytest.approx(4 * 2 ** -MOODS["sad"].tempo, rel=0.2)


def test_seeds_differ_and_one_seed_is_one_performance(score):
    one, again, other = (score.expressed(1.0, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(starts(one), starts(again))
    assert not np.array_equal(starts(one), starts(other))


def test_the_balance_of_instruments_stays(score):
    played = score.expressed(1.0, style="rules")
    for old, new in zip(score.tracks, played.tracks, strict=True):
        assert new.notes["velocity"].mean() == pytest.approx(old.notes["velocity"].mean(), abs=6)


def test_accents_that_a_file_has_stay(midi):
    notes = [(t / 2, t / 2 + 0.4, 60 + t % 5, 100 if t % 7 == 0 else 60) for t in range(40)]
    score = read_score(midi({"notes": notes}))
    played = score.expressed(1.0)
    loud = score.tracks[0].notes["velocity"] == 100
    new = played.tracks[0].notes["velocity"]
    assert new[loud].mean() - new[~loud].mean() > 30


def test_a_performance_is_told_and_little_is_added(midi, caplog):
    random = np.random.default_rng(0)
    notes, now = [], 0.0
    for i in range(200):
        now += 0.25 * random.uniform(0.8, 1.25)
        notes.append((now, now + 0.2, 60 + i % 12, int(random.integers(40, 110))))
    human = read_score(midi({"notes": notes}))
    straight = read_score(midi({"notes": [(i / 4, i / 4 + 0.2, 60 + i % 12, 80) for i in range(200)]}))
    with caplog.at_level(logging.WARNING):
        played = human.expressed(1.0, style="rules")
    assert "performance already" in caplog.text
    added = decibels(played, human).std(), decibels(straight.expressed(1.0, style="rules"), straight).std()
    assert added[0] < 0.4 * added[1]


def test_a_straight_file_is_not_called_a_performance(score, caplog):
    with caplog.at_level(logging.WARNING):
        score.expressed(1.0)
    assert not caplog.text


def test_drums_alone_one_note_and_no_length_are_played(midi):
    for track in ({"notes": [(t / 4, t / 4 + 0.02, 38, 80) for t in range(32)], "channel": 9},
                  {"notes": [(0.0, 1.0, 60, 80)]}, {"notes": [(1.0, 1.0, 60, 80), (1.0, 1.0, 64, 80)]}):  # fmt: skip
        score = read_score(midi(track))
        for how in ({"amount": 1.0}, {"mood": "happy"}):
            played = score.expressed(**how)
            notes = played.tracks[0].notes
            assert played.n_notes >= score.n_notes
            assert np.isfinite(notes["start"]).all() and (notes["end"] > notes["start"]).all()


def test_forty_thousand_notes_are_played():
    strokes = [(40 + 7 * t % 50, 80, 40 + 7 * t % 50, 64) for t in range(40_000)]  # by the bytes: mido takes a second
    body = b"".join(b"\x00\x90%c%c\x30\x80%c%c" % stroke for stroke in strokes) + b"\x00" + END
    score = read_score(smf(b"MTrk" + len(body).to_bytes(4) + body))
    played = expressed(score, 1.0, style="rules")
    assert played.n_notes == score.n_notes == 40_000
    assert 1.0 < played.duration / score.duration < 1.01


def test_tempo_maps_with_jumps_keep_their_jumps():
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    for i in range(32):
        if i % 8 == 0:
            track.append(mido.MetaMessage("set_tempo", tempo=(500_000, 1_500_000, 250_000, 600_000)[i // 8], time=0))
        track.append(mido.Message("note_on", note=60 + i % 5, velocity=80, time=0))
        track.append(mido.Message("note_off", note=60 + i % 5, velocity=0, time=480))
    file.tracks.append(track)
    data = io.BytesIO()
    file.save(file=data)
    score = read_score(data.getvalue())
    played = score.expressed(1.0, style="rules")
    ratio = np.diff(played.tracks[0].notes["start"])[:24] / np.diff(score.tracks[0].notes["start"])[:24]
    assert ratio.min() > 0.6 and ratio.max() < 1.6


def test_settings_out_of_range_are_told(score):
    for how, words in (({"amount": 3}, "goes from 0 to 2"), ({"valence": 2}, "goes from -1 to 1"),
                       ({"mood": "grumpy"}, "there is no mood"), ({"mood": "sad:x"}, "is no mood"),
                       ({"mood": "sad:9"}, "goes from 0 to 2"), ({"style": "x", "amount": 1}, "no style"),
                       ({"amount": 1, "seed": 2**64}, "the seed is 18446744073709551616"),
                       ({"amount": 1, "seed": -1}, "the seed is -1")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            expressed(score, **how)


# rules


def rule(name, score):
    reading = read(score)
    timeline = Timeline.of(reading)
    return reading, timeline, RULES[name](reading, timeline)


def test_high_loud_is_3_db_an_octave(midi):
    score = read_score(midi({"notes": [(i, i + 1, 48 + 12 * i, 80) for i in range(4)]}))
    _, _, deviation = rule("high_loud", score)
    assert np.diff(deviation.level) == pytest.approx([3, 3, 3])


def test_the_last_slowing_ends_at_half_the_speed_along_a_root(midi):
    score = read_score(midi({"notes": [(i / 2, i / 2 + 0.5, 60, 80) for i in range(97)]}))
    _, timeline, deviation = rule("final_ritard", score)
    speed = 1 / (1 + deviation.stretch)
    x = (timeline.middles - 90) / 6
    inside = (x > 0) & (x < 1)
    assert np.allclose(speed[inside] ** 3, 1 - (1 - 0.125) * x[inside])
    assert (deviation.stretch[x < 0] == 0).all()


def test_duration_contrast_shortens_a_note_of_200_ms_by_16_ms_and_leaves_long_ones(midi):
    short = [(i * 0.2, i * 0.2 + 0.2, 60 + i % 3, 80) for i in range(20)]
    score = read_score(midi({"notes": [*short, (4.0, 5.0, 60, 80), (5.0, 6.0, 62, 80)]}))
    _, timeline, deviation = rule("duration_contrast", score)
    seconds = timeline.lengths * deviation.stretch
    at = (timeline.seconds[:-1] >= 1.0 - 1e-9) & (timeline.seconds[:-1] < 1.2 - 1e-6)
    assert seconds[at].sum() == pytest.approx(-0.0165, abs=1e-4)
    assert (seconds[timeline.seconds[:-1] > 4.0] == 0).all()
    assert deviation.level[0] == pytest.approx(-0.825)


def test_double_duration_moves_an_eighth_of_the_short_note(midi):
    pairs = [note for i in range(10) for note in ((i * 1.5, i * 1.5 + 1, 60, 80), (i * 1.5 + 1, i * 1.5 + 1.5, 62, 80))]
    _, timeline, deviation = rule("double_duration", read_score(midi({"notes": pairs})))
    seconds = timeline.lengths * deviation.stretch
    edges = np.searchsorted(timeline.seconds, [3.0 - 1e-6, 4.0 - 1e-6, 4.5 - 1e-6])
    assert seconds[edges[0] : edges[1]].sum() == pytest.approx(-0.06, abs=1e-3)
    assert seconds[edges[1] : edges[2]].sum() == pytest.approx(0.06, abs=1e-3)


def test_an_arch_is_slow_at_both_ends_of_a_phrase_and_softest_at_its_end(score):
    reading, timeline, deviation = rule("phrase_arch", score)
    phrase = reading.phrases[1]
    inside = (timeline.middles > phrase.start) & (timeline.middles < phrase.last)
    stretch = deviation.stretch[inside]
    assert stretch[0] > stretch[len(stretch) // 2] < stretch[-1]
    notes = np.flatnonzero((reading.quarter >= phrase.start) & (reading.quarter <= phrase.last))
    assert deviation.level[notes[-1]] == deviation.level[notes].min()


def test_the_tune_leads_by_20_ms_what_is_struck_with_it(midi):
    notes = [(i, i + 0.9, 72 + i % 5, 80) for i in range(8)] + [(i, i + 0.9, 48, 80) for i in range(8)]
    reading, _, deviation = rule("melody_lead", read_score(midi({"notes": notes})))
    assert (deviation.delay[reading.is_tune] == 0).all()
    assert deviation.delay[~reading.is_tune] == pytest.approx(0.02)


# reading


def test_phrases_are_found_at_rests_and_long_notes():
    starts, lengths = [], []
    now = 0.0
    for _ in range(6):
        for length in (1, 1, 1, 1, 1, 1, 2):
            starts.append(now)
            lengths.append(length)
            now += length
    line = Line(np.array(starts), np.array(starts) + np.array(lengths), np.full(42, 60.0), np.mod(starts, 4) / 4)
    assert find_phrases(line, boundary_strengths(line)).tolist() == [0, 7, 14, 21, 28, 35]


def test_the_tune_is_the_named_part_or_the_top_line(score, midi):
    reading = read(score)
    assert set(reading.track[reading.tune]) == {0}
    unnamed = midi({"notes": [(i / 2, i / 2 + 0.4, 76 + i % 3, 80) for i in range(16)]
                    + [(i / 2, i / 2 + 0.4, 52, 80) for i in range(16)]})  # fmt: skip
    reading = read(read_score(unnamed))
    assert (reading.pitch[reading.tune] >= 76).all() and len(reading.tune) == 16


def test_bars_are_guessed_where_none_are_given():
    quarters = np.arange(0, 120, 1.0)
    waltz = infer_bars(quarters, np.where(np.mod(quarters, 3) == 1, 3.0, 1.0))
    assert waltz.bar == 3 and np.mod(waltz.quarter, 3) == 1
    assert infer_bars(np.zeros(0), np.zeros(0)).bar == 4


def test_strong_beats_are_those_of_the_bar():
    weights = metrical_weights(np.array([0, 1, 2, 3, 3.5, 3.75, 4]), (Bars(0.0, 4, 4),))
    assert weights.tolist() == [1.0, 0.5, 0.75, 0.5, 0.25, 0.0, 1.0]
    compound = metrical_weights(np.array([0, 0.5, 1.5, 3.0]), (Bars(0.0, 6, 8),))
    assert compound.tolist() == [1.0, 0.0, 0.75, 1.0]
    since, bar, beat = bar_positions(np.array([7.0]), (Bars(0.0, 3, 4), Bars(6.0, 2, 4)))
    assert (since[0], bar[0], beat[0]) == (1.0, 2.0, 1.0)


def test_a_pulse_and_its_inverse_are_one_under_a_tempo_map():
    pulse = Pulse.of(Curve(np.array([0.0, 2.0, 5.0]), np.array([120.0, 60.0, 180.0]), 120.0))
    assert pulse.quarters(np.array([0.0, 2.0, 5.0, 6.0])).tolist() == [0, 4, 7, 10]
    times = np.linspace(-1, 9, 50)
    assert np.allclose(pulse.seconds(pulse.quarters(times)), times)


def test_a_warp_rises_whatever_is_asked_of_it():
    warp = Warp.of(np.arange(11.0), np.full(10, -5.0), np.zeros(11), 0.0)
    times = np.linspace(-2, 15, 200)
    assert (np.diff(warp.at(times)) > 0).all()
    assert warp.at(np.array([0.0])) == 0


# moods


def test_the_corners_of_the_plane_are_told_apart_and_its_middle_is_nothing():
    assert cues_of(valence=0.0, arousal=0.0).is_none
    happy, angry = cues_of(valence=1, arousal=1), cues_of(valence=-1, arousal=1)
    sad, tender = cues_of(valence=-1, arousal=-1), cues_of(valence=1, arousal=-1)
    assert happy.tempo > 0 > sad.tempo and angry.level > happy.level > tender.level
    assert tender.brightness > sad.brightness and happy.register > angry.register


def test_moods_are_read_from_words():
    assert parse_mood("tender") == {"tender": 1.0}
    assert parse_mood("Sad:0.5, fearful:0.2") == {"sad": 0.5, "fearful": 0.2}
    assert cues_of(None) == Cues()


def test_sad_is_slower_softer_and_longer_than_happy(score):
    sad, happy = score.expressed(mood="sad"), score.expressed(mood="happy")
    assert sad.duration / happy.duration == pytest.approx(2 ** (MOODS["happy"].tempo - MOODS["sad"].tempo), rel=0.1)
    soft, loud = (np.mean([t.notes["velocity"].mean() for t in s.tracks]) for s in (sad, happy))
    assert soft < 0.75 * loud

    def share(played):
        notes = played.tracks[0].notes
        lengths, steps = (notes["end"] - notes["start"])[:-1], np.diff(notes["start"])
        return np.median((lengths / np.maximum(steps, 1e-3))[steps > 0.05])  # octaves start together

    assert share(sad) > share(happy) + 0.15


def test_a_register_adds_octaves_and_takes_nothing_away(score):
    happy, angry = score.expressed(mood="happy"), score.expressed(mood="angry")
    for played, step in ((happy, 12), (angry, -12)):
        assert played.n_notes > score.n_notes
        for old, new in zip(score.tracks, played.tracks, strict=True):
            extra = len(new.notes) - len(old.notes)
            pitches = list(new.notes["pitch"])
            for pitch in old.notes["pitch"]:
                pitches.remove(pitch)
            assert len(pitches) == extra
            assert set(pitches) <= {p + step for p in old.notes["pitch"]}


def test_a_register_strikes_no_key_that_is_down(midi):
    """Of two strokes of one key nobody could tell which one a note-off lets go."""
    held = [(0.0, 8.0, 36, 80)]  # an octave below what walks above it, in another track of its channel
    walk = [(i * 1.0, i * 1.0 + 0.9, 36 + 12 * (i % 2), 80) for i in range(9, 17)]  # low itself after each low one
    walk = [(i * 1.0, i * 1.0 + 0.9, 48, 80) for i in range(8)] + walk
    tune = [(i * 0.5, i * 0.5 + 0.5, 72 + i % 5, 80) for i in range(34)]
    score = read_score(midi({"name": "Left", "notes": walk}, {"name": "Pedal", "notes": held}, {"notes": tune}))
    for legato in ({"angry": 1.0}, {"angry": 1.0, "sad": 2.0}):
        played = score.expressed(mood=legato)
        assert played.n_notes > score.n_notes  # where the key is free
        notes = np.concatenate([track.notes for track in played.tracks])
        for key in np.unique(notes["pitch"]):
            mine = np.sort(notes[notes["pitch"] == key], order="start")
            assert (mine["end"][:-1] <= mine["start"][1:] + 1e-9).all(), key


def test_a_mode_changes_only_where_rewriting_is_allowed(score):
    assert {p % 12 for t in score.expressed(mood="sad").tracks[:3] for p in t.notes["pitch"]} == {
        p % 12 for t in score.tracks[:3] for p in t.notes["pitch"]
    }
    minor = score.expressed(mood="sad", rewrite=True)
    tonic, was_minor = read(score).key
    assert not was_minor
    assert read(minor).key == (tonic, True)
    assert np.array_equal(np.unique(minor.tracks[3].notes["pitch"]), np.unique(score.tracks[3].notes["pitch"]))


# within notes


def test_long_notes_swell_and_vibrato_grows_in_instruments_that_can(midi):
    notes = [(4 * i, 4 * i + 4, 67 + i, 80) for i in range(4)]
    violin, piano = (read_score(midi({"notes": notes, "program": p})).expressed(1.0, style="rules") for p in (40, 0))
    note = violin.tracks[0].notes[1]
    at = note["start"] + np.array([0.02, 0.25, 0.5, 0.98]) * (note["end"] - note["start"])
    fader, wheel = violin.tracks[0].controls["expression"].at(at), violin.tracks[0].controls["modulation"].at(at)
    assert fader[0] < fader[1] < fader[2] > fader[3]
    assert wheel[0] == 0 < wheel[2]
    assert len(piano.tracks[0].controls["expression"].times) == 0


def test_a_piano_without_a_pedal_gets_one_that_changes_with_the_harmony(midi):
    notes = []
    for i, root in enumerate((48, 53, 55, 48)):
        notes += [(2 * i + j / 4, 2 * i + j / 4 + 0.2, root + (0, 4, 7, 12)[j % 4], 80) for j in range(8)]
    score = read_score(midi({"notes": notes}))
    played = score.expressed(1.0, style="rules").tracks[0]
    pedal = played.controls["sustain"]
    assert pedal.values.tolist()[:2] == [1.0, 0.0] and len(pedal.times) >= 6
    held = played.notes["damp"] > played.notes["end"] + 0.1
    assert held.mean() > 0.3
    changes = pedal.times[1::2]
    for time in changes[:-1]:
        assert min(abs(time - s) for s in played.notes["start"]) < 0.1
    own = read_score(midi({"notes": notes, "controls": [(0, 64, 127), (1, 64, 0)]})).expressed(1.0, style="rules")
    assert len(own.tracks[0].controls["sustain"].times) == 2


def test_a_detached_mood_is_not_held_by_the_file_s_pedal_and_a_legato_one_is(midi):
    notes = [(t / 2, t / 2 + 0.25, 60 + t % 5, 80) for t in range(32)]
    changes = [event for bar in range(8) for event in ((2 * bar + 0.1, 64, 127), (2 * bar + 1.95, 64, 0))]
    for controls in (changes, [(0.0, 64, 127)]):  # changed with each bar; put down and forgotten
        score = read_score(midi({"notes": notes, "controls": controls}))
        sounding = {}
        for mood in ("playful:1.25", "happy", "calm"):
            played = score.expressed(mood=mood).tracks[0].notes
            plain = played[played["velocity"] > 60]  # without the doublings
            sounding[mood] = np.median((plain["damp"] - plain["start"])[:-4]) * 2 ** MOODS[mood.split(":")[0]].tempo
        dry, happy, calm = sounding.values()
        assert dry < 0.3 and dry < 0.6 * happy and happy < 0.75 * calm and calm > 0.7


# files and the command


def test_a_performance_in_a_file_sounds_the_same_and_has_the_bars_of_the_score(song_bytes):
    score = read_score(song_bytes)
    played = score.expressed(1.0, mood="happy:0.5", seed=4)
    again = read_score(performance_bytes(played))
    assert len(again.tracks) == len(played.tracks)
    for old, new in zip(played.tracks, again.tracks, strict=True):
        for name in ("start", "end", "damp"):
            assert np.abs(old.notes[name] - new.notes[name]).max() < 0.002
        assert np.array_equal(old.notes["velocity"], new.notes["velocity"])
        assert np.array_equal(old.notes["pitch"], new.notes["pitch"])
    beats = Pulse.of(again.tempi).quarters(again.tracks[3].notes["start"])
    assert np.allclose(beats * 2, np.rint(beats * 2), atol=2e-3)


def test_a_tempo_that_the_format_cannot_hold_is_written_as_another_and_all_sounds_at_its_time(midi):
    """A quarter note lasts 16.8 s at most in a file."""
    score = read_score(midi({"notes": [(i * 0.5, i * 0.5 + 0.4, 60 + i % 5, 80) for i in range(16)]}))
    played = replace(score, tempi=Curve(np.zeros(1), np.array([3.75]), 120.0)).expressed(mood="solemn")
    assert played.tempi.values[0] < 60e6 / ((1 << 24) - 1)
    again = read_score(performance_bytes(played)).tracks[0].notes
    for name in ("start", "end"):
        assert np.abs(played.tracks[0].notes[name] - again[name]).max() < 0.04  # a tick of such a quarter note


def test_a_song_from_a_pipe_is_read_once_and_one_that_never_ends_is_refused(tmp_path, song_bytes, monkeypatch):
    import os
    import threading

    from typer.testing import CliRunner

    from miao.cli.main import app

    pipe, out = tmp_path / "pipe", tmp_path / "out.mid"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(song_bytes,))
    writer.start()
    done = CliRunner().invoke(app, ["express", str(pipe), str(out), "--expression", "0"])
    writer.join()
    assert done.exit_code == 0 and out.read_bytes() == song_bytes
    monkeypatch.setattr("miao.midi.score.LARGEST_FILE", 100)
    done = CliRunner().invoke(app, ["express", "-", str(tmp_path / "new.mid")], input=song_bytes)
    assert done.exit_code == 2 and "larger than" in done.output and not (tmp_path / "new.mid").exists()


def test_the_command_writes_a_performance_and_with_nothing_asked_the_same_bytes(tmp_path, song_bytes):
    from typer.testing import CliRunner

    from miao.cli.main import app

    (tmp_path / "in.mid").write_bytes(song_bytes)
    run = CliRunner().invoke
    done = run(app, ["express", str(tmp_path / "in.mid"), str(tmp_path / "out.mid"), "--mood", "tender:0.6"])
    assert done.exit_code == 0, done.output
    out, score = read_score(tmp_path / "out.mid"), read_score(song_bytes)
    assert out.n_notes >= score.n_notes and out.duration > score.duration
    done = run(app, ["express", str(tmp_path / "in.mid"), str(tmp_path / "same.mid"), "--expression", "0"])
    assert done.exit_code == 0 and (tmp_path / "same.mid").read_bytes() == song_bytes
    done = run(app, ["express", str(tmp_path / "in.mid"), str(tmp_path / "out.mid")])
    assert done.exit_code == 2 and "exists" in done.output
    done = run(app, ["express", str(tmp_path / "none.mid"), str(tmp_path / "new.mid")])
    assert done.exit_code == 2 and not (tmp_path / "new.mid").exists()


def test_render_and_render_of_many_play_the_score_as_asked(tmp_path, song_bytes, monkeypatch, toy_bank):
    from typer.testing import CliRunner

    from miao.bank.bank import Bank
    from miao.cli.main import app
    from miao.errors import MiaoError
    from miao.synth import many
    from miao.synth.synthesizer import Synthesizer

    heard = []

    def render_file(self, score, *_, **__):
        heard.append(score)
        raise MiaoError("enough")

    monkeypatch.setattr(Bank, "load", staticmethod(lambda name, programs=None: toy_bank))
    monkeypatch.setattr(Synthesizer, "render_file", render_file)
    (tmp_path / "in.mid").write_bytes(song_bytes)
    words = ["render", str(tmp_path / "in.mid"), "-o", str(tmp_path / "out.wav")]
    for more in ([], ["--expression", "1", "--mood", "sad"], ["--valence", "1", "--arousal", "-1"]):
        assert CliRunner().invoke(app, [*words, *more]).exit_code == 2
    plain, sad, calm = (score.duration for score in heard)
    assert plain == pytest.approx(32.0, abs=0.1) and sad > 1.2 * plain and calm > plain
    asked = many.Wishes(expression={"mood": "sad"})
    assert asked.mark != many.Wishes().mark
    many.render_job(many.Job(tmp_path / "in.mid", tmp_path / "out.wav"), asked)
    assert heard[-1].duration > 1.2 * plain


def test_the_rest_at_the_end_of_a_file_is_in_the_performance_too(song_bytes):
    score = read_score(song_bytes)
    slow = replace(score, end=score.duration + 2).expressed(mood="sad")
    assert slow.end == pytest.approx(slow.duration + 2 * 2 ** -MOODS["sad"].tempo, abs=0.1)
    assert read_score(performance_bytes(slow)).end == pytest.approx(slow.end, abs=0.01)


# what is learnt


def test_what_is_learnt_is_one_page_long_and_does_not_depend_on_how_a_piece_is_cut(midi):
    notes = [(t / 2, t / 2 + 0.4, 60 + (5 * t) % 17, 80) for t in range(1200)]
    score = read_score(midi({"notes": notes}))
    reading = read(score)
    said = predict(reading, Timeline.of(reading))
    assert said.level.std() > 0.1 and said.tempo.std() > 0.001
    assert len(said.level) == 1200 and len(said.tempo) == len(said.beats) - 1
    head = read(score.between(0, 200))
    of_head = predict(head, Timeline.of(head))
    inside = slice(0, 200)  # far from the cut, but for the means
    one, other = (x.level[inside] - x.level[inside].mean() for x in (said, of_head))
    assert np.corrcoef(one, other)[0, 1] > 0.95


def test_a_flattened_performance_has_nothing_of_its_player(midi):
    random = np.random.default_rng(1)
    notes = [(i / 2, i / 2 + 0.4, 60 + i % 7, int(random.integers(30, 120))) for i in range(64)]
    flat = flattened(read_score(midi({"notes": notes, "controls": [(0, 64, 127), (9, 64, 0)]})))
    track = flat.tracks[0]
    assert set(track.notes["velocity"]) == {64} and len(track.controls["sustain"].times) == 0
    assert (track.notes["damp"] <= track.notes["end"]).all() and len(flat.tempi.times) == 0
