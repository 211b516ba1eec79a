import errno
import os
import resource
import struct
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from miao.errors import AudioError
from miao.sound import writer as writer_module
from miao.sound.audio import Audio, read_audio, read_header, resample
from miao.sound.writer import AudioWriter

RATE = 44100
SOURCE = Path(writer_module.__file__).parents[1]
KINDS = [("wav", "16"), ("wav", "24"), ("wav", "float"), ("flac", "16"), ("flac", "24"), ("ogg", None), ("mp3", None)]


def tones(seconds=0.5, rate=RATE):
    t = np.arange(int(seconds * rate)) / rate
    return Audio(np.stack([0.5 * np.sin(2 * np.pi * 441 * t), 0.25 * np.sin(2 * np.pi * 1000 * t)]), rate)


def write_in_pieces(path, audio, n, **settings):
    with AudioWriter(path, audio.sample_rate, audio.channels, force=True, **settings) as writer:
        for start in range(0, audio.samples.shape[1], n):
            writer.write(audio.samples[:, start : start + n])
    return writer


def peak_hz(samples, rate):
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "16", 1.5 / 2**15),
        ("wav", "24", 1 / 2**23),
        ("wav", "float", 0),
        ("flac", "16", 1.5 / 2**15),
        ("flac", "24", 1 / 2**23),
        ("ogg", None, 0.05),
    ],
)
def test_what_was_written_is_read_back(tmp_path, suffix, subtype, tolerance):
    audio = tones()
    assert audio.save(tmp_path / f"a.{suffix}", subtype) == 0
    back = read_audio(tmp_path / f"a.{suffix}")
    assert (back.sample_rate, back.channels, back.duration) == (RATE, 2, 0.5)
    np.testing.assert_allclose(back.samples, audio.samples, atol=tolerance, rtol=0)


def test_mp3_keeps_length_pitch_and_level(tmp_path):
    audio = tones(1.0)
    audio.save(tmp_path / "a.mp3")
    back = read_audio(tmp_path / "a.mp3")
    assert (back.sample_rate, back.samples.shape) == (RATE, audio.samples.shape)
    assert peak_hz(back.samples[0], RATE) == pytest.approx(441, abs=1)
    assert peak_hz(back.samples[1], RATE) == pytest.approx(1000, abs=1)
    middle = slice(4000, -4000)
    np.testing.assert_allclose(np.std(back.samples[:, middle], axis=1), np.std(audio.samples, axis=1), rtol=0.03)


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_the_same_samples_give_the_same_bytes_however_they_are_cut(tmp_path, suffix, subtype):
    audio = tones()
    write_in_pieces(tmp_path / f"a.{suffix}", audio, 10**9, subtype=subtype)
    write_in_pieces(tmp_path / f"b.{suffix}", audio, 777, subtype=subtype)
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_two_minutes_can_be_written_at_once(tmp_path, suffix):
    audio = Audio(np.zeros((1, 120 * 8000), np.float32), 8000)
    audio.save(tmp_path / f"a.{suffix}")
    assert read_audio(tmp_path / f"a.{suffix}").duration == 120


@pytest.mark.parametrize("channels", [1, 3])
def test_other_numbers_of_channels_and_odd_byte_counts_work(tmp_path, channels):
    audio = Audio(np.linspace(-1, 0.9, 7 * channels).reshape(channels, 7), 8000)
    audio.save(tmp_path / "a.wav", "24")  # 21 bytes a channel: the chunk is padded
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").samples, audio.samples, atol=2**-23)  # a step of 24 bits
    assert (tmp_path / "a.wav").stat().st_size % 2 == 0


@pytest.mark.parametrize(("subtype", "kind", "step"), [("16", 1, 4), ("24", 1, 6), ("float", 3, 8)])
def test_every_field_of_a_wav_header_is_that_of_the_sound(tmp_path, subtype, kind, step):
    tones(rate=48000).save(tmp_path / "a.wav", subtype)
    data = (tmp_path / "a.wav").read_bytes()
    assert struct.unpack("<4sI4s", data[:12]) == (b"RIFF", len(data) - 8, b"WAVE")
    chunks, at = {}, 12
    while at < len(data):
        name, size = struct.unpack("<4sI", data[at : at + 8])
        chunks[name], at = data[at + 8 : at + 8 + size], at + 8 + size + size % 2
    assert list(chunks) == [b"JUNK", b"fmt ", *([b"fact"] if kind == 3 else []), b"data"]
    assert len(chunks[b"JUNK"]) == 28  # room for ds64
    # format, channels, samples a second, bytes a second, bytes a frame, bits a sample
    assert struct.unpack("<HHIIHH", chunks[b"fmt "]) == (kind, 2, 48000, 48000 * step, step, 4 * step)
    assert len(chunks[b"data"]) == 24000 * step
    if kind == 3:
        assert struct.unpack("<I", chunks[b"fact"]) == (24000,)


