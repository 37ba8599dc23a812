"""`python3 -m lab`: make everything that is cached, as much at once as there are processors."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import host, images
from lab.client import lodestar
from lab.host import LabError

# Of root, in all containers together: each systemd has some, and one for each path unit.
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
INSTANCES_MIN = 1024


def prepare() -> None:
    """Build the packages, the machines that have them installed, and the client."""
    host.need(host.PACKAGES)
    if int(INSTANCES.read_text()) < INSTANCES_MIN:
        INSTANCES.write_text(f"{INSTANCES_MIN}")
    images.forget_old()
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(lodestar), pool.submit(images.debs)]
        made += [pool.submit(images.base, suite) for suite in images.SUITES]
        for future in made:
            future.result()
        booted = [
            pool.submit(images.installed, suite, role)
            for suite in images.SUITES
            for role in images.ROLES
        ]
        for machine in booted:
            machine.result()


if __name__ == "__main__":
    try:
        prepare()
    except LabError as failure:
        sys.exit(f"cannot prepare the machines: {failure}")
