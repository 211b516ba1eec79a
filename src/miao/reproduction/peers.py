"""The paper's peers for Table 1: runs that are there, or trainings of them."""

from collections.abc import Iterator
from pathlib import Path

import torch
from joblib import Parallel, delayed

from miao.datasets.pairs import shards_of
from miao.errors import ConfigError, DataError
from miao.peers import NEED_INVERTER, PEERS
from miao.peers.trained import peer_trainer

INVERTER = "inverter"


def named_runs(texts: list[str]) -> dict[str, Path]:
    """Runs of peers by name, of NAME=RUN. Raises: ConfigError, DataError if there is no run."""
    found = {}
    for text in texts:
        name, _, path = text.partition("=")
        if name not in PEERS or not path:
            raise ConfigError(f"{text}: no such peer; say NAME=RUN, NAME one of {', '.join(PEERS)}")
        if not (Path(path) / "config.toml").is_file():
            raise DataError(f"{path}: no run of a training; make it by `miao train {name} --data PAIRS -o {path}`")
        found[name] = Path(path)
    return found


def peer_systems(runs: dict[str, Path]) -> list[str]:
    """The names of the systems of peers' runs, and of the inverters that two of them need."""
    inverters = dict.fromkeys(runs[name].parent / INVERTER for name in NEED_INVERTER if name in runs)
    names = [f"{name}:{runs[name]}" for name in PEERS if name in runs]
    return names + [f"{INVERTER}:{run}" for run in inverters]


def train_peers(names: list[str], pairs: Path, folder: Path, steps: int | None, jobs: int = 1
                ) -> Iterator[tuple[int, int, str]]:  # fmt: skip
    """Train peers, each by its preset, into folders of their names, as `miao train` does, or go on with them.

    Yields how many are done, of how many, and which was just done. Raises: ConfigError, DataError.
    """
    shards_of(pairs / "train")
    wanted = [*names, INVERTER] if set(NEED_INVERTER) & set(names) else names
    yield 0, len(wanted), ""
    work = (delayed(trained_peer)(name, pairs, folder / name, steps) for name in wanted)
    for number, name in enumerate(Parallel(jobs, return_as="generator_unordered")(work), start=1):
        yield number, len(wanted), name


def trained_peer(name: str, pairs: Path, run: Path, steps: int | None) -> str:
    """Train one peer to its last step, or to ``steps``; its name."""
    torch.set_num_threads(1)
    changes = () if steps is None else (f"train.steps={steps}",)
    trainer = peer_trainer(name, changes, run, pairs / "train")
    trainer.resume()
    trainer.fit(lambda *_: None, lambda _: None)
    return name
