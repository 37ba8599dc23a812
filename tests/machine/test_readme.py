"""README.md's quick start, every day and disaster recovery, followed literally on both releases.

What a person has to put in place of something is in PLACES; the node's name in the configuration
is one that the machines know.
"""

import re
import shutil
from collections.abc import Callable

import pytest
from lab import images, standin
from lab.host import TREE
from lab.keystores import PASSWORD, many
from lab.machine import Machine
from lab.standin import Beacon
from lab.terminal import Terminal
from lab.world import CONFIG, PASSPHRASE, World

README = (TREE / "README.md").read_text()
KIT = "/root/recovery-kit.txt"
CLIENT = "/opt/lodestar/lodestar"
SLOTS = ("--slots-per-epoch", "12")
VALIDATOR = "validator@main.service"
HERE = "Disaster recovery"
# What stands in README.md, and the function that knows what it is here.
PLACES: dict[str, Callable[[World], str]] = {
    "'ssh-ed25519 AAAA…'": lambda world: f"'{old_key(world)}'",
}
OTHER = "a passphrase of another identity"
NEW = "the passphrase from now on"
# A busy machine takes its time.
LONG = 240


def old_key(world: World) -> str:
    """Return the only key that may log in to the node, from its list as `list-validators` shows."""
    (found,) = (
        world.nodes["helsinki"].output("validator-supervisor-node", "list-validators").splitlines()
    )
    (key,) = re.findall(r"ssh-ed25519 [A-Za-z0-9+/=]+", found)
    return str(key)


def commands(heading: str, step: int) -> list[str]:
    """Return the lines of the code block of a step."""
    (section,) = re.findall(rf"^## {heading}$(.*?)^## ", README, re.M | re.S)
    (text,) = re.findall(rf"^{step}\. (.*?)(?=^\d+\. |\Z)", section, re.M | re.S)
    (block,) = re.findall(r"^ +```\w*\n(.*?)^ +```", text, re.M | re.S)
    indent = re.match(" *", block)
    assert indent
    return [line.removeprefix(indent[0]) for line in block.splitlines()]


def block(heading: str) -> list[str]:
    """Return the lines of the first code block of a section without steps, without comments."""
    (section,) = re.findall(rf"^## {heading}$(.*?)^## ", README, re.M | re.S)
    (first, *_) = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    return [line.partition(" #")[0].strip() for line in first.splitlines()]


def follow(host: Machine, heading: str, step: int) -> str:
    """Run a step that asks nothing, as it stands there, and return what it prints."""
    return host.run("sh", "-euc", "\n".join(commands(heading, step)), seconds=LONG).stdout


def config(world: World) -> str:
    """Return the configuration of the quick start; only the host key is another one."""
    text = "\n".join(commands("Quick start", 4)) + "\n"
    return re.sub(r"ssh-ed25519 \S+", world.host_key("helsinki"), text)


def prepare(world: World, host: Machine) -> None:
    """Give a host the node's name, and a client where the README has it."""
    address = world.network.addresses["helsinki"]
    host.run("sh", "-c", f"echo {address} hel.example.net >>/etc/hosts")
    standin.install(host)
    host.run("install", "-D", standin.CLIENT, CLIENT)


def authorized(world: World, line: str) -> None:
    """Run on the node what was printed for it."""
    assert line.startswith("validator-supervisor-node add-validator")
    world.nodes["helsinki"].run("sh", "-euc", line)


