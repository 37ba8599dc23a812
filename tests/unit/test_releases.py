"""The releases that are on a host: the current one, the way back, and what may be removed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from validator_supervisor import durable, generator, releases, run
from validator_supervisor.applied import Applied
from validator_supervisor.apply import plan
from validator_supervisor.cli import main, releases_job
from validator_supervisor.cli import releases as command
from validator_supervisor.errors import SupervisorError
from validator_supervisor.releases import History, Installed

NAME = "v"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / NAME / "releases").mkdir(parents=True)
    return tmp_path


def add(root: Path, version: str, *, sha256: str = "ab" * 32) -> str:
    """Put a release there, as the job does, and return its folder."""
    name = releases.folder_of("teku", version, sha256)
    folder = root / NAME / "releases" / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/teku").write_text("#!/bin/sh\n")
    (folder / "bin/teku").chmod(0o755)
    releases.record(folder, "teku", version, sha256, "bin/teku", "")
    return name


def versions(root: Path) -> list[str]:
    return [one.release.version for one in releases.listed(root / NAME)]


def switched(root: Path, *names: str) -> list[str]:
    found = [add(root, name) for name in names]
    for folder in found:
        releases.switch(root / NAME, folder)
    return found


def test_nothing_is_there(root: Path) -> None:
    assert releases.current(NAME, root) is None
    assert releases.current("other", root) is None
    assert releases.listed(root / "other") == []
    assert releases.history(root / "other") == History()


def test_the_current_one(root: Path) -> None:
    one, two = switched(root, "1.0", "2.0")
    program = root / NAME / "releases" / two / "bin/teku"
    assert releases.current(NAME, root) == Installed("teku", "2.0", "ab" * 32, str(program), "")
    assert str((root / NAME / "current").readlink()) == f"releases/{two}"
    assert releases.history(root / NAME) == History((one, two))
    for name in ("history.json", f"releases/{two}/release.json"):
        assert (root / NAME / name).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "target",
    [
        "../x",
        "/etc",
        "releases/.teku-2.0",
        "releases/none",
        "releases/a/b",
        "teku",
        "releases/..",
        "../v/releases/{}",
    ],
)
def test_links_that_lead_to_no_release(root: Path, target: str) -> None:
    (folder,) = switched(root, "1.0")
    durable.link(root / NAME / "current", target.format(folder))
    assert releases.current(NAME, root) is None


@pytest.mark.parametrize("name", ["release.json", "bin/teku"])
@pytest.mark.parametrize("damage", ["gone", "longer", "empty", "link", "mode"])
def test_what_is_damaged_is_no_release(root: Path, name: str, damage: str) -> None:
    (folder,) = switched(root, "1.0")
    path = root / NAME / "releases" / folder / name
    if damage == "mode":
        path.chmod(0o644)
        assert (releases.current(NAME, root) is None) == (name == "bin/teku")
        return
    content = path.read_text()
    path.unlink()
    if damage == "longer":
        path.write_text(content + "x")
        path.chmod(0o755)
    elif damage == "empty":
        path.touch(0o755)
    elif damage == "link":
        path.symlink_to("/bin/true")
    assert releases.current(NAME, root) is None
    assert versions(root) == []


@pytest.mark.parametrize(
    "change",
    [{"version": 7}, {"sha256": "cd" * 32}, {"program": "../../x"}, {"files": 2}, {"bytes": -1}],
)
def test_records_that_are_not_believed(root: Path, change: dict[str, object]) -> None:
    (folder,) = switched(root, "1.0")
    path = root / NAME / "releases" / folder / "release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert releases.current(NAME, root) is None


def test_more_than_was_unpacked_is_no_release(root: Path) -> None:
    (folder,) = switched(root, "1.0")
    (root / NAME / "releases" / folder / "bin/more").write_text("x")
    assert releases.current(NAME, root) is None


@pytest.mark.parametrize(
    ("order", "now", "folder", "after"),
    [
        ("", "", "a", "a"), ("a", "a", "b", "ab"), ("ab", "b", "a", "ba"), ("abc", "b", "d", "abd"),
        ("ab", "b", "b", "ab"), ("ab", "", "c", "abc"), ("ab", "x", "c", "abc"),
    ],
)  # fmt: skip
def test_the_order_of_what_was_in_effect(order: str, now: str, folder: str, after: str) -> None:
    assert History(tuple(order), ("z",)).then(now, folder) == History(tuple(after))


def test_the_order_has_an_end() -> None:
    many = History(tuple(f"r{n}" for n in range(releases.REMEMBERED)))
    assert len(many.then(f"r{releases.REMEMBERED - 1}", "new").order) == releases.REMEMBERED


def test_back_and_back_again_and_forward(root: Path) -> None:
    one, two, three = switched(root, "1.0", "2.0", "3.0")
    directory = root / NAME
    assert releases.rollback(directory).version == "2.0"
    assert releases.rollback(directory).version == "1.0"
    assert releases.history(directory) == History((one, two, three), (three, two))
    marks = {one.release.version: (one.current, one.previous, one.left)
             for one in releases.listed(directory)}  # fmt: skip
    assert marks == {
        "1.0": (True, False, False),
        "2.0": (False, False, True),
        "3.0": (False, False, True),
    }
    with pytest.raises(SupervisorError, match="no earlier release"):
        releases.rollback(directory)
    assert releases.forward(directory)
    assert not releases.forward(directory)
    assert releases.history(directory).left == ()


def test_no_way_back(root: Path) -> None:
    directory = root / NAME
    with pytest.raises(SupervisorError, match="no earlier release"):
        releases.rollback(directory)
    one, _ = switched(root, "1.0", "2.0")
    (directory / "releases" / one / "bin/teku").unlink()
    with pytest.raises(SupervisorError, match="no earlier release"):
        releases.rollback(directory)
    assert releases.linked(directory) is not None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"order": ["../x"], "left": []}', "\0"])
def test_a_damaged_history_is_told(root: Path, text: str) -> None:
    (root / NAME / "history.json").write_text(text)
    with pytest.raises(SupervisorError) as caught:
        releases.history(root / NAME)
    assert caught.value.code == "NoHistory"
    assert "history.json is damaged" in caught.value.message


@pytest.mark.parametrize(
    ("keep", "running", "left"),
    [
        (0, [], "5 4"), (2, [], "5 4"), (3, [], "5 4 3"), (9, [], "5 4 3 2 1"),
        (2, [0], "5 4 1"), (3, [0], "5 4 1"), (4, [0], "5 4 3 1"),
    ],
)  # fmt: skip
def test_what_is_removed(root: Path, keep: int, running: list[int], left: str) -> None:
    folders = switched(root, "1", "2", "3", "4", "5")
    gone = releases.prune(root / NAME, keep, [folders[n] for n in running])
    assert versions(root) == left.split()
    assert {one.version for one in gone} == set("12345") - set(left.split())
    there = {path.name for path in (root / NAME / "releases").iterdir()}
    assert there == {folders[int(version) - 1] for version in left.split()}
    assert releases.current(NAME, root)


def test_after_a_way_back_the_current_one_and_the_one_before_stay(root: Path) -> None:
    switched(root, "1", "2", "3", "4")
    releases.rollback(root / NAME)
    releases.prune(root / NAME, 0, [])
    assert versions(root) == ["3", "2"]


class TestCommand:
    @pytest.fixture(autouse=True)
    def known(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[str], Applied]
    ) -> None:
        text = "version: 1\nvalidators: {v: {kind: command, command: [/x]}}\n"
        monkeypatch.setattr(Applied, "load", lambda: make(text))
        monkeypatch.setattr(command, "ROOT", root)
        monkeypatch.setattr(command.show, "__kwdefaults__", {"root": root})

    def test_a_list(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main.main(["releases", "list", NAME]) == 0
        assert capsys.readouterr().out == "none\n"
        switched(root, "1.0", "2.0", "3.0")
        releases.rollback(root / NAME)
        assert main.main(["releases", "list", NAME]) == 0
        first, second, third = capsys.readouterr().out.splitlines()
        assert first.split() == ["teku", "3.0", "ab" * 6, "rolled", "back"]
        assert second.split() == ["teku", "2.0", "ab" * 6, "current"]
        assert third.split() == ["teku", "1.0", "ab" * 6, "previous"]
        assert main.main(["releases", "list", NAME, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown[1] == {
            "client": "teku", "version": "2.0", "sha256": "ab" * 32, "signer": "",
            "program": str(root / NAME / f"releases/teku-2.0-{'ab' * 6}/bin/teku"),
            "current": True, "previous": False, "running": False, "rolled_back": False,
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["none", "../v", "..", "v/../v", ".", "V"])
    def test_nobody_of_this_name(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        for words in (["list"], ["rollback"], ["prune"]):
            assert main.main(["releases", *words, name]) == 1
            assert f"there is no Ethereum validator {name}" in capsys.readouterr().err

    def test_who_runs_is_seen(self, root: Path) -> None:
        proc = root / "proc"
        for pid, words in (("1", f"{root}/v/releases/teku-1.0-ab/bin/teku\0x"),
                           ("2", f"java\0-cp\0{root}/v/releases/teku-2.0-cd/lib/a.jar"),
                           ("3", "sh\0"), ("self", "no")):  # fmt: skip
            (proc / pid).mkdir(parents=True)
            (proc / pid / "cmdline").write_text(words)
        (proc / "4").mkdir()
        assert command.running(root / "v", proc) == ["teku-1.0-ab", "teku-2.0-cd"]

    def test_a_job_does_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        became: list[list[str]] = []

        def become(argv: list[str]) -> None:
            became.append(argv)
            raise SystemExit

        monkeypatch.setattr(run, "become", become)
        monkeypatch.setattr(command, "running", lambda _: ["teku-1.0-ab"])
        for words in (
            ["rollback", NAME],
            ["rollback", NAME, "--clear"],
            ["prune", NAME, "--keep", "7"],
        ):
            monkeypatch.setattr(os, "geteuid", lambda: 0)
            with pytest.raises(SystemExit):
                main.main(["releases", *words])
            monkeypatch.setattr(os, "geteuid", lambda: 1000)
            assert main.main(["releases", *words]) == 1
        tails = [argv[argv.index("--") + 2 :] for argv in became]
        assert tails == [
            ["rollback", NAME], ["forward", NAME], ["prune", NAME, "7", "teku-1.0-ab"],
        ]  # fmt: skip
        for argv in became:
            assert argv[0] == "/usr/bin/systemd-run"
            for line in ("User=validator-release", "StateDirectory=validator-release/v",
                         "UMask=0022", "PrivateNetwork=yes", "NoNewPrivileges=yes"):  # fmt: skip
                assert argv[argv.index(line) - 1] == "-p"
            # A lock of the identity has nothing to do with it.
            assert not [word for word in argv if "identity" in word or word == "UMask=0077"]

    @pytest.mark.parametrize("number", ["-1", "x", "", "1.5", "99999"])
    def test_numbers_to_keep(self, number: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main.main(["releases", "prune", NAME, f"--keep={number}"])
        assert "not a number below 10000" in capsys.readouterr().err

    def test_the_job(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert releases_job.main(["rollback", NAME], root) == 1
        assert "v: there is no earlier release" in capsys.readouterr().err
        switched(root, "1.0", "2.0", "3.0")
        assert releases_job.main(["rollback", NAME], root) == 0
        said = capsys.readouterr().out
        assert said.startswith("v: teku 2.0 instead of teku 3.0, from its next start on\n")
        assert "releases rollback v --clear" in said
        assert releases_job.main(["forward", NAME], root) == 0
        assert "as configured again" in capsys.readouterr().out
        assert releases_job.main(["forward", NAME], root) == 0
        assert capsys.readouterr().out == "v: nobody has gone back\n"
        assert releases_job.main(["prune", NAME, "2"], root) == 0
        assert capsys.readouterr().out == "removed teku 3.0\n"
        assert releases_job.main(["prune", NAME, "2"], root) == 0
        assert capsys.readouterr().out == "nothing to remove\n"
        assert releases_job.main(["prune", "none", "2"], root) == 1
        assert "No such file" in capsys.readouterr().err


def configured(release: str, more: str = "", top: str = "") -> str:
    return (
        f"version: 1\n{top}nodes: {{n: {{beacon: 'a:1'}}}}\nvalidators: {{v: {{kind: ethereum, "
        "network: dev, fee_recipient: '0x00000000000000000000000000000000000000fe', "
        f"release: {{client: lodestar, {release}}}{more}}}}}\n"
    )


ONE, TWO = (f"version: v{n}, sha256: {str(n) * 64}" for n in (1, 2))
UNIT, RELEASE = "validator@v.service", "validator-release@v.service"


def test_a_start_pulls_its_release_in_but_does_not_need_it(make: Callable[[str], Applied]) -> None:
    made = generator.units(make(configured(ONE)))[f"{UNIT}.d/50-config.conf"]
    assert f"After={RELEASE}\nWants={RELEASE}\n" in made
    assert f"Requires={RELEASE}" not in made
    assert RELEASE not in str(generator.units(make(configured("binary: /x"))))


@pytest.mark.parametrize(
    ("before", "after", "stop", "start", "restart"),
    [
        # Another version is downloaded while the validator runs.
        (configured(ONE), configured(TWO), [], [], [RELEASE]),
        (configured(ONE), configured(f"{ONE}, signature: none"), [], [], [RELEASE]),
        (configured(ONE), configured(ONE, top="key_server: https://x/{fingerprint}\n"), [], [],
         [RELEASE]),
        (configured(ONE), configured(ONE, ", graffiti: x"), [], [], [UNIT]),
        (configured("binary: /x"), configured(ONE), [], [RELEASE], []),
        (configured(ONE), configured("binary: /x"), [RELEASE], [], []),
        (configured("binary: /x"), configured("binary: /y"), [], [], [UNIT]),
        ("version: 1\n", configured(ONE), [], [UNIT, RELEASE], ["validator-watch.service"]),
        ("version: 1\n", configured(ONE, ", enabled: false"), [], [], ["validator-watch.service"]),
        (configured(ONE), configured(ONE), [], [], []),
    ],
)  # fmt: skip
def test_what_another_release_means_for_what_runs(
    make: Callable[[str], Applied],
    before: str,
    after: str,
    stop: list[str],
    start: list[str],
    restart: list[str],
) -> None:
    planned = plan(make(before), make(after))
    assert [[*planned.stop], [*planned.start], [*planned.restart]] == [stop, start, restart]


def test_another_client_waits_for_the_next_start_too(make: Callable[[str], Applied]) -> None:
    other = configured(ONE).replace("client: lodestar", "client: teku")
    assert {*plan(make(configured(ONE)), make(other)).restart} == {RELEASE}
