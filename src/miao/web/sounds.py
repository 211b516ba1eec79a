"""Sound files that clients have brought, to be learnt from or matched: in a folder of their owner's, gone with it."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from miao.datasets.samples import SOUND_SUFFIXES
from miao.errors import AudioError
from miao.files import write_bytes
from miao.sound.audio import read_header
from miao.synth.synthesizer import UNSAFE_IN_NAMES
from miao.web.guard import Refusal
from miao.web.limits import Limits


@dataclass(eq=False)
class Sound:
    """A sound file."""

    key: str  # nobody guesses it
    path: Path  # keeps the name it came by: notes say their pitch in it
    owner: str
    n_bytes: int
    seconds: float


@dataclass(eq=False)
class Sounds:
    """All that are here; use it in a `with`."""

    limits: Limits
    _sounds: dict[str, Sound] = field(default_factory=dict)

    def __enter__(self) -> "Sounds":
        self._place = TemporaryDirectory(prefix="miao-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._place.cleanup()

    def __len__(self) -> int:
        return len(self._sounds)

    def add(self, name: str, data: bytes, owner: str) -> Sound:
        """A sound from the bytes of a file. Raises: AudioError or Refusal, in one line."""
        if not owner:
            raise Refusal("sounds are brought by an open page: say its session")
        self.room(owner, len(data))
        plain = UNSAFE_IN_NAMES.sub("_", name).strip(" .") or "sound.wav"
        if Path(plain).suffix.lower() not in SOUND_SUFFIXES:
            raise Refusal(f"{plain}: sounds are {', '.join(SOUND_SUFFIXES)} files")
        key = secrets.token_urlsafe(16)
        folder = Path(self._place.name) / owner / key
        folder.mkdir(parents=True)
        path = folder / plain
        write_bytes(path, data, AudioError)
        try:
            header = read_header(path)
        except AudioError:
            rmtree(folder, ignore_errors=True)
            raise Refusal(f"{plain}: not a readable sound file; convert it to wav, flac, ogg or mp3") from None
        sound = Sound(key, path, owner, len(data), header.duration)
        self._sounds[key] = sound
        return sound

    def room(self, owner: str, n_bytes: int) -> None:
        """Raises: Refusal if a client has brought so much already that no more fits."""
        mine = [sound for sound in self._sounds.values() if sound.owner == owner]
        if len(mine) >= self.limits.sounds or sum(s.n_bytes for s in mine) + n_bytes > self.limits.client_bytes:
            raise Refusal(f"{self.limits.sounds} sounds and {self.limits.client_bytes / 1e6:g} MB are the most", 413)

    def get(self, key: object, owner: str) -> Sound:
        """A sound of a client's by its key. Raises: Refusal."""
        sound = self._sounds.get(key) if isinstance(key, str) else None
        if sound is None or sound.owner != owner:
            raise Refusal("there is no such sound any more; bring it again", 404)
        return sound

    def forget(self, owner: str) -> None:
        """A client is gone, and all its sounds."""
        for key in [key for key, sound in self._sounds.items() if sound.owner == owner]:
            del self._sounds[key]
        rmtree(Path(self._place.name) / (owner or "-"), ignore_errors=True)
