"""What it is worth to choose on the test images, which nothing here does: a lab command that changes no default.

    python benchmarks/selection_on_test.py [--sets brick bottle=FOLDER ...] [--seeds 0 1 2] [--epochs N] [--page=PAGE]

Every training is measured on the test images at each few steps, by the shipped settings and by others that need no
other training. The table lays the last step beside the best step of each training, and beside the best setting of each
set. A set is an embedded texture, or a category in a folder. What a training gave is kept in a JSON file below
``--work``, and found there again.
"""

import argparse
import json
import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from safetensors.torch import save_file

from kdad.compute import choose_compute, limit_threads
from kdad.detectors.evaluation import map_images
from kdad.detectors.registry import SYSTEMS
from kdad.experiments.steps import (
    RunContext,
    decide,
    extract_features,
    fit_detector,
    measure,
    prepare_frozen,
)
from kdad.features.extraction import FeatureSet
from kdad.images.registry import open_image_set
from kdad.images.splits import Split, split_set, table_of
from kdad.metrics.ground_truth import read_ground_truth
from kdad.metrics.names import METRICS
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import merge
from kdad.scoring.parameters import MeasuringParameters
from kdad.scoring.smoothing import smooth_all
from kdad.storage.content_store import CHECKSUMS, MADE_BY, ContentStore, Stores
from kdad.storage.replacing import replace_text
from kdad.training.loop import CheckpointFile
from written_tables import heads, line, replace_part, spread, wrapped

SHIPPED = "shipped"
METRICS_SHOWN = ("image_auroc", "pro_auc")
#: By system: settings that use the same training, each as blocks that lie over the shipped ones.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "mkd": {
        SHIPPED: {},
        "no Gaussian": {"scoring": {"smoothing": {"discrepancy": {"gaussian_sigma": 0.0}}}},
        "Gaussian of 4": {"scoring": {"smoothing": {"discrepancy": {"gaussian_sigma": 4.0}}}},
        "all points": {"scoring": {"forward_map": {"points": "all"}}},
        "total loss": {"scoring": {"detection": {"score": "total_loss"}}},
    },
    "reverse_distillation": {
        SHIPPED: {},
        "sum": {"reverse_distillation": {"fusion": "sum"}},
        "maximum": {"reverse_distillation": {"score": "map_maximum"}},
        "sum, maximum": {"reverse_distillation": {"fusion": "sum", "score": "map_maximum"}},
        "Gaussian of 2": {"reverse_distillation": {"smoothing": {"gaussian_sigma": 2.0}}},
    },
    "stfpm": {
        SHIPPED: {},
        "Gaussian of 2": {"stfpm": {"smoothing": {"gaussian_sigma": 2.0}}},
        "Gaussian of 4": {"stfpm": {"smoothing": {"gaussian_sigma": 4.0}}},
        "highest 1 %": {"stfpm": {"score": "map_top_mean"}},
        "per pixel": {"stfpm": {"normalisation": "per_pixel"}},
    },
}
#: The block that a system's training stands in.
_TRAINED = {"mkd": "cloner", "reverse_distillation": "reverse_distillation", "stfpm": "stfpm"}
_TEXTURES = ("brick", "grass", "gravel")
#: What a training gave: metrics by setting, by epoch.
Steps = dict[str, dict[str, dict[str, float]]]
_NOTE = (
    "Percent, mean ± standard deviation over seeds. The last step is what kdad reports. The best step is chosen for "
    "each training and metric on the test images, and the best setting for each set and metric. The column of both "
    "chooses them for each training. Settings need no other training. No chosen figure is an estimate for new images."
)


