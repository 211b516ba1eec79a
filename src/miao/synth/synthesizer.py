"""From a score to finished sound: the one door for the command, Python and the page.

Everything is a stream of blocks: the engine's stems, through each track's fader into the mix and into the room, then
the master gain. What is left to do once the whole is known (the gain that gives the wished loudness) is a second pass
over the mix, which `render` keeps in memory and `render_file` in an unnamed temporary file, so that an hour of music
needs no more memory than a minute.
"""

import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

import numpy as np

from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice, find_voice
from miao.errors import AudioError, ConfigError, MiaoError, ScoreError
from miao.midi.score import Curve, Score, Track, TrackSummary, read_score
from miao.sound.audio import Audio
from miao.sound.desk import track_gains
from miao.sound.limiter import Limiter
from miao.sound.loudness import Loudness
from miao.sound.room import Room
from miao.sound.writer import SUBTYPES, AudioWriter
from miao.synth.engine import Block, stream_stems

STREAM_GAIN_DB = 14.0  # from the mixing desk, as nothing is known of the song yet; most want 13 to 24 dB for -16 LUFS
CEILING_DB = -1.0  # true peak, dBTP: what EBU R 128 asks for, and lossy codecs need
ROOM_LEVEL = 0.5  # General MIDI's usual reverb send, 40 / 127, becomes a room 16 dB below the sound
FADE_SECONDS = 0.01  # where an excerpt is cut out of the sound
PATIENCE_SECONDS = 1.0  # with a stage that is interrupted
SILENCE = 1e-6  # of full scale; when all has fallen below, it is over
METER_DB = -100.0  # a limiter with its ceiling down here is a meter of true peaks
FIRST_PASS = 0.9  # of the time that a rendering takes; for progress bars
SAMPLE_RATES = (8_000, 192_000)
GAINS_DB = (-100.0, 100.0)
LATEST_SECONDS = 1e9
LOUDNESSES = (-60.0, -5.0)  # LUFS
MUCH_LIMITING_DB = 6.0  # from here on it is heard
LONGEST_NAME = 60
UNSAFE_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')

Source = Score | str | Path | bytes | BinaryIO
Cast = Mapping[int, str | Path | LearntVoice]


@dataclass(frozen=True)
class RenderSummary:
    """What `render_file` wrote."""

    seconds: float  # of sound
    wall_seconds: float  # it took, reading the score included
    tracks: tuple[TrackSummary, ...]
    loudness: float  # LUFS of the finished mix; -inf if it is too quiet to measure
    peak_db: float  # highest sample, dBFS; the true peak is at most -1 dBTP
    gain_db: float  # from the mixing desk to the file
    reduction_db: float  # the most that the limiter took away
    stems: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()  # the score's, then the rendering's

    @property
    def speed(self) -> float:
        """Seconds of sound per second."""
        return self.seconds / max(self.wall_seconds, 1e-9)