@pytest.mark.parametrize("suite", images.SUITES)
def test_quick_start_and_disaster_recovery(suite: str) -> None:
    with World.booted(suite, ["helsinki"]) as world:
        node = world.nodes["helsinki"]
        standin.install(node)
        beacon = Beacon.in_machine(node, 5052, *SLOTS)
        prepare(world, world.host)
        quick_start(world, world.host)
        for key in many(2):
            beacon.wait_for(key, seconds=LONG)
        operate(world.host)
        world.host.wait_for_unit(VALIDATOR, seconds=LONG)
        backups(world.host)
        kit = world.host.output("cat", KIT)
        # Whatever it has signed since its last backup is lost with it.
        world.host.cut()
        signed = len(beacon.recorded())
        space = world.network.add("second")
        # A small Debian; packages come from where apt keeps them, because nothing reaches mirrors.
        layers = images.with_dependencies(suite, images.ROLES["host"])
        with Machine.boot(f"second-{world.network.prefix}", layers, namespace=space) as second:
            second.write("/etc/hosts", world.network.hosts())
            second.write("/etc/apt/apt.conf.d/small", 'APT::Install-Recommends "false";\n')
            prepare(world, second)
            second.write(KIT, f"{kit}\n", 0o600)
            recovery(world, second)
            last = max(int(record.get("target", 0)) for record in beacon.recorded()[:signed])
            for key in many(2):
                beacon.wait_for(key, last, LONG)
            assert len(beacon.recorded()) > signed
            assert beacon.slashable() == []
            attests(second)


def attests(host: Machine) -> None:
    """Wait for what the person waits for, and make the new kit."""
    healthy = lambda: "2 of 2 keys attested" in follow(host, HERE, 9)  # noqa: E731
    host.wait("every key in the status", healthy, LONG)
    before = host.output("cat", KIT)
    assert "The recovery kit is in" in follow(host, HERE, 10)
    after = host.output("cat", KIT)
    sequences = [int(re.findall(r"^  main +(\d+)$", text, re.M)[-1]) for text in (before, after)]
    assert sequences[0] < sequences[1]


def quick_start(world: World, host: Machine) -> None:
    follow(host, "Quick start", 2)
    key = follow(world.nodes["helsinki"], "Quick start", 3)
    assert key.strip() == world.host_key("helsinki")
    host.write(CONFIG, config(world))
    authorized(world, follow(host, "Quick start", 5))
    init, unlock = commands("Quick start", 7)
    terminal = Terminal(host, init)
    terminal.answer("assphrase", PASSPHRASE)
    terminal.answer("gain", PASSPHRASE)
    assert terminal.end() == 0, terminal.shown
    ask(host, unlock, ("assphrase", PASSPHRASE))
    for key, text in many(2).items():
        host.write(f"/root/keys/keystore-{key}.json", text, 0o600)
    (line,) = commands("Quick start", 8)
    ask(host, line, ("Password", PASSWORD), ("Password", ""), seconds=LONG)
    follow(host, "Quick start", 9)
    host.wait_for_unit(VALIDATOR, seconds=LONG)
    assert "main" in follow(host, "Quick start", 10)


def operate(host: Machine) -> None:
    """Run every line of an operator's day; the last two stop everything, and start the validator."""
    for line in "\n".join(block("Operate")).replace("\\\n", " ").splitlines():
        if re.search(r" (-f|--watch)\b", line):
            done = host.run("timeout", "3", "sh", "-c", line, check=False)
            assert (done.returncode, bool(done.stdout)) == (124, True), line
        elif line:
            # Of several units, some of which do not run, it ends with 3.
            shows = line.startswith("systemctl status")
            host.run("sh", "-euc", line, check=not shows, seconds=LONG)
    # It waits for the passphrase, and for the tunnels.
    undo = "validator-supervisor enable main; validator-supervisor connect main --clear"
    host.run("sh", "-euc", f"systemctl start validator.target; {undo}", seconds=LONG)
    ask(host, "validator-supervisor unlock", ("assphrase", PASSPHRASE))


def backups(host: Machine) -> None:
    """Run every line about backups: the kit that it makes still opens with the old passphrase."""
    now, listed, verify, kit, passphrase, explain = block("Backups")
    assert "newest archive is of" in host.output("sh", "-euc", now, seconds=LONG)
    shown = host.output("sh", "-euc", listed, seconds=LONG)
    assert re.search(r"main +helsinki .* verified", shown), shown
    host.run("sh", "-euc", verify, seconds=LONG)
    host.run("sh", "-euc", kit)
    ask(host, passphrase, ("Passphrase now", PASSPHRASE), ("New passphrase", NEW), ("again", NEW))
    assert "continue" in host.output("sh", "-euc", explain, seconds=LONG)


