"""The data sets of the paper, by name.

All have the same shape: a card (the module's docstring), `CITATION`, `LICENSE`, `REMOTES`, and two functions:
`recordings(root)`, which lists what is there to be used, and `verify(root)`, which names what is missing or wrong. A
root is the data set's own folder or the one that it was unpacked in.

The library mirdata has loaders of three of the six. It brings tens of dependencies for them, and its tracks would have
to be turned into recordings all the same; its descriptions of layouts were a guide.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from miao.datasets import cerberus4, guitarset, maestro, musicnet, slakh, urmp
from miao.datasets.download import Remote, chosen, unpack
from miao.datasets.recordings import SPLITS, Recording
from miao.errors import DataError

DATASETS: dict[str, ModuleType] = {
    "maestro": maestro, "slakh": slakh, "cerberus4": cerberus4, "guitarset": guitarset, "musicnet": musicnet,
    "urmp": urmp,
}  # fmt: skip


def dataset(name: str) -> ModuleType:
    """A data set's module. Raises: DataError for an unknown name."""
    if name not in DATASETS:
        raise DataError(f"{name}: not a known data set; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def title(name: str) -> str:
    """What a data set is, in a line."""
    return (dataset(name).__doc__ or "").splitlines()[0]


def card(name: str) -> str:
    """All that is to be said of a data set: its card, licence, citation, and where it comes from."""
    module = dataset(name)
    files = "\n".join(f"- {describe(remote)}" for remote in module.REMOTES)
    return f"{(module.__doc__ or '').strip()}\n\nLicence: {module.LICENSE}\n\nFiles:\n{files}\n\n{module.CITATION}\n"


def describe(remote: Remote) -> str:
    """A remote file in words."""
    size = "size not published" if remote.n_bytes is None else f"{remote.n_bytes:,} bytes"
    words = [remote.url, size, remote.checksum or "checksum not published"]
    words += ["optional"] * remote.is_optional + [remote.by_hand] * bool(remote.by_hand)
    return f"{remote.name}: {', '.join(words)}"


def count_splits(recordings: Sequence[Recording]) -> dict[str, int]:
    """How many recordings there are of each split."""
    counts = Counter(recording.split for recording in recordings)
    return {split: counts[split] for split in SPLITS}


def unpack_files(name: str, root: Path, names: list[str] | None = None) -> list[str]:
    """Take apart what was downloaded into a folder, or the archives of these names; what was unpacked.

    MusicNet's npz form counts as an archive. Raises: DataError if there is none, or one is damaged.
    """
    module, done = dataset(name), []
    if name == "musicnet" and (root / musicnet.NPZ).is_file() and not names:
        musicnet.unpack(root)
        done.append(musicnet.NPZ)
    archives = [r for r in module.REMOTES if r.name.endswith((".zip", ".tar.gz"))]
    wanted = chosen(archives, names) if names else [r for r in archives if (root / r.name).is_file()]
    for remote in wanted:
        unpack(remote, root)
        done.append(remote.name)
    if not done:
        raise DataError(f"{root}: there is none of {', '.join(r.name for r in archives)} to unpack")
    return done
