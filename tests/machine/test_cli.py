"""The command line where it is installed: people of each kind, terminals and shells."""

import json
from collections.abc import Iterator

import pytest
from lab import images
from lab.machine import Machine
from lab.world import CONFIG, FEE_RECIPIENT, World

UNIT = "validator@sleeper.service"
CONTROLLER = "validator-supervisor.service"
# The node with a tunnel does not exist, and one configuration is refused.
ANNOUNCED = [r" tunnel\[|validator-tunnel@", r" apply\[|validator-apply|Reload failed"]
MAIN = {
    "kind": "ethereum",
    "network": "dev",
    "fee_recipient": FEE_RECIPIENT,
    "release": {"client": "lodestar", "binary": "/usr/bin/true"},
    "nodes": ["near", "far"],
    "enabled": False,
}


def stopped(host: Machine) -> bool:
    """Stop the tunnel. One that fails at this very moment starts its timer (OnFailure=)."""
    units = ("validator-tunnel@helsinki.timer", "validator-tunnel@helsinki.service")
    host.run("systemctl", "stop", *units, check=False)
    return not any(host.property(unit, "ActiveState").startswith("activ") for unit in units)


@pytest.fixture(scope="module", params=images.SUITES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A host of each release with shells, two commands and a validator that is disabled."""
    with World.booted(request.param) as booted:
        host = booted.host
        for name in ("sleeper", "snorer"):
            booted.validator(name, kind="command", command=["/usr/bin/sleep", "infinity"])
        booted.validator("main", **MAIN)
        for name, port in (("near", 5052), ("far", 5053)):
            booted.config["nodes"][name] = {"beacon": f"127.0.0.1:{port}"}  # type: ignore[index]
        away = {"host": "192.0.2.99", "host_key": "first-use"}
        booted.config["nodes"]["helsinki"] = away  # type: ignore[index]
        booted.apply()
        host.systemctl("start", "validator.target")
        host.wait_for_unit(UNIT)
        host.wait("the tunnel to stay down", lambda: stopped(host))
        host.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *images.SHELLS)
        for user, groups in (
            ("olga", "validator-operators"),
            ("victor", "validator-viewers"),
            ("nina", ""),
        ):
            host.run("useradd", "--create-home", "--groups", groups, user)
        host.write("/usr/local/bin/terminal", TERMINAL, 0o755)
        yield booted
        assert host.problems(ANNOUNCED) == []


# Takes a JSON list on standard input: a program, then what is done at its terminal in turn.
TERMINAL = r"""#!/usr/bin/python3
import fcntl, json, os, pty, re, select, struct, subprocess, sys, termios, time
program, *steps = json.load(sys.stdin)
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp(program[0], program)
text = ""

def size(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

def keys(typed):
    global text
    text = ""
    os.write(terminal, typed.encode())

def see(pattern):
    global text
    end = time.monotonic() + 15
    while not re.search(pattern, text, re.S):
        if time.monotonic() > end:
            sys.exit(f"no {pattern} in {text!r}")
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65536).decode(errors="replace")
    text = text[re.search(pattern, text, re.S).end():]

def run(*argv):
    subprocess.run(argv, check=True)

def status(expected):
    found = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if found != expected:
        sys.exit(f"status {found}")

size(24, 80)
for word, *values in steps:
    globals()[word](*values)
"""


def at_terminal(host: Machine, program: list[str], *steps: tuple[object, ...]) -> None:
    """Run a program on a terminal of its own."""
    host.run("terminal", stdin=json.dumps([program, *steps]))


def cli(world: World, user: str, *words: str) -> tuple[int, str, str]:
    """Run the command line as somebody; its status, output and errors."""
    done = world.host.as_user(user, "validator-supervisor", *words, check=False)
    return done.returncode, done.stdout, done.stderr


def named(world: World, kind: str, name: str) -> dict[str, object]:
    """Return the properties of a node or a validator."""
    found = world.status()[kind]
    (mine,) = [item for item in found if item["Name"] == name]  # type: ignore[attr-defined]
    return dict(mine)


def test_watch_follows_the_signals_for_a_viewer(world: World) -> None:
    host = world.host
    host.run("systemd-run", "-q", "--uid=victor", "--collect", "--unit=watching",
             "--property=StandardOutput=file:/run/seen", "--property=StandardError=file:/run/said",
             "validator-supervisor", "status", "--watch", "--json")  # fmt: skip

    def states() -> list[str]:
        lines = host.run("cat", "/run/seen", check=False).stdout.split("\n")[:-1]
        shown = [json.loads(line)["validators"] for line in lines]
        return [v["ActiveState"] for report in shown for v in report if v["Name"] == "sleeper"]

    host.wait("the first report", lambda: states() == ["active"])
    host.systemctl("stop", UNIT)
    host.wait("the stop", lambda: states()[-1] == "inactive", 5)
    host.systemctl("stop", CONTROLLER)
    host.wait("a word of it", lambda: "waiting for it" in host.output("cat", "/run/said"))
    host.systemctl("start", CONTROLLER, UNIT)
    host.wait("the start", lambda: states()[-1] == "active", 5)
    # Nothing changes, and so nothing is written.
    before = len(states())
    host.run("sleep", "2")
    assert len(states()) == before
    host.systemctl("stop", "watching.service")
    code, _, said = cli(world, "nina", "status", "--watch")
    assert (code, "validator-viewers" in said) == (1, True)


def test_watch_draws_on_a_terminal(world: World) -> None:
    host = world.host
    at_terminal(
        host, ["validator-supervisor", "status", "--watch"],
        ("see", r"\x1b\[H.*sleeper  command +running since.*\x1b\[J"),
        ("run", "systemctl", "stop", UNIT),
        ("see", r"\x1b\[H.*sleeper  command +dead.*PROBLEMS.*\x1b\[J"),
        ("size", 5, 40),
        ("see", r"\x1b\[H.*… \d+ more lines"),
        ("run", "systemctl", "stop", CONTROLLER),
        ("see", r"\x1b\[\?7lthe controller is not running; waiting f\x1b"),
        ("run", "sleep", "1"),
        # It stays stopped until somebody starts it.
        ("run", "sh", "-c", f"! systemctl --quiet is-active {CONTROLLER}"),
        ("run", "systemctl", "start", CONTROLLER, UNIT),
        ("see", r"\x1b\[\?7lvalidator-supervisor.*NODES"),
        ("keys", "\x03"),
        ("status", 0),
    )  # fmt: skip


def test_several_validators_are_switched_at_once(world: World) -> None:
    host = world.host
    assert cli(world, "olga", "stop", "sleeper", "snorer")[0] == 0
    for unit in (UNIT, "validator@snorer.service"):
        host.wait_for_unit(unit, "inactive")
    code, out, said = cli(world, "olga", "start", "sleper", "sleeper", "snorer", "sleeper")
    assert (code, out) == (1, "")
    assert said == (
        "validator-supervisor: there is no validator sleper\n  → did you mean sleeper?\n"
    )
    for unit in (UNIT, "validator@snorer.service"):
        host.wait_for_unit(unit)
    assert cli(world, "root", "start", "sleeper") == (0, "sleeper is running already\n", "")


@pytest.mark.parametrize(
    "words", ["start sleeper", "restart sleeper", "disable sleeper", "connect main far"]
)
def test_a_viewer_only_looks(world: World, words: str) -> None:
    code, out, said = cli(world, "victor", *words.split())
    assert (code, out) == (1, "")
    assert "be root or a member of validator-operators" in said
    assert cli(world, "victor", "status")[0] == 0


def test_restart(world: World) -> None:
    host = world.host
    before = host.property(UNIT, "MainPID")
    assert cli(world, "olga", "restart", "sleeper") == (0, "", "")
    host.wait("another process", lambda: host.property(UNIT, "MainPID") not in (before, "0"))


def test_disable_and_enable_are_for_good(world: World) -> None:
    host = world.host
    assert cli(world, "olga", "disable", "sleeper") == (0, "sleeper is disabled\n", "")
    host.wait_for_unit(UNIT, "inactive")
    # What the configuration says of it is no longer what counts.
    host.systemctl("reload", CONTROLLER)
    assert host.property(UNIT, "ActiveState") == "inactive"
    assert named(world, "validators", "sleeper")["Overridden"] == ["enabled"]
    (row,) = [r for r in cli(world, "victor", "status")[1].splitlines() if r.startswith("  sleep")]
    assert row.endswith("disabled (override)")
    assert cli(world, "olga", "enable", "sleeper") == (0, "sleeper is enabled\n", "")
    host.wait_for_unit(UNIT)
    assert named(world, "validators", "sleeper")["Enabled"] is True


def test_connect_prefers_a_node_until_it_is_cleared(world: World) -> None:
    def preferred() -> object:
        return named(world, "validators", "main")["PreferredNode"]

    assert cli(world, "olga", "connect", "main", "far") == (0, "main: far is preferred\n", "")
    world.host.wait("the preference", lambda: preferred() == "far")
    assert "  prefers far (override)" in cli(world, "victor", "status")[1]
    code, _, said = cli(world, "olga", "connect", "main", "fra")
    assert (code, preferred()) == (1, "far")
    assert "did you mean far?" in said
    assert cli(world, "olga", "connect", "main", "--clear")[0] == 0
    world.host.wait("the configured order", lambda: preferred() == "")
    assert named(world, "validators", "main")["Overridden"] == []


def test_a_change_that_is_refused_is_a_problem(world: World) -> None:
    host = world.host
    host.write(CONFIG, "version: 1\nvalidaters: {}\n")
    host.run("systemctl", "reload", CONTROLLER, check=False)

    def problems() -> str:
        _, out, _ = cli(world, "victor", "status")
        return out.partition("PROBLEMS")[2]

    host.wait("the problem", lambda: "the changed configuration: " in problems())
    assert "validaters" in problems()
    assert "`systemctl reload validator-supervisor`" in problems()
    world.write_config()
    host.systemctl("reload", CONTROLLER)
    host.wait("its end", lambda: "the changed configuration" not in problems())


def test_logs_are_of_the_units_that_are_named(world: World) -> None:
    host = world.host
    code, out, said = cli(world, "root", "logs", "sleeper", "-n", "1")
    assert (code, said) == (0, "")
    assert UNIT in out
    _, out, _ = cli(world, "root", "logs", "snorer", "helsinki")
    assert "validator@snorer.service" in out
    assert "validator-tunnel@helsinki.service" in out
    assert "sleeper" not in out
    _, out, _ = cli(world, "root", "logs")
    for unit in (UNIT, "validator-apply.service", "validator-watch.service", CONTROLLER):
        assert unit in out
    assert "systemd-journald" not in out
    code, _, said = cli(world, "root", "logs", "sleper")
    assert (code, "did you mean sleeper?" in said) == (1, True)
    # The names are known without the controller.
    host.systemctl("stop", CONTROLLER)
    assert cli(world, "root", "logs", "sleeper", "-n", "1")[0] == 0
    assert host.property(CONTROLLER, "ActiveState") == "inactive"
    host.systemctl("start", CONTROLLER)


def test_logs_are_for_those_who_may_read_the_journal(world: World) -> None:
    host = world.host
    code, out, said = cli(world, "victor", "logs", "sleeper")
    assert (code, out) == (1, "")
    assert "systemd-journal or adm" in said
    host.run("usermod", "--append", "--groups", "systemd-journal", "victor")
    code, out, said = cli(world, "victor", "logs", "sleeper")
    assert (code, UNIT in out, said) == (0, True, "")


def test_logs_are_followed_until_the_end(world: World) -> None:
    at_terminal(
        world.host, ["validator-supervisor", "logs", "sleeper", "--follow", "-n", "0"],
        ("run", "sleep", "1"),
        ("run", "systemctl", "restart", UNIT),
        ("see", "Started.*sleeper"),
        ("keys", "\x03"),
    )  # fmt: skip


WORDS = [
    ("sta", ["status", "start"]),
    ("start s", ["sleeper", "snorer"]),
    ("start sleeper s", ["snorer"]),
    ("connect ma", ["main"]),
    ("connect main ", ["near", "far"]),
    ("authorize ", ["helsinki"]),
    ("logs ", ["main", "sleeper", "snorer", "helsinki"]),
    ("logs -p w", ["warning"]),
    ("status --", ["--help", "--json", "--watch"]),
]
# One that begins as ours do, so that completion would offer it if it offered files.
FILES = "cd /root && touch sleepless"


@pytest.mark.parametrize("user", ["root", "nina"])
def test_completion_in_bash(world: World, user: str) -> None:
    script = """
source /usr/share/bash-completion/completions/validator-supervisor
line="validator-supervisor $1"
read -ra COMP_WORDS <<<"$line"
[[ $line != *" " ]] || COMP_WORDS+=("")
COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p validator-supervisor | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function validator-supervisor "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    for line, words in WORDS:
        done = world.host.as_user(user, "bash", "-c", script, "bash", line)
        assert done.stderr == ""
        assert sorted(done.stdout.split()) == sorted(words), line


def test_completion_at_the_prompt_of_bash(world: World) -> None:
    at_terminal(
        world.host, ["bash", "--norc", "-i"],
        ("keys", f"PS1=; {FILES}; source /usr/share/bash-completion/completions/validator-supervisor"
                 "; echo rea''dy\n"),
        ("see", "ready"),
        ("keys", "validator-supervisor start sl\t"),
        ("see", "start sleeper "),
        ("keys", "sn\t"),
        ("see", "snorer "),
        ("keys", "\x15validator-supervisor logs \t\t"),
        ("see", "helsinki +main +sleeper +snorer"),
        ("keys", "\x15exit\n"),
    )  # fmt: skip


def test_completion_in_fish(world: World) -> None:
    host = world.host
    for line, words in WORDS:
        done = host.run("fish", "-c", f"{FILES}; complete -C 'validator-supervisor {line}'")
        assert done.stderr == ""
        offered = [row.split("\t")[0] for row in done.stdout.splitlines()]
        assert sorted(offered) == sorted(words), line


def test_completion_in_zsh(world: World) -> None:
    at_terminal(
        world.host, ["zsh", "-f", "-i"],
        ("keys", f"PS1=; {FILES}; autoload -Uz compinit; compinit -u -D; echo rea''dy\n"),
        ("see", "ready"),
        ("keys", "validator-supervisor start sl\t"),
        ("see", "start sleeper"),
        ("keys", "\x15validator-supervisor connect main \t"),
        ("see", "near.*far"),
        ("keys", "\x15validator-supervisor sta\t"),
        ("see", "status.*start|start.*status"),
        ("keys", "\x15exit\n"),
    )  # fmt: skip


def test_completion_neither_starts_the_controller_nor_complains(world: World) -> None:
    host = world.host
    host.systemctl("stop", CONTROLLER)
    host.run("mv", "/etc/validator-supervisor/.applied", "/root/applied")
    try:
        for content in ("", "{}", '{"config": []'):
            host.write("/etc/validator-supervisor/.applied", content)
            done = host.run("fish", "-c", "complete -C 'validator-supervisor start '")
            assert (done.stdout, done.stderr) == ("", "")
    finally:
        host.run("mv", "/root/applied", "/etc/validator-supervisor/.applied")
    done = host.run("fish", "-c", "complete -C 'validator-supervisor start sn'")
    assert done.stdout == "snorer\n"
    assert host.property(CONTROLLER, "ActiveState") == "inactive"
    host.systemctl("start", CONTROLLER)
