"""Several classes of a labelled set in one run: the source sees an image once; results are those of single runs."""

import json
from pathlib import Path

import numpy as np
import pytest

import kdad.features.extraction
from kdad.features.cache import FeatureCache, open_cache, overall_sd
from kdad.images import published
from kdad.images.one_class import LabelledImages
from projects import copy_project, run_pipeline

pytestmark = pytest.mark.long

DIGITS = {"name": "digits", "category": None, "normal_class": 0, "image_size": 32}
SOURCE = {"name": "timm:test_resnet", "weights": "random", "critical_points": None}
AXIS = {"question": "?", "compare_with": "mkd", "variants": {"mkd": {}}}


def parameters(categories) -> dict:
    ablation = {"axes": "sweep", "variants": {"sweep": AXIS}, "categories": categories}
    scoring = {"localisation": ["discrepancy"], "detection": {"score": "total_loss"}}
    # In bfloat16 a cache's scales would be measured before rounding, and a selection's after.
    compute = {"precision": "float32"}
    return {"dataset": DIGITS, "source": SOURCE, "compute": compute, "scoring": scoring, "mkd_ablation": ablation}


@pytest.fixture(scope="module")
def _few_digits():
    """Twelve images of each digit instead of five hundred."""
    generator = np.random.default_rng(0)
    parts = []
    for count in (8, 4):
        classes = np.repeat(np.arange(10), count)
        pixels = generator.integers(0, 256, (len(classes), 28, 28), dtype=np.uint8) // 4 + (classes * 19)[:, None, None]
        parts.append(LabelledImages(pixels.astype(np.uint8), classes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "_load_parts", lambda: tuple(parts))
        yield


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """The sizes of the sets that frozen networks ran over."""
    return count_sets(monkeypatch)


def count_sets(patch: pytest.MonkeyPatch) -> list[int]:
    sizes = []
    run = kdad.features.extraction._run

    def counted(network, images, training, *rest):
        sizes.append(len(training))
        return run(network, images, training, *rest)

    patch.setattr(kdad.features.extraction, "_run", counted)
    return sizes


@pytest.fixture(scope="module")
def swept(tmp_path_factory, migrated_database, _few_digits) -> tuple[Path, list[int]]:
    """A finished sweep over all classes, and the sizes of the sets that the source ran over."""
    project = copy_project(tmp_path_factory.mktemp("sweep"), migrated_database)
    with pytest.MonkeyPatch.context() as patch:
        sizes = count_sets(patch)
        run_pipeline(project, "test", "mkd_ablation", runtime_params=parameters("all"))
    return project, sizes


def class_caches(project: Path) -> list[FeatureCache]:
    """Open what a frozen network gave for the images of each class: rows of one cache of all images."""
    store = project / "data/04_feature/store"
    return [open_cache(folder) for folder in store.iterdir() if (folder / "rows.npy").is_file()]


def results(project: Path, plan: str, system: str) -> dict[str, dict]:
    """The results of a plan's only variant by category."""
    (file,) = project.glob(f"data/07_model_output/digits/*/{plan}/{system}.json")
    return {result["category"]: result for result in json.loads(file.read_text())}


def result(project: Path, number: int) -> dict:
    return results(project, "mkd_ablation", "mkd")[f"class_{number}"]


def test_the_source_runs_once_over_all_images(swept):
    assert swept[1] == [120]


def test_each_class_has_a_result(swept):
    counts = [
        (result(swept[0], number)["labels"].count(0), len(result(swept[0], number)["labels"])) for number in range(10)
    ]
    assert counts == [(4, 40)] * 10


def test_classes_have_rows_of_one_cache_and_scales_of_their_own(swept):
    caches = class_caches(swept[0])
    assert len(caches) == 10
    assert {path.name for path in caches[1].folder.iterdir()} == {
        "checksums.json",
        "made_by.json",
        "manifest.json",
        "rows.npy",
    }
    scales = [tuple(overall_sd(found) for found in cache.statistics) for cache in caches]
    assert all(len(set(point)) == 10 for point in zip(*scales, strict=True))
    assert [len(cache) for cache in caches] == [48] * 10
    assert caches[0].pixels.shape[0] == 120


def student_parameters(categories) -> dict:
    axis = {"question": "?", "compare_with": "p17", "variants": {"p17": {}}}
    students = {"axes": "sweep", "variants": {"sweep": axis}, "categories": categories}
    students["base"] = {"students": {"receptive_fields": [17], "count": 2}}
    return {"dataset": DIGITS, "compute": {"precision": "float32"}, "students_ablation": students}


def student_scores(project: Path, number: int) -> list[float]:
    return results(project, "students_ablation", "uninformed_students")[f"class_{number}"]["scores"]


def test_a_teacher_describes_all_classes_once_and_students_learn_as_from_a_class_alone(
    tmp_path, migrated_database, _few_digits, seen
):
    together, alone = (copy_project(tmp_path / name, migrated_database) for name in ("together", "alone"))
    run_pipeline(together, "test", "students_ablation", runtime_params=student_parameters([3, 7]))
    assert seen == [120]
    run_pipeline(alone, "test", "students_ablation", runtime_params=student_parameters([7]))
    assert seen == [120, 48]
    np.testing.assert_allclose(student_scores(together, 7), student_scores(alone, 7), rtol=1e-3)
    found = class_caches(together)[0]
    whole = open_cache(found.folder / found.manifest["selected_from"])
    assert (len(found), len(whole), found.pixels.shape) == (48, 120, (120, 3, 32, 32))


def test_a_class_of_a_sweep_has_the_result_of_a_run_of_its_own(swept, tmp_path, migrated_database, _few_digits):
    alone = copy_project(tmp_path / "alone", migrated_database)
    run_pipeline(alone, "test", "mkd_ablation", runtime_params=parameters([7]))
    (only,) = (alone / "data/04_feature/store").iterdir()
    assert len(open_cache(only)) == 48
    np.testing.assert_allclose(result(alone, 7)["scores"], result(swept[0], 7)["scores"], rtol=1e-3)
