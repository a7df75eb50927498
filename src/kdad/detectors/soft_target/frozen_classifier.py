"""A trained classifier as a frozen network: its logits as an output of one position."""

import shutil
from pathlib import Path

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdad.detectors.soft_target.classifier import Classifier
from kdad.errors import InputError
from kdad.features.network import FrozenReference
from kdad.networks.points import CriticalPoint
from kdad.networks.weights import fingerprint_state


class ClassifierReference(FrozenReference):
    """A classifier by its shape and its weights' hash."""

    channels: int = Field(description="1 for grey images, 3 for colour")
    classes: int = Field(description="logits")
    widths: list[int] = Field(description="channels of each block")
    hidden: int = Field(description="units before the logits")
    weights: str = Field(description="the safetensors file")

    def open(self) -> "FrozenClassifier":
        """Read the classifier, frozen; raises `InputError` when the file is gone, unreadable or another's."""
        path = Path(self.weights)
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"the classifier '{path}' cannot be read ({error}); train it again") from error
        if fingerprint_state(state) != self.fingerprint:
            raise InputError(f"'{path}' is another classifier: its hash is not {self.fingerprint}; take the right one")
        classifier = Classifier(self.channels, self.classes, self.widths, self.hidden)
        classifier.load_state_dict(state)
        return FrozenClassifier(classifier, self.channels, self.classes).requires_grad_(False).eval()

    def keep(self, folder: Path, name: str) -> "ClassifierReference":
        """Copy the weights to `folder`."""
        target = folder / f"{name}.safetensors"
        shutil.copyfile(self.weights, target)
        return self.model_copy(update={"weights": target.name})

    def within(self, folder: Path) -> "ClassifierReference":
        """Return the reference with the weights that `keep` copied to `folder`."""
        if Path(self.weights).is_absolute():
            return self
        return self.model_copy(update={"weights": str((folder / self.weights).resolve())})


class FrozenClassifier(nn.Module):
    """Gives one output, the logits `(B, K, 1, 1)` of images `(B, 3, H, W)`; of grey images one channel is seen."""

    def __init__(self, classifier: Classifier, channels: int, classes: int) -> None:
        super().__init__()
        self.classifier, self.channels, self.classes = classifier, channels, classes

    def forward(self, images: Tensor) -> list[Tensor]:
        """Classify the images."""
        return [self.classifier.classify(images[:, : self.channels])[..., None, None]]

    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        """Return the logits' shape."""
        return [CriticalPoint("logits", self.classes, 1, 1, signed=True)]