class Synthesizer:
    """Plays scores with one bank of voices.

    >>> Synthesizer.from_pretrained("gm").render("song.mid").save("song.wav")  # doctest: +SKIP

    Common to its methods:

    score        a Score, or what `read_score` reads: a path, the bytes, an open file
    sample_rate  Hz, 8000 to 192000
    seed         same score, bank and seed: same samples
    variation    how far repeated notes differ, 0 (not at all) to 1
    start, end   seconds: an excerpt of the whole rendering, with what began earlier and the room still sounding;
                 faded over 10 ms where it cuts into the sound. The end may lie beyond that of the piece.
    voices       learnt voices by the number of the track (from 1) that each plays in place of the bank's: a name that
                 `learnt_voice.find_voice` finds, or the file

    Raises: ScoreError if the score cannot be read or no note lies before `end`; ConfigError for a setting out of range;
    MiaoError if the rendering is silent throughout.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    @classmethod
    def from_pretrained(cls, name: str | Path = "gm") -> Self:
        """The bank of that name, or in that folder. Raises: BankError if there is none."""
        return cls(Bank.load(name))

    def stream(
        self,
        score: Source,
        *,
        sample_rate: int = 44_100,
        seed: int = 0,
        variation: float = 0.0,
        gain_db: float = STREAM_GAIN_DB,
        start: float = 0.0,
        end: float | None = None,
        voices: Cast | None = None,
    ) -> Iterator[np.ndarray]:
        """The mix block by block, f4[2, n], as soon as it is known: with a fixed gain and the limiter at -1 dBTP."""
        score = _prepared(score, sample_rate, variation, start, end, gain_db)
        blocks = self._blocks(score, False, sample_rate, seed, variation, start, end, self._cast(score, voices))
        return (rows[0] for rows in _mastered(blocks, gain_db, Limiter(sample_rate, CEILING_DB)))

    def render(
        self,
        score: Source,
        *,
        sample_rate: int = 44_100,
        seed: int = 0,
        variation: float = 0.0,
        loudness: float = -16.0,
        gain_db: float | None = None,
        start: float = 0.0,
        end: float | None = None,
        voices: Cast | None = None,
    ) -> Audio:
        """The whole mix in memory: at `loudness` LUFS, or with a fixed gain as `stream` gives it. See `render_file`."""
        score = _prepared(score, sample_rate, variation, start, end, gain_db, loudness)
        cast = self._cast(score, voices)
        blocks: Iterable[np.ndarray] = self._blocks(score, False, sample_rate, seed, variation, start, end, cast)
        if gain_db is None:
            kept: list[np.ndarray] = []
            gain_db = _measured(blocks, kept, _Levels(sample_rate)).gain_to(loudness)
            blocks = kept
        mastered = _mastered(blocks, gain_db, Limiter(sample_rate, CEILING_DB))
        return Audio(np.concatenate([rows[0] for rows in mastered], axis=1), sample_rate)

    def render_file(
        self,
        score: Source,
        path: str | Path,
        *,
        stems_folder: str | Path | None = None,
        sample_rate: int = 44_100,
        seed: int = 0,
        variation: float = 0.0,
        loudness: float = -16.0,
        gain_db: float | None = None,
        start: float = 0.0,
        end: float | None = None,
        subtype: str | None = None,
        format: str | None = None,
        force: bool = False,
        voices: Cast | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> RenderSummary:
        """Writes the mix, as `AudioWriter` does ("-" is stdout); memory does not grow with length.

        A limiter holds the true peak at -1 dBTP; where it has work to do, the mix stays below the wished loudness.
        A mix too quiet to measure keeps its level.

        stems_folder  if given, each track goes there too, behind its fader but without the room ("01 Name.wav"), and
                      the room by itself ("room.wav"). They add up to the mix; so instead of the limiter the gain
                      gives way, and 24 bits are the default. Beside a lossy mix they are WAV.
        gain_db       a fixed gain in place of the loudness; without stems this needs no second pass
        on_progress   called with the part that is done, 0 to 1

        Raises: what the class says, and AudioError if a file exists and not `force`, or cannot be written. Then, and
        when interrupted, no file is left behind.
        """
        began = time.perf_counter()
        writer = AudioWriter(path, sample_rate, 2, format=format, subtype=subtype, force=force)
        if stems_folder is not None and subtype is None and SUBTYPES[writer.format]:
            writer = AudioWriter(path, sample_rate, 2, format=format, subtype="24", force=force)
        score = _prepared(score, sample_rate, variation, start, end, gain_db, loudness)
        cast = self._cast(score, voices)
        report = _Progress(on_progress, sample_rate * (min(end or np.inf, score.duration) - start))
        with ExitStack() as files:
            if str(path) != "-":  # so that a folder that cannot be written to is found out now, not at the end
                files.enter_context(writer)
            stems = [] if stems_folder is None else _open_stems(files, Path(stems_folder), score, writer, force)
            blocks: Iterable[np.ndarray] = self._blocks(
                score, bool(stems), sample_rate, seed, variation, start, end, cast
            )
            wished, allowed, limiter = gain_db, np.inf, None if stems else Limiter(sample_rate, CEILING_DB)
            if wished is None or stems:
                spool = files.enter_context(_Spool(path))
                levels = _measured(report(blocks, 0, FIRST_PASS), spool, _Levels(sample_rate, bool(stems)))
                wished = levels.gain_to(loudness) if wished is None else wished
                allowed, blocks = levels.headroom_db if stems else np.inf, report(spool, FIRST_PASS, 1)
            else:
                blocks = report(blocks, 0, 1)
            if str(path) == "-":
                files.enter_context(writer)
            finished = _Levels(sample_rate)  # measured again, as the limiter may have changed it
            for rows in ahead(_mastered(blocks, min(wished, allowed), limiter)):
                mix = rows.sum(axis=0)
                finished.add(mix[None])
                writer.write(mix)
                for stem, row in zip(stems, rows, strict=bool(stems)):
                    stem.write(row)
        reduction = limiter.reduction_db if limiter else 0.0
        return RenderSummary(
            writer.n_written / sample_rate,
            time.perf_counter() - began,
            score.describe(),
            finished.loudness,
            20 * float(np.log10(finished.peak)),
            float(min(wished, allowed)),
            float(reduction) + 0.0,
            tuple(Path(stem.path) for stem in stems),
            (*score.warnings, *_notices(finished.loudness, wished - allowed, reduction)),
        )

    def _cast(self, score: Score, voices: Cast | None) -> tuple[Bank, dict[int, int]]:
        """The bank with all learnt voices in it, and which of its voices plays a track, by the track's place.

        Raises: ConfigError if there is no such track; BankError if there is no such voice or it does not fit the bank.
        """
        learnt: list[LearntVoice] = []
        places = {}
        for number, wanted in (voices or {}).items():
            if not 1 <= number <= len(score.tracks):
                raise ConfigError(f"there is no track {number}; the song has tracks 1 to {len(score.tracks)}")
            voice = wanted if isinstance(wanted, LearntVoice) else find_voice(wanted)
            places[number - 1] = len(self.bank.table.kind) + len(learnt)
            learnt.append(voice)
        return self.bank.with_voices(learnt), places

    def _blocks(
        self,
        score: Score,
        with_stems: bool,
        sample_rate: int,
        seed: int,
        variation: float,
        start: float,
        end: float | None,
        cast: "tuple[Bank, dict[int, int]]",
    ) -> Iterator[np.ndarray]:
        """What comes from the mixing desk, f4[R, 2, n] a block: the stems and the room, or only their sum (R = 1).

        Raises: MiaoError at the end if nothing sounded.
        """
        bank, voices = cast
        stems = stream_stems(bank, score, sample_rate=sample_rate, seed=seed, variation=variation, voices=voices)
        blocks = ahead(_mixed(ahead(stems), score.tracks, sample_rate, with_stems))
        if end is None or end >= score.duration:
            blocks = _trimmed(blocks)
        is_silent = True
        for rows in _excerpt(blocks, sample_rate, start, end):
            is_silent = is_silent and not rows.any()
            yield rows
        if is_silent:
            raise MiaoError(f"nothing sounds {_span(start, end)}; look at volumes and programs with `miao info`")


def _prepared(
    source: Source,
    sample_rate: int,
    variation: float,
    start: float,
    end: float | None,
    gain_db: float | None,
    loudness: float = LOUDNESSES[1],
) -> Score:
    """The score, once all settings are in range."""
    for what, value, (low, high) in (
        ("sample rate", sample_rate, SAMPLE_RATES),
        ("variation", variation, (0, 1)),
        ("loudness", loudness, LOUDNESSES),
        ("gain", gain_db or 0.0, GAINS_DB),
    ):
        if not low <= value <= high:
            raise ConfigError(f"the {what} is {value:g}; it goes from {low:g} to {high:g}")
    if not 0 <= start < (LATEST_SECONDS if end is None else end) <= LATEST_SECONDS:
        raise ConfigError(f"an excerpt {_span(start, end)} is empty; it starts at 0 or later and ends after its start")
    score = source if isinstance(source, Score) else read_score(source)
    if not score.tracks:
        raise ScoreError("the score holds no notes; there is nothing to play")
    if start >= score.duration:
        raise ConfigError(f"the excerpt starts at {start:g} s, but the music ends at {score.duration:.1f} s")
    if end is not None and min(track.notes["start"][0] for track in score.tracks) >= end:
        raise ConfigError(f"no note starts before {end:g} s; nothing would be heard")
    return score


T = TypeVar("T")


def ahead(items: Iterable[T], n: int = 2) -> Iterator[T]:
    """The same items, made on a thread of their own up to ``n`` of them ahead; what goes wrong there goes wrong here.

    NumPy and the nets let other threads run while they work, so that stages behind each other share the cores.
    """
    waiting: queue.Queue = queue.Queue(n)
    is_wanted = True

    def offer(entry: tuple[bool, object]) -> None:
        while is_wanted:
            with suppress(queue.Full):
                return waiting.put(entry, timeout=0.1)

    def work() -> None:
        try:
            for item in items:
                offer((True, item))
                if not is_wanted:
                    break
            if isinstance(items, Generator):
                items.close()
            offer((False, None))
        except BaseException as error:  # KeyboardInterrupt too: whoever waits must hear of it
            offer((False, error))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            is_item, value = waiting.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        is_wanted = False
        worker.join(PATIENCE_SECONDS)  # it stops after what it is making now


def _mixed(
    blocks: Iterator[Block], tracks: tuple[Track, ...], sample_rate: int, with_stems: bool
) -> Iterator[np.ndarray]:
    """Each track behind its fader, and the room; goes on until the room is silent."""
    room = Room(sample_rate)
    sends = [_send_fader(track) for track in tracks]
    n_rows = len(tracks) + 1 if with_stems else 1
    for block in blocks:
        n = block.stems.shape[2]
        rows, sent = np.zeros((n_rows, 2, n), np.float32), np.zeros((2, n), np.float32)
        for i, (track, send, stem) in enumerate(zip(tracks, sends, block.stems, strict=True)):
            if stem.any():  # most tracks rest most of the time
                line = stem * track_gains(track.controls, block.start_sample, n, sample_rate)
                rows[i if with_stems else 0] += line
                line *= np.float32(ROOM_LEVEL) * track_gains(send, block.start_sample, n, sample_rate)
                sent += line
        rows[-1] += room.process(sent)
        yield rows
    tail = room.tail()
    yield np.concatenate([np.zeros((n_rows - 1, *tail.shape), np.float32), tail[None]])


def _trimmed(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The stream up to its last sound."""
    held: list[np.ndarray] = []
    for rows in blocks:
        loud = np.flatnonzero(np.abs(rows).max(axis=(0, 1)) > SILENCE)
        if not len(loud):
            held.append(np.broadcast_to(np.float32(0), rows.shape))  # without memory: a pause may last an hour
            continue
        yield from held
        yield rows[:, :, : loud[-1] + 1]
        held = [rows[:, :, loud[-1] + 1 :]]