def recovery(world: World, host: Machine) -> None:
    _, remove = commands(HERE, 1)
    node = world.nodes["helsinki"]
    for words, here in PLACES.items():
        remove = remove.replace(words, here(world))
    node.run("sh", "-euc", remove)
    assert node.output("sh", "-euc", commands(HERE, 1)[0]) == ""
    shutil.copy(images.deb(images.ROLES["host"]), host.root / "root")
    (install,) = commands(HERE, 2)
    ask(host, f"cd /root && {install}", ("ontinue? [Y/n]", "y"), seconds=LONG)
    kit_and_passphrase(host)
    host.write(CONFIG, config(world))
    follow(host, HERE, 4)
    authorized(world, follow(host, HERE, 5))
    unlock, restore = commands(HERE, 7)
    ask(host, unlock, ("assphrase", PASSPHRASE))
    assert "with 2 keys" in host.output("sh", "-euc", restore, seconds=LONG)
    (over,) = commands(HERE, 8)
    ask(host, over, ("to go on", "main"), seconds=LONG)


def kit_and_passphrase(host: Machine) -> None:
    """Take the identity out of the kit, after every mistake there is to make."""
    (line,) = commands(HERE, 3)
    sealed = "/etc/validator-supervisor/identity.age"
    wrong = "validator-supervisor: /root/recovery-kit.txt: "
    assert f"{wrong}the passphrase is wrong" in ask(host, line, ("assphrase", NEW), status=1)
    # A letter too many.
    host.run("sed", "-i.good", "/BEGIN AGE/{n;s/^/A/}", KIT)
    assert f"{wrong}a line of the armor" in ask(host, line, ("assphrase", PASSPHRASE), status=1)
    host.run("sed", "-i", "/END AGE/d", KIT)
    assert f"{wrong}there is not one text" in ask(host, line, ("assphrase", PASSPHRASE), status=1)
    assert host.run("ls", sealed, check=False).returncode != 0
    host.run("mv", f"{KIT}.good", KIT)
    assert "The identity is age1" in ask(host, line, ("assphrase", PASSPHRASE))
    again = ask(host, line, status=1)
    assert "is there already" in again


@pytest.mark.parametrize("suite", images.SUITES)
def test_the_kit_of_another_identity(suite: str) -> None:
    """Whoever has the wrong kit is told so when archives are to come back."""
    with World.booted(suite, ["helsinki"]) as world:
        host, node = world.host, world.nodes["helsinki"]
        standin.install(node)
        Beacon.in_machine(node, 5052, *SLOTS)
        world.node("helsinki", beacon={"dev": "127.0.0.1:5052"}, backups="supervisor-backups")
        world.standin_validator("main")
        world.apply()
        world.authorize("helsinki")
        world.import_interop("main")
        host.run("validator-supervisor", "backup", "now", "main", seconds=LONG)
        assert node.output("ls", "/var/lib/validator-supervisor-node/supervisor-backups")
        host.run("validator-supervisor", "lock", seconds=LONG)
        host.run(
            "sh", "-c", "rm -r /etc/validator-supervisor/identity.age /var/lib/validator-state/*"
        )
        world.init_identity(OTHER)
        world.unlock(OTHER)
        (_, restore) = commands(HERE, 7)
        done = host.run("sh", "-c", restore, check=False, seconds=LONG)
        assert done.returncode == 1
        assert "no archive of main that verifies was found" in done.stderr
        assert "is it another identity's?" in done.stderr


def ask(
    host: Machine, line: str, *answers: tuple[str, str], status: int = 0, seconds: float = 60
) -> str:
    """Run a line at a terminal, answer what it asks, and return what it has shown."""
    terminal = Terminal(host, line)
    for question, words in answers:
        terminal.answer(question, words, seconds)
    assert terminal.end(seconds) == status, terminal.shown
    return terminal.shown
