"""From a score to finished sound: the one door for the command, Python and the page."""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice, find_voice
from miao.errors import AudioError, ConfigError, ScoreError
from miao.midi.score import Score, TrackSummary, read_score
from miao.sound.audio import Audio
from miao.sound.desk import highest
from miao.sound.limiter import Limiter
from miao.sound.writer import SUBTYPES, AudioWriter
from miao.synth.mastering import CEILING_DB, Levels, Spool, mastered, measured, mix_of
from miao.synth.rendering import ahead, rows_of, stem_places
from miao.synth.settings import PlaySettings

STREAM_GAIN_DB = 14.0  # from the mixing desk, as nothing is known of the song yet; most want 13 to 24 dB for -16 LUFS
FIRST_PASS = 0.9  # of the time that a rendering takes; for progress bars
MUCH_LIMITING_DB = 6.0  # from here on it is heard
LONGEST_NAME = 60
UNSAFE_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')

Source = Score | str | Path | bytes | BinaryIO


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

    Common to its methods: a score is a Score, or what `read_score` reads (a path, the bytes, an open file); settings
    are a `PlaySettings`, or its fields as keywords, or both.

    Raises: ScoreError if the score cannot be read or no note lies before `end`; ConfigError for a setting out of range;
    MiaoError if the rendering is silent throughout.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    @classmethod
    def from_pretrained(cls, name: str | Path = "gm", programs: Collection[int] | None = None) -> Self:
        """The bank of that name, or in that folder; where it is known which programs (0 to 127) will be asked for, it
        is loaded a little sooner. Raises: BankError if there is none."""
        return cls(Bank.load(name, programs=programs))

    def stream(self, score: Source, settings: PlaySettings | None = None, **changes: Any) -> Iterator[np.ndarray]:
        """The mix block by block, f4[2, n], as soon as it is known: with a fixed gain and the limiter at -1 dBTP."""
        score, settings = _prepared(score, settings, changes)
        bank, voices = self.cast(score, settings)
        gain_db = STREAM_GAIN_DB if settings.gain_db is None else settings.gain_db
        rows = rows_of(bank, score, settings, voices, with_stems=False)
        return (row[0] for row in mastered(rows, gain_db, Limiter(settings.sample_rate, CEILING_DB)))

    def render(self, score: Source, settings: PlaySettings | None = None, **changes: Any) -> Audio:
        """The whole mix in memory: at the wished loudness, or with a fixed gain as `stream` gives it."""
        score, settings = _prepared(score, settings, changes)
        bank, voices = self.cast(score, settings)
        rows: Iterable[np.ndarray] = rows_of(bank, score, settings, voices, with_stems=False)
        gain_db = settings.gain_db
        if gain_db is None:
            kept: list[np.ndarray] = []
            gain_db = measured(rows, kept, Levels(settings.sample_rate)).gain_to(settings.loudness)
            rows = kept
        finished = mastered(rows, gain_db, Limiter(settings.sample_rate, CEILING_DB))
        return Audio(np.concatenate([row[0] for row in finished], axis=1), settings.sample_rate)

    def render_file(
        self,
        score: Source,
        path: str | Path,
        settings: PlaySettings | None = None,
        *,
        stems_folder: str | Path | None = None,
        subtype: str | None = None,
        format: str | None = None,
        force: bool = False,
        on_progress: Callable[[float], None] | None = None,
        **changes: Any,
    ) -> RenderSummary:
        """Writes the mix, as `AudioWriter` does ("-" is stdout); memory does not grow with length.

        A limiter holds the true peak at -1 dBTP; where it has work to do, the mix stays below the wished loudness.
        A mix too quiet to measure keeps its level. With a fixed gain and no stems there is no second pass.

        stems_folder  if given, each track goes there too, behind its fader but without the room ("01 Name.wav"), and
                      the room by itself ("room.wav"). They add up to the mix; so instead of the limiter the gain
                      gives way, and 24 bits are the default. Beside a lossy mix they are WAV.
        on_progress   called with the part that is done, 0 to 1

        Raises: what the class says, and AudioError if a file exists and not `force`, or cannot be written. Then, and
        when interrupted, no file is left behind.
        """
        began = time.perf_counter()
        settings = _changed(settings, changes)
        rate, to_stdout = settings.sample_rate, str(path) == "-"
        writer = AudioWriter(path, rate, 2, format=format, subtype=subtype, force=force)
        if stems_folder is not None and subtype is None and SUBTYPES[writer.format]:
            writer = AudioWriter(path, rate, 2, format=format, subtype="24", force=force)
        score, settings = _prepared(score, settings, {})
        bank, voices = self.cast(score, settings)
        report = _Progress(on_progress, rate * (min(settings.end or np.inf, score.duration) - settings.start))
        with ExitStack() as files:
            if not to_stdout:  # so that a folder that cannot be written to is found out now, not at the end
                files.enter_context(writer)
            stems = [] if stems_folder is None else _open_stems(files, Path(stems_folder), score, writer, force)
            rows: Iterable[np.ndarray] = rows_of(bank, score, settings, voices, bool(stems))
            wished, allowed, limiter = settings.gain_db, np.inf, None if stems else Limiter(rate, CEILING_DB)
            if wished is None or stems:
                spool = files.enter_context(Spool(path))
                levels = measured(report(rows, 0, FIRST_PASS), spool, Levels(rate, bool(stems)))
                wished = levels.gain_to(settings.loudness) if wished is None else wished
                allowed, rows = levels.headroom_db if stems else np.inf, report(spool, FIRST_PASS, 1)
            else:
                rows = report(rows, 0, 1)
            if to_stdout:
                files.enter_context(writer)
            finished, peak = Levels(rate), 0.0  # measured again, as the limiter may have changed it
            for block in ahead(mastered(rows, min(wished, allowed), limiter)):
                mix = mix_of(block)
                finished.add(mix[None])
                peak = max(peak, highest(mix))
                writer.write(mix)
                for stem, row in zip(stems, block, strict=bool(stems)):
                    stem.write(row)
        reduction = limiter.reduction_db if limiter else 0.0
        return RenderSummary(
            writer.n_written / rate,
            time.perf_counter() - began,
            score.describe(),
            finished.loudness,
            20 * float(np.log10(peak)),
            float(min(wished, allowed)),
            float(reduction) + 0.0,
            tuple(Path(stem.path) for stem in stems),
            (*score.warnings, *_notices(finished.loudness, wished - allowed, reduction)),
        )

    def cast(self, score: Score, settings: PlaySettings) -> tuple[Bank, dict[int, int]]:
        """The bank with all learnt voices in it, and which of its voices plays a track, by the track's place.

        Raises: ConfigError if there is no such track; BankError if there is no such voice or it does not fit the bank.
        """
        learnt: list[LearntVoice] = []
        places = {}
        for number, wanted in (settings.voices or {}).items():
            if not 1 <= number <= len(score.tracks):
                raise ConfigError(f"there is no track {number}; the song has tracks 1 to {len(score.tracks)}")
            voice = wanted if isinstance(wanted, LearntVoice) else find_voice(wanted)
            places[number - 1] = len(self.bank.table.kind) + len(learnt)
            learnt.append(voice)
        return self.bank.with_voices(learnt), places


