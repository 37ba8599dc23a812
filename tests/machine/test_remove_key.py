"""A key leaves a validator for good, and nothing but a person's word brings it back.

The oracle is the stand-in beacon node: it has seen who has signed, and when.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import images
from lab.archives import identity_of, newest, raw_of
from lab.host import LabError
from lab.keystores import many
from lab.machine import Machine
from lab.signing import AT_NODE, EPOCH, GIVEN, KEPT, NAME, VALIDATOR, Signing
from lab.standin.beacon import GENESIS

from validator_supervisor import contents, interchange, slashing

OUT = "/root/removed.json"
NODE = "helsinki"
# Signs a block in every slot, from two slots after the keys have gone out of memory here.
ELSEWHERE = """\
import json, os, sys, time, urllib.request
url, key, genesis, keys = sys.argv[1:]
while os.path.exists(keys):
    time.sleep(0.1)
while True:
    time.sleep(2)
    slot = int(time.time() - int(genesis))
    body = {"kind": "block", "key": key, "root": f"0x{slot:064x}", "slot": slot}
    urllib.request.urlopen(f"{url}/standin/signed", json.dumps(body).encode())
"""


# Runs a command, kills it after 6 seconds, and shows which jobs there were then.
KILLED = """\
"$0" "$@" &
sleep 6
systemctl list-units --plain --no-legend 'run-*.service'
kill -KILL $!
"""


@pytest.fixture(scope="class")
def signing(request: pytest.FixtureRequest) -> Iterator[Signing]:
    """A validator with three keys, which has signed with each, on the release of the class."""
    with Signing.booted(request.cls.SUITE, [NODE], keys=3) as booted:
        booted.start("--no-watch")
        booted.signs()
        yield booted
        booted.is_safe()
        assert booted.leaks() == []


def remove(signing: Signing, *words: str, out: str = OUT) -> tuple[int, str, str]:
    """Remove keys as a script does; return status, output and what was said."""
    argv = ["validator-supervisor", "remove-key", NAME, *words, "--out", out, "--confirm", NAME]
    done = signing.host.run(*argv, check=False, seconds=240)
    return done.returncode, done.stdout, done.stderr


def is_there(host: Machine, path: str) -> bool:
    return host.run("test", "-e", path, check=False).returncode == 0


def last_of(signing: Signing, key: str) -> float:
    """Return when a key has signed last."""
    return max(float(r["time"]) for r in signing.beacon.recorded() if r["key"] == key)


@contextlib.contextmanager
def signed_elsewhere(signing: Signing, key: str) -> Iterator[None]:
    """Have somebody sign with a key once it is silent here, as a client that nobody has stopped."""
    url = f"http://{signing.world.chain_address}"
    program = ["/usr/bin/python3", "-c", ELSEWHERE, url, key, str(GENESIS), f"{GIVEN}/keys"]
    signing.host.run("systemd-run", "--quiet", "--unit=elsewhere", "--collect", *program)
    try:
        yield
    finally:
        signing.host.systemctl("stop", "elsewhere")


def laid_out(host: Machine) -> list[str]:
    return sorted(host.output("ls", f"{GIVEN}/keys").split())


class Removal:
    """What happens to a key that leaves; the tests go on where the one before has ended."""

    SUITE = ""

    def test_nothing_is_done_that_was_not_meant(self, signing: Signing) -> None:
        first, host = signing.keys[0], signing.host
        before = signing.files()
        wrong = first[:-1] + ("0" if first[-1] != "0" else "1")
        for words, said in (
            ([wrong], f"did you mean {first}?"),
            (["0x" + "77" * 48], "does not have"),
            (["0x1234"], "expected 48 bytes"),
            ([f"{first} "], "expected 48 bytes"),
        ):
            status, out, err = remove(signing, *words)
            assert (status, out) == (1, "")
            assert said in err
        argv = ["validator-supervisor", "remove-key", NAME, first, "--out", OUT]
        for more, said in (([], "no terminal"), (["--confirm", "mian"], "was not typed")):
            done = host.run(*argv, *more, check=False)
            assert done.returncode == 1
            assert said in done.stderr
        for place, said in (("/etc/hostname", "already"), ("/nowhere/x", "no directory")):
            status, _, err = remove(signing, first, out=place)
            assert status == 1
            assert said in err
        assert signing.files() == before
        assert signing.up()
        assert not is_there(host, OUT)

    def test_the_others_sign_again_and_the_removed_one_never(self, signing: Signing) -> None:
        host = signing.host
        gone, *stay = signing.keys
        # As somebody pastes it.
        status, out, err = remove(signing, gone.removeprefix("0x").upper(), "--json")
        assert status == 0, err
        ended = time.time()
        done = json.loads(out)
        assert done == {"archive": done["archive"], "keys": [gone], "file": OUT, "watched": True}
        assert "watching for a twin" in err
        # Two whole epochs have passed without it.
        assert ended - last_of(signing, gone) > 2 * EPOCH
        signing.keys = stay
        signing.signs()
        assert last_of(signing, gone) < ended - 2 * EPOCH
        assert laid_out(host) == sorted(stay)
        seen = json.loads(host.output("cat", f"/run/validator/{NAME}/run.json"))
        assert seen["public_keys"] == sorted(stay)
        assert done["archive"] in signing.files(signing.world.nodes[NODE])
        archive = newest(signing)[1]
        assert sorted(archive.keys) == sorted(stay)
        assert list(archive.manifest.removed_keys) == [gone]
        assert archive.protection
        assert gone in archive.protection.keys
        assert signing.row() == "continue"

    def test_the_file_is_a_watermark_of_what_it_has_signed(self, signing: Signing) -> None:
        host = signing.host
        assert host.output("stat", "-c", "%U %a", OUT) == "root 600"
        found = interchange.parse(host.output("cat", OUT).encode()).interchange
        (key,) = found.keys
        records = [r for r in signing.beacon.recorded() if r["key"] == key]
        assert records
        for record in records:
            if record["kind"] == "block":
                why = slashing.check_block(found, key, int(record["slot"]))
            else:
                pair = int(record["source"]), int(record["target"])
                why = slashing.check_attestation(found, key, *pair)
            assert why, record
        assert len(found.keys[key].attestations) == 1
        assert host.run("sh", "-c", "ls -A /root | grep removed").stdout.split() == ["removed.json"]
        # It is not written twice.
        status, _, err = remove(signing, key)
        assert status == 1
        assert "is there already" in err

    def test_again_gives_the_same_file(self, signing: Signing) -> None:
        host = signing.host
        before = host.output("cat", OUT)
        (gone,) = interchange.parse(before.encode()).interchange.keys
        archives, since = signing.files(), host.property(VALIDATOR, "ActiveEnterTimestamp")
        status, out, err = remove(signing, gone, "--no-watch", out="/root/again.json")
        assert status == 0, err
        assert "removed before" in err.lower()
        assert "slashing" in err
        assert gone in out
        assert host.output("cat", "/root/again.json") == before
        # What runs without it goes on.
        assert signing.files()[-len(archives) :] == archives[-len(archives) :]
        assert host.property(VALIDATOR, "ActiveEnterTimestamp") == since

    def test_a_watch_ends_with_who_waits_for_it(self, signing: Signing) -> None:
        host = signing.host
        (gone,) = interchange.parse(host.output("cat", OUT).encode()).interchange.keys
        argv = ["validator-supervisor", "remove-key", NAME, gone, "--out", "/root/none.json"]
        done = host.run("sh", "-c", KILLED, *argv, "--confirm", NAME)
        assert "watching for a twin" in done.stderr
        assert "remove-key" in done.stdout
        assert not is_there(host, "/root/none.json")

        def jobs() -> str:
            return host.output("systemctl", "list-units", "--plain", "--no-legend", "run-*.service")

        # Before it would end by itself: that takes two epochs at least.
        host.wait("the end of the job", lambda: "remove-key" not in jobs(), 3)
        assert signing.up()

    def test_no_boot_and_no_older_archive_brings_it_back(self, signing: Signing) -> None:
        host, world = signing.host, signing.world
        (gone,) = interchange.parse(host.output("cat", OUT).encode()).interchange.keys
        signing.cut()
        host.wait_for_unit(VALIDATOR, seconds=90)
        signing.signs()
        assert gone not in laid_out(host)
        assert gone in newest(signing)[1].manifest.removed_keys
        # The node shows nothing but an archive that has the key, and it is restored here.
        old = signing.files()[-1]
        signing.stop()
        raw = raw_of(signing, old)
        assert gone in contents.unseal(raw, identity_of(signing), NAME).keys
        place = Path(f"/proc/{world.nodes[NODE].leader}/root{AT_NODE}")
        for path in place.glob(f"{NAME}.*.age"):
            path.unlink()
        (place / old).write_bytes(raw)
        Path(f"/proc/{host.leader}/root/root/old.age").write_bytes(raw)
        host.run("validator-supervisor", "backup", "restore", NAME, "--from", "/root/old.age")
        signing.start()
        signing.signs()
        assert gone not in laid_out(host)
        assert last_of(signing, gone) < time.time() - 3 * EPOCH

    def test_somebody_else_with_the_key_is_found(self, signing: Signing) -> None:
        host = signing.host
        gone, *stay = signing.keys
        with signed_elsewhere(signing, gone):
            status, out, err = remove(signing, gone, out="/root/second.json")
        assert status == 1
        assert "SOMEBODY STILL SIGNS WITH A REMOVED KEY" in err
        assert out == ""
        assert not is_there(host, "/root/second.json")
        signing.keys = stay
        signing.signs()
        assert laid_out(host) == sorted(stay)
        # Once that one has ended the same command goes on.
        status, _, err = remove(signing, gone, out="/root/second.json")
        assert status == 0, err
        assert is_there(host, "/root/second.json")

    def test_the_last_key_leaves_it_stopped_and_returned_keys_sign(self, signing: Signing) -> None:
        host, world = signing.host, signing.world
        (gone,) = interchange.parse(host.output("cat", OUT).encode()).interchange.keys
        (last,) = signing.keys
        keystores = {gone: many(3)[gone]}
        protection = host.output("cat", OUT)
        with pytest.raises(LabError, match="was removed from this validator for good"):
            world.import_keystores(NAME, keystores, protection)
        world.import_keystores(NAME, keystores, protection, "--returned")
        signing.stop()
        signing.start("--no-watch")
        signing.keys = [last, gone]
        signing.signs()
        assert laid_out(host) == sorted([last, gone])
        status, out, err = remove(signing, last, gone, "--no-watch", out="/root/all.json")
        assert status == 0, err
        assert "stays stopped" in err
        assert last in out
        assert signing.is_down()
        found = interchange.parse(host.output("cat", "/root/all.json").encode()).interchange
        assert set(found.keys) == {last, gone}
        assert newest(signing)[1].keys == {}
        assert not is_there(host, f"{KEPT}/running")


class TestBookworm(Removal):
    """On Debian 12."""

    SUITE = images.SUITES[0]


class TestTrixie(Removal):
    """On Debian 13."""

    SUITE = images.SUITES[1]
