"""The page of an imagined ablation, for tests."""

import numpy as np
import pandas as pd
from synthetic import AXIS, results

from kdad.comparison.figures import draw_axis
from kdad.comparison.page import AxisSection, render_page
from kdad.comparison.results import tidy
from kdad.comparison.tables import axis_table, compare_pairs


def imagined_page(missing: list[dict] | None = None) -> str:
    """Return a page with one axis of two variants."""
    table = axis_table(tidy(results()), "form", AXIS)
    pairs = compare_pairs(results(), lambda _: None, "form", AXIS, 200, np.random.default_rng(0))
    settings = {"a": {}, "b": {"cloner.loss.value_weight": 2, "note": "<script>alert(1)</script>"}}
    section = AxisSection("form", AXIS.question, table, pairs, draw_axis(table, AXIS.question), settings)
    return render_page("MKD ablation", "textures (brick)", "last epoch", [section], pd.DataFrame(missing or []))
