import ast
import os
import subprocess
import sys

import git
import pytest

import kdad
import kdad.settings
from kdad.storage import provenance
from kdad.storage.provenance import code_digest, code_version, imported_modules, meaning_of


@pytest.fixture
def repository(tmp_path):
    """Make a repository of one file and one commit."""
    made, author = git.Repo.init(tmp_path), git.Actor("a", "a@b")
    (tmp_path / "file").write_text("one")
    made.index.add(["file"])
    made.index.commit("first", author=author, committer=author)
    return made


def test_version_is_the_commit_and_tells_changed_files(tmp_path, repository):
    commit = repository.head.commit.hexsha
    assert code_version(tmp_path) == commit[:12]
    (tmp_path / "another").write_text("not of the repository")
    assert code_version(tmp_path) == commit[:12]
    (tmp_path / "file").write_text("two")
    assert code_version(tmp_path) == f"{commit[:12]}+changes"


def test_no_version_outside_git_or_before_the_first_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_version(tmp_path) is None
    git.Repo.init(tmp_path)
    assert code_version(tmp_path) is None


def test_no_version_of_a_repository_that_git_does_not_trust(tmp_path, repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # "dubious ownership", as in another user's folder
    monkeypatch.setenv("HOME", str(tmp_path))  # whose settings may trust every folder
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    assert code_version(tmp_path) is None


@pytest.mark.parametrize("setting", [{}, {"GIT_PYTHON_REFRESH": "quiet"}])
def test_no_version_and_not_a_word_without_git_on_the_path(tmp_path, repository, setting):
    """With the setting GitPython can be imported and finds no git; without it it cannot be imported."""
    code = "import sys; from pathlib import Path; from kdad.storage.provenance import code_version; "
    code += "assert 'git' not in sys.modules; print(code_version(Path(sys.argv[1])))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment | setting | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (found.stdout, found.stderr, found.returncode) == ("None\n", "", 0)


def test_settings_let_others_look_for_git_quietly():
    assert kdad.settings
    assert os.environ["GIT_PYTHON_REFRESH"] == "quiet"


def test_to_read_the_code_nothing_of_it_is_imported():
    code = "import sys; from kdad.storage.provenance import code_digest; code_digest('kdad.detectors.mkd.detector'); "
    code += "print(sorted({'torch', 'kdad.detectors'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


_SOURCES = {
    "trial_top": "from kdad.trial_middle import mid\n\n\ndef top():\n    return mid() + 1\n",
    "trial_middle": "import math\n\ndef mid():\n    from kdad import trial_low as low\n    return low.LOW + math.pi\n",
    "trial_low": "import kdad.trial_top\n\nLOW = 2\n",  # a circle
    "trial_apart": "APART = 1\n",
}


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Return the digest of ``kdad.trial_top`` with the source of one module replaced."""
    monkeypatch.setattr(kdad, "__path__", [*kdad.__path__, str(tmp_path)])

    def forget():
        for known in (provenance._path_of, provenance._parsed, code_digest):
            known.cache_clear()

    def of(changed="trial_top", source=None):
        for name, own in _SOURCES.items():
            (tmp_path / f"{name}.py").write_text(source if name == changed and source is not None else own)
        forget()
        return code_digest("kdad.trial_top")

    yield of
    forget()


@pytest.mark.parametrize(
    ("module", "change"),
    [
        ("trial_top", ("+ 1", "+ 2")),
        ("trial_top", ("+ 1", "- 1")),
        ("trial_top", ("def top():", "def top(x=1):")),
        ("trial_middle", ("math.pi", "math.e")),
        ("trial_low", ("LOW = 2", "LOW = 3")),
        ("trial_low", ("LOW = 2", "LOW = 2\nOTHER = 1")),
        ("trial_low", ("import kdad.trial_top", "import kdad.trial_apart")),
    ],
)
def test_the_digest_changes_with_a_statement_here_or_in_what_is_imported_however_far(digest, module, change):
    changed = _SOURCES[module].replace(*change)
    assert changed != _SOURCES[module]
    assert digest(module, changed) != digest()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trial_top", f'"""Says something."""\n{_SOURCES["trial_top"]}'),
        ("trial_top", _SOURCES["trial_top"].replace("    return", '    """Say something."""\n    return')),
        ("trial_top", _SOURCES["trial_top"].replace("\n\n\n", "\n\n# a comment\n")),
        (
            "trial_middle",
            _SOURCES["trial_middle"].replace("low.LOW + math.pi", "(\n        low.LOW+math.pi)"),
        ),
        ("trial_low", _SOURCES["trial_low"].replace("LOW = 2", "LOW = 2  # two")),
        ("trial_apart", "APART = 2\n"),
    ],
)
def test_the_digest_is_of_no_comments_docstrings_layout_or_modules_apart(digest, module, source):
    assert source != _SOURCES[module]
    assert digest(module, source) == digest()


def test_a_digest_is_of_all_modules_that_are_named(digest):
    top = digest()
    assert len(top) == 16
    assert code_digest("kdad.trial_top", "kdad.trial_apart") != top
    assert code_digest("kdad.trial_low") == top  # it reaches the same modules
    assert code_digest("kdad.trial_apart") != top


def test_a_string_that_is_no_docstring_counts():
    assert meaning_of(ast.parse("x = 'one'")) != meaning_of(ast.parse("x = 'two'"))
    assert meaning_of(ast.parse("x = 1\n'one'")) != meaning_of(ast.parse("x = 1\n'two'"))
    assert meaning_of(ast.parse("def f():\n    return 'one'")) != meaning_of(ast.parse("def f():\n    return 'two'"))


@pytest.mark.parametrize("kind", ["", "def f():", "class A:", "class A:\n def f(self):"])
def test_docstrings_are_taken_out_of_everything_that_has_one(kind):
    indent = " " * (kind.count("\n") + 1) if kind else ""
    sources = [f"{kind}\n{indent}'''{text}'''\n{indent}x = 1\n" for text in ("one", "another\n  over lines")]
    assert meaning_of(ast.parse(sources[0])) == meaning_of(ast.parse(sources[1]))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import kdad.errors", {"kdad.errors"}),
        ("import numpy, kdad.errors as e", {"kdad.errors"}),
        ("from kdad.errors import InputError", {"kdad.errors"}),
        ("from kdad.images import splits, image_set", {"kdad.images", "kdad.images.splits", "kdad.images.image_set"}),
        ("def f():\n    import kdad.compute", {"kdad.compute"}),
        ("if 1:\n    from kdad.compute import Compute", {"kdad.compute"}),
        ("import kdadlike\nimport numpy\nfrom os import path", set()),
        ("import kdad.no_such_module", set()),
    ],
)
def test_imports_are_those_of_the_package_wherever_they_stand(source, expected):
    assert imported_modules(ast.parse(source)) == expected


def test_the_digest_of_a_real_module_reaches_what_its_numbers_depend_on():
    found = provenance._reachable(("kdad.detectors.mkd.cloner",))
    assert {"kdad.detectors.mkd.discrepancy", "kdad.training.loop", "kdad.seeding", "kdad.features.extraction"} <= found
    assert "kdad.reporting.heat_maps" not in found