def _send_fader(track: Track) -> dict[str, Curve]:
    """The reverb controller as a fader: its value is the gain, while `track_gains` squares a volume."""
    curve = track.controls["reverb"]
    return {"volume": Curve(curve.times, np.sqrt(curve.values), float(np.sqrt(curve.initial)))}


def _excerpt(blocks: Iterator[np.ndarray], sample_rate: int, start: float, end: float | None) -> Iterator[np.ndarray]:
    """The samples [start, end) of the stream, faded where it goes on beyond; what comes later is not asked for."""
    first, last = round(start * sample_rate), np.inf if end is None else round(end * sample_rate)
    fade, begin = FADE_SECONDS * sample_rate, 0
    for rows in blocks:
        stop = begin + rows.shape[2]
        if min(stop, last) > max(first, begin):
            inside = np.arange(max(first, begin), min(last, stop), dtype=np.int64)
            part = rows[:, :, inside[0] - begin : inside[-1] + 1 - begin]
            if first and inside[0] < first + fade:
                part = part * np.minimum((inside - first) / fade, 1).astype(np.float32)
            if inside[-1] > last - fade:
                part = part * np.minimum((last - inside) / fade, 1).astype(np.float32)
            yield part
        begin = stop
        if begin >= last:
            return


def _measured(blocks: Iterable[np.ndarray], kept, levels: "_Levels") -> "_Levels":
    """The first pass: keeps the blocks, in a list or a `_Spool`, and knows their levels in the end."""
    for rows in blocks:
        levels.add(rows)
        kept.append(rows)
    return levels


