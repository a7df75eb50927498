"""What many images show at each location, kept in memory for rules that are tried one after another."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdad.detectors.mkd.point_map import Discrepancies


@dataclass(frozen=True)
class KeptDiscrepancies:
    """Maps `(N, h_i, w_i)` by quantity, term and critical point, and each point's part of L_total `(N,)`.

    Takes the place of `Discrepancies`; a few thousand numbers an image instead of its activations.
    """

    located: dict[tuple[str, str, int], Tensor]
    totals: list[Tensor]

    @classmethod
    def of(cls, found: Iterable[Discrepancies], wanted: Iterable[tuple[str, str]], points: int) -> "KeptDiscrepancies":
        """Keep of batches, one after another, the maps of the wanted terms and quantities at all points."""
        wanted, every = list(wanted), range(points)
        located: dict[tuple[str, str, int], list[Tensor]] = {}
        totals: list[list[Tensor]] = [[] for _ in every]
        for batch in found:
            for term, quantity in wanted:
                for i, one in enumerate(batch.maps(term, every, quantity)):
                    located.setdefault((quantity, term, i), []).append(one.cpu())
            for i in every:
                totals[i].append(batch.total([i]).cpu())
        return cls({key: torch.cat(parts) for key, parts in located.items()}, [torch.cat(parts) for parts in totals])

    def maps(self, term: str, positions: Sequence[int], quantity: str = "discrepancy") -> list[Tensor]:
        """Return the maps of the points at these positions."""
        return [self.located[quantity, term, i] for i in positions]

    def total(self, positions: Sequence[int]) -> Tensor:
        """Return L_total `(N,)` over the points at these positions, of which it is the sum (eq. 3)."""
        return torch.stack([self.totals[i] for i in positions]).sum(0)

    def rows(self, chosen: np.ndarray | slice) -> "KeptDiscrepancies":
        """Return what these images show: rows, or bool `(N,)`."""
        index = chosen if isinstance(chosen, slice) else torch.from_numpy(chosen)
        return KeptDiscrepancies(
            {key: one[index] for key, one in self.located.items()}, [t[index] for t in self.totals]
        )

    def batches(self, size: int) -> Iterator["KeptDiscrepancies"]:
        """Yield the images in order, `size` at once."""
        for start in range(0, len(self.totals[0]), size):
            yield self.rows(slice(start, start + size))
