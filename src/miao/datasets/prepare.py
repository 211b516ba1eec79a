"""Recordings into pairs: aligned, cut into windows, measured, written as shards; with a report of what was left out.

Each recording becomes one shard, ``SPLIT/pairs-NNNNNN.tar``, with the windows of all of its parts: 5.12 s each, one
after the other, so that no sound is there twice and each note is measured once, in the window that it starts in. A part
is brought to the same loudness in all recordings (its loudest tenth to -20 dB RMS); what a fader did is not learnt.

``done/NNNNNN.json`` says what became of a recording, ``done/NNNNNN.npz`` where the partials of its voices lie. They are
written last, so a recording without them is made anew; with them, it is left alone. ``voices.safetensors`` and
``report.json`` are put together from them at the end.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from miao.arrays import Floats, Records
from miao.bank.frames import WINDOW_SECONDS
from miao.bank.tokens import NoteTokens
from miao.datasets.pairs import PAIR_NOTE, Pair, pair_notes, window_mel, write_shard
from miao.datasets.recordings import SPLITS, Part, Recording
from miao.errors import DataError, MiaoError
from miao.files import Json, make_folder, write_json
from miao.measuring.align import CONFIDENT, Alignment, align
from miao.measuring.part_voices import Fits, joined_fits, load_fits, save_fits, table_of
from miao.measuring.polyphony import FEWEST_SURE, MeasuredPart, measure_notes
from miao.midi.score import Score
from miao.sound.audio import Audio, resample
from miao.sound.spectrum import SAMPLE_RATE

BACKENDS = ("loky", "dask", "ray")
LOUD_DB = -20.0  # RMS of the loudest tenth of a part
SILENT = 1e-4  # peak
MOST_MISSING = 0.05  # share of a part's notes that may start after the sound's end
LONGEST_REST = 60.0  # seconds that a sound may go on after the last note
FARTHEST_SECONDS = 0.1  # of a part from its recording
CROOKED_SECONDS = 0.06  # residual of an alignment
SHORTEST_PIECE = 0.5  # of a window that the sound must fill


@dataclass(frozen=True)
class PartReport:
    """What became of a part."""

    name: str
    minutes: float = 0.0
    n_notes: int = 0
    n_measured: int = 0
    n_windows: int = 0
    offset_seconds: float = 0.0
    drift: float = 0.0
    tuning_cents: float = 0.0
    confidence: float = 0.0
    residual_seconds: float = 0.0
    gain_db: float = 0.0
    rejected: str = ""  # why; empty if it was taken

    def line(self) -> str:
        """The report in words."""
        if self.rejected:
            return f"left out: {self.rejected}"
        return (
            f"{self.minutes:.1f} min, {self.n_measured:,} of {self.n_notes:,} notes measured, offset "
            f"{1000 * self.offset_seconds:+.0f} ms, drift {1e6 * self.drift:+.0f} ppm, tuning "
            f"{self.tuning_cents:+.0f} cents, confidence {self.confidence:.2f}"
        )


@dataclass(frozen=True)
class RecordingReport:
    """What became of a recording."""

    name: str  # data set/recording
    split: str
    shard: str  # relative to the folder; empty if nothing was written
    with_tokens: bool
    parts: list[PartReport] = field(default_factory=list)
    rejected: str = ""  # why all of it was

    def lines(self) -> list[str]:
        """The report in words, a line a part."""
        if self.rejected:
            return [f"{self.name}: left out: {self.rejected}"]
        return [f"{self.name}/{part.name}: {part.line()}" for part in self.parts]

    @staticmethod
    def load(path: Path) -> "RecordingReport":
        """Read one back."""
        values = json.loads(path.read_text())
        return RecordingReport(**values | {"parts": [PartReport(**part) for part in values["parts"]]})


def prepare(recordings: Iterable[Recording], folder: Path, *, with_tokens: bool = True, n_jobs: int = 1,
            backend: str = "loky") -> Iterator[RecordingReport]:  # fmt: skip
    """Make pairs of recordings into a folder; yields a report of each, in any order.

    ``with_tokens`` False leaves notes unmeasured, which is much faster. Recordings that are done are not done again.
    ``backend`` is joblib's: processes of this machine, or of a Dask or Ray cluster that has been connected to.
    Raises: DataError if there is nothing to prepare, or the backend's library is missing.
    """
    from joblib import Parallel, delayed, parallel_config

    listed = sorted(recordings, key=lambda r: (r.dataset, r.name))
    if not listed:
        raise DataError("there are no recordings to prepare")
    known = {report.name: int(path.stem) for path, report in _done(folder)}
    free = (n for n in range(10**6) if n not in set(known.values()))
    jobs = []
    for recording in listed:
        name = f"{recording.dataset}/{recording.name}"
        number = known[name] if name in known else next(free)
        path = folder / "done" / f"{number:06d}.json"
        if path.exists() and (report := RecordingReport.load(path)).with_tokens == with_tokens:
            yield report
        else:
            jobs.append((recording, number, folder, with_tokens))
    _connect(backend)
    with parallel_config(backend=backend):
        yield from Parallel(n_jobs, return_as="generator_unordered")(delayed(prepare_recording)(*job) for job in jobs)


def _connect(backend: str) -> None:
    """Have joblib know a backend. Raises: DataError if its library is not installed."""
    if backend not in BACKENDS:
        raise DataError(f"{backend}: not a backend; there are {', '.join(BACKENDS)}")
    try:
        if backend == "dask":
            from dask.distributed import Client, default_client

            try:
                default_client()
            except ValueError:
                Client()  # processes of this machine, unless DASK_SCHEDULER_ADDRESS names a cluster
        elif backend == "ray":
            from ray.util.joblib import register_ray

            register_ray()
    except ImportError as error:
        package = {"dask": "dask[distributed]", "ray": "ray"}[backend]
        raise DataError(f"the backend {backend} needs a library ({error}); pip install '{package}'") from None


def finish(folder: Path) -> Json:
    """Write voices.safetensors and report.json of all that is done in a folder; the report.

    Raises: DataError if nothing is.
    """
    done = sorted(_done(folder), key=lambda item: item[1].name)
    if not done:
        raise DataError(f"{folder}: nothing has been prepared in it")
    fits = [fit for path, _ in done if (fit := path.with_suffix(".npz")).exists()]
    if fits:
        table_of(joined_fits([load_fits(path) for path in fits])).save(folder / "voices.safetensors")
    taken = [part for _, report in done for part in report.parts if not part.rejected]
    rejected = [{"name": report.name, "why": report.rejected} for _, report in done if report.rejected]
    rejected += [{"name": f"{report.name}/{part.name}", "why": part.rejected} for _, report in done
                 for part in report.parts if part.rejected]  # fmt: skip
    summary = {
        "recordings": {split: sum(r.split == split and bool(r.shard) for _, r in done) for split in SPLITS},
        "minutes": round(sum(part.minutes for part in taken), 2),
        "windows": sum(part.n_windows for part in taken),
        "notes": sum(part.n_notes for part in taken),
        "measured": sum(part.n_measured for part in taken),
        "rejected": rejected,
        "details": [asdict(report) for _, report in done],
    }
    write_json(folder / "report.json", summary, DataError)
    return summary


def _done(folder: Path) -> list[tuple[Path, RecordingReport]]:
    return [(path, RecordingReport.load(path)) for path in sorted((folder / "done").glob("??????.json"))]


# one recording


def prepare_recording(recording: Recording, number: int, folder: Path, with_tokens: bool) -> RecordingReport:
    """Align, measure and write one recording; what is wrong with it is in the report."""
    shard = f"{recording.split}/pairs-{number:06d}.tar"
    base = f"{recording.dataset}/{recording.name}"
    reports: list[PartReport] = []
    pairs: list[Pair] = []
    found: list[Fits] = []
    why = ""
    try:
        score = recording.read_score()
        parts = recording.stems or ((recording.mix,) if recording.mix else ())
        if not parts:
            raise DataError("has no sound")
        whole = _whole(recording, score)
        for part in parts:
            report, made, fits = _prepare_part(part, score, whole, base, with_tokens)
            reports.append(report)
            pairs += made
            found.append(fits)
    except MiaoError as error:
        why, pairs, found = str(error), [], []
    make_folder(folder / "done", DataError)
    n = write_shard(folder / shard, pairs) if pairs else 0
    path = folder / "done" / f"{number:06d}.json"
    path.with_suffix(".npz").unlink(missing_ok=True)
    if any(found):
        save_fits(path.with_suffix(".npz"), joined_fits(found))
    done = RecordingReport(base, recording.split, shard if n else "", with_tokens, reports, why)
    write_json(path, asdict(done), DataError)
    return done


def _whole(recording: Recording, score: Score) -> Alignment | None:
    """Where the score lies in the mix; None if there is none beside the stems."""
    if not recording.stems or recording.mix is None:
        return None
    samples, rate = recording.mix.load()
    return align(samples, rate, part_notes(score, recording.mix.tracks))


def part_notes(score: Score, tracks: Iterable[int]) -> Records:
    """The notes of some of a score's tracks, sorted by start: PAIR_NOTE [n] in seconds.

    Raises: DataError for a track that is not there.
    """
    wrong = [n for n in tracks if not 0 <= n < len(score.tracks)]
    if wrong:
        raise DataError(f"sound of track {wrong[0] + 1} is named, but the score has {len(score.tracks)} tracks")
    notes = np.concatenate([np.zeros(0, PAIR_NOTE)] + [pair_notes(score.tracks[n].notes) for n in tracks])
    return notes[np.lexsort((notes["pitch"], notes["start"]))]


def _prepare_part(part: Part, score: Score, whole: Alignment | None, base: str,
                  with_tokens: bool) -> tuple[PartReport, list[Pair], Fits]:  # fmt: skip
    try:
        samples, rate = part.load()
        notes = part_notes(score, part.tracks)
        seconds = samples.shape[1] / rate
        why = _unfit(samples, seconds, notes)
        if why:
            return PartReport(part.name, seconds / 60, len(notes), rejected=why), [], {}
        place, why = _placed(samples, rate, notes, whole)
    except MiaoError as error:
        return PartReport(part.name, rejected=str(error)), [], {}
    known = {"name": part.name, "minutes": seconds / 60, "n_notes": len(notes), "offset_seconds": place.offset_seconds,
             "drift": place.drift, "tuning_cents": place.tuning_cents, "confidence": place.confidence,
             "residual_seconds": place.residual_seconds}  # fmt: skip
    if why:
        return PartReport(**known, rejected=why), [], {}
    gain = 10 ** (LOUD_DB / 20) / loudness(samples, rate)
    sound = resample(Audio(samples[:2] * np.float32(gain), rate), SAMPLE_RATE).samples
    notes = place.moved(notes)
    measured = MeasuredPart({}, np.zeros(len(notes)), {})
    if with_tokens:
        measured = measure_notes(sound, SAMPLE_RATE, notes, tuning_cents=place.tuning_cents)
    kept = {n: t for n, t in measured.tokens.items() if measured.sure[n] >= FEWEST_SURE}
    pairs = list(windows(sound, notes, kept, f"{base}/{part.name}"))
    report = PartReport(**known, n_measured=sum(len(p.tokens) for p in pairs), n_windows=len(pairs),
                        gain_db=float(20 * np.log10(gain)))  # fmt: skip
    return report, pairs, measured.fits


def _unfit(samples: Floats, seconds: float, notes: Records) -> str:
    """Why a part cannot be used, whatever the alignment; empty if it may."""
    if not len(notes):
        return "its tracks hold no notes"
    if not samples.size or float(np.abs(samples).max()) < SILENT:
        return "the sound is silent"
    missing = float((notes["start"] > seconds + 1).mean())
    if missing > MOST_MISSING:
        return f"the sound ends after {seconds:.1f} s, the notes after {notes['damp'].max():.1f} s"
    if seconds > notes["damp"].max() + LONGEST_REST:
        return f"the notes end after {notes['damp'].max():.1f} s, the sound after {seconds:.1f} s"
    return ""


def _placed(samples: Floats, rate: int, notes: Records, whole: Alignment | None) -> tuple[Alignment, str]:
    """Where a part lies, by itself, or with its recording if it says too little; and why it cannot be trusted."""
    own = align(samples, rate, notes)
    if own.confidence < CONFIDENT or (whole and abs(float(own.at(0.0) - whole.at(0.0))) > FARTHEST_SECONDS):
        if whole is None or whole.confidence < CONFIDENT:
            return own, f"the notes do not seem to be those of the sound (confidence {own.confidence:.2f})"
        own = Alignment(whole.offset_seconds, whole.drift, own.tuning_cents, whole.confidence,
                        whole.residual_seconds, whole.knots)  # fmt: skip
    if own.residual_seconds > CROOKED_SECONDS:
        return own, f"the notes follow the sound only within {1000 * own.residual_seconds:.0f} ms"
    return own, ""


def loudness(samples: Floats, rate: int) -> float:
    """RMS of the loudest tenth of a sound, by pieces of 0.1 s, mean of the channels."""
    n = max(round(0.1 * rate), 1)
    whole = samples[:, : max(samples.shape[1] // n, 1) * n]
    power = np.square(whole, dtype=np.float64).mean(axis=0)
    means = power[: len(power) // n * n].reshape(-1, n).mean(axis=1) if len(power) >= n else power.mean(keepdims=True)
    loudest = np.sort(means)[-max(len(means) // 10, 1) :]
    return float(np.sqrt(loudest.mean())) + 1e-9


def windows(sound: Floats, notes: Records, tokens: Mapping[int, NoteTokens], name: str) -> Iterator[Pair]:
    """The windows of a part in which a note starts, one after the other. Shape: sound [channels, S] at 44.1 kHz."""
    seconds = sound.shape[1] / SAMPLE_RATE
    n_windows = int(seconds / WINDOW_SECONDS + 1 - SHORTEST_PIECE)
    for number in range(max(n_windows, 1)):
        begin, end = number * WINDOW_SECONDS, (number + 1) * WINDOW_SECONDS
        is_in = (notes["start"] < min(end, seconds)) & (notes["damp"] > begin)
        is_new = is_in & (notes["start"] >= begin)
        if not is_new.any():
            continue
        inside = np.flatnonzero(is_in)
        some = notes[inside].copy()
        for field_ in ("start", "end", "damp"):
            some[field_] -= begin
        first = round(begin * SAMPLE_RATE)
        mel = window_mel(sound[:, first : round(end * SAMPLE_RATE)])
        own = {i: tokens[n] for i, n in enumerate(inside.tolist()) if n in tokens and is_new[n]}
        yield Pair(f"{name}@{begin:.2f}", some, mel, own)
