"""One image at a time through every runtime: milliseconds, megabytes, and what the runtime costs in accuracy.

    python benchmarks/bench_runtimes.py --threads 2 mkd=data/06_models/folder/bottle/mkd/detector vgg16=...

Timed is a call with the pixels of an image (uint8, decoded already) that ends with its score and its map: resize,
normalisation and filters are in it. Runtimes take turns, a block of images each, so that a busy moment meets all.
Images are those of the run that made a detector: accuracy is that of its test images, and its validation ones set the
thresholds of what loses digits and the ranges of int8. Prints a table in Markdown; `--json` keeps the numbers.

    python benchmarks/bench_runtimes.py --latency lite0=data/06_models/textures/brick/mkd/detector lite2=...

`--latency` times the ways to ship a detector in float32 alone, its folder and a file by either runtime, and the folder
as it was made: batches of 1 and 16, one and two threads, in turns. It takes no images of a run. The least processor
time is what a busy machine changes least.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from kdad.compute import Compute, choose_compute
from kdad.detectors.detector import Detector
from kdad.detectors.exported.detector import FILE, open_exported, write_exported
from kdad.detectors.exported.runtimes import Runtime
from kdad.detectors.exported.writing import VerificationImages, compare, drawn, export_detector
from kdad.detectors.opening import open_detector
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.images.files.decoding import read_image
from kdad.images.files.fitting import fit_image
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.export import find_run_images
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.provenance import code_version

EXPORTS = (
    *(("onnxruntime", "float32"), ("onnxruntime", "int8")),
    *(("openvino", "float32"), ("openvino", "bfloat16"), ("openvino", "int8")),
)
GRADIENTS = ("gradients", "guided_backprop", "smooth_grad", "integrated_gradients")
_BLOCK = 10


class Contiguous(Compute):
    """The layout that torch has by default."""

    @property
    def memory_format(self) -> torch.memory_format:
        """Return it."""
        return torch.contiguous_format


class Eager(Runtime):
    """A detector as it is, behind the interface of an exported file."""

    _open = None

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def run_pixels(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Predict images one by one."""
        found = [self.detector.predict(one) for one in image]
        scores = np.array([one.score for one in found], dtype=np.float32)
        return (scores,) if found[0].map is None else (scores, np.stack([one.map for one in found]))


