"""What the thresholds of shipped systems promise on few real images, and what happens to other good images.

``python benchmarks/bench_promised_rates.py`` draws some of the good images of a set, fits a system to
them by the settings of ``conf/base``, as a run does, and predicts up to 100 others. Each resample is a line of
``--results``, so that an interrupted series goes on; the table of all lines is printed at the end, or by ``--table``
without running anything. Results of another version belong in another file.
"""

import argparse
import json
import logging
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from kedro.framework.project import configure_project, settings

from kdad.compute import prepare_compute
from kdad.detectors.detector import Detector, TrainContext
from kdad.detectors.evaluation import extract_features
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ChannelStatistics, ImageSet
from kdad.images.registry import open_image_set
from kdad.images.splits import Split, split_samples
from kdad.metrics.ranking import image_auroc
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.project.configuration import RunConfigLoader
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore
from timing import PROJECT

_MVTEC = PROJECT.parent / "shared/data/mvtec_ad_256"
_COUNTS, _OTHERS, _BATCH = (20, 10, 40, 100), 100, 32


def shipped_parameters() -> dict[str, Any]:
    """Return the parameters that ``conf/base`` ships, of no other environment."""
    configure_project("kdad")
    return RunConfigLoader(str(PROJECT / "conf"), env="base", **settings.CONFIG_LOADER_ARGS)["parameters"]


def settings_of(system: str, parameters: dict[str, Any]) -> SystemSettings:
    """Return the settings of a system."""
    kind = SYSTEMS[system].Settings
    return kind.model_validate({name: parameters[name] for name in kind.model_fields})


def populations(mvtec: Path, parameters: dict[str, Any]) -> dict[str, ImageSet]:
    """Return the sets that are at hand, by name."""
    wanted: dict[str, dict[str, str]] = {}
    for name in ("bottle", "pill"):
        if (mvtec / name).is_dir():
            wanted[name] = {"name": "folder", "root": str(mvtec), "category": name}
        else:
            print(f"{name} is left out: it is not in {mvtec}; give the folder of MVTec AD by --mvtec")
    if find_spec("elpv_dataset"):
        wanted["elpv mono"] = {"name": "elpv", "category": "mono"}
    else:
        print("elpv mono is left out: install elpv-dataset")
    shipped = parameters["dataset"]
    return {name: open_image_set(DatasetParameters(**shipped | given)) for name, given in wanted.items()}


class Population:
    """A set's good training images, its anomalous test images, and what a system's frozen networks give for them."""

    def __init__(self, images: ImageSet, system: str, parameters: dict[str, Any], store: Path) -> None:
        self.detector, self.settings = SYSTEMS[system].detector, settings_of(system, parameters)
        self.fraction = parameters["dataset"]["validation_fraction"]
        self.quantile = parameters["measuring"]["threshold_quantile"]
        self.models = ContentStore(store / system / "models")
        self.compute = prepare_compute(ComputeParameters.model_validate(parameters["compute"] | {"threads": 1}))
        labels = [(sample.id, sample.label, sample.subset) for sample in images.samples]
        self.table = pd.DataFrame(labels, columns=["id", "label", "split"]).assign(kind="", has_mask=False)
        self.table["fingerprint"] = [images.fingerprint(row) for row in range(len(labels))]
        self.normal = np.flatnonzero((self.table["label"] == 0) & (self.table["split"] == "train"))
        self.anomalous = np.flatnonzero(self.table["label"] == 1)
        feature_set = FeatureSet(images, Split(self.table), {})
        self.references = self.detector.frozen_networks(self.settings, feature_set, self._workshop(0))
        self.feature_set = extract_features(
            self.detector, self.settings, feature_set, self.references, self.compute, ContentStore(store / "seen")
        )

    def resample(self, count: int, draw: int) -> dict[str, float]:
        """Fit to `count` drawn images, set the threshold, and predict others."""
        drawn = np.random.default_rng([count, draw]).permutation(self.normal)
        own, others = np.sort(drawn[:count]), drawn[count : count + _OTHERS]
        samples = [replace(self.feature_set.images.samples[row], subset="train") for row in own]
        part = np.full(len(self.table), "left_out", dtype=object)
        part[own] = split_samples(samples, self.fraction, draw)
        split = Split(self.table.assign(split=part))
        features = {name: _of_training(cache, split) for name, cache in self.feature_set.features.items()}
        started = perf_counter()
        made = self.detector(self.settings, self.references, self.compute)
        made.fit(replace(self.feature_set, split=split, features=features), self._workshop(draw))
        seconds = perf_counter() - started
        held, normal, anomalous = (
            self._scores(made, rows) for rows in (split.rows("validation"), others, self.anomalous)
        )
        threshold = quantile_threshold(held, self.quantile)
        exceeding = int((normal > threshold.value).sum())
        low, high = threshold.exceeding_range(len(normal))
        labels = np.repeat([0, 1], [len(normal), len(anomalous)])
        return {
            "held_out": len(held),
            "promised": threshold.expected_false_positive_rate,
            "low": threshold.false_positive_rate_low,
            "high": threshold.false_positive_rate_high,
            "observed": exceeding / len(normal),
            "as_drawn": bool(low <= exceeding <= high),
            "found": float((anomalous > threshold.value).mean()),
            "image_auroc": image_auroc(labels, np.concatenate([normal, anomalous])),
            "seconds": seconds,
        }

    def _workshop(self, seed: int) -> TrainContext:
        return TrainContext(self.compute, seed, self.models)

    def _scores(self, detector: Detector, rows: np.ndarray) -> np.ndarray:
        batches = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        scores = [
            detector.score_and_show(self.feature_set.batch(one), self.feature_set.outputs(one))[0] for one in batches
        ]
        return np.concatenate(scores).astype(np.float64)


