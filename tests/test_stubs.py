"""The stubs beside the compiled modules say of them what they say of themselves."""

import ast
import re

import pytest
from test_project import SOURCE

STUBS = sorted(SOURCE.rglob("*.pyi"))
KINDS = {"Floats": "float32", "Doubles": "float64", "Integers": "int64"}


def stubbed(body, prefix=""):
    """(name, its parameters as (name, kind)) of all functions of a stub, of its classes too; None for other names."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, None
            yield from stubbed(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args]
            is_read = any(ast.unparse(d) == "property" for d in node.decorator_list)
            yield prefix + node.name, None if is_read else [(a.arg, a.annotation) for a in arguments if a.annotation]
        elif isinstance(node, ast.AnnAssign):
            yield prefix + node.target.id, None


def kind_of(annotation):
    """What nanobind calls a type: an array by its dtype, all else by its own name."""
    text = ast.unparse(annotation)
    if array := re.fullmatch(r"NDArray\[(\w+)\]", text):
        return array[1]
    return KINDS.get(text, text.split("[")[0].split(" ")[0])


def told(function):
    """The parameters that a compiled function tells of itself, likewise; it has names only for some."""
    inside = re.search(r"\((.*)\) -> ", function.__doc__)[1]
    for part in re.sub(r"ndarray\[dtype=(\w+)[^\]]*\]", r"\1", inside).split(", "):
        name, _, kind = part.partition(": ")
        if kind:
            yield name, kind.split(" = ")[0].split("[")[0].split(" ")[0].rsplit(".")[-1]  # without its module


@pytest.mark.parametrize("path", STUBS, ids=lambda p: p.stem)
def test_a_stub_tells_the_names_and_the_kinds_that_its_module_takes(path):
    module = pytest.importorskip(f"miao.{path.parent.name}.{path.stem}", exc_type=ImportError)
    known = dict(stubbed(ast.parse(path.read_text()).body))
    public = {name for name in vars(module) if not name.startswith("_")}
    classes = {name for name in public if isinstance(getattr(module, name), type)}
    methods = {f"{c}.{m}" for c in classes for m in vars(getattr(module, c)) if not m.startswith("_")}
    assert {name for name in known if not name.endswith("__init__")} == public | methods
    for name, parameters in known.items():
        if parameters is None:
            continue
        thing = module
        for part in name.split("."):
            thing = getattr(thing, part)
        own = list(told(thing))
        assert len(own) == len(parameters), name
        for (given, annotation), (has, kind) in zip(parameters, own, strict=True):
            assert re.fullmatch(r"arg\d*", has) or given == has, name
            assert kind == "object" or kind_of(annotation) == kind, f"{name}: {given}"


def test_each_compiled_module_has_a_stub():
    sources = {path.stem for path in SOURCE.rglob("*.cpp") if "NB_MODULE" in path.read_text()}
    assert {path.stem for path in STUBS} == sources
