import git

from kdad.provenance import code_version


def test_version_is_the_commit_and_tells_changed_files(tmp_path):
    repository = git.Repo.init(tmp_path)
    (tmp_path / "file").write_text("one")
    repository.index.add(["file"])
    commit = repository.index.commit("first", author=git.Actor("a", "a@b"), committer=git.Actor("a", "a@b")).hexsha
    assert code_version(tmp_path) == commit[:12]
    (tmp_path / "file").write_text("two")
    assert code_version(tmp_path) == f"{commit[:12]}-dirty"


def test_no_version_outside_git_or_before_the_first_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_version(tmp_path) is None
    git.Repo.init(tmp_path)
    assert code_version(tmp_path) is None
