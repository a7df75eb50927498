"""The table of `benchmarks/rank_methods.py`, of results that are worked out by hand."""

import json

import pytest

from kdad.experiments.case import CaseResult
from rank_methods import cells_of, read_folder, render, summarise
from written_tables import replace_part


def result(variant: str, category: str, seed: int, auroc: float | None, pro: float | None = None, **others) -> dict:
    """A result as `paper_tables` leaves it; one that failed without an AUROC."""
    metrics = {} if auroc is None else {"image_auroc": auroc, "pixel_auroc": pro, "pro_auc": pro}
    head = {"axis": "paper", "variant": variant, "category": category, "seed": seed, "system": "mkd"}
    done = {"status": "failed", "error": "it died"} if auroc is None else {"status": "finished", "metrics": metrics}
    costs = {} if auroc is None else {"train_seconds": 10.0 * (seed + 1), "milliseconds_an_image": 2.5}
    return CaseResult(**head | done | {"costs": costs, "made": "2026-11-30"} | others).model_dump(mode="json")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "shapes" / "paper_tables"
    place.mkdir(parents=True)
    mkd = [result("mkd", "round", seed, auroc, 0.9) for seed, auroc in enumerate((0.9, 0.92))]
    mkd += [result("mkd", "long", 0, 0.8, 0.7), result("mkd", "long", 1, None)]
    (place / "mkd.json").write_text(json.dumps(mkd))
    nearest = [
        result("nearest", name, seed, auroc) for name, auroc in (("round", 1.0), ("long", 0.6)) for seed in (0, 1)
    ]
    (place / "baselines.json").write_text(json.dumps(nearest))
    return place


def test_ranks_losses_and_spreads_are_those_worked_out_by_hand(folder):
    cells = cells_of(read_folder(folder, "shapes", {}))
    summary = summarise(cells)
    assert list(summary.index) == ["mkd", "nearest"]  # without maps last
    assert summary["image_auroc_rank"].tolist() == [1.5, 1.5]
    assert summary["image_auroc_loss"].tolist() == pytest.approx([9, 20])
    assert summary["image_auroc_where"].tolist() == ["shapes round", "shapes long"]
    assert summary.loc["mkd", "pro_auc_loss"] == 0
    assert summary["pro_auc_rank"].isna().tolist() == [False, True]
    assert summary["sets"].tolist() == [2, 2]
    text = render(cells, "commit a")
    assert "| mkd | 1.5 | 1.0 | 1.0 | 10 | 2.5 | 2 of 2 |" in text  # seconds of 10, 20 and 10
    assert "| nearest | 20.0 (shapes long) | - | - |" in text
    assert "| shapes round | 91.0 ± 1.4 | 100.0 ± 0.0 |" in text
    assert "| shapes long | 80.0\\* | 60.0 ± 0.0 |" in text
    assert text.endswith("\\* Missing: shapes long, mkd, seed 1.")


def test_the_cell_that_was_made_last_counts_and_one_that_failed_never(folder, tmp_path):
    later = tmp_path / "later"
    later.mkdir()
    again = [result("mkd", "round", 0, 0.5, made="2026-12-01"), result("mkd", "round", 1, None, made="2026-12-01")]
    (later / "mkd.json").write_text(json.dumps(again))
    for first, second in ((folder, later), (later, folder)):
        known = read_folder(first, "shapes", {})
        known |= read_folder(second, "shapes", known)
        assert [known["shapes round", "mkd", seed].metrics["image_auroc"] for seed in (0, 1)] == [0.5, 0.92]
    with pytest.raises(SystemExit, match=r"holds no results \(\*\.json\)"):
        read_folder(tmp_path, "shapes", {})


def test_the_part_between_the_marks_is_replaced():
    begin, end = "<!-- written by benchmarks/some.py -->", "<!-- end of what is written -->"
    page = replace_part(f"before\n{begin}\nold\n{end}\nafter\n", "new", "some.py")
    assert page == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    assert replace_part(page, "new", "some.py") == page
    with pytest.raises(SystemExit, match="needs a line"):
        replace_part(page, "new", "other.py")