def test_a_16_bit_file_is_readable_by_the_standard_library(tmp_path):
    tones().save(tmp_path / "a.wav")
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, RATE, 22050)


def test_dither_keeps_what_is_smaller_than_a_step(tmp_path):
    t = np.arange(RATE) / RATE
    Audio((0.4 / 2**15 * np.sin(2 * np.pi * 441 * t))[None], RATE).save(tmp_path / "a.wav")
    back = read_audio(tmp_path / "a.wav").samples[0]
    heard = 2 * np.abs(np.mean(back * np.exp(-2j * np.pi * 441 * t)))
    assert heard == pytest.approx(0.4 / 2**15, rel=0.1)  # undithered rounding would give nothing
    assert np.std(back) < 1 / 2**15


def test_silence_stays_digital_silence(tmp_path):
    Audio(np.zeros((2, 1000)), RATE).save(tmp_path / "a.wav")
    assert not read_audio(tmp_path / "a.wav").samples.any()


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_samples_beyond_full_scale_are_counted_where_they_clip(tmp_path, suffix, subtype):
    samples = np.zeros((2, 3000), np.float32)
    samples[:, 5:12] = [[1.5], [-2]]
    n_clipped = Audio(samples, RATE).save(tmp_path / f"a.{suffix}", subtype)
    assert n_clipped == (0 if subtype == "float" else 14)
    if subtype is not None:
        highest = 1.5 if subtype == "float" else 1 - 2.0 ** (1 - int(subtype))
        assert read_audio(tmp_path / f"a.{suffix}").samples.max() == np.float32(highest)


def test_a_file_too_long_for_wav_becomes_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_CHUNK_BYTES", 50_000)
    for subtype in ("16", "float"):
        tones().save(tmp_path / "long.wav", subtype, force=True)
        assert (tmp_path / "long.wav").read_bytes()[:4] == b"RF64"
        assert soundfile.info(tmp_path / "long.wav").format == "RF64"
        np.testing.assert_allclose(read_audio(tmp_path / "long.wav").samples, tones().samples, atol=5e-5)


def test_the_rf64_header_holds_sizes_beyond_32_bits(tmp_path):
    with open(tmp_path / "head", "wb") as file:
        encoder = writer_module._WavEncoder(file, RATE, 2, "24", is_stream=False)
        encoder.n_bytes = n_bytes = 10 * 3600 * RATE * 6
        encoder.finish()
    head = (tmp_path / "head").read_bytes()
    assert struct.unpack_from("<4sI4s4sIQQQ", head) == (
        b"RF64",
        2**32 - 1,
        b"WAVE",
        b"ds64",
        28,
        len(head) - 8 + n_bytes,
        n_bytes,
        10 * 3600 * RATE,
    )


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "16"), ("wav", "float"), ("flac", "24"), ("ogg", None)])
def test_stdout_can_be_a_pipe(tmp_path, suffix, subtype):
    tones().save(tmp_path / "in.wav", "float")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from miao.sound.audio import read_audio\n"
        "from miao.sound.writer import AudioWriter\n"
        "x = read_audio(sys.argv[2])\n"
        f"with AudioWriter('-', x.sample_rate, 2, format={suffix!r}, subtype={subtype!r}) as writer:\n"
        "    writer.write(x.samples)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, SOURCE, tmp_path / "in.wav"], capture_output=True, check=True
    )
    assert done.stderr == b""
    (tmp_path / "out").write_bytes(done.stdout)
    tones().save(tmp_path / f"direct.{suffix}", subtype)
    np.testing.assert_array_equal(
        read_audio(tmp_path / "out").samples, read_audio(tmp_path / f"direct.{suffix}").samples
    )


