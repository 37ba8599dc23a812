"""The manual: every command, option, unit and program has its place, and references lead on."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from validator_supervisor.cli.main import make_parser

TREE = Path(__file__).resolve().parents[2]
PAGES = {path.name.removesuffix(".md"): path for path in sorted((TREE / "man").glob("*.md"))}
COMMAND = PAGES["validator-supervisor.1"].read_text()
# Programs of jobs that are one command of validator-supervisor(1).
OF_COMMANDS = {
    "adopt", "archives", "exit", "explain", "import-keystore", "orders", "reencrypt", "releases",
    "remove-key", "retire",
}  # fmt: skip
# Programs that a page has under the name of its unit, or by what they are for.
NAMED = {"host-key": "`host_key`", "export": "exports", "halt": "makes the latch",
         "supervisor": "validator-supervisor.service", "watch": "validator-watch.service",
         "tunnel": "validator-tunnel@", "apply": "validator-apply.service"}  # fmt: skip


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[
    tuple[tuple[str, ...], list[str]]
]:  # fmt: skip
    """Yield each command and its options, by their long names."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in inner:
        for name, command in action.choices.items():
            yield from commands(command, (*words, name))
    if words and not inner:
        options = [max(a.option_strings, key=len) for a in parser._actions if a.option_strings]
        yield words, [option for option in options if option != "--help"]


def section(text: str, heading: str) -> str:
    (found,) = re.findall(rf"^# {heading}\n(.*?)(?=^# |\Z)", text, re.M | re.S)
    return str(found)


@pytest.mark.parametrize(("words", "options"), [*commands(make_parser())], ids=str)
def test_every_command_and_option_is_in_the_synopsis(
    words: tuple[str, ...], options: list[str]
) -> None:
    lines = [line for line in section(COMMAND, "SYNOPSIS").splitlines()
             if all(re.search(rf"`{re.escape(word)}`", line) for word in words)]  # fmt: skip
    assert lines, words
    short = {"--follow": "-f", "--lines": "-n", "--priority": "-p"}
    shown = " ".join(lines)
    missing = [option for option in options if f"`{short.get(option, option)}`" not in shown]
    assert missing == []


@pytest.mark.parametrize(("words", "options"), [*commands(make_parser())], ids=str)
def test_every_command_is_described(words: tuple[str, ...], options: list[str]) -> None:
    del options
    every = section(COMMAND, "COMMANDS").splitlines()
    heads = [line.replace("`", "") for line in every if line.startswith("`")]
    assert [line for line in heads if re.search(rf"\b{' '.join(words)}\b", line)]


def units() -> list[str]:
    suffixes = (".service", ".socket", ".timer", ".path", ".mount", ".target", ".slice")
    return sorted(path.name for path in (TREE / "units").iterdir() if path.suffix in suffixes)


@pytest.mark.parametrize("unit", units())
def test_every_unit_is_in_the_name_of_a_page(unit: str) -> None:
    names = [section(path.read_text(), "NAME") for path in PAGES.values()]
    assert any(unit in name for name in names)


@pytest.mark.parametrize("unit", units())
def test_the_overview_has_every_unit(unit: str) -> None:
    if unit.startswith("validator-supervisor-node"):
        return  # another package's
    text = section(PAGES["validator.target.7"].read_text(), "UNITS")
    text += section(PAGES["validator.target.7"].read_text(), "NAME")
    name, _, suffix = unit.rpartition(".")
    stem, at, _ = name.partition("@")
    assert re.search(rf"{re.escape(stem)}{at}.*\.{suffix}", text), unit


def test_every_program_is_in_a_page() -> None:
    every = "".join(path.read_text() for path in PAGES.values())
    programs = {path.name for path in (TREE / "helpers").iterdir() if path.is_file()}
    for name in programs - OF_COMMANDS - {"validator-supervisor-node-keep"}:
        wanted = NAMED.get(name, f"validator-supervisor/{name}")
        assert wanted in every or f"`{name}`" in every or f"{name} - " in every, name


@pytest.mark.parametrize("page", PAGES)
def test_references_lead_to_pages(page: str) -> None:
    text = PAGES[page].read_text().replace("\\", "")
    found = re.findall(r"`?(validator[a-z@.-]*[a-z@])`?\((\d)\)", text)
    missing = {f"{name}.{number}" for name, number in found} - set(PAGES)
    assert missing == set()
    also = section(text, "SEE ALSO")
    assert page.rpartition(".")[0] not in re.findall(r"validator[a-z@.-]*[a-z@]", also)


def test_every_page_is_led_to() -> None:
    also = "".join(section(path.read_text(), "SEE ALSO") for path in PAGES.values())
    for page in PAGES:
        name, number = page.rsplit(".", 1)
        assert re.search(rf"{re.escape(name)}`?\({number}\)", also), page