def main() -> None:
    """Train and measure what is not measured yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--systems", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument(
        "--sets", nargs="+", default=list(_TEXTURES), help="textures, and CATEGORY=FOLDER that holds it"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of every training; else each system's own")
    parser.add_argument("--every", type=int, default=5, help="epochs between two measurements")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--work", type=Path, default=Path("data/test_selection"), help="where measurements are kept")
    parser.add_argument("--page", type=Path, help="Markdown page with the two marks; else the table is printed")
    given = parser.parse_args()
    limit_threads(None)
    found: dict[tuple[str, str], dict[int, Steps]] = {}
    for seed in given.seeds:
        for name in given.sets:
            for system in given.systems:
                steps = measured(system, name, seed, given.epochs, given.every, given.image_size, given.work)
                found.setdefault((name.partition("=")[0], system), {})[seed] = steps
    text = render(found)
    if given.page is None:
        print(text)
    else:
        page = given.page.read_text(encoding="utf-8")
        given.page.write_text(replace_part(page, text, Path(__file__).name), encoding="utf-8")


def measured(system: str, name: str, seed: int, epochs: int | None, every: int, size: int, work: Path) -> Steps:
    """Return the test metrics of a training by epoch and setting, measured or found."""
    category, _, root = name.partition("=")
    own = {"checkpoint_every": every} | ({} if epochs is None else {"epochs": epochs})
    blocks = blocks_of(system, own)
    total = blocks[_TRAINED[system]]["training"]["epochs"]
    run = work / f"{category}_{size}_{system}_{total}_{every}_{seed}"
    file = run.with_name(f"{run.name}.json")
    if not file.is_file():
        place = {"name": "folder", "root": root} if root else {"name": "textures"}
        dataset = DatasetParameters(**place, category=category, image_size=size)
        steps = _train_and_measure(system, blocks, dataset, seed, run)
        replace_text(file, json.dumps(steps, indent=1))
        shutil.rmtree(run)
    return json.loads(file.read_text())


def blocks_of(system: str, training: dict[str, Any]) -> dict[str, Any]:
    """Return the shipped blocks of a system, with these values of its training in the place of their own."""
    kind = SYSTEMS[system].Settings
    shipped = kind.model_validate({field: {} for field in kind.model_fields}).model_dump(mode="json")
    return merge(shipped, {_TRAINED[system]: {"training": training}})


def _train_and_measure(system: str, blocks: dict[str, Any], dataset: DatasetParameters, seed: int, run: Path) -> Steps:
    """Train once, in the folder `run`, and measure each kept step by each setting."""
    detector, stores = SYSTEMS[system].detector, Stores.below(run)
    stores = replace(stores, features=run.parent / "features")
    measuring = MeasuringParameters(resolution="model", bootstrap_resamples=100)
    context = RunContext(choose_compute(), stores, measuring, seed=0)  # the split stays the same
    images = open_image_set(dataset, 0, ContentStore(stores.features))
    split = Split(table_of(images, split_set(images.samples, dataset, 0)))
    settings = detector.Settings.model_validate(blocks)
    feature_set, frozen = prepare_frozen(detector, settings, FeatureSet(images, split, {}), context.train_context(seed))
    feature_set = extract_features(detector, settings, feature_set, frozen, context)
    truth = read_ground_truth(feature_set.split, feature_set.images, measuring.resolution)
    variants = {
        name: detector.Settings.model_validate(merge(settings.model_dump(mode="json"), changed))
        for name, changed in SETTINGS[system].items()
    }
    with kept_steps(run / "steps"):
        made, _ = fit_detector(detector, settings, feature_set, frozen, context.train_context(seed))
    last = getattr(settings, _TRAINED[system]).training.epochs
    trained = stores.models / made.key
    weights = {int(path.stem): path for path in (run / "steps").glob("*.safetensors")}
    steps: Steps = {}
    for epoch, path in sorted((weights | {last: trained / "weights.safetensors"}).items()):
        with TemporaryDirectory(dir=run) as folder:
            # A store in which the network of this step lies as if its training had ended there.
            here = replace(context, stores=replace(Stores.below(Path(folder)), features=stores.features))
            ContentStore(here.stores.models).obtain(made.key, lambda place, path=path: _copy(trained, path, place))
            for name, own in variants.items():
                at_step, fitting = fit_detector(detector, own, feature_set, frozen, here.train_context(seed))
                if not fitting.reused:
                    raise SystemExit(f"'{name}' of {system} changes the training; leave it out of SETTINGS")
                raw = map_images(at_step, feature_set, at_step.methods[:1], here.cases)
                smoothed = {
                    method: smooth_all(stack, at_step.smoothing(method), at_step.region)
                    for method, stack in raw.stacks.items()
                }
                scores, _ = decide(at_step, split, raw.scores, smoothed, measuring)
                shown = {method: smoothed[method] for method in at_step.methods[:1]}
                numbers, _ = measure(at_step, split, scores, raw.stacks, shown, truth, measuring)
                steps.setdefault(str(epoch), {})[name] = {metric: numbers[metric] for metric in METRICS_SHOWN}
    return steps


def _copy(trained: Path, weights: Path, place: Path) -> None:
    for path in trained.iterdir():
        if path.name not in (CHECKSUMS, MADE_BY):  # the store writes both anew
            shutil.copy(path, place)
    shutil.copy(weights, place / "weights.safetensors")


@contextmanager
def kept_steps(folder: Path) -> Iterator[None]:
    """Keep the network of every checkpoint in `folder`, a file an epoch, counted from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    save = CheckpointFile.save

    def keep(self: CheckpointFile, state: dict[str, Any]) -> None:
        network = {name: value.detach().cpu().contiguous() for name, value in state["module"].items()}
        save_file(network, folder / f"{state['epoch'] + 1}.safetensors")
        save(self, state)

    CheckpointFile.save = keep
    try:
        yield
    finally:
        CheckpointFile.save = save


def render(found: dict[tuple[str, str], dict[int, Steps]]) -> str:
    """Return the table as Markdown: a line for each set, system and metric."""
    columns = ["last step", "best step", "best setting", "both", "the setting", "the steps"]
    lines = [wrapped(_NOTE)]
    for metric in METRICS_SHOWN:
        lines += ["", heads([METRICS[metric].label, "system", *columns])]
        for (name, system), seeds in found.items():
            runs = list(seeds.values())
            lasts = [steps[max(steps, key=int)] for steps in runs]
            setting = max(lasts[0], key=lambda one: statistics.fmean(last[one][metric] for last in lasts))
            shown = [
                [last[SHIPPED][metric] for last in lasts],
                [max(at[SHIPPED][metric] for at in steps.values()) for steps in runs],
                [last[setting][metric] for last in lasts],
                [max(figures[metric] for at in steps.values() for figures in at.values()) for steps in runs],
            ]
            best = [max(steps, key=lambda epoch: steps[epoch][SHIPPED][metric]) for steps in runs]
            cells = [spread(100 * pd.Series(values, dtype=float)) for values in shown]
            lines.append(line([name, system, *cells, setting, ", ".join(best)]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