def _mastered(blocks: Iterable[np.ndarray], gain_db: float, limiter: Limiter | None) -> Iterator[np.ndarray]:
    """The second pass: the gain, and the limiter over the sum of the rows if there is one."""
    gain = np.float32(10 ** (gain_db / 20))
    for rows in blocks:
        yield rows * gain if limiter is None else limiter.process(rows.sum(axis=0) * gain)[None]
    if limiter is not None:
        yield limiter.finish()[None]


class _Levels:
    """How loud a mix is and how high it peaks; the mix is the sum of the rows of [R, 2, n]."""

    def __init__(self, sample_rate: int, with_true_peak: bool = False) -> None:
        self._meter = Loudness(sample_rate)
        self._peak_meter = Limiter(sample_rate, METER_DB) if with_true_peak else None
        self.peak = 0.0  # highest sample of the mix
        self._row_peak = 0.0

    def add(self, rows: np.ndarray) -> None:
        mix = rows.sum(axis=0)
        self._meter.add(mix)
        self.peak = max(self.peak, float(np.abs(mix).max(initial=0)))
        if self._peak_meter is not None:
            self._peak_meter.process(mix)
            self._row_peak = max(self._row_peak, float(np.abs(rows).max()))

    @property
    def loudness(self) -> float:
        """LUFS."""
        return self._meter.integrated()

    def gain_to(self, loudness: float) -> float:
        """dB to the wished loudness; 0 if the mix is too quiet to measure."""
        measured = self.loudness
        return loudness - measured if np.isfinite(measured) else 0.0

    @property
    def headroom_db(self) -> float:
        """The gain with which neither the mix (true peak) nor a row (samples) passes the ceiling."""
        assert self._peak_meter is not None
        self._peak_meter.finish()
        return min(CEILING_DB - METER_DB - self._peak_meter.reduction_db, CEILING_DB - 20 * np.log10(self._row_peak))


