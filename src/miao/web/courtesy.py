"""Who is in no hurry lets those go first whom somebody waits for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_SECONDS = 2.0  # that one gives way at a time


class Courtesy:
    """Shared by those in a hurry and those who are not; for any thread."""

    def __init__(self) -> None:
        self._n_hurried = 0
        self._changed = threading.Condition()

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """While this lasts, others give way."""
        with self._changed:
            self._n_hurried += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_hurried -= 1
                self._changed.notify_all()

    def give_way(self) -> None:
        """Waits while anybody is in a hurry, but not for ever."""
        with self._changed:
            self._changed.wait_for(lambda: not self._n_hurried, LONGEST_SECONDS)
