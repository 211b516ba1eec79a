"""Work that takes a while: so many at a time, in turn, with a share that is done, and gone when nobody wants it."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

from miao.errors import MiaoError
from miao.web.guard import Refusal
from miao.web.limits import Limits

_log = logging.getLogger(__name__)


class Cancelled(MiaoError):
    """Nobody wants the work any more, or it took too long."""


@dataclass(eq=False)
class Job:
    """A piece of work: what it is, how far it is, what came of it."""

    key: str  # nobody guesses it
    owner: str
    kind: str
    folder: Path  # its own, gone with it
    most_seconds: float
    state: str = "waiting"  # then running; done, failed or cancelled in the end
    done: float = 0.0  # 0 to 1
    what: str = ""  # it is at
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)  # for the page
    files: dict[str, Path] = field(default_factory=dict)  # by the names they are fetched by
    kept: Any = None  # what a later request builds on
    began: float = field(default_factory=time.monotonic)
    is_wanted: bool = True

    def tell(self, done: float, what: str = "") -> None:
        """So much is done. Raises: Cancelled if it is to stop."""
        if not self.is_wanted:
            raise Cancelled("the work was cancelled")
        if time.monotonic() - self.began > self.most_seconds:
            raise Cancelled(f"this takes longer than {self.most_seconds / 60:g} minutes, the most that is allowed")
        self.done = min(max(float(done), 0.0), 1.0)
        self.what = what or self.what

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "failed", "cancelled")

    def about(self) -> dict[str, Any]:
        """What the page is told."""
        return {"job": self.key, "kind": self.kind, "state": self.state, "done": round(self.done, 3), "what": self.what,
                "error": self.error, "result": self.result, "files": list(self.files)}  # fmt: skip


class Jobs:
    """All work of a server; use it in a `with`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Jobs":
        self._place = TemporaryDirectory(prefix="miao-", ignore_cleanup_errors=True)
        self._pool = ThreadPoolExecutor(self._limits.running_jobs, "miao job")
        return self

    def __exit__(self, *_: object) -> None:
        for job in list(self._jobs.values()):
            job.is_wanted = False
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._place.cleanup()

    def add(self, owner: str, kind: str, work: Callable[[Job], None]) -> Job:
        """Work to be done in its turn. Raises: Refusal if there is too much already."""
        with self._lock:
            active = [job for job in self._jobs.values() if not job.is_over]
            if len(active) >= self._limits.running_jobs + self._limits.waiting_jobs:
                raise Refusal("the server is busy; try again in a while", 503)
            if sum(job.owner == owner for job in active) >= self._limits.jobs:
                raise Refusal(f"{self._limits.jobs} pieces of work at a time; wait for one, or cancel it", 429)
            key = secrets.token_urlsafe(16)
            folder = Path(self._place.name) / key
            folder.mkdir()
            job = Job(key, owner, kind, folder, self._limits.job_seconds)
            self._jobs[key] = job
        self._pool.submit(self._run, job, work)
        return job

    def get(self, key: str) -> Job:
        """A job by its key. Raises: Refusal."""
        job = self._jobs.get(key)
        if job is None:
            raise Refusal("there is no such work any more", 404)
        return job

    def cancel(self, job: Job) -> None:
        """Nobody wants it, nor what came of it."""
        job.is_wanted = False
        self._jobs.pop(job.key, None)
        if job.state == "waiting" or job.is_over:
            job.state = "cancelled"
            rmtree(job.folder, ignore_errors=True)

    def forget(self, owner: str) -> None:
        """A client is gone: so is all that was done for it."""
        for job in [job for job in self._jobs.values() if job.owner == owner]:
            self.cancel(job)

    def sweep(self) -> None:
        """Forgets what is over and was not fetched, of clients without a page."""
        before = time.monotonic() - self._limits.idle_seconds
        for job in [job for job in self._jobs.values() if job.is_over and not job.owner and job.began < before]:
            self.cancel(job)

    @property
    def n_active(self) -> int:
        """How many wait or run."""
        return sum(not job.is_over for job in list(self._jobs.values()))

    def _run(self, job: Job, work: Callable[[Job], None]) -> None:
        if not job.is_wanted:
            job.state = "cancelled"
            return
        job.state, job.began = "running", time.monotonic()
        try:
            work(job)
            job.tell(1.0)
            job.state = "done"
        except Cancelled as error:
            job.state, job.error = "cancelled", str(error)
        except MiaoError as error:
            job.state, job.error = "failed", str(error)
        except Exception as error:  # told in one line, and the log has the rest
            _log.exception("%s", job.kind, exc_info=error)
            job.state, job.error = "failed", "the server made a mistake; its log says which"
        if not job.is_wanted:
            rmtree(job.folder, ignore_errors=True)
