"""Many songs at once: which file each becomes, workers that render them, and a journal by which a second call goes on.

One song that fails stops none of the others, nor does a worker that is killed: its song is told as failed. A file gets
its name only once it is whole, so that what is there under a name that the journal knows is done; it is not done again
unless its song, the settings or the bank have changed. A full disk stops the whole, since all others would fail too.
"""

import errno
import hashlib
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from miao.errors import ConfigError, MiaoError, needs
from miao.files import drafts_of, make_folder, reason
from miao.memory import give_back_memory
from miao.synth.journal import Job, Journal, Wishes, shown

if TYPE_CHECKING:
    from miao.synth.synthesizer import Synthesizer

SUFFIXES = (".mid", ".midi", ".kar", ".smf", ".rmi")
LEFT_BEHIND_SECONDS = 600.0  # untouched for so long, a half-written file is that of a process that is gone
PATIENCE_SECONDS = 5.0  # with a worker that is to stop

State = Literal["rendered", "there", "failed", "not begun"]


@dataclass(frozen=True)
class Outcome:
    """What became of a song."""

    job: Job
    state: State
    message: str = ""  # why it failed
    seconds: float = 0.0  # of sound
    wall_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    is_disk_full: bool = False


def plan(sources: Iterable[str | Path], output: str | Path, format: str = "wav") -> list[Job]:
    """The songs, in folders at any depth too, and their files below ``output``; folders keep their shape.

    Songs that would become the same file get a few letters made of their whole path, always the same ones.
    Raises: ConfigError if a source is not there or a folder holds no song.

    >>> [job.target.name for job in plan(["song.mid"], "rendered", "flac")]
    ['song.flac']
    """
    found: dict[Path, Path] = {}  # by real path, the place below the output
    for source in map(Path, sources):
        if source.is_dir():
            songs = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not songs:
                raise ConfigError(f"{shown(source)}: there is no MIDI file in this folder ({', '.join(SUFFIXES)})")
            for song in songs:
                found.setdefault(song.resolve(), song.relative_to(source))
        elif source.exists():
            found.setdefault(source.resolve(), Path(source.name))
        else:
            raise ConfigError(f"{shown(source)}: there is no such file or folder")
    names = {song: place.with_name(f"{place.stem}.{format}") for song, place in found.items()}
    often = Counter(_folded(name) for name in names.values())
    jobs = []
    for song, name in names.items():
        if often[_folded(name)] > 1:
            letters = hashlib.sha256(os.fsencode(song)).hexdigest()[:8]
            name = name.with_name(f"{name.stem} {letters}.{format}")
        jobs.append(Job(song, Path(output) / name))
    return jobs


def render_many(
    jobs: Sequence[Job], output: str | Path, wishes: Wishes, n_jobs: int = 1, engine: str = "processes",
    scheduler: str | None = None,
) -> Iterator[Outcome]:  # fmt: skip
    """Renders songs, ``n_jobs`` at a time, and tells what became of each as soon as it is known.

    engine     "processes" of this machine, or "dask": the workers of a Dask cluster, which must see the same files
    scheduler  the cluster's address; None starts one on this machine

    Raises: ConfigError if somebody else is rendering into ``output``, or Dask is not installed.

    >>> wishes = Wishes(settings={"end": 0.5})
    >>> for outcome in render_many(plan(["song.mid"], "rendered"), "rendered", wishes):
    ...     print(outcome.state, outcome.job.target)
    rendered rendered/song.wav
    """
    output = Path(output)
    make_folder(output, ConfigError)
    with Journal(output) as journal:
        waiting = []
        for job in jobs:
            try:
                state = journal.state(job, wishes)
            except OSError as error:
                yield Outcome(job, "failed", f"cannot be read: {reason(error)}")
                continue
            if state == "free" or (wishes.force and state == "foreign"):
                waiting.append(job)
            elif state == "done":
                yield Outcome(job, "there")
            else:
                yield Outcome(job, "failed", f"{shown(job.target)} exists; force=True overwrites it")
        folders = {job.target.parent for job in waiting}
        for folder in folders:
            make_folder(folder, ConfigError)
            _sweep(folder)
        run = _by_dask if engine == "dask" else _by_processes
        outcomes = run(waiting, wishes, n_jobs, journal, scheduler)
        is_told = set()
        for outcome in outcomes:
            is_told.add(outcome.job)
            yield outcome
        for job in waiting:
            if job not in is_told:
                yield Outcome(job, "not begun")


