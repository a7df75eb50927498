"""Which code made a result: the commit, and a digest that changes when the code that makes the numbers does."""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]


def code_version(folder: Path) -> str | None:
    """Return the commit that `folder` is checked out at, ``+changes`` when files differ from it.

    None where it cannot be known: no git, no repository, no commit yet, or a repository that git does not trust.
    """
    try:
        import git  # late: it is slow to import, and without git on the PATH it cannot be imported
    except ImportError:
        return None
    try:
        with git.Repo(folder, search_parent_directories=True) as repository:
            commit = repository.head.commit.hexsha[:12]
            return f"{commit}+changes" if repository.is_dirty(untracked_files=False) else commit
    except (git.GitError, OSError, ValueError):
        return None


@cache
def code_digest(*modules: str) -> str:
    """Return 16 hexadecimal digits of the code that `modules` can reach by imports inside this package.

    Every module that one of them imports, and those that these import, is parsed; names, values and statements count,
    comments, docstrings and layout do not. So a key that holds the digest changes with the code behind a result.
    """
    digest = hashlib.sha256()
    for name in sorted(_reachable(modules)):
        digest.update(f"{name}\n{_parsed(name)[0]}\n".encode())
    return digest.hexdigest()[:16]


def meaning_of(module: ast.Module) -> str:
    """Return what a module says, without comments, layout, and docstrings, which are taken out of it."""
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(module)


def imported_modules(module: ast.Module) -> set[str]:
    """Return the modules of this package that a module imports, by their full names."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package.folder import name`: the name may be a module itself.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name for name in names if _path_of(name) is not None}
    return found


def _reachable(modules: tuple[str, ...]) -> set[str]:
    waiting, found = list(modules), set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _parsed(name)[1]
    return found


@cache
def _parsed(name: str) -> tuple[str, set[str]]:
    """Return what a module says, and which modules of this package it imports."""
    path = _path_of(name)
    module = ast.parse("" if path is None else path.read_text(encoding="utf-8"))
    return meaning_of(module), imported_modules(module)


@cache
def _path_of(name: str) -> Path | None:
    """Return the file of a module of this package; `find_spec` would import the folders above, and torch with some."""
    package, *parts = name.split(".")
    if package != _PACKAGE:
        return None
    for root in sys.modules[_PACKAGE].__path__:
        folder = Path(root, *parts)
        for path in (folder / "__init__.py", folder.with_suffix(".py")):
            if path.is_file():
                return path
    return None
