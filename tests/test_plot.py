import sys

import numpy as np
import pytest

from miao import plot as plot_module
from miao.errors import MiaoError
from miao.midi.score import read_score
from miao.plot import note_boxes, save_plot, spectrogram
from miao.sound.audio import Audio
from miao.sound.spectrum import HOP_SAMPLES, N_MELS, SAMPLE_RATE, log_mel


@pytest.fixture
def score(song):
    return read_score(song)


def tone(hz, seconds, rate=SAMPLE_RATE):
    return Audio(0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)[None], rate)


def test_a_note_is_a_box_from_start_to_damp_around_its_pitch(score):
    boxes = note_boxes(score.tracks[0])
    assert boxes.shape == (8, 4, 2)
    np.testing.assert_allclose(boxes[1], [[0.75, 80.55], [0.75, 81.45], [1.25, 81.45], [1.25, 80.55]], atol=1e-9)


def test_the_spectrogram_of_a_short_sound_is_log_mel():
    audio = tone(440, 2.0)
    columns, seconds = spectrogram(audio)
    np.testing.assert_array_equal(columns, log_mel(audio.samples))
    assert seconds == HOP_SAMPLES / SAMPLE_RATE


def test_the_spectrogram_of_a_long_sound_has_few_columns_and_the_same_loud_row(monkeypatch):
    monkeypatch.setattr(plot_module, "MAX_COLUMNS", 50)
    monkeypatch.setattr(plot_module, "PIECE_FRAMES", 128)
    audio = tone(440, 8.0)
    columns, seconds = spectrogram(audio)
    frames = log_mel(audio.samples)
    per_column = round(seconds * SAMPLE_RATE / HOP_SAMPLES)
    assert columns.shape == (-(-len(frames) // per_column), N_MELS) and len(columns) <= 50
    expected = [frames[i : i + per_column].max(axis=0) for i in range(0, len(frames), per_column)]
    np.testing.assert_allclose(columns, expected, atol=0.01)
    assert set(columns.argmax(axis=1)) == {frames[50].argmax()}


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_picture_is_written_with_and_without_sound(score, tmp_path, suffix, start):
    save_plot(score, tmp_path / f"a{suffix}", title="$1 音")
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)
    if suffix == ".png":
        save_plot(score, tmp_path / "b.png", audio=tone(440, 3.0, 22_050))
        assert (tmp_path / "b.png").stat().st_size > (tmp_path / "a.png").stat().st_size
    assert not list(tmp_path.glob(".miao*"))


def test_louder_notes_are_denser_and_tracks_differ_in_colour(score):
    figure = plot_module._figure(score, tone(440, 6.0), "")
    roll, picture = figure.axes
    melody, bass, _ = (collection.get_facecolor()[0] for collection in roll.collections)
    assert melody[3] > bass[3] and tuple(melody[:3]) != tuple(bass[:3])
    assert roll.get_xlim() == picture.get_xlim() == (0, pytest.approx(6.0, abs=0.3))


def test_what_exists_is_not_overwritten_without_force(score, tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(MiaoError, match=r"a\.png exists; force=True"):
        save_plot(score, tmp_path / "a.png")
    save_plot(score, tmp_path / "a.png", force=True)
    assert (tmp_path / "a.png").read_bytes() != b"mine"


def test_an_unknown_suffix_and_a_missing_folder_are_errors(score, tmp_path):
    with pytest.raises(MiaoError, match=r"a picture ends in \.png, \.svg, \.pdf"):
        save_plot(score, tmp_path / "a.gif")
    with pytest.raises(MiaoError, match=r"a\.png: there is no folder"):
        save_plot(score, tmp_path / "none" / "a.png")


def test_without_matplotlib_the_error_says_what_to_install(score, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MiaoError, match=r"pip install 'miao-synth\[plot\]'"):
        save_plot(score, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
