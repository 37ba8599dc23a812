"""The house's rules, where a test can hold them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
LIBRARY = TREE / "validator_supervisor"
HELPERS = TREE / "helpers"
UNITS = TREE / "units"
MODULES = sorted(LIBRARY.rglob("*.py"))
PROGRAMS = sorted(path for path in HELPERS.iterdir() if path.is_file())
UNIT_FILES = sorted(
    path for path in UNITS.iterdir() if path.suffix in (".service", ".socket", ".timer", ".target",
                                                        ".slice", ".path", ".mount")
)  # fmt: skip
# What starts, becomes or multiplies a process.
PROCESSES = re.compile(r"os\.(exec\w+|spawn\w+|posix_spawn\w*|system|popen|fork\w*|_exit)")
# A bastion has these files and no library.
STANDALONE = [HELPERS / "validator-supervisor-node", HELPERS / "validator-supervisor-node-keep"]


def relative(path: Path) -> str:
    return str(path.relative_to(TREE))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(), str(path)))


def imports(path: Path) -> set[str]:
    """Return the modules that are imported anywhere in a file."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def uses(path: Path) -> set[str]:
    """Return the dotted names in a file (``os.fork``), whatever is done with them."""
    return {ast.unparse(node) for node in nodes(path) if isinstance(node, ast.Attribute)}


def where(wanted: str, of: list[Path]) -> list[str]:
    """Return the files that import a package."""
    pattern = re.compile(rf"{re.escape(wanted)}(\.|$)")
    return [relative(path) for path in of if any(map(pattern.match, imports(path)))]


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 20
    assert len(PROGRAMS) > 5
    assert len(UNIT_FILES) > 5


def test_one_door_for_processes() -> None:
    every = [*MODULES, *PROGRAMS]
    assert where("subprocess", every) == ["validator_supervisor/run.py"]
    for package in ("multiprocessing", "pty", "asyncio", "posix", "pexpect"):
        assert where(package, every) == []
    for path in every:
        found = {name for name in uses(path) if PROCESSES.fullmatch(name)}
        allowed = {
            "validator_supervisor/run.py": {"os.execve"},
            # The process beside ssh: see there.
            "helpers/tunnel": {"os.fork", "os._exit"},
        }.get(relative(path), set())
        assert found <= allowed, relative(path)
        assert not {name for name in imports(path) if PROCESSES.fullmatch(name)}, relative(path)
    calls = [ast.unparse(n.func) for n in nodes(HELPERS / "tunnel") if isinstance(n, ast.Call)]
    assert calls.count("os.fork") == calls.count("os._exit") == 1


def test_no_word_for_a_shell() -> None:
    for path in [*MODULES, *PROGRAMS]:
        for node in nodes(path):
            if isinstance(node, ast.keyword):
                assert node.arg != "shell", relative(path)


def test_one_door_for_systemd() -> None:
    every = [*MODULES, *PROGRAMS]
    assert where("pystemd.dbuslib", every) == ["validator_supervisor/bus/manager.py"]
    assert set(where("pystemd", every)) <= {
        "validator_supervisor/bus/manager.py",
        "validator_supervisor/journal.py",
    }


def test_one_door_for_logging() -> None:
    # Programs: one speaks to ssh, the others stand alone.
    printing = {"helpers/host-key", *map(relative, STANDALONE)}
    for path in [*MODULES, *PROGRAMS]:
        name = relative(path)
        if name.startswith("validator_supervisor/cli/") or name in printing:
            continue
        prints = [n for n in nodes(path) if isinstance(n, ast.Name) and n.id == "print"]
        assert not prints, name
        if name != "validator_supervisor/journal.py":
            assert not {"sys.stderr", "sys.stdout", "sys.__stderr__"} & uses(path), name
    assert where("logging", [*MODULES, *PROGRAMS]) == []
    assert where("syslog", [*MODULES, *PROGRAMS]) == []


def test_unexpected_failures_are_caught_in_one_place() -> None:
    broad = []
    for path in [*MODULES, *PROGRAMS]:
        for node in nodes(path):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else ""
            if re.search(r"\bException\b", caught):
                broad.append(relative(path))
            elif caught in ("", "BaseException"):
                # To clean up, and only where it goes on to whom it concerns.
                assert isinstance(node.body[-1], ast.Raise), relative(path)
        suppressed = [
            ast.unparse(node)
            for node in nodes(path)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress")
        ]
        assert not [call for call in suppressed if "Exception" in call], relative(path)
    assert broad == ["validator_supervisor/bus/dispatch.py"]


def test_modules_are_short() -> None:
    long = {relative(p): n for p in [*MODULES, *PROGRAMS] if (n := lines(p)) > 400}
    assert long == {}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_names_say_what_is_inside() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "manager2", "shared", "lib"}
    for path in [*MODULES, *TREE.glob("tests/**/*.py")]:
        assert path.stem not in vague, relative(path)
    assert not [p for p in LIBRARY.rglob("*") if p.is_dir() and p.name in vague]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_programs_begin_and_are_executable_like_each_other(path: Path) -> None:
    head = path.read_text().splitlines()
    # Isolated: HOME= of a unit is its user's, and from there root would import what a client wrote.
    assert head[0] == "#!/usr/bin/python3 -I"
    assert head[1].startswith('"""')
    assert path.stat().st_mode & 0o111 == 0o111
    assert "." not in path.name
    assert "if __name__ == " in path.read_text()


