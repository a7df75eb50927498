import threading
from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node
from kedro_datasets.json import JSONDataset

from kdad.errors import InputError
from kdad.runner import work
from kdad.runner.work import Site, catalog_of, code_of_work, run_node


@pytest.fixture(autouse=True)
def settled_anew(monkeypatch):
    monkeypatch.chdir(Path.cwd())  # a node goes to its run's folder, and the test back
    work._settle.cache_clear()


def add(a, b):
    return a + b, [a, b]


def test_a_node_leaves_files_and_returns_the_rest(tmp_path):
    kept = JSONDataset(filepath=str(tmp_path / "kept.json"))
    catalog = DataCatalog({"a": MemoryDataset(2), "b": MemoryDataset(3), "sum": kept, "both": MemoryDataset()})
    node, begun = Node(add, ["a", "b"], ["sum", "both"]), []
    made = run_node(node, catalog, Site(str(tmp_path), code_of_work()), lambda: begun.append(Path.cwd()))
    assert made == {"both": [2, 3]} and kept.load() == 5
    assert begun == [tmp_path]


def test_only_what_a_node_takes_and_makes_is_sent():
    catalog = DataCatalog({name: MemoryDataset(1) for name in ("a", "b", "sum", "both", "other", "params:large")})
    assert set(catalog_of(Node(add, ["a", "b"], ["sum", "both"]), catalog).keys()) == {"a", "b", "sum", "both"}


def test_nodes_of_one_process_run_one_after_another(tmp_path):
    inside, most = [], []

    def look(a):
        inside.append(a)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.pop()
        return a

    site = Site(str(tmp_path), code_of_work())

    def run(number):
        catalog = DataCatalog({"a": MemoryDataset(number), "b": MemoryDataset()})
        run_node(Node(look, "a", "b"), catalog, site, lambda: None)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


@pytest.mark.parametrize(
    ("folder", "code", "message"),
    [("/no/such/folder", None, "no folder '/no/such/folder'.*the same path"), (None, "older", "other code of kdad")],
)
def test_a_worker_that_cannot_make_the_same_numbers_refuses(tmp_path, folder, code, message):
    begun = []
    catalog = DataCatalog(
        {"a": MemoryDataset(1), "b": MemoryDataset(1), "sum": MemoryDataset(), "both": MemoryDataset()}
    )
    site = Site(folder or str(tmp_path), code or code_of_work())
    with pytest.raises(InputError, match=message):
        run_node(Node(add, ["a", "b"], ["sum", "both"]), catalog, site, lambda: begun.append(1))
    assert not begun and Path.cwd() != tmp_path
