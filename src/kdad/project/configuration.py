"""Configuration of a run: parameter blocks, the catalog's types, where outputs lie, the session's own parameters."""

import inspect
import os
import re
from collections.abc import Iterable
from copy import deepcopy
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any

import yaml
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.io import DatasetError
from kedro.validation.utils import _MISSING, resolve_nested_dict_path
from omegaconf import OmegaConf
from pydantic import Field, TypeAdapter, ValidationError

from kdad.detectors.registry import SYSTEMS
from kdad.experiments.parameters import AblationParameters, PaperTableParameters
from kdad.experiments.plan import SUFFIX, system_of
from kdad.inference.parameters import CalibrationParameters, ComparisonParameters, InferenceParameters
from kdad.parameters.blocks import (
    ComputeParameters,
    ExportParameters,
    ReportingParameters,
    ServingParameters,
    WorkersParameters,
)
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.former import former_lines
from kdad.parameters.strict import every_message, merge, nearest_name
from kdad.parameters.written_names import escape_placeholders, unescape_placeholders
from kdad.project import register_project
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.places import DATA, OutputFolder, dataset_claims, inference_claim, results_place
from kdad.scoring.parameters import MeasuringParameters
from kdad.tracking.destination import destination_of, place_of_ui
from kdad.tracking.parameters import MlflowSettings, TrackingParameters

_BLOCKS = {
    "seed": Annotated[int, Field(ge=0, strict=True)],
    "dataset": DatasetParameters,
    "compute": ComputeParameters,
    "measuring": MeasuringParameters,
    "reporting": ReportingParameters,
    "paper_tables": PaperTableParameters,
    "inference": InferenceParameters,
    "comparison": ComparisonParameters,
    "calibration": CalibrationParameters,
    "export": ExportParameters,
    "tracking": TrackingParameters,
    "workers": WorkersParameters,
    "serving": ServingParameters,
}

#: What lies beside the categories of a data set, as it is of several.
_SHARED = ("paper_tables",)


def block_model(name: str) -> Any:
    """Return the model of a parameter block, of the seed its type; None for a name that is no block."""
    if name.endswith(SUFFIX) and system_of(name) in SYSTEMS:
        return AblationParameters
    return known_blocks().get(name)


def known_blocks() -> dict[str, Any]:
    """Return the model of every block but those of ablations, by name."""
    of_systems = {
        block: field.annotation for system in SYSTEMS.values() for block, field in system.Settings.model_fields.items()
    }
    return _BLOCKS | of_systems


class RunConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with resolvers and the names of parameter blocks checked.

    ``${place:04_feature}`` is ``data/04_feature/<dataset>/<category>`` of this run, so that data sets and
    categories do not overwrite each other (nor roots of one name: `kdad.project.places`); ``data`` stands for the
    global `outputs`, which is another in the environment ``test``. ``${layer:04_feature}`` is
    ``data/04_feature/<dataset>``; ``${project:mlruns}`` is an absolute path inside the project,
    ``${package:experiments}`` one inside the package, wherever it is installed; ``${tracking:uri}`` is where runs
    are logged; ``${block:dataset}`` is a parameter block, its braces hidden.
    """

    def __init__(self, conf_source: str, *arguments: Any, **options: Any) -> None:
        #: Until a session says where its project is: beside the configuration.
        self.project = Path(conf_source).resolve().parent
        #: Whose results the places are that this session may write to, known with its catalog.
        self.claims: list[OutputFolder] = []
        #: What several ask for, and is large.
        self._loaded: dict[str, dict[str, Any]] = {}
        options["runtime_params"] = escape_placeholders(options.get("runtime_params"))
        super().__init__(conf_source, *arguments, **options)
        check_environment(self.env, Path(self.conf_source))

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Load a configuration; a mistake in names of blocks, or in a block of every run, ends it with one message."""
        if key in self._loaded:
            return deepcopy(self._loaded[key])  # Kedro writes into what it is given
        register_project(self.project)
        package = Path(__file__).parents[1]
        OmegaConf.register_resolver("package", lambda path: (package / path).as_posix(), replace=True)
        if key == "catalog":
            self._register_places(self["parameters"])
        try:
            loaded = super().__getitem__(key)
        except MissingConfigException:
            raise
        except Exception as error:  # whatever YAML, OmegaConf or Kedro say of a file
            wrong = unreadable_files(self._folders())
            if not wrong:
                raise
            message = "files of the configuration cannot be used:\n" + "\n".join(wrong)
            raise CommandLineError(message) from error
        if key == "catalog":
            check_types(loaded, self._folders())
        if key == "mlflow":
            check_values({"mlflow.yml": MlflowSettings}, {"mlflow.yml": loaded}, "mlflow.yml cannot be used")
        if key == "parameters":
            loaded = unescape_placeholders(loaded)
            check_names(loaded)
            check_values({name: block_model(name) for name in ("seed", "dataset", "tracking")}, loaded)
        if key in ("parameters", "catalog"):
            self._loaded[key] = deepcopy(loaded)
        return loaded

    @staticmethod
    def _soft_merge(config: dict[str, Any], env_config: dict[str, Any], env_path: str | None = None) -> dict[str, Any]:
        """Lay an environment over the base as Kedro does, which makes nodes of OmegaConf of every value for that."""
        return merge(config, env_config)

    @property
    def outputs(self) -> str:
        """The folder of the project that results are written below."""
        return str(self._globals.get("outputs") or DATA)

    def _folders(self) -> list[Path]:
        return [Path(self.conf_source) / name for name in (self.base_env, self.env or self.default_run_env)]

    def _tracking_fact(self, fact: str) -> Any:
        """Return what is known of where runs are logged; `ui` is where its pages are shown."""
        settings = self["mlflow"]
        destination = destination_of(settings, os.environ, "kdad")
        return place_of_ui(destination, settings.get("ui", {})) if fact == "ui" else getattr(destination, fact)

    def _register_places(self, parameters: dict[str, Any]) -> None:
        dataset, outputs = DatasetParameters.model_validate(parameters["dataset"]), self.outputs
        data = self.project / outputs
        claims = dataset_claims(data, dataset, _SHARED)
        of_inference = inference_claim(parameters["inference"], data) if "inference" in parameters else None
        self.claims = [*claims.values(), *([of_inference] if of_inference else [])]
        place, hidden = claims[dataset.category_name].place, escape_placeholders(parameters)
        folder = place.partition("/")[0]
        resolvers = {
            "place": lambda layer: f"{outputs}/{layer}/{place}",
            "layer": lambda layer: f"{outputs}/{layer}/{folder}",
            "setting": partial(resolve_nested_dict_path, parameters),
            # Detectors and files are looked through, and a catalog asks for each again and again.
            "results": cache(lambda name: results_place(name, parameters, data, self.project)),
            "tracking": cache(self._tracking_fact),
            "block": lambda block: OmegaConf.create(hidden[block]),
        }
        for name, resolver in resolvers.items():
            OmegaConf.register_resolver(name, resolver, replace=True)