class _Spool:
    """Blocks [R, 2, n] in an unnamed temporary file, to be read again; silent rows take no room in it.

    It lies beside the output, where there is a disk made for sound: the system's temporary folder is often memory.
    """

    def __init__(self, beside: str | Path) -> None:
        target = Path(beside).resolve()
        is_stream = str(beside) == "-" or (target.exists() and not target.is_file())
        self._folder = tempfile.gettempdir() if is_stream else str(target.parent)
        self._blocks: list[tuple[tuple[int, ...], np.ndarray]] = []  # shape, which rows are there

    def __enter__(self) -> Self:
        with self._explained():
            self._file = tempfile.TemporaryFile(dir=self._folder)
        return self

    def append(self, rows: np.ndarray) -> None:
        sounding = np.flatnonzero(rows.any(axis=(1, 2)))
        self._blocks.append((rows.shape, sounding))
        with self._explained():
            for row in rows[sounding]:
                self._file.write(row.tobytes())

    def __iter__(self) -> Iterator[np.ndarray]:
        with self._explained():
            self._file.seek(0)
        for shape, sounding in self._blocks:
            rows = np.zeros(shape, np.float32)
            with self._explained():
                for i in sounding:
                    self._file.readinto(rows[i])
            yield rows

    def __exit__(self, *_) -> None:
        with suppress(OSError):  # what it could not flush is thrown away here anyway
            self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AudioError(
                f"the temporary file in {self._folder} fails: {(error.strerror or str(error)).lower()}; "
                "free some space, or give a fixed gain, which needs no such file"
            ) from error


class _Progress:
    """Tells how much is done, as blocks pass by."""

    def __init__(self, tell: Callable[[float], None] | None, n_samples: float) -> None:
        self._tell, self._n_samples = tell, max(n_samples, 1)

    def __call__(self, blocks: Iterable[np.ndarray], begin: float, end: float) -> Iterator[np.ndarray]:
        done = 0
        for rows in blocks:
            yield rows
            done += rows.shape[2]
            if self._tell is not None:
                self._tell(begin + (end - begin) * min(done / self._n_samples, 1))


def _open_stems(files: ExitStack, folder: Path, score: Score, mix: AudioWriter, force: bool) -> list[AudioWriter]:
    """A writer for each track and one for the room, entered into `files`; a folder that stays empty is removed."""
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise AudioError(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from error
        files.callback(_remove_if_empty, folder)
    format, subtype = (mix.format, mix.subtype) if SUBTYPES[mix.format] else ("wav", "24")
    names = [f"{number:02} {_file_name(track)}" for number, track in enumerate(score.describe(), start=1)]
    return [
        files.enter_context(AudioWriter(folder / f"{name}.{format}", mix.sample_rate, 2, None, subtype, force))
        for name in (*names, "room")
    ]


def _file_name(track: TrackSummary) -> str:
    """The track's name, or its instrument, without what some file system would not take."""
    name = UNSAFE_IN_NAMES.sub("_", track.name.strip() or ", ".join(track.programs))
    return name[:LONGEST_NAME].strip(" .") or "track"


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _notices(loudness: float, held_back_db: float, reduction_db: float) -> Iterator[str]:
    if not np.isfinite(loudness):
        yield "the mix is too quiet for its loudness to be measured"
    if held_back_db > 0.05:
        yield (
            f"the mix is {held_back_db:.1f} dB below what was asked for, so that it has no peaks above "
            f"{CEILING_DB:g} dBTP and the stems still add up to it"
        )
    if reduction_db > MUCH_LIMITING_DB:
        yield f"the limiter takes up to {reduction_db:.1f} dB from the loudest moments; a lower loudness keeps them"


def _span(start: float, end: float | None) -> str:
    if end is None:
        return f"from {start:g} s on" if start else "from beginning to end"
    return f"from {start:g} to {end:g} s"