def _by_processes(
    jobs: Sequence[Job], wishes: Wishes, n_jobs: int, journal: Journal, scheduler: str | None
) -> Iterator[Outcome]:
    """On processes of this machine; when all others are done, a worker ends."""
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(jobs))
    dismissed: list[Any] = []
    workers: dict[Connection, tuple[Any, Job]] = {}

    def begin(connection: Connection, process: Any) -> None:
        job = waiting.pop()
        journal.begin(job, wishes)
        workers[connection] = (process, job)
        with suppress(BrokenPipeError):  # it has died: that is heard of below
            connection.send(job)

    def hire() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, wishes), daemon=True)
        process.start()
        theirs.close()
        begin(ours, process)

    try:
        while waiting and len(workers) < max(n_jobs, 1):
            hire()
        while workers:
            for connection in wait(list(workers)):
                assert isinstance(connection, Connection)
                process, job = workers.pop(connection)
                try:
                    outcome = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    connection.close()
                    for left in drafts_of(job.target.parent, process.pid):
                        with suppress(OSError):
                            left.unlink()
                    yield Outcome(job, "failed", f"the worker that rendered it ended ({_cause(process.exitcode)})")
                    if waiting:
                        hire()
                    continue
                if outcome.is_disk_full:
                    waiting.clear()
                if waiting:
                    begin(connection, process)
                else:
                    connection.close()
                    dismissed.append(process)
                yield outcome
    finally:
        for process, _ in workers.values():
            process.terminate()
        for connection, (process, _) in workers.items():
            process.join(PATIENCE_SECONDS)
            if process.is_alive():
                process.kill()
            connection.close()
        for process in dismissed:
            process.join(PATIENCE_SECONDS)


def _serve(connection: Connection, wishes: Wishes) -> None:
    """A worker: a song in, an outcome out, until nobody is at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process ends the others
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that half-written files go
    logging.getLogger("miao").setLevel(logging.ERROR)  # warnings are in the outcome
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return
        with suppress(BrokenPipeError):
            connection.send(render_job(job, wishes))


def _by_dask(
    jobs: Sequence[Job], wishes: Wishes, n_jobs: int, journal: Journal, scheduler: str | None
) -> Iterator[Outcome]:
    """On the workers of a Dask cluster, by joblib."""
    needs("dask")
    import joblib
    from dask.distributed import Client, KilledWorker

    started = {} if scheduler else {"n_workers": max(n_jobs, 1), "threads_per_worker": 1, "dashboard_address": None}
    try:
        client = Client(scheduler, **started)
    except OSError as error:
        raise ConfigError(f"Dask scheduler {scheduler}: {reason(error)}") from error

    def begun() -> Iterator[Any]:
        for job in jobs:
            journal.begin(job, wishes)
            yield joblib.delayed(render_job)(job, wishes)

    with client, joblib.parallel_config(backend="dask"):
        try:
            yield from joblib.Parallel(return_as="generator_unordered", pre_dispatch="all")(begun())
        except KilledWorker as error:
            logging.getLogger(__name__).error("workers of the cluster were killed (%s); call again to go on", error)


def render_job(job: Job, wishes: Wishes) -> Outcome:
    """One song. Whatever goes wrong is in the outcome."""
    from miao.expression import expressed
    from miao.midi.score import read_score

    began = time.perf_counter()
    try:
        score = expressed(read_score(job.source), **wishes.expression)
        for number in wishes.tracks:
            if number > len(score.tracks):
                raise ConfigError(f"there is no track {number}; the song has tracks 1 to {len(score.tracks)}")
        if wishes.tracks:
            score = score.select([number - 1 for number in wishes.tracks])
        # whether the target may be overwritten has been decided when the job was begun
        summary = _synthesizer(wishes.bank).render_file(score, job.target, force=True, **wishes.settings)
        wall_seconds = time.perf_counter() - began
    except MiaoError as error:
        return Outcome(job, "failed", str(error), is_disk_full=_is_disk_full(error))
    except Exception as error:  # a fault of ours must not stop the others either
        return Outcome(job, "failed", f"a fault of miao's: {type(error).__name__}: {error}")
    finally:
        give_back_memory()  # or a worker holds half a gigabyte after some hundred songs
    return Outcome(job, "rendered", "", summary.seconds, wall_seconds, tuple(summary.warnings))


@lru_cache(maxsize=1)
def _synthesizer(bank: str) -> "Synthesizer":
    from miao.synth.synthesizer import Synthesizer

    return Synthesizer.from_pretrained(bank)


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _folded(name: Path) -> str:
    return str(name).casefold()  # some file systems take two names for one


def _sweep(folder: Path) -> None:
    """Removes what processes that are gone have half written."""
    for left in drafts_of(folder):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_BEHIND_SECONDS:
                left.unlink()
