"""A bank's folder: where it is, what it says of itself, and whether its files are whole and what they should be."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miao.config import Count, from_table, read_toml
from miao.errors import BankError, ConfigError
from miao.files import path_of, reason, write_text

FORMAT = 2
CHECKSUMS = "crc32"  # the group of config.toml that has those of the other files
_SEALED = (".onnx", ".safetensors")
_PIECE_BYTES = 1 << 17

Sizes = Mapping[str, Sequence[int]]
"""Of the inputs or outputs of a graph, by name: sizes behind the batch's."""


@dataclass(frozen=True)
class BankConfig:
    """What a bank's config.toml says."""

    format: int = 0
    context_width: Count = 1  # D of what nets are told of the music around a note
    uses_context: bool = False  # whether they are told of it


def read_config(folder: Path) -> BankConfig:
    """What a bank's folder says of itself, its files compared with the checksums that stand there.

    Raises: BankError if it is of another format, incomplete, or a file of it has changed.
    """
    path = folder / "config.toml"
    table = read_toml(path, BankError)
    if table.get("format") != FORMAT:
        raise BankError(f"{folder}: bank format {table.get('format')}, this miao reads format {FORMAT}; update miao, "
                        "or export the bank again")  # fmt: skip
    checksums = table.pop(CHECKSUMS, {})
    for name in BankConfig.__dataclass_fields__:
        if name not in table:
            raise BankError(f"{path}: does not say {name}")
    try:
        config = from_table(BankConfig, table)
    except ConfigError as error:
        raise BankError(f"{path}: {error}") from None
    sums = checksums if isinstance(checksums, dict) else {}
    for name in sums:
        if not (folder / name).is_file():
            raise BankError(f"{folder / name}: is missing; export the bank again")
    with ThreadPoolExecutor(2) as pool:  # they are read beside each other
        found = list(pool.map(file_crc, [folder / name for name in sums]))
    for (name, checksum), there in zip(sums.items(), found, strict=True):
        if there != checksum:
            raise BankError(f"{folder / name}: has been changed or damaged since the bank was exported; get it anew")
    return config


def seal(folder: Path, config: BankConfig, but: str | None = None) -> None:
    """Write a bank's config.toml, with the checksums of the other files, ``but`` one; last, since a change to them is
    noticed then.

    Raises: BankError if the disk refuses.
    """
    lines = [f"{name} = {str(value).lower()}" for name, value in asdict(config).items()]
    files = sorted(p.name for p in folder.iterdir() if p.suffix in _SEALED and p.name != but)
    lines += ["", f"[{CHECKSUMS}]", *(f'"{name}" = "{file_crc(folder / name)}"' for name in files)]
    write_text(folder / "config.toml", "\n".join(lines) + "\n", BankError)


@contextmanager
def changed(folder: Path, name: str) -> Iterator[Path]:
    """The path of a file of a bank that is written, or removed, in a `with`. Whenever that is interrupted, the bank is
    whole, with what was there before or with what was written.

    Raises: BankError if the bank is damaged, or the disk refuses.
    """
    config = read_config(folder)
    seal(folder, config, but=name)
    yield folder / name
    seal(folder, config)


def file_crc(path: Path) -> str:
    """CRC-32 of a file. Raises: BankError if it cannot be read."""
    crc = 0
    try:
        with path.open("rb", buffering=0) as file:
            piece = memoryview(bytearray(_PIECE_BYTES))  # small enough to stay in the processor's cache
            while n := file.readinto(piece):
                crc = zlib.crc32(piece[:n], crc)
        return f"{crc:08x}"
    except OSError as error:
        raise BankError(f"{path}: cannot be read: {reason(error)}") from error


def bank_folder(name: str | Path) -> Path:
    """The folder of a bank by name, or the folder itself. Raises: BankError if there is none."""
    banks = Path(__file__).parents[1] / "banks"
    folder = path_of(name, BankError)
    if (banks / folder / "config.toml").is_file():
        folder = banks / folder
    if not (folder / "config.toml").is_file():
        names = sorted(p.parent.name for p in banks.glob("*/config.toml"))
        raise BankError(f'no bank "{name}"; there are {", ".join(names) or "none"}, or give a folder with config.toml')
    return folder


def open_graph(path: Path, takes: Sizes | None = None, gives: Sizes | None = None) -> Any:
    """An ONNX graph ready to run, on one thread.

    ``takes`` and ``gives`` say which inputs it may have, which outputs it has, and their sizes behind the batch's.

    Raises: BankError if it is none, or has others.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # halves of a batch on two threads are faster than two threads on a batch
    options.log_severity_level = 3
    # weights that are kept in bytes become floats once, when the graph is opened, and not in each run
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds share no base class but this one
        raise BankError(f"{path}: not a readable ONNX graph ({str(error).splitlines()[0]})") from None
    for word, nodes, wanted in (("takes", session.get_inputs(), takes), ("gives", session.get_outputs(), gives)):
        if wanted is None:
            continue
        for node in nodes:
            sizes = tuple(wanted[node.name]) if node.name in wanted else None
            if sizes is None or not _alike(node.shape[1:], sizes):
                known = ", ".join(f"{name} {list(size)}" for name, size in wanted.items())
                raise BankError(f"{path}: {word} {node.name} {node.shape[1:]}; known are {known}")
    missing = sorted((gives or {}).keys() - {node.name for node in session.get_outputs()})
    if missing:
        raise BankError(f"{path}: does not give {missing[0]}")
    return session


def _alike(shape: Sequence[int | str], sizes: Sequence[int]) -> bool:
    """Whether a graph's shape is one of sizes; letters in it may be any."""
    return len(shape) == len(sizes) and all(a == b or isinstance(a, str) for a, b in zip(shape, sizes, strict=True))
