"""Archives, age and slashing protection: how long they take, and how much memory."""

import contextlib
from collections.abc import Iterator

from tests.bench.row import AtMostOver, AtMostTimes, Peer, Row, Sample
from tests.bench.scene import PROGRAMS, Scene

# What is measured lies here, on the machine's disk.
DATA = "/root/formats"
TREE, KEY, RECIPIENT = f"{DATA}/tree", f"{DATA}/identity", f"{DATA}/recipient"
PROGRAM = ["python3", f"{PROGRAMS}/formats.py"]
RESTIC = "restic --quiet --no-cache --repo"
REPEATS = 5
# Each takes seconds.
FEW = 3
MEGABYTE = 1e6


@contextlib.contextmanager
def made(scene: Scene) -> Iterator[None]:
    """Write what is measured, and an archive of each peer; remove all of it at the end."""
    host = scene.host
    try:
        host.run("mkdir", "-p", DATA)
        host.run(*PROGRAM, "make", DATA, seconds=120)
        shell(scene, f"age-keygen -o {KEY} 2>/dev/null && age-keygen -y {KEY} >{RECIPIENT}")
        host.run(*PROGRAM, "create", TREE, KEY, f"{DATA}/archive")
        shell(scene, pipe(f"{DATA}/pipe"))
        shell(scene, f"{restic(f'{DATA}/empty')} init")
        shell(scene, f"cp -r {DATA}/empty {DATA}/full && {backup(f'{DATA}/full')}")
        yield
    finally:
        host.run("rm", "-rf", DATA)


def shell(scene: Scene, line: str) -> None:
    """Run what a person would type."""
    scene.host.run("sh", "-euc", line)


def pipe(target: str) -> str:
    """Return the line that makes an archive with Debian's programs."""
    return f"tar -C {TREE} -c . | zstd -q -3 | age -R {RECIPIENT} >{target}"


def restic(repository: str) -> str:
    """Return the beginning of a restic command."""
    return f"env RESTIC_PASSWORD=bench HOME=/root {RESTIC} {repository}"


def backup(repository: str) -> str:
    """Return the line that makes restic's."""
    return f"{restic(repository)} backup {TREE}"


def archive(scene: Scene) -> list[Row]:
    """Measure an archive of 1,000 keystores and 50 MB of slashing protection, both ways."""
    with made(scene):
        create = scene.timed(REPEATS, {
            "ours": [*PROGRAM, "create", TREE, KEY, "@NEW@/archive"],
            "pipe": ["sh", "-euc", pipe("@NEW@/archive")],
            # Making the repository is not what is measured: it is a copy of an empty one.
            "restic": ["sh", "-euc", f"cp -r {DATA}/empty @NEW@/r && {backup('@NEW@/r')}"],
        })  # fmt: skip
        restore = scene.timed(REPEATS, {
            "ours": [*PROGRAM, "restore", f"{DATA}/archive", KEY, "@NEW@"],
            "pipe": ["sh", "-euc", f"age -d -i {KEY} {DATA}/pipe | tar -C @NEW@ --zstd -x"],
            "restic": ["sh", "-euc", f"{restic(f'{DATA}/full')} restore latest --target @NEW@"],
        })  # fmt: skip
        memory = {
            "create": scene.inside("formats.py", "create", TREE, KEY, f"{DATA}/archive"),
            "restore": scene.inside("formats.py", "restore", f"{DATA}/archive", KEY, f"{DATA}/out"),
        }
        floor = scene.inside("formats.py", "nothing")
    rows = []
    for way, found in (("create", create), ("restore", restore)):
        what = f"{way} an archive of 1,000 keystores and 50 MB of slashing protection, wall time"
        for peer, name, goal in (("restic", "restic", 0.8), ("pipe", "tar|zstd|age", 3.0)):
            rows.append(timed(f"archive-{way}/{peer}", what, found, peer, name, goal))
        ours, bare = (Sample.worst([value], 1 / MEGABYTE) for value in (memory[way], floor))
        rows.append(Row(f"archive-{way}/memory", f"{way} it, highest resident memory", "MB", ours,
                        Peer("python3", bare), AtMostOver(64)))  # fmt: skip
    return rows


def timed(
    name: str, what: str, found: dict[str, list[float]], peer: str, shown: str, goal: float
) -> Row:
    """Return the row of programs that were timed."""
    ours, other = Sample.median(found["ours"]), Sample.median(found[peer])
    return Row(name, what, "s", ours, Peer(shown, other), AtMostTimes(goal))


def slashing(scene: Scene) -> list[Row]:
    """Measure two complete histories of 50 MB each, to the watermarks of both."""
    with made(scene):
        paths = [f"{TREE}/slashing-protection.json", f"{DATA}/second.json"]
        found = scene.timed(FEW, {
            "ours": [*PROGRAM, "merge", *paths],
            "load": [*PROGRAM, "load", *paths],
        })  # fmt: skip
    what = "parse, merge and minify two interchanges of 50 MB, wall time"
    return [timed("slashing-merge", what, found, "load", "json.load of both", 4)]


def age(scene: Scene) -> list[Row]:
    """Measure a gigabyte through age."""
    with made(scene):
        source, encrypted = f"{DATA}/gigabyte", f"{DATA}/gigabyte.age"
        shell(scene, f"age -R {RECIPIENT} -o {encrypted} {source}")
        encrypt = scene.timed(FEW, {
            "ours": [*PROGRAM, "encrypt", source, KEY],
            "age": ["sh", "-euc", f"age -R {RECIPIENT} {source} >/dev/null"],
        })  # fmt: skip
        decrypt = scene.timed(FEW, {
            "ours": [*PROGRAM, "decrypt", encrypted, KEY],
            "age": ["sh", "-euc", f"age -d -i {KEY} {encrypted} >/dev/null"],
        })  # fmt: skip
    # 0.4 times the speed is 2.5 times the time.
    return [timed(f"age/{way}", f"{way} 1 GiB, wall time", found, "age", "age", 2.5)
            for way, found in (("encrypt", encrypt), ("decrypt", decrypt))]  # fmt: skip
