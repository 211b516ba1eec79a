"""Recordings as people left them: soft notes in loud rooms, layers named by another octave, sets packed anew."""

import numpy as np
import pytest
from test_learn import tone, write

from miao.datasets.samples import Recording, named_samples, read_samples
from miao.datasets.sfz import sfz_samples
from miao.datasets.single_note import find_release
from miao.sound.spectrum import SAMPLE_RATE


@pytest.mark.parametrize(("below", "swells"), [(18, False), (24, False), (24, True), (45, False), (45, True)])
def test_a_soft_note_was_let_go_though_the_room_sounds_on(below, swells):
    sound = np.pad(tone(57, 1.0, release=0.3), ((0, 0), (0, SAMPLE_RATE)))
    power = np.square(sound[:, : SAMPLE_RATE // 2]).mean()
    noise = np.random.default_rng(0).normal(size=sound.shape[1]) * np.sqrt(power / 10 ** (below / 10))
    if swells:  # by 6 dB in the end, as encoders make of what is next to nothing
        noise *= np.interp(np.arange(len(noise)), [len(noise) - SAMPLE_RATE // 3, len(noise)], [1, 2])
    hold, is_released = find_release(sound + noise[None].astype(np.float32))
    assert is_released and hold == pytest.approx(1.0, abs=0.1)


def test_a_note_that_dies_away_before_it_is_let_go_is_not_over_when_that_begins():
    sound = tone(57, 1.5, release=0.15)
    seconds = np.arange(sound.shape[1]) / SAMPLE_RATE
    fading = 10 ** (-8 * np.clip((seconds - 1.0) / 0.5, 0, 1) / 20)  # by 8 dB, from a second on: two lines meet at 1.12
    hold, is_released = find_release((sound * fading).astype(np.float32))
    assert is_released and hold == pytest.approx(1.22, abs=0.03), "0.03 s before it is 4 dB below"


def test_a_string_cut_off_while_it_sounds_is_held_to_its_end():
    hold, is_released = find_release(tone(57, 3.0, release=0.0, decay_db=8))
    assert not is_released and hold == pytest.approx(3.0, abs=0.03)


def recorded_at(folder, names):
    """What is read of notes of half a second, from (name, sounding pitch)."""
    for name, pitch in names:
        write(folder / f"{name}.wav", tone(pitch, 0.5))
    found: list[Recording]
    found, remarks = read_samples(named_samples(folder)[0])
    return {r.name: r.pitch for r in found}, remarks


def test_a_layer_named_by_another_octave_is_taken_as_heard(tmp_path):
    soft = [(f"{name}4_p", pitch) for name, pitch in (("c", 60), ("d", 62), ("e", 64), ("f", 65), ("g", 67), ("a", 69))]
    loud = [(f"{name[0]}4_f", pitch - 12) for name, pitch in soft]
    found, remarks = recorded_at(tmp_path, [*soft, *loud, ("b4_f", 71)])
    assert [found[f"{name}.wav"] for name, _ in loud] == [pitch for _, pitch in loud]
    assert [found[f"{name}.wav"] for name, _ in soft] == [pitch for _, pitch in soft]
    assert found["b4_f.wav"] == 71, "the one that is called what it sounds"
    assert sum("strength 96: the notes sound -12 semitones" in line for line in remarks) == 1


def test_a_single_note_an_octave_off_stays_what_it_is_called(tmp_path):
    names = [("c4_f", 60), ("d4_f", 62), ("e4_f", 64), ("f4_f", 65), ("g4_f", 55)]
    found, remarks = recorded_at(tmp_path, names)
    assert found["g4_f.wav"] == 67 and "seems to sound -12 semitones" in remarks[0]


def test_an_sfz_whose_sounds_were_packed_anew_finds_them(tmp_path):
    write(tmp_path / "one.wav", tone(60, 0.2))
    (tmp_path / "two.txt").write_text("no sound")
    (tmp_path / "x.sfz").write_text("<region> key=60 sample=One.flac\n<region> key=62 sample=two.flac\n")
    samples, left_out = sfz_samples(tmp_path / "x.sfz")
    assert [(s.path.name, s.pitch) for s in samples] == [("one.wav", 60)]
    assert left_out == ["two.flac: not there"]