@pytest.mark.parametrize("path", STANDALONE, ids=lambda path: path.name)
def test_programs_of_a_bastion_stand_alone(path: Path) -> None:
    known = set(sys.stdlib_module_names)
    assert {name.split(".")[0] for name in imports(path)} <= known


def test_yaml_is_imported_only_where_it_is_used() -> None:
    assert where("yaml", [*MODULES, *PROGRAMS]) == ["validator_supervisor/document.py"]
    top = ast.parse((LIBRARY / "document.py").read_text()).body
    assert not [node for node in top if "yaml" in ast.unparse(node).split("\n")[0].split()]
    assert where("boto3", [*MODULES, *PROGRAMS]) == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("validator_supervisor.config", {"yaml", "jeepney", "pystemd", "boto3"}),
        # A generator holds up the boot.
        ("validator_supervisor.generator", {"yaml", "jeepney", "pystemd", "subprocess"}),
        ("validator_supervisor.cli.main", {"yaml", "jeepney", "pystemd", "subprocess"}),
    ],
)
def test_importing_brings_no_more_than_is_needed(module: str, absent: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path[:0] = [{str(TREE)!r}]; "]
    argv[-1] += program
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_importing_does_nothing(path: Path) -> None:
    # Top-level statements define; the one call that is allowed builds a value.
    values = {"re.compile", "TypeVar", "Path", "MappingProxyType", "Interface", "Method",
              "Property", "Client", "Sign", "DBusAddress", "Chain", "frozenset", "Config",
              "versions", "Project"}  # fmt: skip
    # Those of schema.py make a kind of value.
    values |= {"boolean", "text", "integer", "choice", "sequence", "table", "record", "union"}
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.If):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                changed = isinstance(node.func, ast.Attribute) and node.func.attr == "then"
                known = changed or ast.unparse(node.func) in values
                assert known, f"{relative(path)}:{node.lineno}"


def keys(path: Path, section: str) -> list[tuple[str, str]]:
    """Return the (key, value) of a section of a unit file, in order."""
    found = []
    inside = False
    for line in path.read_text().splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        elif inside and line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.append((name, value))
    return found


@pytest.mark.parametrize("path", UNIT_FILES, ids=lambda path: path.name)
def test_units_name_man_pages_that_exist(path: Path) -> None:
    pages = dict(keys(path, "Unit"))["Documentation"].split()
    assert pages
    for page in pages:
        name = re.fullmatch(r"man:([A-Za-z0-9@._-]+)\((\d)\)", page)
        assert name, page
        assert (TREE / "man" / f"{name[1]}.{name[2]}.md").is_file(), page


@pytest.mark.parametrize("path", UNIT_FILES, ids=lambda path: path.name)
def test_units_are_alphabetical(path: Path) -> None:
    for section in ("Service", "Socket", "Slice"):
        names = [name for name, _ in keys(path, section)]
        assert names == sorted(names, key=str.casefold), section


@pytest.mark.parametrize("path", UNIT_FILES, ids=lambda path: path.name)
def test_units_say_who_they_are(path: Path) -> None:
    names = [name for name, _ in keys(path, "Unit")]
    assert names[:2] == ["Description", "Documentation"]
    assert not re.search(r"[ \t]$|\\$", path.read_text(), re.MULTILINE)


def test_what_starts_units_is_in_no_cycle_with_them() -> None:
    """Timers and paths are before basic.target, which services are after, if nothing is said."""
    for path in (TREE / "units").glob("*.[tp]*"):
        text = path.read_text()
        if path.suffix in (".timer", ".path") and re.search(r"^After=.*\.service", text, re.M):
            assert "\nDefaultDependencies=no\n" in text, path.name
            assert "\nConflicts=shutdown.target\n" in text, path.name
            assert "\nBefore=shutdown.target\n" in text, path.name


def test_no_unit_is_given_up_for_being_started_often() -> None:
    """Of all kinds, mounts and timers too: after five starts in ten seconds systemd refuses one."""
    for path in (TREE / "units").glob("*.*"):
        # One a connection; and one whose timer tries again.
        if path.suffix in LIMITED and path.name not in (
            "validator-passphrase@.service",
            "validator-tunnel@.service",
        ):
            assert "\nStartLimitIntervalSec=0\n" in path.read_text(), path.name


LIMITED = (".service", ".socket", ".timer", ".path", ".mount")


def test_units_start_programs_that_exist() -> None:
    place = "/usr/lib/validator-supervisor/"
    started = set()
    for path in UNIT_FILES:
        for name, value in keys(path, "Service"):
            if name.startswith("Exec") and place in value:
                started.add(value.partition(place)[2].split()[0])
    assert started <= {path.name for path in PROGRAMS}
    assert {"apply", "supervisor", "tunnel", "validator", "watch"} <= started
