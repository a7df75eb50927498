"""Image files through a predictor, with their names and labels."""

from collections.abc import Iterator
from contextlib import closing

from rich.progress import TextColumn

from kdad.detectors.predictor import FilePrediction, Predictor
from kdad.detectors.tiled import TiledPredictor
from kdad.images.found import FoundImages
from kdad.progress import progress_bar

#: A detector, an exported file, or either by tiles.
AnyPredictor = Predictor | TiledPredictor


def predict_found(
    predictor: AnyPredictor, images: FoundImages, batch_size: int, with_images: bool = True
) -> Iterator[FilePrediction]:
    """Yield every file with its prediction, as `predict_files` does, behind a progress bar."""
    with progress_bar(TextColumn("{task.fields[rate]}")) as bar:
        task = bar.add_task("Predicting", total=len(images.paths), rate="")
        for predicted in predictor.predict_files(images.paths, batch_size, with_images):
            yield predicted
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.1f} images/s" if speed else "")
            del predicted  # a large image is not kept while the next is predicted


def predict_labelled(
    predictor: AnyPredictor, images: FoundImages, batch_size: int
) -> Iterator[tuple[str, FilePrediction, int | None]]:
    """Yield every file's name, prediction and label."""
    with closing(predict_found(predictor, images, batch_size)) as predicted:
        for name, label in zip(images.names, images.labels, strict=True):
            yield name, next(predicted), label  # a zip of all three would keep an image while the next is predicted
