"""From a score to stems: what sounds, when, at which pitch, and that it is the same every time."""

import dataclasses

import numpy as np
import pytest

from miao.bank.bank import Bank
from miao.bank.voices import drum_voice
from miao.errors import BankError
from miao.evaluation.notes import one_note_score, play
from miao.midi.score import Curve, read_score
from miao.sound import spectrum
from miao.sound.audio import Audio, resample
from miao.synth import chunks, oscillators, player
from miao.synth import note as note_module
from miao.synth import stems as stems_module
from miao.synth.chunks import ChunkWriter
from miao.synth.note import Strike
from miao.synth.player import Player
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems

RATE = 44100


def stems(bank, score, **options):
    return np.concatenate([block.stems for block in stream_stems(bank, score, PlaySettings(**options))], axis=2)


def score_of(midi, *tracks):
    return read_score(midi(*tracks))


def with_control(score, name, times, values, initial=0.0):
    curve = Curve(np.array(times, float), np.array(values, float), initial)
    (track,) = score.tracks
    return dataclasses.replace(score, tracks=(dataclasses.replace(track, controls={name: curve}),))


def peak_hz(sound):
    """The strongest frequency, by a parabola through the highest three bins."""
    spectrum_db = np.log(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 4 * len(sound))) + 1e-12)
    k = int(spectrum_db.argmax())
    a, b, c = spectrum_db[k - 1 : k + 2]
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) * RATE / (4 * len(sound))


def cents(hz, pitch):
    return 1200 * np.log2(hz / (440 * 2 ** ((pitch - 69) / 12)))


@pytest.mark.parametrize("pitch", [33, 60, 69, 96])
def test_the_pitch_that_was_asked_for_sounds(toy_bank, pitch):
    sound = play(toy_bank, one_note_score(0, pitch, 100, 1.0))[0]
    assert abs(cents(peak_hz(sound[2000:40000]), pitch)) < 5


def test_a_pitch_bend_is_followed_while_the_note_sounds(toy_bank):
    bent = with_control(one_note_score(0, 69, 100, 4.0), "bend", [2.0], [-2.0], initial=1.5)
    sound = play(toy_bank, bent)[0]
    assert abs(cents(peak_hz(sound[2000 : int(1.9 * RATE)]), 70.5)) < 5
    assert abs(cents(peak_hz(sound[int(2.1 * RATE) : int(3.9 * RATE)]), 67)) < 5


def test_a_note_runs_on_without_a_click_from_block_to_block(toy_bank):
    sound = play(toy_bank, one_note_score(0, 69, 100, 6.0))[0]
    held = sound[4000 : 6 * RATE - 4000]
    step = 2 * np.pi * 440 / RATE
    bend = held[2:] - 2 * np.cos(step) * held[1:-1] + held[:-2]  # 0 for a steady sine
    assert np.abs(bend).max() < 1e-4 * np.abs(held).max()


def test_nothing_sounds_before_a_note_starts(toy_bank, midi):
    sound = stems(toy_bank, score_of(midi, {"notes": [(1.0, 1.5, 60, 100)]}))[0]
    assert not sound[:, : RATE - 2].any()
    assert np.abs(sound[:, RATE : RATE + 2000]).max() > 0.01


