"""The offset that gives a class back its share of decisions."""

import torch
from torch import Tensor


def best_offset(logits: Tensor, labels: Tensor, number: int) -> float:
    """Return what to add to a class's logit so that most of these images are classified rightly.

    `logits` are `(N, K)`, `labels` `(N,)`. Of equally good offsets it is the middle of the lowest run (Hinton et al.
    2015, section 3, where the offset was set on test images; here it is for validation ones).
    """
    others = logits.clone()
    others[:, number] = -torch.inf
    rival, rival_class = others.max(1)
    # From this offset on, an image is given to the class.
    margin, order = (rival - logits[:, number]).sort()
    gained = (labels == number).long() - (rival_class == labels).long()
    rightly = torch.cat([torch.zeros(1, dtype=torch.long), gained[order].cumsum(0)])
    step = int(rightly.argmax())
    if step == 0:
        return float(margin[0] - 1)
    return float(margin[step - 1] + 1) if step == len(margin) else float((margin[step - 1] + margin[step]) / 2)
