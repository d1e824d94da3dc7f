"""What the pages say exists: links, names of code, paths, commands with their options, and the worked examples."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer

from sidlsg.cli.app import app
from sidlsg.cli.options import set_values
from sidlsg.distil import guidance
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.prompts.rule_files import rules_toml, rules_with
from sidlsg.prompts.rules import CurationRules

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP_FOLDERS = ("src", "tests", "components", "pipelines", "assets", "docs", ".github", ".ci")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text()) if kind in languages]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    return SPAN.findall(prose(page))


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_variables_has_those_that_the_code_reads() -> None:
    named = re.compile(r"\bSIDLSG_[A-Z_]+\b")
    code = {name for path in (ROOT / "src").rglob("*.py") for name in named.findall(path.read_text())}
    assert set(named.findall((ROOT / "docs" / "configuration.md").read_text())) == code


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in LINK.findall(SPAN.sub("", prose(page))):
        place, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        target = (page.parent / place).resolve() if place else page
        there = target.exists() and target.is_relative_to(ROOT)
        if not there or (anchor and (target.suffix != ".md" or anchor not in slugs(target))):
            wrong.append(link)
    assert not wrong


def test_every_page_of_docs_is_linked() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in LINK.findall(prose(page)) if link
    }
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= linked


@every_page
def test_names_of_code_resolve(page: Path) -> None:
    # `sidlsg.dev/…` is a label in a cluster, and `sidlsg.toml` a file.
    names = set(re.findall(r"(?<![\w./-])sidlsg(?!\.dev/|\.toml)(?:\.[A-Za-z_]\w*)+", page.read_text()))
    assert not [name for name in sorted(names) if not resolves(name)]


@cache
def resolves(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@every_page
def test_paths_of_the_repository_exist(page: Path) -> None:
    wrong = []
    for span in spans(page):
        path = re.sub(r"<[^>]*>", "*", span)
        if path.split("/")[0] in TOP_FOLDERS and "/" in path and " " not in path and not list(ROOT.glob(path)):
            wrong.append(span)
    assert not wrong


@cache
def commands() -> dict[str, Any]:
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def shell_lines(page: Path) -> list[list[str]]:
    """The words of every line in the page's shell blocks."""
    lines = [line for text in blocks(page, "bash", "sh") for line in text.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@every_page
def test_commands_would_be_taken(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "export MLFLOW_TRACKING_URI=" in page.read_text():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    written = [words for words in shell_lines(page) if Path(words[0]).name == "sidlsg"]
    # In the text, a command alone is a name; one with arguments is there to be copied.
    written += [words for span in spans(page) if span.startswith("sidlsg ") and len(words := shlex.split(span)) > 2]
    for _, name, *words in written:
        end = next((number for number, word in enumerate(words) if word in (">", "||", "&")), len(words))
        arguments = words[:end]
        if name.startswith("--"):
            assert name in ("--help", "--version")
            continue
        # Parses the line as the program would: unknown options, missing ones and values of a wrong kind are errors.
        context = commands()[name].make_context(name, list(arguments))
        check_values(name, context.params)


def check_values(command: str, given: dict[str, Any]) -> None:
    """What the command would make of --recipe, --strategy, --kappa, --scale and --set."""
    values = dict(text.split("=", 1) for text in given.get("set_") or ())
    if command == "curate":
        rules_with(set_values(given["set_"] or []))
        return
    if "strategy" in given:
        changes: dict[str, Any] = {name: json.loads(value) for name, value in values.items()}
        scales = {name: float(value) for name, value in (text.split("=", 1) for text in given["scale"] or ())}
        scales |= {} if given["kappa"] is None else {"kappa": given["kappa"]}
        changes |= {} if given["strategy"] is None else {"strategy": given["strategy"]}
        changes |= {"scales": scales} if scales or given["strategy"] is not None else {}
        recipe_with_changes(given["recipe"], json.dumps(changes))


@every_page
def test_commands_and_options_in_the_text_exist(page: Path) -> None:
    every = [inner for command in commands().values() for inner in getattr(command, "commands", {"": command}).values()]
    options = {option for command in every for p in command.params for option in p.opts}
    named = {words[1] for span in spans(page) if len(words := span.split()) > 1 and words[0] == "sidlsg"}
    assert named <= {*commands(), "--help", "--version"}
    assert {span.split()[0].partition("=")[0] for span in spans(page) if span.startswith("--")} <= options


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {span.split()[1] for span in spans(page) if re.fullmatch(r"make [a-z]+( .*)?", span)}
    named |= {words[1] for words in shell_lines(page) if words[0] == "make"}
    assert named <= targets


def test_the_published_numbers_are_those_of_the_recipes() -> None:
    from sidlsg.distil.recipes import RECIPES

    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$",
        (ROOT / "docs" / "method.md").read_text(),
        re.MULTILINE,
    )
    told = {(name, *map(float, numbers)) for name, *numbers in rows}
    assert told == {
        (recipe.name, recipe.scales["kappa"], round(row.images_seen / 1e6, 1), row.fid, row.clip)
        for recipe in RECIPES.values()
        for row in recipe.published
    }


def test_the_methods_page_lists_every_strategy_with_its_scales() -> None:
    text = (ROOT / "docs" / "method.md").read_text().partition("\n## Guidance\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|(?:[^|]*\|){4}$", text, re.MULTILINE))
    for name, maker in guidance.STRATEGIES.items():
        told = re.findall(r"`(\w+)`(?: \((-?\d+)\))?", rows[name])
        parameters = inspect.signature(maker).parameters.values()
        assert [(p.name, "" if p.default is p.empty else f"{p.default:g}") for p in parameters] == told
    assert set(rows) == {*guidance.STRATEGIES, "custom"}


def test_the_rules_in_the_text_are_all_rules_with_their_defaults() -> None:
    page = (ROOT / "docs/curate-rules.md").read_text()
    listing, *_ = re.findall(r"```toml\n(\[columns\].*?)```", page, re.DOTALL)
    assert listing.strip() == rules_toml(CurationRules()).strip()


@every_page
def test_changes_on_a_page_apply_or_were_applied(page: Path) -> None:
    """`tests/long/test_extension_pages.py` also runs what they change."""
    if changes := "".join(blocks(page, "diff")):
        check = ["git", "apply", "--check"]
        tries = [subprocess.run([*check, *more], cwd=ROOT, input=changes, text=True) for more in ([], ["--reverse"])]
        assert not all(done.returncode for done in tries)
