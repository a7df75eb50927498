"""Found images through a detector, a batch in memory at once."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from rich.progress import TextColumn

from kdad.detectors.prediction import FilePrediction
from kdad.images.found import FoundImages, batches_of
from kdad.progress import progress_bar

_PIXELS = 1 << 24  # of a batch of large photographs: 200 MB


class FilePredictor(Protocol):
    """A detector, or what judges through one."""

    def predict_files(
        self, paths: Iterable[Path], batch_size: int = 8, with_images: bool = True
    ) -> Iterator[FilePrediction]:
        """Yield files with their predictions."""


def predict_found(
    predictor: FilePredictor, images: FoundImages, batch_size: int, with_images: bool = True
) -> Iterator[FilePrediction]:
    """Yield every file with its prediction, as `predict_in_batches`, behind a progress bar."""
    with progress_bar(TextColumn("{task.fields[rate]}")) as bar:
        task = bar.add_task("Judging", total=len(images.paths), rate="")
        for judged in predict_in_batches(predictor, images, batch_size, with_images):
            yield judged
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.1f} images/s" if speed else "")
            del judged  # a large image is not kept while the next is judged


def predict_in_batches(
    predictor: FilePredictor, images: FoundImages, batch_size: int, with_images: bool = True
) -> Iterator[FilePrediction]:
    """Yield every file with its prediction, up to `batch_size` in memory at once.

    A file that cannot be read, or whose score or map is not finite, has a problem and no prediction.
    """
    for batch in batches_of(images, batch_size, _PIXELS):
        for judged in predictor.predict_files(batch, len(batch), with_images):
            yield _checked(judged)
            del judged


def _checked(judged: FilePrediction) -> FilePrediction:
    what = None if judged.prediction is None else judged.prediction.not_finite
    if what is None:
        return judged
    return replace(judged, prediction=None, problem=f"{judged.path}: its {what} is not finite; look at the image")
