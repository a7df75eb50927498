"""Which code made a result."""

from pathlib import Path

import git


def code_version(folder: Path) -> str | None:
    """Return the commit that `folder` is checked out at, ``-dirty`` when files differ from it; None without git."""
    try:
        repository = git.Repo(folder, search_parent_directories=True)
        commit = repository.head.commit.hexsha[:12]
        return f"{commit}-dirty" if repository.is_dirty(untracked_files=False) else commit
    except (git.InvalidGitRepositoryError, git.NoSuchPathError, ValueError):
        return None
