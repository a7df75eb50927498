"""The documents are short-lined, plain, and name what there is."""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from projects import PROJECT

README = PROJECT / "README.md"
DOCUMENTS = (README, *sorted((PROJECT / "docs").rglob("*.md")))
LONGEST_LINE = 160
LONGEST_SENTENCE = 40
MOST_WORDS_OF_README = 900
#: Folders of the repository that a document names files of by their path.
_FOLDERS = ("benchmarks", "conf", "docs", "notebooks", "src", "tests")
_NOT_PROSE = ("#", "|", "![", ":::")


def _name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def paragraphs(text: str) -> list[str]:
    """Return paragraphs and list items, each as one line; not code, tables, headings and pictures."""
    texts = [""]
    for line in map(str.strip, without_code(text).splitlines()):
        item = re.match(r"(?:[-*]|\d+\.)\s+", line)
        if not line or line.startswith(_NOT_PROSE):
            texts.append("")
        elif item:
            texts.append(line[item.end() :])
        else:
            texts[-1] += f" {line}"
    return [text.strip() for text in texts if text.strip()]


def sentences(text: str) -> list[str]:
    """Return the sentences of prose; a link counts as its text, code as one word."""
    found = []
    for paragraph in paragraphs(text):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
        plain = re.sub(r"`[^`]*`", "CODE", plain).replace("*", "")
        found += re.split(r"(?<=[.!?])\s+(?=[^a-z\s])", plain)
    return found


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and MkDocs make it."""
    plain = re.sub(r"[^\w\s-]", "", heading.strip().lower())
    return re.sub(r"\s", "-", plain)


def anchors(path: Path) -> set[str]:
    return {slug(title) for title in re.findall(r"^#+ (.*)$", without_code(read(path)), flags=re.MULTILINE)}


def test_a_sentence_ends_at_a_full_stop_and_code_is_one_word():
    text = (
        "# A title\n\nOne `a b c`\ntwo. Three [four five](x.md) e.g. six.\n\n- item\n\n```\nno. Prose.\n```\n| no |\n"
    )
    assert sentences(text) == ["One CODE two.", "Three four five e.g. six.", "item"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_lines_are_short(path):
    long = [f"{row}: {len(line)}" for row, line in enumerate(read(path).splitlines(), 1) if len(line) > LONGEST_LINE]
    assert not long


def test_hardly_a_sentence_is_long():
    long = [
        f"{_name(path)}: {sentence}"
        for path in DOCUMENTS
        for sentence in sentences(read(path))
        if len(sentence.split()) > LONGEST_SENTENCE
    ]
    assert len(long) < 10, "\n".join(long)


def test_the_readme_is_short():
    assert len(read(README).split()) < MOST_WORDS_OF_README


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(read(path))):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.is_file(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_files_that_are_named_are_there(path):
    for quoted in re.findall(r"`([^`\n]+)`", without_code(read(path))):
        if re.fullmatch(rf"(?:{'|'.join(_FOLDERS)})/[\w./-]+", quoted):
            assert (PROJECT / quoted).exists(), quoted


def test_code_and_settings_name_documents_that_are_there():
    files = [PROJECT / name for name in ("CHANGELOG.md", "SECURITY.md", "Makefile")]
    files += [file for folder in ("src", "conf", "benchmarks", "tests") for file in (PROJECT / folder).rglob("*.*")]
    for file in files:
        if file.suffix in {".md", ".py", ".yml", ""} and file.is_file():
            for name in re.findall(r"\bdocs/[\w/]+\.md\b", file.read_text(encoding="utf-8")):
                assert (PROJECT / name).is_file(), f"{file}: {name}"


def test_every_document_is_in_the_navigation():
    listed = set(re.findall(r"[\w/]+\.md\b", read(PROJECT / "mkdocs.yml")))
    assert listed == {path.relative_to(PROJECT / "docs").as_posix() for path in DOCUMENTS if path != README}


@pytest.mark.long
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    command = shutil.which("mkdocs", path=str(Path(sys.executable).parent)) or shutil.which("mkdocs")
    if command is None:
        pytest.skip("needs mkdocs (make docs)")
    arguments = [command, "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(arguments, cwd=PROJECT, check=True, timeout=300)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(DOCUMENTS) - 1
    for page in pages:
        loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?([^\"'\s>]+)", read(page))
        assert not [address for address in loaded if re.match(r"(?:https?:)?//", address)], page
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", read(sheet)), sheet