def _prepared(source: Source, settings: PlaySettings | None, changes: dict[str, Any]) -> tuple[Score, PlaySettings]:
    """The score and the settings, once they fit each other."""
    settings = _changed(settings, changes)
    score = source if isinstance(source, Score) else read_score(source)
    start, end = settings.start, settings.end
    if not score.tracks:
        raise ScoreError("the score holds no notes; there is nothing to play")
    if start >= score.duration:
        raise ConfigError(f"the excerpt starts at {start:g} s, but the music ends at {score.duration:.1f} s")
    if end is not None and min(track.notes["start"][0] for track in score.tracks) >= end:
        raise ConfigError(f"no note starts before {end:g} s; nothing would be heard")
    return score, settings


def _changed(settings: PlaySettings | None, changes: dict[str, Any]) -> PlaySettings:
    if not isinstance(settings, PlaySettings | None):
        raise ConfigError(f"the settings are of type {type(settings).__name__}; say `PlaySettings`, or keywords")
    return replace(settings or PlaySettings(), **changes)


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
    """Writers for each stem and for room and chorus, entered into `files`; a folder that stays empty is removed."""
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise AudioError(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from error
        files.callback(_remove_if_empty, folder)
    format, subtype = (mix.format, mix.subtype) if SUBTYPES[mix.format] else ("wav", "24")
    first = {place: track for place, track in reversed(list(zip(stem_places(score), score.describe(), strict=True)))}
    names = [f"{place + 1:02} {_file_name(track)}" for place, track in sorted(first.items())]
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
