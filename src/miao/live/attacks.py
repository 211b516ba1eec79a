"""Attacks that are at hand before their keys are struck: then no net stands between a key and its sound.

What a note begins with is decided by its voice, key and velocity alone (in a bank whose notes do not hear each other),
so that what is written beforehand is what would be written then. The rest of a note is written ahead of need anyway.
"""

import threading
from collections import deque
from collections.abc import Iterable
from itertools import islice

from miao.bank.bank import Bank
from miao.synth.chunks import Known
from miao.synth.note import Chunk, Strike
from miao.synth.player import Player
from miao.synth.settings import PlaySettings

MOST = 8192  # attacks, 21 kB each: 61 keys at all velocities are 163 MB
_AT_ONCE = 32  # a few hundredths of a second of work, between which a key that was struck comes first
VELOCITIES = tuple(sorted(range(1, 128), key=lambda velocity: abs(velocity - 80)))  # the likely ones first


class Attacks(dict[tuple[float, ...], Chunk]):
    """Chunks that are known: those that a player has written, as in any dictionary, and those that were prepared. One
    of these is taken over when the player asks for it, as another thread may throw it away a moment later."""

    def __init__(self, bank: Bank, settings: PlaySettings) -> None:
        super().__init__()
        self._bank, self._settings = bank, settings
        self._prepared: Known = {}
        self._wanted: deque[tuple[int, int, int]] = deque()  # voice, key, velocity

    def __contains__(self, key: object) -> bool:
        if dict.__contains__(self, key):
            return True
        prepared = self._prepared.get(key)  # type: ignore[call-overload]  # a key of another kind is not there
        if prepared is not None:
            self[key] = prepared  # type: ignore[index]  # it was found by it
        return prepared is not None

    @property
    def n_prepared(self) -> int:
        """How many attacks are at hand."""
        return len(self._prepared)

    @property
    def is_waiting(self) -> bool:
        """Whether any are still to be prepared."""
        return bool(self._wanted)

    def want(self, voice: int, keys: Iterable[int], velocities: Iterable[int] = VELOCITIES) -> None:
        """Keys of a voice will be struck: `prepare` has their attacks written, the likely velocities first."""
        if self._bank.encode is not None or self._settings.variation:
            return  # where a note hears others or draws lots, nothing is known before it is struck
        keys = sorted(keys, key=lambda key: abs(key - 64))
        wanted = ((voice, key, velocity) for velocity in velocities for key in keys)
        self._wanted.extend(islice(wanted, max(MOST - len(self._wanted), 0)))

    def prepare(self) -> bool:
        """Writes some of what is wanted; gives whether more is."""
        some: list[tuple[int, int, int]] = []
        while self._wanted and len(some) < _AT_ONCE:
            some.append(self._wanted.popleft())
        if some:
            # a player of its own, that strikes them all at once and writes what is heard in the first instant
            player, written = Player(self._bank, (0,), self._settings, known=(found := Known())), 1e-3
            for voice, key, velocity in some:
                player.start(Strike(0.0, 0, voice, key, velocity / 127))
            player.decide(written)
            player.write(written)
            self._prepared.update(found)
            for key_of in list(self._prepared)[: max(len(self._prepared) - MOST, 0)]:
                del self._prepared[key_of]
        return bool(self._wanted)


class Preparing:
    """A thread that prepares what is wanted, in no hurry."""

    def __init__(self, attacks: Attacks) -> None:
        self._attacks = attacks
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="miao attacks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._is_over.is_set():
            if not self._attacks.prepare():
                self._is_over.wait(0.05)