def test_a_later_note_changes_no_earlier_sample(toy_bank, midi):
    notes = [(0.0, 4.0, 60, 100), (0.5, 1.0, 67, 90)]
    alone = stems(toy_bank, score_of(midi, {"notes": notes}))[0]
    more = stems(toy_bank, score_of(midi, {"notes": [*notes, (3.0, 3.5, 72, 100)]}))[0]
    n = 3 * RATE - 2
    np.testing.assert_array_equal(more[:, :n], alone[:, :n])
    assert (more[:, n : n + RATE // 4] != alone[:, n : n + RATE // 4]).any()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(toy_bank, song):
    score = read_score(song)
    first, again = (stems(toy_bank, score, seed=1, variation=0.5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = stems(toy_bank, score, seed=2)
    same = stems(toy_bank, score, seed=1)
    assert (same[..., : other.shape[2]] != other[..., : same.shape[2]]).any()


@pytest.mark.parametrize("n_threads", [1, 5])
def test_any_number_of_threads_makes_the_same_samples(toy_bank, song, monkeypatch, n_threads):
    score = read_score(song)
    expected = stems(toy_bank, score)
    monkeypatch.setattr(stems_module.os, "cpu_count", lambda: n_threads)
    np.testing.assert_array_equal(stems(toy_bank, score), expected)


def test_the_stem_of_a_track_does_not_depend_on_the_other_tracks(toy_bank, song):
    score = read_score(song)
    whole = stems(toy_bank, score, variation=0.5)
    for chosen in ([0], [2, 1]):
        part = stems(toy_bank, score.select(chosen), variation=0.5)
        names = [track.name for track in score.select(chosen).tracks]
        for name, stem in zip(names, part, strict=True):
            i = [track.name for track in score.tracks].index(name)
            n = min(stem.shape[1], whole.shape[2])
            np.testing.assert_array_equal(stem[:, :n], whole[i][:, :n])


def test_a_drum_rings_on_however_short_its_key_is_held(toy_bank):
    voice = drum_voice(38)
    short, long = (play(toy_bank, one_note_score(voice, 38, 100, hold)) for hold in (0.01, 1.0))
    np.testing.assert_array_equal(short, long)
    assert np.abs(short[:, int(0.05 * RATE) :]).max() > 1e-4


def test_a_closed_hi_hat_chokes_an_open_one_but_no_other_drum(toy_bank, midi, monkeypatch):
    monkeypatch.setattr("miao.synth.stems.lots_of", lambda tracks: [9 for _ in tracks])  # whatever comes first

    def drums(*keys):
        notes = [(0.05 * n, 0.05 * n + 0.01, key, 120) for n, key in enumerate(keys) if key]
        return stems(toy_bank, score_of(midi, {"notes": notes, "channel": 9}))[0]

    def what_the_first_adds(first, second):
        """Power of the first drum from 25 ms after the second one on: that of their noise adds up."""
        both, later = drums(first, second), drums(None, second)
        n = slice(int(0.075 * RATE), int(0.15 * RATE))
        return np.square(both[:, n]).sum() - np.square(later[:, n]).sum()

    assert what_the_first_adds(46, 38) > 1e-7
    assert what_the_first_adds(46, 42) == 0


def test_both_sample_rates_sound_alike(toy_bank, song):
    score = read_score(song)
    ours = stems(toy_bank, score)[1]
    other = resample(Audio(np.ascontiguousarray(stems(toy_bank, score, sample_rate=48000)[1]), 48000), RATE).samples
    n = min(ours.shape[1], other.shape[1])
    assert spectrum.log_mel_error(spectrum.log_mel(ours[:, :n]), spectrum.log_mel(other[:, :n])) < 1


def test_no_more_notes_than_the_limit_sound_at_once(toy_bank, midi, monkeypatch):
    counts = []
    begin = player.Player.begin

    def counted(self, *arguments):
        pending = begin(self, *arguments)
        counts.append(self.n_notes)
        return pending

    monkeypatch.setattr(player.Player, "begin", counted)
    notes = [(0.01 * n, 9.0, 30 + n, 100) for n in range(60)]
    sound = stems(toy_bank, score_of(midi, {"notes": notes}), polyphony=8)
    assert np.isfinite(sound).all() and sound.any()
    assert 8 <= max(counts) <= 16


def test_what_goes_wrong_on_another_thread_is_raised(toy_bank, song, monkeypatch):
    def broken():
        raise MemoryError("no room for the samples")

    monkeypatch.setattr(oscillators, "work_on_notes", lambda *_: broken)
    with pytest.raises(MemoryError, match="no room for the samples"):
        stems(toy_bank, read_score(song))


def test_a_rendering_can_be_left_in_the_middle(toy_bank, song):
    blocks = stream_stems(toy_bank, read_score(song))
    next(blocks)
    blocks.close()


def test_a_missing_bank_is_named_along_with_those_there_are():
    with pytest.raises(BankError, match=r'no bank "lute"; there are .*give a folder with config\.toml'):
        Bank.load("lute")


def test_a_bank_of_another_format_is_refused(tmp_path):
    (tmp_path / "config.toml").write_text("format = 7\n")
    with pytest.raises(BankError, match="bank format 7, this miao reads format 2"):
        Bank.load(tmp_path)


def test_a_note_does_not_begin_with_a_jump(toy_bank, midi):
    sound = np.abs(stems(toy_bank, score_of(midi, {"notes": [(0.5, 1.5, 69, 100)]}))[0]).max(axis=0)
    start = int(0.5 * 44_100)
    assert not sound[:start].any()
    assert sound[start : start + 4].max() < 0.2 * sound[start : start + 4410].max()


@pytest.mark.parametrize(("program", "pitch", "is_drum"), [(0, 60, False), (48, 67, False), (0, 38, True)])
def test_strokes_of_one_note_in_a_row_are_takes_of_their_own(midi, program, pitch, is_drum):
    strokes = [(0.5 * n, 0.5 * n + 0.2, pitch, 90) for n in range(5)]
    sound = stems(
        Bank.load("gm"), score_of(midi, {"notes": strokes, "channel": 9 if is_drum else 0, "program": program})
    )[0]
    takes = [sound[:, 22_050 * n :][:, :10_000].astype(np.float64) for n in range(5)]
    for n, take in enumerate(takes):
        for other in takes[:n]:
            power = np.mean(take**2)
            assert np.mean(other**2) == pytest.approx(power, rel=0.5)
            assert np.mean((take - other) ** 2) > 0.25 * power  # twice as much where nothing goes together


def test_a_note_that_comes_again_is_looked_up_and_sounds_as_if_it_were_not(toy_bank, song, monkeypatch):
    asked = []

    def counted(kind, **inputs):
        asked.append(len(inputs["voice"]))
        return toy_bank.decode(kind, **inputs)

    bank = dataclasses.replace(toy_bank, decode=counted, encode=None)  # which hears no context
    found = stems(bank, read_score(song))
    n_found, known = sum(asked), note_module.Note.key
    # a key of its own for each chunk: nothing is ever found
    monkeypatch.setattr(note_module.Note, "key", lambda note: (*known(note), note.strike.time, note.strike.part))
    asked.clear()
    np.testing.assert_allclose(stems(bank, read_score(song)), found, atol=1e-5)
    assert n_found < 0.6 * sum(asked)


def test_what_was_asked_for_last_is_kept_when_there_is_no_room_for_all(toy_bank, monkeypatch):
    def n_written(pitches):
        """Chunks of key 60 that are written, while keys are played one after another."""
        asked, player = [], Player(dataclasses.replace(toy_bank, encode=None), [0])
        written = ChunkWriter._written

        def counted(writer, kind, notes):
            asked.extend(note.strike.pitch for note in notes)
            return written(writer, kind, notes)

        with monkeypatch.context() as patch:
            patch.setattr(ChunkWriter, "_written", counted)
            for n, pitch in enumerate(pitches):
                player.release(player.start(Strike(0.5 * n, 0, 0, pitch, 0.7)), 0.5 * n + 0.2)
                player.block(22_050)
        return asked.count(60)

    others = range(61, 69)
    once = n_written([60, *others])
    monkeypatch.setattr(chunks, "_KNOWN_CHUNKS", 5 * once)
    assert n_written([60, *others, 60]) == 2 * once  # the others have taken its room
    assert n_written([pitch for other in others for pitch in (60, other)]) == once


@pytest.mark.parametrize(("n_tracks", "most"), [(1, 1 << 17), (13, 1 << 15), (40, 1 << 14)])
def test_a_block_of_many_tracks_is_shorter(toy_bank, midi, n_tracks, most):
    tracks = [{"channel": n % 8, "notes": [(0.0, 9.0, 60, 100)]} for n in range(n_tracks)]
    lengths = [block.stems.shape[2] for block in stream_stems(toy_bank, score_of(midi, *tracks))]
    assert max(lengths) == most and not any(n % (1 << 14) for n in lengths)
