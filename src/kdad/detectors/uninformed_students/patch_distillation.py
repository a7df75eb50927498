"""Distilling a source into a teacher patch by patch, as published (Bergmann et al. 2020, section 3.1)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from kdad.detectors.uninformed_students.standardised_target import StandardisedTarget
from kdad.detectors.uninformed_students.teacher_losses import knowledge_loss
from kdad.detectors.uninformed_students.teacher_objective import TeacherLoss


@dataclass
class PatchEmbedding(StandardisedTarget):
    """P(p) of L_k: the mean over positions of the source's last critical point, each channel standardised.

    Patches are enlarged to `size` pixels first.
    """

    size: int
    measured_at_once = 64

    def raw(self, images: Tensor) -> Tensor:
        """Return the embeddings `(B, C)` of patches `(B, 3, p, p)`, float32."""
        enlarged = interpolate(images, (self.size, self.size), mode="bilinear")
        with self.compute.autocast():
            found = self.source(self.compute.move(enlarged))[-1]
        return found.float().mean(dim=(2, 3))


class PatchTeacherLoss(TeacherLoss):
    """The published loss: a patch has one descriptor."""

    def describe(self, images: Tensor) -> Tensor:
        """Return a descriptor `(B, d)` of each patch."""
        return self.networks["descriptor"](images)

    def knowledge(self, described: Tensor, target: Tensor) -> Tensor:
        """Return `knowledge_loss`."""
        return knowledge_loss(self.networks["decoder"](described), target)

    def one_by_one(self, described: Tensor) -> Tensor:
        """Return them as they are."""
        return described
