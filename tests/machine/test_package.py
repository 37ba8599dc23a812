"""The packages: installed, upgraded, removed and purged with apt on both releases."""

import re
import shutil
from pathlib import Path

import pytest
from lab import images
from lab.host import run
from lab.machine import Machine
from lab.world import CONFIG

UNIT = "validator@sleeper.service"
SLEEPER = (
    "version: 1\nvalidators: {sleeper: {kind: command, command: [/usr/bin/sleep, infinity]}}\n"
)
SLEEPERS_ENABLED = (
    "org.validatorsupervisor1",
    "/org/validatorsupervisor1/validator/sleeper",
    "org.validatorsupervisor1.Validator",
    "SetEnabled",
    "b",
)


def test_lintian_finds_nothing() -> None:
    report = (images.debs() / "lintian").read_text()
    assert [line for line in report.splitlines() if line[:2] in ("E:", "W:")] == []


def test_the_target_is_enabled_by_the_package(tmp_path: Path) -> None:
    run(["dpkg-deb", "-e", images.deb("validator-supervisor"), tmp_path])
    assert "deb-systemd-helper enable 'validator.target'" in (tmp_path / "postinst").read_text()


def newer(machine: Machine, package: str) -> Path:
    """Make the same package with a higher version."""
    work = machine.root / "root/newer"
    run(["dpkg-deb", "-R", images.deb(package), work])
    control = work / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 0.1.1", control.read_text(), flags=re.M))
    file = work.with_suffix(".deb")
    run(["dpkg-deb", "-b", "--root-owner-group", work, file])
    shutil.rmtree(work)
    return file


@pytest.mark.parametrize("suite", images.SUITES)
def test_install_upgrade_remove_purge(suite: str) -> None:
    layers = images.installed(suite, "host")
    with Machine.boot(f"package-{suite}", layers) as machine:
        assert machine.property("validator.target", "ActiveState") == "active"
        assert machine.systemctl("is-enabled", "validator.target") == "enabled"
        machine.write(CONFIG, SLEEPER)
        # Of a unit that is just starting a reload is none.
        machine.wait_for_unit("validator-supervisor.service")
        machine.systemctl("reload", "validator-supervisor")
        machine.wait_for_unit(UNIT)
        machine.write("/etc/credstore/validator-tunnel.x", "kept")
        controller = machine.property("validator-supervisor.service", "MainPID")

        overrides = machine.root / "var/lib/validator-supervisor/overrides.yaml"
        machine.run("busctl", "call", *SLEEPERS_ENABLED, "false")
        machine.wait_for_unit(UNIT, "inactive")
        machine.run("busctl", "call", *SLEEPERS_ENABLED, "true")
        machine.wait_for_unit(UNIT)
        assert overrides.exists()
        pid = machine.property(UNIT, "MainPID")

        images.install(machine, newer(machine, "validator-supervisor"))
        assert (
            machine.output("dpkg-query", "-W", "-f", "${Version}", "validator-supervisor")
            == "0.1.1"
        )
        assert machine.property(UNIT, "MainPID") == pid, "an upgrade never restarts a validator"
        machine.wait(
            "the new controller",
            lambda: (
                machine.property("validator-supervisor.service", "MainPID") not in (controller, "0")
            ),
        )

        machine.systemctl("stop", UNIT)
        images.install(machine, images.deb("validator-supervisor"), "--allow-downgrades")
        assert machine.property(UNIT, "ActiveState") == "inactive", (
            "nor does it start a stopped one"
        )

        machine.systemctl("start", UNIT)
        machine.run("apt-get", "remove", "-y", "-qq", "validator-supervisor")
        machine.wait_for_unit(UNIT, "inactive")
        assert (
            machine.run("pgrep", "-f", "validator-supervisor/|sleep infinity", check=False).stdout
            == ""
        )
        assert (machine.root / CONFIG.lstrip("/")).exists()
        state = machine.root / "var/lib/validator/sleeper"
        assert state.is_dir()

        images.install(machine, images.deb("validator-supervisor"))
        machine.wait_for_unit(UNIT)

        machine.run("validator-supervisor", "init-identity", "--generate", "--kit", "/root/kit")
        machine.write("/var/lib/validator-watch/chains.json", "{}")
        machine.run("apt-get", "purge", "-y", "-qq", "validator-supervisor")
        assert not (machine.root / "var/lib/validator-watch").exists()
        assert not (machine.root / "etc/validator-supervisor/.applied").exists()
        assert not overrides.exists()
        sealed = machine.root / "etc/validator-supervisor/identity.age"
        assert sealed.exists(), "no archive opens without it"
        assert state.is_dir(), "what protects from slashing is not a package's to delete"
        left = machine.systemctl("list-units", "--failed", "--plain", "--no-legend")
        assert left == ""
        machine.systemctl("daemon-reload")


@pytest.mark.parametrize("suite", images.SUITES)
def test_node_package_comes_and_goes(suite: str) -> None:
    with Machine.boot(f"nodepkg-{suite}", images.installed(suite, "node")) as machine:
        machine.run("sshd", "-t")
        images.install(machine, newer(machine, "validator-supervisor-node"))
        machine.run("apt-get", "purge", "-y", "-qq", "validator-supervisor-node")
        machine.run("sshd", "-t")
        assert not (machine.root / "etc/ssh/sshd_config.d/validator-supervisor-node.conf").exists()
        assert (machine.root / "var/lib/validator-supervisor-node/supervisor-backups").is_dir()


@pytest.mark.parametrize("suite", images.SUITES)
def test_the_packages_own_smoke_test(suite: str) -> None:
    with Machine.boot(f"smoke-{suite}", images.installed(suite, "host")) as machine:
        text = (Path(__file__).parents[2] / "debian/tests/smoke").read_text()
        machine.write("/root/smoke", text, 0o755)
        # Four passphrases are tried in it, which takes a busy machine its time.
        machine.run("/root/smoke", seconds=300)


def test_pip_installs_into_a_virtual_environment(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for file in images.source():
        target = tree / file.relative_to(images.TREE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    venv = tmp_path / "venv"
    run(["/usr/bin/python3", "-m", "venv", "--system-site-packages", venv])
    run([venv / "bin/pip", "install", "--quiet", tree], seconds=300)
    done = run([venv / "bin/validator-supervisor", "--version"])
    assert done.stdout == "0.1.0\n"
