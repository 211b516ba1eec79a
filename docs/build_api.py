"""The API pages, built strictly: `python docs/build_api.py [FOLDER]` (default: build/api); `make check` does it.

Every name of `miao.__all__` has a place on the page, it and each of its public methods a docstring, and what stands in
backticks in those docstrings and looks like a name of miao's is one. Examples in them are run by tests/test_face.py.
"""

import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import miao


def documented() -> Iterator[tuple[str, object]]:
    """All public names with what they stand for: miao's, and the methods and properties of its classes."""
    for name in miao.__all__:
        thing = getattr(miao, name)  # also because pdoc looks only for what has been loaded
        if name == "__version__":
            continue
        yield name, thing
        if getattr(thing, "__name__", name) != name:  # another name for one that is documented
            continue
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (
                    callable(value) or isinstance(value, property | staticmethod | classmethod)
                ):
                    yield f"{name}.{member}", value


def wrong_names(text: str) -> list[str]:
    """What is said in backticks to be of a public class and is not there."""
    found = re.findall(r"`((?:\w+\.)+\w+)`", text)
    wrong = []
    for dotted in found:
        first, *rest = dotted.split(".")
        thing = getattr(miao, first, None)
        for part in rest:
            fields = getattr(thing, "__dataclass_fields__", {})
            if thing is not None and not hasattr(thing, part) and part not in fields:
                wrong.append(dotted)
                break
            thing = getattr(thing, part, None)
    return wrong


def main(folder: Path) -> None:
    import pdoc

    faults: list[str] = []
    for name, thing in documented():
        text = inspect.getdoc(thing if not isinstance(thing, staticmethod | classmethod) else thing.__func__)
        if not text:
            faults.append(f"{name} is not documented")
        faults += [f"{name}: there is no `{wrong}`" for wrong in wrong_names(text or "")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.render.configure(docformat="markdown", show_source=False)
        pdoc.pdoc("miao", "!miao.", output_directory=folder)
    page = (folder / "miao.html").read_text()
    faults += [f"{name} is not on the page" for name, _ in documented() if f'id="{name}"' not in page]
    if faults:
        sys.exit("\n".join(faults))
    print(f"{folder / 'miao.html'}: {sum(1 for _ in documented())} names")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/api"))
