"""Rules for detection and localisation chosen by defects drawn on held-out normal images: no anomaly is seen.

Drawn defects rank rules, but not reliably, so that the fixed rule stays where a candidate is not surely better.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kdad.detectors.mkd.drawn_trial import DrawnTrial, Look
from kdad.detectors.mkd.paired_gains import Gain, paired_gains
from kdad.detectors.mkd.parameters import ScoringParameters
from kdad.detectors.mkd.rule_choice import RuleChoice, TriedRule
from kdad.detectors.mkd.rule_parameters import FIXED
from kdad.features.seen import SeenImages
from kdad.logs import PLAIN
from kdad.seeding import numpy_generator

logger = logging.getLogger(__name__)

#: Fewer held-out images say nothing: half of them measure, half are judged.
_FEWEST = 8
_FIGURES = {"detection": "image AUROC", "forward_map": "PRO"}


@torch.no_grad()
def choose_rules(
    scoring: ScoringParameters, seen: SeenImages, look: Look, point_names: Sequence[str], seed: int
) -> RuleChoice:
    """Return which rules are judged by: the fixed ones, or candidates that are surely better on drawn defects.

    Localisation is chosen first, by PRO, since a score may be of both maps; then detection, by image AUROC. Fewer than
    8 held-out images leave the fixed rules, with a warning.
    """
    held_out = len(seen.split.rows("validation"))
    if held_out < _FEWEST:
        logger.warning(
            "%d held-out images are too few to choose rules by drawn defects, which takes %d: the fixed rules stay",
            *(held_out, _FEWEST),
        )
        return RuleChoice()
    trial = DrawnTrial(scoring, seen, look, point_names, seed)
    forward, of_forward = _choose("forward_map", scoring, trial, trial.localise, seed)
    shown = scoring.rules("forward_map")[forward]
    detection, of_detection = _choose("detection", scoring, trial, lambda rule: trial.rank(rule, shown), seed)
    return RuleChoice(
        forward_map=None if forward == FIXED else shown,
        detection=None if detection == FIXED else scoring.rules("detection")[detection],
        tried=[*of_detection, *of_forward],
    )


def _choose(
    block: str, scoring: ScoringParameters, trial: DrawnTrial, judge: Callable[..., np.ndarray], seed: int
) -> tuple[str, list[TriedRule]]:
    """Return the name of the rule of a block that is judged by, and what is to be said of each that was tried."""
    rules, choosing = scoring.rules(block), scoring.choosing
    values = [judge(rule) for rule in rules.values()]
    generator = numpy_generator(seed, "choosing", "bootstrap", block)
    gains = dict(zip(rules, paired_gains(trial.sample, values, choosing.confidence, generator), strict=True))
    better = {
        name: found.figure
        for name, found in gains.items()
        if name != FIXED and found.gain >= choosing.margin and found.least > 0
    }
    chosen = max(better, key=better.__getitem__, default=FIXED)
    tried = [
        TriedRule(
            block=block,
            rule=name,
            metric=_FIGURES[block],
            figure=found.figure,
            gain=found.gain,
            least_gain=found.least,
            chosen=name == chosen,
            why=_why(name, found, chosen, choosing.margin),
        )
        for name, found in gains.items()
    ]
    _say(block, tried, len(trial.masks), trial.sample.images)
    return chosen, tried


def _why(name: str, found: Gain, chosen: str, margin: float) -> str:
    if name == FIXED:
        return "no candidate is surely better" if chosen == FIXED else "a candidate is surely better"
    if found.gain < margin:
        return f"gains less than {margin:g}"
    if found.least <= 0:
        return "the gain is not sure"
    return "surely better, and the best" if name == chosen else "surely better, but not the best"


def _say(block: str, tried: list[TriedRule], drawn: int, plain: int) -> None:
    fixed, *candidates = tried
    best = next((one for one in candidates if one.chosen), max(candidates, key=lambda one: one.figure, default=None))
    if best is None:
        return
    decision = f"'{best.rule}' takes the fixed rule's place" if best.chosen else "the fixed rule stays"
    logger.info(
        "scoring.%s: %s; %s of %d drawn defects, %d held-out images: %.4f fixed, %.4f '%s' (gains at least %+.4f)",
        *(block, decision, fixed.metric, drawn, plain, fixed.figure, best.figure, best.rule, best.least_gain),
        extra=PLAIN,
    )
