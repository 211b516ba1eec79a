"""Who makes room where more notes are to sound than may: the one that is missed least, see `Note.worth`.

A note is worth the same until it is louder or quieter by a step, or is told something. So each is asked again then, and
not by every note that comes: the choice is that of asking all of them, at a cost that hardly grows with their number.
"""

import heapq
from collections.abc import Callable, Sequence
from math import inf

from miao.synth.note import Note

_MOST_ENTRIES = 8  # a note, before those that count no more are thrown away
_Worth = tuple[bool, bool, int, float]


class Ranking:
    """The notes of a player, by how much they would be missed. ``notes`` is the player's own: what comes and goes there
    is told by `told` and `gone`."""

    def __init__(self, notes: dict[int, Note]) -> None:
        self._notes = notes
        self._begin()

    def _begin(self) -> None:
        self._asked: dict[int, int] = dict.fromkeys(self._notes, 0)  # so often; an entry of an earlier time is void
        self._cut: set[int] = set()
        self._worth: list[tuple[_Worth, int, int]] = []  # a heap: worth, handle, asked
        self._until: list[tuple[float, int, int]] = [(-inf, handle, 0) for handle in self._notes]  # a heap

    @property
    def n_whole(self) -> int:
        """How many notes are not being cut, as of the last `settle`."""
        return len(self._notes) - len(self._cut)

    def told(self, handle: int) -> None:
        """A note starts, is let go, cut or caught."""
        number = self._asked[handle] = self._asked.get(handle, 0) + 1
        heapq.heappush(self._until, (-inf, handle, number))

    def gone(self, handle: int) -> None:
        """A note is the player's no more."""
        self._asked.pop(handle, None)
        self._cut.discard(handle)

    def settle(self, moment: float, write: Callable[[Sequence[Note], float], None]) -> list[int]:
        """Ask all whose worth may have changed by a moment, no earlier than the last one; gives those that are over."""
        if len(self._until) + len(self._worth) > _MOST_ENTRIES * max(len(self._notes), 64):
            self._begin()
        due = []
        while self._until and self._until[0][0] < moment:
            _, handle, number = heapq.heappop(self._until)
            if self._asked.get(handle) == number:
                due.append(handle)
        write([self._notes[handle] for handle in due], moment)
        over = []
        for handle in due:
            note = self._notes[handle]
            if note.end <= moment:
                over.append(handle)
                continue
            number = self._asked[handle] = self._asked[handle] + 1
            heapq.heappush(self._until, (note.worth_until(moment), handle, number))
            if note.cut_at < inf:
                self._cut.add(handle)
            else:
                heapq.heappush(self._worth, (note.worth(moment), handle, number))
        return sorted(over, key=lambda handle: (self._notes[handle].strike.time, handle))

    def least(self, moment: float) -> int:
        """The handle of the note that is missed least; of those being cut where there is no other."""
        while self._worth:
            _, handle, number = self._worth[0]
            if self._asked.get(handle) == number:
                return handle
            heapq.heappop(self._worth)
        return min(self._notes, key=lambda handle: (*self._notes[handle].worth(moment), handle))
