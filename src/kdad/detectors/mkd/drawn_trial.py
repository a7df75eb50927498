"""Rules tried on held-out normal images, and on copies of them with drawn defects."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from kdad.detectors.mkd.kept_discrepancies import KeptDiscrepancies
from kdad.detectors.mkd.paired_gains import DrawnSample, found_shares, ranking_wins
from kdad.detectors.mkd.parameters import ScoringParameters
from kdad.detectors.mkd.point_map import Discrepancies, PointMap
from kdad.detectors.mkd.rule_parameters import DetectionParameters, ForwardMapParameters, PointMapParameters
from kdad.detectors.mkd.scores import DETECTION, FORWARD, detection_score
from kdad.features.seen import SeenImages
from kdad.images.varied_defects import VARIED_KINDS, draw_varied_defect
from kdad.networks.points import choose_points
from kdad.parameters.scoring import SmoothingParameters
from kdad.scoring.map_score import map_scores
from kdad.scoring.position import measured_rows
from kdad.scoring.smoothing import smooth
from kdad.scoring.standard import Standard
from kdad.seeding import numpy_generator

#: Training images that rules are standardised by while they are compared, at most.
_TRAINING_IMAGES = 128
_BATCH = 32

#: Gives what images `(B, 3, H, W)` show; takes the frozen networks' outputs of them where they are known.
Look = Callable[[Tensor, dict[str, list[Tensor]] | None], Discrepancies]


class DrawnTrial:
    """Held-out normal images in two halves, copies with drawn defects, and what all of them show.

    What a rule measures on held-out images it measures on one half, beside training images, and is judged on the other:
    no rule is judged on images that it was normalised by.
    """

    def __init__(
        self, scoring: ScoringParameters, seen: SeenImages, look: Look, point_names: Sequence[str], seed: int
    ) -> None:
        self._names, self._size = tuple(point_names), seen.images.size
        self._shown_smoothing = scoring.smoothing.get(FORWARD, SmoothingParameters())
        self._settled: dict[tuple[str, str, int], PointMap] = {}
        count, generator = scoring.choosing.drawn_images, numpy_generator(seed, "choosing", "sample")
        rows = generator.permutation(seen.split.rows("validation"))[:count]
        kinds = generator.permutation(np.arange(count) % len(VARIED_KINDS))
        self.sample = DrawnSample(np.arange(count) % len(rows), kinds, np.arange(len(rows)) % 2)
        drawn, self.masks = self._draw(seen, rows, seed)
        training = measured_rows(seen.split, "train", _TRAINING_IMAGES)
        rules = [rule for block in ("forward_map", "detection") for rule in scoring.rules(block).values()]
        wanted = {(rule.term, quantity) for rule in rules for quantity in rule.quantities}

        def keep(rows: np.ndarray) -> KeptDiscrepancies:
            found = (look(seen.batch(batch), seen.outputs(batch)) for batch in _batches(rows))
            return KeptDiscrepancies.of(found, wanted, len(self._names))

        self._training, self._plain = keep(training), keep(rows)
        seen_drawn = (look(torch.from_numpy(batch), None) for batch in _batches(drawn))
        self._drawn = KeptDiscrepancies.of(seen_drawn, wanted, len(self._names))

    def localise(self, rule: ForwardMapParameters) -> np.ndarray:
        """Return the shares `(defects,)` of the drawn defects that a forward map finds (`found_shares`)."""
        found = np.empty(len(self.masks))
        for half in (0, 1):
            judged, plain = self.sample.half[self.sample.base] == half, self.sample.half == half
            maps, normal = (self._map(rule, half, part) for part in (self._drawn.rows(judged), self._plain.rows(plain)))
            found[judged] = found_shares(maps, self.masks[judged], normal)
        return found

    def rank(self, rule: DetectionParameters, shown: ForwardMapParameters) -> np.ndarray:
        """Return which drawn image scores above which plain one (`ranking_wins`); `shown` is the forward map's rule."""
        rules: dict[str, PointMapParameters] = {} if rule.score == "total_loss" else {DETECTION: rule}
        if rule.score == "both_maps_top_mean":
            rules = {FORWARD: shown} | rules
        drawn, plain = np.empty(len(self.masks)), np.empty(self.sample.images)
        for half in (0, 1):
            judged, own = self.sample.half[self.sample.base] == half, self.sample.half == half
            measuring = self._plain.rows(~own)
            summed = rules if rule.score == "both_maps_top_mean" else {}
            standards = {
                name: Standard.measure(map_scores(self._map(one, half, measuring), "map_top_mean", rule.top_fraction))
                for name, one in summed.items()
            }
            score = detection_score(rule, standards)
            for scores, which, found in ((drawn, judged, self._drawn), (plain, own, self._plain)):
                part = found.rows(which)
                total = part.total(self._points(rule)).numpy()
                maps = {name: self._map(one, half, part) for name, one in rules.items()}
                scores[which] = score.of_images({"total_loss": total}, maps)
        return ranking_wins(drawn, plain)

    def _draw(self, seen: SeenImages, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        plain = seen.batch(rows).numpy()
        made = []
        for number, (base, kind) in enumerate(zip(self.sample.base, self.sample.kind, strict=True)):
            generator = numpy_generator(seed, "choosing", "defect", number, seen.split.name(int(rows[base])))
            made.append(draw_varied_defect(plain[base], VARIED_KINDS[kind], generator))
        images, masks = zip(*made, strict=True)
        return np.stack(images), np.stack(masks)

    def _map(self, rule: PointMapParameters, half: int, found: KeptDiscrepancies) -> np.ndarray:
        """Return smoothed maps `(B, H, W)`, normalised for judging `half`: by training images and the other half."""
        smoothing = rule.smoothing if isinstance(rule, DetectionParameters) else self._shown_smoothing
        made = self._settle(rule, half, smoothing.gaussian_sigma)
        return np.concatenate([smooth(made.map(part).numpy(), smoothing) for part in found.batches(_BATCH)])

    def _settle(self, rule: PointMapParameters, half: int, sigma: float) -> PointMap:
        name = (type(rule).__name__, rule.model_dump_json())
        if (*name, half) not in self._settled:
            trained = PointMap(rule, self._points(rule), self._size, sigma)
            for part in self._training.batches(_BATCH) if "train" in trained.parts else ():
                trained.take_in("train", part)
            for judged in (0, 1):
                made = deepcopy(trained)
                if "validation" in made.parts:
                    made.take_in("validation", self._plain.rows(self.sample.half != judged))
                made.settle()
                self._settled[(*name, judged)] = made
        return self._settled[(*name, half)]

    def _points(self, rule: PointMapParameters) -> list[int]:
        return choose_points(rule.points, self._names, "points")


def _batches(found: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(found), _BATCH):
        yield found[start : start + _BATCH]
