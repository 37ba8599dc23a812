"""Cached trees: a Debian of each release, the packages built from this tree, and both together."""

import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from lab.host import CACHE, TREE, LabError, digest, made_once, run
from lab.machine import Machine

SUITES = ("bookworm", "trixie")
BUILD_SUITE = "trixie"
# A small server; what our packages need comes with them.
BASE = "systemd,systemd-sysv,dbus,udev,iproute2,procps,ca-certificates"
# A base image is used for this long, so that security updates are in what is tested.
MONTH = 30
# Installed by the tests of completion; bash is there.
SHELLS = ("fish", "zsh")
ROLES = {"host": "validator-supervisor", "node": "validator-supervisor-node"}
NOT_SOURCE = {".git", ".ci", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def base(suite: str) -> Path:
    """Return the tree of a small Debian."""
    month = int(time.time() // 86400 // MONTH)
    path = CACHE / f"base-{suite}-{digest(BASE, str(month))}"
    with made_once(path, f"a small Debian {suite}") as fresh:
        if fresh:
            argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={BASE}"]
            run([*argv, suite, fresh / "root"], seconds=1200)
    return path / "root"


def chrooted(root: Path, *argv: str, seconds: float = 1200) -> None:
    """Run a program in a tree that is not booted."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "HOME": "/root"}
    quiet |= {name: os.environ[name] for name in os.environ if name.lower().endswith("_proxy")}
    # Name servers and proxies of this machine count while packages are fetched.
    run(["systemd-nspawn", "-q", "-D", root, "--register=no", "--keep-unit", "--as-pid2",
         "--console=pipe", "--resolv-conf=replace-host",
         *[f"--setenv={k}={v}" for k, v in quiet.items()], *argv], seconds=seconds)  # fmt: skip


def builder() -> Path:
    """Return the tree that packages are built in: Debian with the build dependencies."""
    control = (TREE / "debian/control").read_text()
    listed = re.search(r"^Build-Depends:((?:.*\n)(?: .*\n)*)", control, re.M)
    assert listed
    wanted = [item.split("|")[0].split("(")[0].strip() for item in listed[1].split(",")]
    wanted = ["debhelper" if item == "debhelper-compat" else item for item in wanted]
    path = CACHE / f"builder-{BUILD_SUITE}-{digest(*wanted)}"
    with made_once(path, f"a Debian {BUILD_SUITE} to build packages in") as fresh:
        if fresh:
            include = ",".join(["build-essential", "lintian", "shellcheck", "systemd", *wanted])
            argv = ["mmdebstrap", "--quiet", "--variant=buildd", f"--include={include}"]
            run([*argv, BUILD_SUITE, fresh / "root"], seconds=1800)
    return path / "root"


def source() -> list[Path]:
    """Return the files that packages are built from."""
    found = []
    for folder, folders, files in os.walk(TREE):
        folders[:] = sorted(set(folders) - NOT_SOURCE - {"tests"} | {"tests"} & {Path(folder).name})
        if Path(folder) == TREE / "debian":
            folders[:] = [name for name in folders if name in ("source", "tests")]
        found += [Path(folder) / name for name in sorted(files) if not name.endswith(".pyc")]
    return found


def debs() -> Path:
    """Return the directory of the packages built from the tree as it is, with lintian's report."""
    files = source()
    path = (
        CACHE / f"debs-{digest(*[item for f in files for item in (str(f.relative_to(TREE)), f)])}"
    )
    tree = builder()
    with made_once(path, "the packages") as fresh:
        if fresh:
            work = fresh / "build/validator-supervisor"
            for file in files:
                target = work / file.relative_to(TREE)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)
            run(["systemd-nspawn", "-q", "-D", tree, "--volatile=overlay", "--register=no",
                 "--keep-unit", "--console=pipe", "--private-network", f"--bind={fresh}:/srv",
                 "--chdir=/srv/build/validator-supervisor", "--setenv=LC_ALL=C.UTF-8",
                 "sh", "-c", "dpkg-buildpackage -us -uc -b >../log 2>&1 || { tail -n 60 ../log; exit 1; }; "
                 "lintian --info --display-info --fail-on none ../*.changes >../lintian"],
                seconds=900)  # fmt: skip
            for built in (fresh / "build").iterdir():
                if built.is_file():
                    built.rename(fresh / built.name)
            shutil.rmtree(fresh / "build")
    return path


def deb(package: str) -> Path:
    """Return the file of one built package."""
    (found,) = debs().glob(f"{package}_*.deb")
    return found


def with_dependencies(suite: str, package: str, peers: Sequence[str] = ()) -> list[Path]:
    """Return layers, lowest first: Debian and, fetched but not installed, what a package needs."""
    names = run(["dpkg-deb", "-f", deb(package), "Depends"]).stdout
    wanted = sorted({re.split(r"[ |(:]", item.strip())[0] for item in names.split(",")})
    beside = [*(SHELLS if package == ROLES["host"] else ()), *peers]
    lower = base(suite)
    path = CACHE / f"fetched-{suite}-{digest(lower.parent.name, *wanted, 'with', *beside)}"
    with made_once(path, f"what {package} needs on {suite}") as fresh:
        if fresh:
            with Machine.overlay([lower], fresh / "root") as root:
                chrooted(root, "apt-get", "update", "-qq")
                (root / "etc/apt/apt.conf.d/99keep").write_text(
                    'APT::Keep-Downloaded-Packages "true";\n'
                )
                # The package itself and nothing with it, not what it names: of alternatives apt
                # then fetches the one that it will choose.
                shutil.copy(deb(package), root / "root/package.deb")
                for chosen in (["/root/package.deb"], beside):
                    chrooted(root, "apt-get", "install", "-y", "-qq", "--no-install-recommends",
                             "--download-only", *chosen)  # fmt: skip
                (root / "root/package.deb").unlink()
    return [lower, path / "root"]


def installed(suite: str, role: str, peers: Sequence[str] = ()) -> list[Path]:
    """Return layers, lowest first, with the role's package installed by apt on a booted machine.

    ``peers`` are packages of Debian that ours is measured against.
    """
    package = ROLES[role]
    file = deb(package)
    lower = with_dependencies(suite, package, peers)
    path = CACHE / f"installed-{suite}-{role}-{digest(file, lower[-1].parent.name)}"
    with made_once(path, f"a Debian {suite} with {package}") as fresh:
        if fresh:
            with Machine.boot(f"install-{role}-{suite}", lower, upper=fresh / "root") as machine:
                install(machine, file, *peers)
                machine.run("rm", "-rf", "/root/package.deb")
    return [*lower, path / "root"]


def install(machine: Machine, file: Path, *words: str) -> None:
    """Install a package as an operator does; ``words`` are options, or packages beside it."""
    shutil.copy(file, machine.root / "root/package.deb")
    argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *words]
    machine.run(*argv, "/root/package.deb", seconds=300)


def forget_old() -> None:
    """Remove packages and installations of earlier trees, and images of earlier months."""
    mounted = Path("/proc/mounts").read_text()
    patterns = ("debs-*", "disk-*", "installed-*")
    built = [(path, 1) for pattern in patterns for path in CACHE.glob(pattern)]
    fetched = [
        (path, 2 * MONTH) for pattern in ("base-*", "fetched-*") for path in CACHE.glob(pattern)
    ]
    for path, days in built + fetched:
        if path.stat().st_mtime < time.time() - days * 86400 and str(path) not in mounted:
            shutil.rmtree(path, ignore_errors=True)


__all__ = ["TREE", "LabError", "base", "deb", "debs", "forget_old", "install", "installed"]