class _LoaderOnce(yaml.SafeLoader):
    """YAML's safe loader, which does not take the last of two equal keys in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        marks: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":  # which may merge several mappings
                continue
            first, mark = marks.setdefault(key.value, key.start_mark), key.start_mark
            if first.index != mark.index:
                lines = f"{first.line + 1} and {mark.line + 1}"
                raise ValueError(f"'{key.value}' is there twice, in lines {lines}; keep one")
        return super().construct_mapping(node, deep)


def unreadable_files(folders: Iterable[Path]) -> list[str]:
    """Return a line for each YAML file below `folders` that is none, or no mapping of names to values."""
    lines = []
    for path in [path for folder in folders for path in sorted(folder.rglob("*.y*ml"))]:
        try:
            content = _LoaderOnce(path.read_bytes()).get_single_data()
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            lines.append(f"  {path}: {' '.join(str(error).split())}")
            continue
        if content is not None and not isinstance(content, dict):
            lines.append(f"  {path}: holds a {type(content).__name__}; write names and values, such as `seed: 0`")
    return lines


#: Folders of `conf` that are offered to nobody: what all others lie over, and what editors read.
_NO_ENVIRONMENTS = ("base", "schema")


def check_environment(name: str | None, conf_source: Path) -> None:
    """End the run for an environment that has no folder in `conf_source`, naming the nearest; an archive is not looked
    into, and ``local`` need not be there.
    """
    if name in (None, "local") or not conf_source.is_dir() or (conf_source / name).is_dir():
        return
    known = [folder.name for folder in conf_source.iterdir() if folder.is_dir() and folder.name not in _NO_ENVIRONMENTS]
    raise CommandLineError(
        f"there is no environment '{name}' in '{conf_source}'{nearest_name(name, known)}", ExitCode.WRONG_COMMAND
    )


def check_names(parameters: dict[str, Any]) -> None:
    """End the run with one message for parameters of earlier versions, and for blocks that are unknown."""
    lines = former_lines(parameters)
    unknown = [name for name in parameters if block_model(name) is None]
    known = [*known_blocks(), *(name for name in parameters if name.endswith(SUFFIX) and name not in unknown)]
    for name in unknown:
        if not any(line.startswith(f"  {name}.") for line in lines):
            lines.append(f"  unknown parameter '{name}'{nearest_name(name, known)}")
    if lines:
        raise CommandLineError("parameters cannot be used:\n" + "\n".join(lines))


def check_values(models: dict[str, Any], parameters: dict[str, Any], what: str = "parameters cannot be used") -> None:
    """End the run with one message for every value that does not fit its model; `models` by dotted name."""
    lines: list[str] = []
    for name, model in models.items():
        value = parameters[name] if name in parameters else resolve_nested_dict_path(parameters, name)
        if value is _MISSING:
            lines.append(f"  {name}: is missing")
            continue
        try:
            TypeAdapter(model).validate_python(value)
        except ValidationError as error:
            lines += every_message(error, name)
    if lines:
        raise CommandLineError(f"{what}:\n" + "\n".join(lines))


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
