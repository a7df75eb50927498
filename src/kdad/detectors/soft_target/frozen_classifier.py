"""A trained classifier as a frozen network: its logits as an output of one position."""

from pydantic import Field
from torch import Tensor, nn

from kdad.detectors.soft_target.classifier import Classifier
from kdad.features.network import NetworkReference
from kdad.networks.points import CriticalPoint


class ClassifierReference(NetworkReference):
    """A classifier by its shape and its weights' hash."""

    channels: int = Field(description="1 for grey images, 3 for colour")
    classes: int = Field(description="logits")
    widths: list[int] = Field(description="channels of each block")
    hidden: int = Field(description="units before the logits")

    def open(self) -> "FrozenClassifier":
        """Read the classifier, frozen; raises `InputError` when the file is gone, unreadable or another's."""
        state = self.read_weights()
        classifier = Classifier(self.channels, self.classes, self.widths, self.hidden)
        classifier.load_state_dict(state)
        return FrozenClassifier(classifier, self.channels, self.classes).requires_grad_(False).eval()


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