def test_a_reader_that_has_ended_is_one_error():
    receiver, sender = os.pipe()
    os.close(receiver)
    with pytest.raises(AudioError, match="the program that reads it has ended"):
        tones().save(f"/dev/fd/{sender}")
    os.close(sender)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_a_full_disk_is_one_error(format):
    with (
        pytest.raises(AudioError, match="/dev/full: cannot be written: no space left on device"),
        AudioWriter("/dev/full", RATE, 2, format=format) as writer,
    ):
        writer.write(tones(3).samples)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_file_that_may_not_grow_is_one_error_and_leaves_nothing(tmp_path, suffix):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 6 * RATE))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(AudioError, match="cannot be written: file too large"):
            Audio(noise, RATE).save(tmp_path / f"a.{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path):
    tones().save(tmp_path / "a.wav")
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(KeyboardInterrupt), AudioWriter(tmp_path / "a.wav", RATE, 2, force=True) as writer:
        writer.write(tones().samples)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    with AudioWriter(tmp_path / "a.wav", RATE, 2) as writer:
        writer.write(tones().samples)
        assert not (tmp_path / "a.wav").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_an_existing_file_is_kept_unless_forced(tmp_path):
    tones().save(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=r"a\.wav exists; force=True"):
        tones().save(tmp_path / "a.wav")
    tones(0.1).save(tmp_path / "a.wav", force=True)
    assert read_audio(tmp_path / "a.wav").duration == 0.1


def test_a_link_is_written_through(tmp_path):
    tones().save(tmp_path / "a.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    tones(0.1).save(tmp_path / "link.wav", force=True)
    assert (tmp_path / "link.wav").is_symlink() and read_audio(tmp_path / "a.wav").duration == 0.1


def test_a_device_is_not_replaced_by_a_file():
    tones().save("/dev/null")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.EACCES, "permission denied"), (errno.EROFS, "read-only file system")]
)
def test_a_folder_that_refuses_is_one_error(tmp_path, monkeypatch, code, reason):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("builtins.open", refuse)  # root may write everywhere
    with pytest.raises(AudioError, match=reason):
        tones().save(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("a.xyz", {}, r"suffix \.xyz names no known sound format; known are wav, flac, ogg, mp3"),
        ("a", {}, "suffix is missing"),
        ("a.wav", {"format": "aiff"}, "aiff: not a known sound format; known are wav, flac, ogg, mp3"),
        ("a.wav", {"subtype": "8"}, "wav cannot be written as 8; choose 16 or 24 or float"),
        ("a.flac", {"subtype": "float"}, "flac cannot be written as float; choose 16 or 24"),
        ("a.mp3", {"subtype": "16"}, "no bit depth"),
        ("no/a.wav", {}, "there is no folder .*no; make it first"),
        ("folder.wav", {}, "is a folder"),
        ("a.mp3", {"sample_rate": 96000}, "mp3 cannot hold 2 channels at 96000 Hz; wav can"),
        ("a.flac", {}, "no sound to write; flac cannot be empty"),
    ],
)
def test_what_cannot_be_written_says_why(tmp_path, name, settings, message):
    (tmp_path / "folder.wav").mkdir()
    with (
        pytest.raises(AudioError, match=message),
        AudioWriter(tmp_path / name, **({"sample_rate": RATE, "channels": 2} | settings)),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder.wav"]


def test_a_file_of_samples_that_are_not_numbers_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.1, np.nan, np.inf, 0.2], np.float32), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: holds samples that are not numbers"):
        read_audio(tmp_path / "a.wav")


def test_samples_that_are_no_sound_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        Audio(np.array([[0, np.nan]]), RATE).save(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=r"\[2, n\]"), AudioWriter(tmp_path / "a.wav", RATE, 2) as writer:
        writer.write(np.zeros((1, 10)))
    with pytest.raises(ValueError, match=r"\[channels, S\]"):
        Audio(np.zeros(10), RATE)
    with pytest.raises(ValueError, match="must be positive"):
        Audio(np.zeros((1, 10)), 0)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_wav_is_an_empty_wav(tmp_path):
    Audio(np.zeros((2, 0)), RATE).save(tmp_path / "a.wav")
    assert read_audio(tmp_path / "a.wav").samples.shape == (2, 0)


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="is a directory"):
        read_audio(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"not a sound")
    with pytest.raises(AudioError, match="not a readable sound file"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_a_header_tells_what_reading_all_would(tmp_path, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    tones(0.7).save(path, subtype=subtype)
    header, whole = read_header(path), read_audio(path)
    assert (header.channels, header.sample_rate, header.is_whole) == (2, RATE, True)
    assert header.n_samples == whole.samples.shape[1] and header.duration == whole.duration


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_header_tells_of_a_file_that_was_cut_short(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    tones().save(path)
    data = path.read_bytes()
    for n in (len(data) - 1, len(data) // 2):
        path.write_bytes(data[:n])
        assert not read_header(path).is_whole


def test_the_beginning_of_a_file_is_that_of_the_whole(tmp_path):
    tones(2.0).save(tmp_path / "a.flac")
    part, whole = read_audio(tmp_path / "a.flac", 1.6), read_audio(tmp_path / "a.flac")
    assert part.duration == 1.6 and (part.samples == whole.samples[:, : part.samples.shape[1]]).all()
    assert read_audio(tmp_path / "a.flac", 5.0).duration == 2.0


def test_resampling_keeps_pitch_level_and_duration():
    audio = tones(1.0)
    up = resample(audio, 48000)
    assert (up.sample_rate, up.duration, up.channels) == (48000, 1.0, 2)
    np.testing.assert_allclose(up.samples[:, 4800:-4800], tones(1.0, 48000).samples[:, 4800:-4800], atol=1e-4)
    assert resample(audio, RATE) is audio
    with pytest.raises(AudioError, match="must be positive"):
        resample(audio, 0)


def test_the_lowest_rate_is_one_sample_a_second():
    with pytest.raises(AudioError, match="cannot resample to 0 Hz"):
        resample(tones(), 0)
    assert resample(tones(3.0, 100), 1).samples.shape == (2, 3)