@dataclass
class Candidate:
    """A runtime of a detector, and what was measured of it."""

    detector: str
    runtime: str
    call: Callable[[np.ndarray], Any]
    facts: dict[str, Any]
    seconds: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return a row of the table."""
        p50, p99 = 1000 * np.quantile(self.seconds, [0.5, 0.99])
        return {"detector": self.detector, "runtime": self.runtime, "p50": p50, "p99": p99, **self.facts}


@dataclass
class Way:
    """A way to predict by a kept detector, with so many threads, in batches of so many."""

    detector: str
    said: str
    predictor: Predictor
    threads: int
    batch: int
    seconds: list[float] = field(default_factory=list)  # an image
    processor: list[float] = field(default_factory=list)  # the same, of processor time

    def predict(self, images: list[np.ndarray]) -> None:
        """Predict a batch of uint8 images `(H, W, 3)`, as a server does."""
        torch.set_num_threads(self.threads)
        began, worked = perf_counter(), process_time()
        one = self.predictor
        prepared = [one.placed(read_image(image, one.preparation.values))[0] for image in images]
        one.predict_batch(torch.from_numpy(np.stack(prepared)))
        self.seconds.append((perf_counter() - began) / len(images))
        self.processor.append((process_time() - worked) / len(images))


def _latencies(given: argparse.Namespace) -> list[dict[str, Any]]:
    ways = []
    with tempfile.TemporaryDirectory() as scratch:
        for named in given.detectors:
            name, _, folder = named.partition("=")
            ways += _ways(name, Path(folder), Path(scratch) / name)
    generator = np.random.default_rng(0)
    images = list(generator.integers(0, 256, (16, 256, 256, 3), dtype=np.uint8))
    for repeat in range(given.repeats):
        for way in ways:
            if way.batch == 1 or repeat % 8 == 0:
                way.predict(images[: way.batch])
                if repeat == 0:
                    way.seconds.clear()  # the first call lays weights out
                    way.processor.clear()
                    way.predict(images[: way.batch])
    named = " | ".join(f"{threads}, {name}" for name in ("p50", "p90") for threads in ("1 thread", "2 threads"))
    print(f"| detector | way | batch | {named} | 1 thread, processor |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for one, two in zip(ways[::2], ways[1::2], strict=True):
        quantiles = [(share, way) for share in (0.5, 0.9) for way in (one, two)]
        times = {
            f"p{100 * share:.0f} by {way.threads}": 1000 * np.quantile(way.seconds, share) for share, way in quantiles
        }
        times["least of the processor by 1"] = 1000 * min(one.processor)
        rows.append({"detector": one.detector, "way": one.said, "batch": one.batch, **times})
        shown = " | ".join(f"{value:.1f}" for value in times.values())
        print(f"| {one.detector} | {one.said} | {one.batch} | {shown} |")
    return rows


def _ways(name: str, folder: Path, scratch: Path) -> Iterator[Way]:
    exact = open_detector(folder, "cpu", "float32")
    kinds: list[tuple[str, Callable[[], Predictor]]] = [("folder, float32", lambda: exact)]
    made = open_detector(folder, "cpu")
    if made.compute.dtype != torch.float32:
        kinds.append(("folder, bfloat16", lambda: made))
    facts, model = export_detector(exact, "float32", drawn(exact.size), "onnxruntime", "float32")
    write_exported(facts, model, scratch)
    for runtime in ("onnxruntime", "openvino"):
        kinds.append((f"{runtime}, float32", partial(open_exported, scratch / FILE, runtime)))
    for said, opened in kinds:
        for batch in (1, 16):
            for threads in (1, 2):  # a file's runtime keeps those that it began with
                predictor = opened()
                if predictor.threshold is None:  # any: what is timed has no use for it
                    predictor.calibrated(quantile_threshold(np.zeros(20), 0.5), np.zeros(20), None)
                yield Way(name, said, predictor, threads, batch)


def main() -> None:
    """Export, compare and time."""
    given = _arguments()
    if given.latency:
        rows = _latencies(given)
        print(f"\nmilliseconds an image, {given.repeats} calls in turns, commit {code_version(Path.cwd())}")
        if given.json is not None:
            given.json.write_text(json.dumps(rows, indent=1))
        return
    torch.set_num_threads(given.threads)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for named in given.detectors:
            name, _, folder = named.partition("=")
            images = _images(Path(folder))
            pixels = [np.ascontiguousarray(image.pixels()[None]) for image in images.part(validation=False)]
            candidates = list(_candidates(name, Path(folder), images, Path(scratch) / name))
            _time(candidates, pixels, given.repeats)
            rows += [candidate.row() for candidate in candidates]
            print(_table(rows[-len(candidates) :], header=len(rows) == len(candidates)), flush=True)
    print(f"\n{given.repeats} images timed, {given.threads} threads, commit {code_version(Path.cwd())}")
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="+", metavar="name=folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=200, help="images timed by each runtime")
    parser.add_argument("--latency", action="store_true", help="time the ways to ship a detector, and nothing else")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _images(folder: Path) -> VerificationImages:
    detector = open_detector(folder, "cpu", "float32")
    made = detector.record
    block = {"name": made["dataset"], "category": made["category"], "root": made["root"]}
    block["image_size"] = list(detector.size)
    found = find_run_images(detector, DatasetParameters.model_validate(block))
    if found is None:
        raise SystemExit(f"{folder}: the images of its run are not at hand")
    return found


def _candidates(name: str, folder: Path, images: VerificationImages, scratch: Path) -> Iterator[Candidate]:
    exact = open_detector(folder, "cpu", "float32")
    weights = sum(value.numel() for network in exact.frozen.values() for value in network.module.state_dict().values())
    kept = sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith(("learnt", "detector")))
    size = (4 * weights + kept) / 1e6
    for said, detector in (
        ("torch float32, contiguous", _laid_out(open_detector(folder, "cpu", "float32"))),
        ("torch float32, channels-last", exact),
        ("torch bfloat16, channels-last", open_detector(folder, "cpu", "bfloat16")),
    ):
        if said.startswith("torch bfloat16") and detector.compute.dtype != torch.bfloat16:
            print(f"{name}: this machine has no bfloat16 of its own")
            continue
        facts = {"MB": size, **_accuracy(exact, Eager(detector), images)}
        yield Candidate(name, said, lambda pixels, detector=detector: detector.predict(pixels[0]), facts)
    for runtime, precision in EXPORTS:
        own = scratch / f"{runtime}_{precision}"
        try:
            facts, model = export_detector(exact, "float32", images, runtime, precision)
        except InputError as error:
            print(f"{name}: {runtime} in {precision}: {error}")
            continue
        write_exported(facts, model, own)
        opened = open_exported(own / FILE, runtime).runtime
        loss = facts.loss
        found = {
            "image_auroc": loss.image_auroc,
            "pixel_auroc": loss.pixel_auroc,
            "decisions_changed": loss.decisions_changed,
            "score_difference": loss.score_difference,
        }
        written = (own / FILE).stat().st_size / 1e6
        yield Candidate(name, f"{runtime} {precision}", opened.run_pixels, {"MB": written, **found})
    for method in getattr(exact, "methods", []):
        if method in GRADIENTS:
            yield Candidate(name, f"torch float32, map by {method}", _mapping(exact, method), {"MB": size})


def _accuracy(exact: Detector, runtime: Runtime, images: VerificationImages) -> dict[str, Any]:
    found = compare(exact, runtime, images.images)
    threshold = exact.threshold.value
    own = quantile_threshold(found.after[found.validation], exact.threshold.wanted or 0.95).value
    own = threshold if found.score_difference < 1e-4 else own
    return {
        "image_auroc": found.image_aurocs()[1],
        "pixel_auroc": found.pixel_auroc,
        "decisions_changed": float(((found.after > own) != (found.before > threshold))[found.tested].mean()),
        "score_difference": found.score_difference,
    }


def _laid_out(detector: Detector) -> Detector:
    compute = Contiguous(**{name: getattr(choose_compute("cpu", "float32"), name) for name in ("device", "dtype")})
    detector.to(memory_format=torch.contiguous_format)
    for part in (detector, *detector.frozen.values(), *getattr(detector, "members", {}).values()):
        part.compute = compute
    for network in detector.frozen.values():
        network.module.to(memory_format=torch.contiguous_format)
    return detector


def _mapping(detector: Detector, method: str) -> Callable[[np.ndarray], Any]:
    def mapped(pixels: np.ndarray) -> Any:
        prepared = fit_image(read_image(pixels[0]), detector.size, detector.preparation.fit)
        return detector.maps(torch.from_numpy(prepared)[None], None, [method])

    return mapped


def _time(candidates: list[Candidate], pixels: list[np.ndarray], repeats: int) -> None:
    for candidate in candidates:
        for number in range(3):
            candidate.call(pixels[number % len(pixels)])
    for start in range(0, repeats, _BLOCK):
        for candidate in candidates:
            candidate.call(pixels[start % len(pixels)])  # another one has had the caches
            for number in range(start, min(start + _BLOCK, repeats)):
                image = pixels[number % len(pixels)]
                began = perf_counter()
                candidate.call(image)
                candidate.seconds.append(perf_counter() - began)


def _table(rows: list[dict[str, Any]], header: bool) -> str:
    lines = []
    if header:
        lines.append("| detector | runtime | p50, ms | p99, ms | MB | image AUROC | pixel AUROC | decisions changed |")
        lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        aurocs = [row.get(name) for name in ("image_auroc", "pixel_auroc")]
        shown = ["" if found is None else f"{found:.4f}" for found in aurocs]
        changed = row.get("decisions_changed")
        lines.append(
            f"| {row['detector']} | {row['runtime']} | {row['p50']:.1f} | {row['p99']:.1f} | {row['MB']:.1f} | "
            f"{shown[0]} | {shown[1]} | {'' if changed is None else f'{changed:.1%}'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
