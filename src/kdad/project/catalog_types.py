"""Mistakes in the files of the catalog: one message with the nearest name, before any data set's module is imported."""

import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from kedro.io import DatasetError

from kdad.parameters.strict import nearest_name
from kdad.project.command_line import CommandLineError

#: Where Kedro looks for a type, in this order.
_PREFIXES = ("", "kedro.io.", "kedro_datasets.")
_CLASS = re.compile(r"\b\w+Dataset\b")
_NAME = re.compile(r"\w+")
_UNKNOWN_KEY = re.compile(r"unexpected keyword argument '(\w+)'.*Dataset '(.+?)'.*constructor of '([\w.]+)'", re.DOTALL)


def check_types(catalog: dict[str, Any], folders: Iterable[Path]) -> None:
    """End the run with one message for types that no module has; `folders` hold the files that are searched for them.

    The modules are read and not imported: they import pandas and torch.
    """
    types = {name: entry.get("type") if isinstance(entry, dict) else None for name, entry in catalog.items()}
    without = [name for name, given in types.items() if not isinstance(given, str) and not name.startswith("_")]
    unknown = sorted({given for given in types.values() if isinstance(given, str) and not _is_known(given)})
    if unknown or without:
        known = _known_types()
        texts = {
            path: path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.rglob("*.y*ml"))
        }
        lines = [f"  catalog: '{name}' has no type; give one, such as pandas.CSVDataset" for name in without]
        for name in unknown:
            files = [str(path) for path, text in texts.items() if re.search(rf"\b{re.escape(name)}\b", text)]
            lines.append(f"  {', '.join(files) or 'catalog'}: there is no type '{name}'{nearest_name(name, known)}")
        raise CommandLineError("files of the catalog cannot be used:\n" + "\n".join(lines))


def wrong_entry(error: DatasetError) -> CommandLineError | None:
    """Return the message for an entry with a key that its type does not take; None for any other error."""
    match = _UNKNOWN_KEY.search(str(error))
    if match is None:
        return None
    key, entry, type_name = match.groups()
    module, _, name = type_name.rpartition(".")
    known = [known for known in inspect.signature(getattr(import_module(module), name)).parameters if known != "self"]
    return CommandLineError(f"catalog: '{entry}' has an unknown key '{key}'{nearest_name(key, known)}")


def _is_known(type_name: str) -> bool:
    module, _, name = type_name.rpartition(".")
    # Whatever it is called: names need not end as those of Kedro do.
    return any(name in _names_in(f"{prefix}{module}".rstrip("."), _NAME) for prefix in _PREFIXES)


def _known_types() -> list[str]:
    """Return all types of Kedro, its data sets and this project, as they are written."""
    found = list(_names_in("kedro.io"))
    for package, shown in (("kedro_datasets", ""), ("kdad.datasets", "kdad.datasets.")):
        spec = find_spec(package)
        for module in iter_modules(spec.submodule_search_locations if spec else None):
            found += [f"{shown}{module.name}.{name}" for name in _names_in(f"{package}.{module.name}")]
    return found


def _names_in(module: str, names: re.Pattern[str] = _CLASS) -> set[str]:
    """Return the names, of data sets if not said otherwise, that a source has; none where there is no such module."""
    try:
        spec = find_spec(module) if module else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return set()
    return set(names.findall(Path(spec.origin).read_text(encoding="utf-8")))