def _of_training(cache: FeatureCache, split: Split) -> FeatureCache:
    """Return a cache whose statistics are of the images that train in this split."""
    statistics = [ChannelStatistics() for _ in cache.arrays]
    for measured, output in zip(statistics, cache.outputs(split.rows("train")), strict=True):
        measured.update(output.numpy())
    moments = [{"mean": one.mean.tolist(), "sd": one.sd.tolist()} for one in statistics]
    own = {"statistics": moments, "training_images": split.training_digest}
    return replace(cache, manifest=cache.manifest | own)


def table_of(lines: list[dict[str, Any]]) -> str:
    """Return the lines as Markdown: a row for each set, system and number of images."""
    rows = [
        "| set | system | normal | held out | promised | observed: mean, least to most | inside the interval | "
        "as drawn | found | image AUROC | fit |",
        "|---" * 11 + "|",
    ]
    for (name, system, count), of in pd.DataFrame(lines).groupby(["set", "system", "normal"], sort=False):
        inside = ((of["low"] <= of["observed"]) & (of["observed"] <= of["high"])).sum()
        rows.append(
            f"| {name} | {system} | {count} | {of['held_out'].iloc[0]} | {of['promised'].iloc[0]:.1%} | "
            f"{of['observed'].mean():.1%}, {of['observed'].min():.0%} to {of['observed'].max():.0%} | "
            f"{inside} of {len(of)} | {of['as_drawn'].sum()} of {len(of)} | {of['found'].mean():.0%} | "
            f"{of['image_auroc'].mean():.3f} | {of['seconds'].mean():.1f} s |"
        )
    return "\n".join(rows)


def run_missing(given: argparse.Namespace, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the resamples that are not among `lines`, append each to the results as it is done, and return them."""
    done = {(line["set"], line["system"], line["normal"], line["draw"]) for line in lines}
    parameters, found = shipped_parameters(), []
    logging.disable(logging.INFO)  # a line for many an epoch
    with tempfile.TemporaryDirectory() as folder:
        for system in given.systems:
            sets = populations(given.mvtec, parameters)
            made = {name: Population(images, system, parameters, Path(folder) / name) for name, images in sets.items()}
            for count, (name, population), draw in product(given.counts, made.items(), range(given.draws)):
                if (name, system, count, draw) in done:
                    continue
                head = {"set": name, "system": system, "normal": count, "draw": draw}
                found.append(head | population.resample(count, draw))
                with given.results.open("a") as file:
                    file.write(json.dumps(found[-1]) + "\n")
    return found


def main() -> None:
    """Run what `--results` lacks, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mvtec", type=Path, default=_MVTEC, help="folder of MVTec AD with bottle and pill")
    arguments.add_argument("--systems", nargs="+", default=["mkd"])
    arguments.add_argument("--counts", nargs="+", type=int, default=_COUNTS)
    arguments.add_argument("--draws", type=int, default=10)
    arguments.add_argument("--results", type=Path, default=Path("promised_rates.jsonl"))
    arguments.add_argument("--table", action="store_true", help="print the table of what is in --results, and end")
    given = arguments.parse_args()
    lines = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    if not given.table:
        lines += run_missing(given, lines)
    print(table_of(lines))


if __name__ == "__main__":
    main()
