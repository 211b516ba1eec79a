"""A mood under a player's hands: what of it acts on a note as it is struck, by the functions that files are played by.

What needs the music that is still to come (tempo, phrases, the ends of notes, doublings) is not here.
"""

from collections.abc import Callable

from miao.expression.moods import Cues
from miao.expression.touch import OF_ALL, VIBRATING, grown, moved, shifts, struck, vibrato_depth
from miao.midi.channel import DEFAULTS
from miao.midi.events import Control, Sound, Start

STEP_SECONDS = 0.04  # of a vibrato that grows
_GROWN_SECONDS = 1.1  # after which it stands

Tell = Callable[[int, str, float, float], None]  # lane, controller, value, time


class Feeling:
    """Stands between what a sound module does and who plays it; without a mood it changes nothing."""

    def __init__(self, tell: Tell) -> None:
        self.cues = Cues()
        self._tell = tell
        self._values: dict[tuple[int, str], float] = {}  # what has been said of each controller
        self._sounds: dict[int, Sound] = {}  # of the lanes that have struck a note, as their controllers know it
        self._struck: dict[int, float] = {}  # when they last did
        self._grown: dict[int, float] = {}  # when a lane's vibrato was last told

    def set(self, cues: Cues, time: float) -> None:
        """Another mood from a time on: controllers move at once, velocities from the next note on."""
        before, self.cues = self.cues, cues
        if cues != before:
            for lane in self._sounds:
                self._say(lane, time)

    def start(self, action: Start) -> Start:
        """A note as it is struck in this mood."""
        lane = action.lane
        self._struck[lane] = action.time
        if self._sounds.get(lane) != action.sound:
            self._sounds[lane] = action.sound
            if not self.cues.is_none:
                self._say(lane, action.time)
        elif vibrato_depth(self.cues) and action.sound.program in VIBRATING:
            self._say_one(lane, "modulation", action.time)
        if not self.cues.level:
            return action
        return action._replace(velocity=int(struck(action.velocity, self.cues.level)))

    def control(self, action: Control) -> None:
        """A controller has been moved by hand: it moves from there."""
        self._values[action.lane, action.name] = action.value
        self._say_one(action.lane, action.name, action.time)

    def grow(self, time: float) -> bool:
        """Tells what has changed by now of itself; whether anything has."""
        if not vibrato_depth(self.cues):
            return False
        growing = [
            lane for lane, since in self._struck.items()
            if self._sounds[lane].program in VIBRATING and not self._sounds[lane].is_drum
            and time - since < _GROWN_SECONDS and time - self._grown.get(lane, -1.0) >= STEP_SECONDS
        ]  # fmt: skip
        for lane in growing:
            self._grown[lane] = time
            self._say_one(lane, "modulation", time)
        return bool(growing)

    def _say(self, lane: int, time: float) -> None:
        for name in (*shifts(self.cues), "modulation"):
            self._say_one(lane, name, time)

    def _say_one(self, lane: int, name: str, time: float) -> None:
        value = self._values.get((lane, name), DEFAULTS[name])
        sound = self._sounds.get(lane)
        if sound is not None:
            if name == "modulation" and sound.program in VIBRATING and not sound.is_drum:
                value = max(value, vibrato_depth(self.cues) * float(grown(time - self._struck[lane])))
            elif (shift := shifts(self.cues).get(name)) and (name in OF_ALL or not sound.is_drum):
                value = float(moved(value, shift))
        self._tell(lane, name, value, time)
