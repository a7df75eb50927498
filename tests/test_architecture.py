"""Which part of the package may know which: lower ones know nothing of higher ones, and no modules form a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kdad

ROOT = Path(kdad.__file__).parent
#: From low to high; those of one line do not know each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "seeding"),
    ("parameters",),
    ("progress",),
    ("storage",),
    ("compute",),
    ("images", "training", "networks"),
    ("scoring", "features"),
    ("metrics",),
    ("detectors",),
    ("reporting",),
    ("experiments",),
    ("tracking", "inference"),
    ("project",),
    ("datasets",),
    ("pipelines", "serving"),
    ("hooks",),
    ("pipeline_registry",),
    ("settings", "cli", "__main__", "store", "doctor"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
#: It imports what opens detectors when one is opened, and not before.
LATE = "kdad.detectors"
#: Parts that are mathematics, and know neither the pipelines' framework nor the tracking of runs.
MATHEMATICS = (
    *("errors", "seeding", "parameters", "progress", "storage", "compute"),
    *("images", "networks", "features", "training", "scoring", "metrics", "detectors", "reporting", "experiments"),
    "inference",
)
FRAMEWORKS = {"kedro", "kedro_datasets", "kedro_mlflow", "mlflow"}


def _module(path: Path) -> str:
    return ".".join(("kdad", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


SOURCES = {_module(path): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a tree's nodes, without what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from statements(child)


def imports(name: str, source: str, known: dict[str, str]) -> set[str]:
    """Return what a module imports, wherever in it: modules of `known` by their full names, others as they stand."""
    found: set[str] = set()
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found - {name}


IMPORTS = {name: imports(name, source, SOURCES) for name, source in SOURCES.items()}


def part(module: str) -> str:
    """Return the part of the package that a module is of, empty for the package itself."""
    return f"{module}.".split(".")[1]


def back_arrows(found: dict[str, set[str]]) -> list[str]:
    """Return the imports that do not lead to a lower part, or stay within one."""
    return [
        f"{name} imports {other}"
        for name, others in sorted(found.items())
        for other in sorted(others & set(found))
        if part(name) and part(other) and part(name) != part(other) and LEVEL[part(name)] <= LEVEL[part(other)]
    ]


def circle(found: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, empty when none do."""
    try:
        TopologicalSorter({name: others & set(found) for name, others in found.items()}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_part_has_its_place():
    assert {part(name) for name in SOURCES} - {""} == set(LEVEL)


def test_no_part_knows_a_higher_one():
    assert back_arrows(IMPORTS) == []


def test_no_modules_form_a_circle():
    assert circle(IMPORTS | {LATE: set()}) == []


def test_the_one_late_import_is_of_what_opens_detectors():
    assert IMPORTS[LATE] & set(SOURCES) == {"kdad.detectors.opening"}


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) in MATHEMATICS])
def test_mathematics_knows_no_framework(name):
    assert not {other.split(".")[0] for other in IMPORTS[name]} & FRAMEWORKS


def test_only_tracking_its_ui_and_the_code_of_logged_models_know_mlflow():
    knowing = {
        name for name in IMPORTS if {other.split(".")[0] for other in IMPORTS[name]} & {"mlflow", "kedro_mlflow"}
    }
    others = {"kdad.project.tracking_ui", "kdad.serving.mlflow_model"}
    assert {name for name in knowing if part(name) != "tracking"} == others


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import kdad.errors", {"kdad.errors"}),
        ("from kdad.errors import InputError", {"kdad.errors"}),
        ("from kdad.images import splits, registry", {"kdad.images.splits", "kdad.images.registry"}),
        ("def f():\n    if 1:\n        import mlflow.artifacts", {"mlflow.artifacts"}),
        ("if TYPE_CHECKING:\n    import kdad.compute\nimport kdad.errors", {"kdad.errors"}),
        ("if typing.TYPE_CHECKING:\n    import kdad.compute", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source, expected):
    assert imports("kdad.trial", source, SOURCES) == expected


def test_a_back_arrow_and_a_circle_are_found():
    arrows = {"kdad.images.a": {"kdad.metrics.b"}, "kdad.metrics.b": {"kdad.images.a"}, "kdad.images.c": set()}
    assert back_arrows(arrows) == ["kdad.images.a imports kdad.metrics.b"]
    assert set(circle(arrows)) == {"kdad.images.a", "kdad.metrics.b"}
    assert back_arrows({"kdad.datasets.a": {"kdad.hooks"}, "kdad.hooks": set()})
