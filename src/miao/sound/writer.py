"""Sound files, out; the only file that knows how they are written.

WAV is written here rather than by libsndfile: it has to stream into a pipe, grow past 4 GB without being told the
length beforehand (RF64), and give the same bytes for the same samples (libsndfile puts the clock into float WAV files).
FLAC, Ogg Vorbis and MP3 are libsndfile's.
"""

import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, TypeVar

import numpy as np
import soundfile

from miao.errors import AudioError
from miao.files import Draft, check_target, is_device, path_of, refusal
from miao.sound.quantiser import Quantised, quantise

FORMATS = {".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".mp3": "mp3"}
SUBTYPES = {"wav": ("16", "24", "float"), "flac": ("16", "24"), "ogg": (), "mp3": ()}
BLOCK_SAMPLES = 1 << 16  # that are turned into bytes at a time
MAX_CHUNK_BYTES = 0xFFFFFFFF - 1024  # of a plain WAV file; beyond it the file becomes RF64
CODEC_SAMPLES = 1 << 14  # per libsndfile write: Vorbis dies of minutes at once, and its bits depend on where it is cut
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class AudioWriter:
    """Writes a sound file block by block; use it in a `with`.

    The file appears under its name, whole, when the block ends well, and not at all when it does not. `path` "-" is
    stdout; it and other things that cannot be renamed (a pipe, /dev/null) are written straight away. Into these WAV
    goes with a header of unknown length, and the compressed formats as one piece at the end, because their headers
    are only right once all is known.

    format   wav, flac, ogg or mp3; None: by the suffix of the path, WAV for stdout
    subtype  "16", "24" (wav, flac) or "float" (wav); None: "16". 16 bits are dithered (triangular, +-1 step, the same
             for the same samples however they are cut into blocks), except that exact zeros stay zero.

    Beyond full scale integers clip, float WAV does not; `n_clipped` counts the samples, so that the caller can tell.
    Ogg and MP3 hold such samples, but nearly every player clips them, so they are counted too.

    Raises: AudioError if the name or format is no good, the file exists and not `force`, or the disk refuses.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        format: str | None = None,
        subtype: str | None = None,
        force: bool = False,
    ) -> None:
        path_of(path, AudioError)
        self.path = path
        self.sample_rate = sample_rate
        self.channels = channels
        self.n_written = 0  # samples per channel
        self.n_clipped = 0
        self._label = "stdout" if str(path) == "-" else str(path)
        self._is_stream = str(path) == "-" or is_device(path)
        self._force = force
        self.format = _format_of(path, format, self._is_stream)
        self.subtype = _subtype_of(self.format, subtype)
        self._draft: Draft | None = None
        self._file: BinaryIO | None = None
        self._spool: BinaryIO | None = None
        self._encoder: _WavEncoder | _CompressedEncoder | None = None
        if not self._is_stream:
            self._check_target()

    def __enter__(self) -> Self:
        try:
            self._file = file = self._open()
            if self.format == "wav":
                self._encoder = _WavEncoder(file, self.sample_rate, self.channels, self.subtype, self._is_stream)
            else:
                if self._is_stream:
                    self._spool = file = tempfile.TemporaryFile()
                self._encoder = _CompressedEncoder(file, self.sample_rate, self.channels, self.format, self.subtype)
        except OSError as error:
            self._abandon()
            raise self._refusal(error) from error
        except soundfile.SoundFileError as error:
            self._abandon()
            raise AudioError(
                f"{self._label}: {self.format} cannot hold {self.channels} channels at {self.sample_rate} Hz; wav can"
            ) from error
        return self

    def write(self, samples: np.ndarray) -> None:
        """Appends f4[channels, n].

        Raises: AudioError if the disk refuses; ValueError on another number of channels or a sample that is not finite.
        """
        assert self._encoder is not None, "an AudioWriter writes within its `with`"
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 2 or samples.shape[0] != self.channels:
            raise ValueError(f"samples are [{self.channels}, n], not of shape {samples.shape}")
        try:
            for start in range(0, samples.shape[1], BLOCK_SAMPLES):
                block, n_beyond, n_not_finite = self._converted(samples[:, start : start + BLOCK_SAMPLES])
                if n_not_finite:
                    raise ValueError(
                        f"{self._label}: a sample after {self.n_written / self.sample_rate:.2f} s is not finite"
                    )
                self.n_clipped += n_beyond
                self._encoder.write(block)
                self.n_written += len(block)
        except OSError as error:
            raise self._refusal(error) from error

    def _converted(self, samples: np.ndarray) -> Quantised:
        """The samples as the encoder takes them, [n, channels]: whole numbers, or f4 where it takes those."""
        if self.subtype is not None and self.subtype != "float":
            return quantise(samples, self.n_written, int(self.subtype), self.subtype == "16")
        n_beyond = 0 if self.subtype == "float" else int(np.count_nonzero(np.abs(samples) > 1))
        n_not_finite = int(np.count_nonzero(~np.isfinite(samples)))
        return Quantised(np.ascontiguousarray(samples.T), n_beyond, n_not_finite)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        assert self._encoder is not None and self._file is not None
        try:
            if self.n_written == 0 and self.format != "wav":
                raise AudioError(f"{self._label}: there is no sound to write; {self.format} cannot be empty, wav can")
            self._encoder.finish()
            if self._spool is not None:
                self._spool.seek(0)
                shutil.copyfileobj(self._spool, self._file, 1 << 20)
                self._spool.close()
            self._file.close()
            if self._draft is not None:
                self._check_target()
                self._draft.keep()
        except OSError as refused:
            raise self._refusal(refused) from refused
        finally:
            self._abandon()

    def _open(self) -> BinaryIO:
        if str(self.path) == "-":
            sys.stdout.flush()
            return open(sys.stdout.fileno(), "wb", closefd=False)  # sys.stdout would meet a broken pipe again at exit
        if self._is_stream:
            return open(self.path, "wb")
        self._draft = Draft(self.path)
        return self._draft.open()

    def _check_target(self) -> None:
        check_target(self.path, AudioError, force=self._force)

    def _abandon(self) -> None:
        if isinstance(self._encoder, _CompressedEncoder):
            self._encoder.abandon()
        for file in (self._spool, self._file):
            with suppress(OSError):  # what it could not flush is thrown away here anyway
                if file is not None:
                    file.close()
        if self._draft is not None:
            self._draft.discard()

    def _refusal(self, error: OSError) -> AudioError:
        return refusal(self._label, error, AudioError)


class _WavEncoder:
    """RIFF WAVE; room is kept for the 64-bit sizes (a JUNK chunk, EBU Tech 3306), so a long file can become RF64."""

    def __init__(self, file: BinaryIO, sample_rate: int, channels: int, subtype: str | None, is_stream: bool) -> None:
        self.file, self.sample_rate, self.channels, self.is_stream = file, sample_rate, channels, is_stream
        self.bits = 32 if subtype == "float" else int(subtype or 16)
        self.n_bytes = 0
        file.write(self._header())

    def write(self, block: np.ndarray) -> None:
        if self.bits == 24:
            block = np.ascontiguousarray(block.astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)[:, :3])
        data = block.astype(block.dtype.newbyteorder("<"), copy=False)
        self.file.write(data.tobytes())
        self.n_bytes += data.nbytes

    def finish(self) -> None:
        if self.n_bytes % 2:
            self.file.write(b"\0")
        if not self.is_stream:
            self.file.seek(0)
            self.file.write(self._header())

    def _header(self) -> bytes:
        step = self.channels * self.bits // 8  # bytes of one sample of all channels
        n_samples = self.n_bytes // step
        is_long = self.n_bytes > MAX_CHUNK_BYTES
        kind = 3 if self.bits == 32 else 1
        form = struct.pack(
            "<4sIHHIIHH", b"fmt ", 16, kind, self.channels, self.sample_rate, self.sample_rate * step, step, self.bits
        )
        if kind == 3:
            form += struct.pack("<4sII", b"fact", 4, 0xFFFFFFFF if is_long or self.is_stream else n_samples)
        if self.is_stream:
            return struct.pack("<4sI4s", b"RIFF", 0xFFFFFFFF, b"WAVE") + form + struct.pack("<4sI", b"data", 0xFFFFFFFF)
        n_riff = 4 + 36 + len(form) + 8 + self.n_bytes + self.n_bytes % 2
        if is_long:
            return (
                struct.pack(
                    "<4sI4s4sIQQQI", b"RF64", 0xFFFFFFFF, b"WAVE", b"ds64", 28, n_riff, self.n_bytes, n_samples, 0
                )
                + form
                + struct.pack("<4sI", b"data", 0xFFFFFFFF)
            )
        return (
            struct.pack("<4sI4s4sI28x", b"RIFF", n_riff, b"WAVE", b"JUNK", 28)
            + form
            + struct.pack("<4sI", b"data", self.n_bytes)
        )


class _CompressedEncoder:
    """FLAC, Vorbis and MP3 by libsndfile, into a seekable file."""

    def __init__(self, file: BinaryIO, sample_rate: int, channels: int, format: str, subtype: str | None) -> None:
        self.sink = _Sink(file)
        self.pending: list[np.ndarray] = []
        self.format = format
        kind = {"flac": f"PCM_{subtype}", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}[format]
        self.sound = soundfile.SoundFile(self.sink, "w", sample_rate, channels, kind, format=format.upper())

    def write(self, block: np.ndarray) -> None:
        if block.dtype == np.int32:
            block = block << 8
        self.pending.append(block)
        if sum(map(len, self.pending)) >= CODEC_SAMPLES:
            samples = np.concatenate(self.pending)
            n_whole = len(samples) // CODEC_SAMPLES * CODEC_SAMPLES
            for start in range(0, n_whole, CODEC_SAMPLES):
                self._call(self.sound.write, samples[start : start + CODEC_SAMPLES])
            self.pending = [samples[n_whole:]]

    def finish(self) -> None:
        self._call(self.sound.write, np.concatenate(self.pending))
        self._call(self.sound.close)
        if self.format == "ogg":
            _number_ogg_stream(self.sink.file)

    def abandon(self) -> None:
        self.sink.error = self.sink.error or OSError()  # what is still held back is not to be written
        with suppress(soundfile.SoundFileError):
            self.sound.close()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            function(*arguments)
        except (soundfile.SoundFileError, AssertionError):  # soundfile asserts that a write was not cut short
            if self.sink.error is None:
                raise
        if self.sink.error is not None:
            raise self.sink.error


T = TypeVar("T")


class _Sink:
    """Keeps the error that libsndfile's callbacks would swallow; after it the file is left alone."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(self.file.seek, offset, whence)

    def tell(self) -> int:
        return self._try(self.file.tell)

    def read(self, n: int) -> bytes:
        return self._try(self.file.read, n) or b""

    def write(self, data: bytes) -> int:
        return self._try(self.file.write, data)

    def _try(self, function: Callable[..., T], *arguments: object) -> T | Literal[0]:
        if self.error is None:
            try:
                return function(*arguments)
            except OSError as error:
                self.error = error
        return 0


def _number_ogg_stream(file: BinaryIO) -> None:
    """Gives all pages the stream number 1 instead of libsndfile's random one: the same sound, the same bytes."""
    place = 0
    file.seek(place)
    while len(head := file.read(27)) == 27:
        sizes = file.read(head[26])
        page = bytearray(head + sizes + file.read(sum(sizes)))
        page[14:18], page[22:26] = struct.pack("<I", 1), bytes(4)
        # Ogg's checksum is zlib's with the bits of each byte mirrored and no complements
        checksum = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        page[22:26] = checksum.to_bytes(4, "big").translate(MIRRORED)
        file.seek(place)
        file.write(page)
        place += len(page)


def _format_of(path: str | Path, format: str | None, is_stream: bool) -> str:
    known = ", ".join(FORMATS.values())
    if format is not None:
        if format.lower() not in SUBTYPES:
            raise AudioError(f"{format}: not a known sound format; known are {known}")
        return format.lower()
    suffix = Path(path).suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    if is_stream:
        return "wav"
    raise AudioError(f"{path}: the suffix {suffix or 'is missing and'} names no known sound format; known are {known}")


def _subtype_of(format: str, subtype: str | None) -> str | None:
    known = SUBTYPES[format]
    if subtype is None:
        return known[0] if known else None
    if subtype not in known:
        raise AudioError(
            f"{format} cannot be written as {subtype}; "
            + (f"choose {' or '.join(known)}" if known else "it has no bit depth to choose")
        )
    return subtype
