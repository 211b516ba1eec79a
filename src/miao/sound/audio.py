"""Sound in memory, and sound files as they are read: by libsndfile, in all formats that it knows."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from miao.errors import AudioError
from miao.files import reason
from miao.sound.writer import BLOCK_SAMPLES, MAX_CHUNK_BYTES, AudioWriter


@dataclass(frozen=True)
class Audio:
    """Sound in memory; full scale is 1.

    Raises: ValueError if the samples are not [channels, S] or the rate is not positive.

    >>> Audio(np.zeros((2, 22050)), 44100).duration
    0.5
    """

    samples: np.ndarray  # f4[channels, S]
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples, dtype=np.float32)
        if samples.ndim != 2 or not len(samples):
            raise ValueError(f"samples are [channels, S], not of shape {samples.shape}")
        if self.sample_rate <= 0:
            raise ValueError(f"the sample rate is {self.sample_rate}; it must be positive")
        object.__setattr__(self, "samples", samples)

    @property
    def channels(self) -> int:
        """1 for mono, 2 for stereo."""
        return len(self.samples)

    @property
    def duration(self) -> float:
        """Seconds."""
        seconds: float = self.samples.shape[1] / self.sample_rate
        return seconds

    def save(self, path: str | Path, subtype: str | None = None, force: bool = False) -> int:
        """Writes the file as `AudioWriter` does; gives the number of samples that were clipped."""
        with AudioWriter(path, self.sample_rate, self.channels, subtype=subtype, force=force) as writer:
            writer.write(self.samples)
        return writer.n_clipped


@dataclass(frozen=True)
class SoundHeader:
    """What a sound file says of itself."""

    n_samples: int  # per channel
    sample_rate: int  # Hz
    channels: int
    is_whole: bool  # False: the file was cut short

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.n_samples / self.sample_rate


def read_header(path: str | Path) -> SoundHeader:
    """The length of a sound file and whether all of it is there, without reading it all.

    Raises: AudioError as `read_audio` does.
    """
    with _opened(path) as file:
        n_samples, rate, channels = file.frames, file.samplerate, file.channels
        try:
            file.seek(max(n_samples - 1, 0))
            is_whole = len(file.read(1)) == min(n_samples, 1)
        except soundfile.SoundFileError:
            is_whole = False
    return SoundHeader(n_samples, rate, channels, is_whole and _is_whole_riff(path))


def _is_whole_riff(path: str | Path) -> bool:
    """Whether as many bytes follow as a RIFF header promises, which libsndfile does not mind; True for other files."""
    with open(path, "rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:], "little")
    return head[:4] != b"RIFF" or size >= MAX_CHUNK_BYTES or os.path.getsize(path) >= size + 8


def read_audio(path: str | Path, seconds: float = math.inf) -> Audio:
    """A sound file, or its beginning, in any format libsndfile knows.

    Raises: AudioError if the file is missing, a folder, damaged, of no known format, or holds samples that are not
    numbers.
    """
    blocks = []
    with _opened(path) as file:
        rate, channels = file.samplerate, file.channels
        left = round(seconds * rate) if seconds < math.inf else sys.maxsize
        # by blocks, because a streamed file does not say how long it is
        while len(block := file.read(min(BLOCK_SAMPLES, left), dtype="float32", always_2d=True)):
            blocks.append(block)
            left -= len(block)
    samples = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds samples that are not numbers; write it anew from its source")
    return Audio(np.ascontiguousarray(samples.T), rate)


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    try:
        with open(path, "rb") as opened, soundfile.SoundFile(opened) as file:
            yield file
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {reason(error)}") from error
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: not a readable sound file; convert it to wav, flac, ogg or mp3") from error


def resample(audio: Audio, rate: int) -> Audio:
    """The same sound at another sample rate (Hz), by soxr's very high quality; as it is if the rate is the same."""
    if rate == audio.sample_rate:
        return audio
    if rate <= 0:
        raise AudioError(f"cannot resample to {rate} Hz; the rate must be positive")
    samples = soxr.resample(np.ascontiguousarray(audio.samples.T), audio.sample_rate, rate, quality="VHQ")
    return Audio(np.ascontiguousarray(samples.T), rate)
