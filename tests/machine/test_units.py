"""The units: what systemd and its analysis say of them, on both releases."""

import re

import pytest
from lab import images
from lab.host import TREE
from lab.machine import Machine

EVERY = sorted(path.name for path in (TREE / "units").glob("*.*"))
# By the package that has them.
UNITS = {
    "node": [name for name in EVERY if name.startswith("validator-supervisor-node.")],
    "host": [name for name in EVERY if not name.startswith("validator-supervisor-node.")],
}
# systemd-analyze counts in tenths: 2.0 is the limit of this project.
EXPOSURE = "20"


@pytest.mark.parametrize("role", ["host", "node"])
@pytest.mark.parametrize("suite", images.SUITES)
def test_units_are_correct_and_shut_in(suite: str, role: str) -> None:
    with Machine.boot(f"units-{role}-{suite}", images.installed(suite, role)) as machine:
        names = [name.replace("@.", "@x.") for name in UNITS[role]]
        assert names
        # An instance that is not configured has no user; here it is only looked at.
        machine.run("useradd", "--system", "validator_x")
        done = machine.run(
            "systemd-analyze", "verify", "--recursive-errors=yes", *names, check=False
        )
        ours = [line for line in done.stderr.splitlines() if "validator" in line]
        # Small machines have no man(1); that the pages are there is tested with the tree.
        ours = [line for line in ours if "Command 'man" not in line]
        assert ours == []
        for name in names:
            if name.endswith(".service"):
                done = machine.run("systemd-analyze", "security", f"--threshold={EXPOSURE}",
                                   "--no-pager", name, check=False)  # fmt: skip
                assert done.returncode == 0, done.stdout
        if role == "host":
            shown = machine.run("systemd-analyze", "security", "--no-pager").stdout
            assert re.search(r"validator-supervisor\.service +\d\.\d", shown)
