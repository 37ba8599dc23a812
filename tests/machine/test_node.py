"""The account on a bastion, attacked with the key of a validator host."""

from lab.world import World

KEY = "/etc/credstore/validator-tunnel.helsinki"
# The attacks and a key that is removed make the tunnel fail; the watch sees its node go.
ANNOUNCED = [r" tunnel\[\d+\]: ", r"validator-tunnel@helsinki", r"http://127\.0\.0\.1:13000"]


# Connects as soon as somebody listens; prints what the other side says, or that it closes.
ASK = """
import socket, sys, time
for _ in range(50):
    try:
        s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
try:
    s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(s.recv(20) or "closed")
except ConnectionError:
    print("closed")
"""


def ssh(world: World, *argv: str, seconds: int = 6, stdin: str = "") -> tuple[int, str]:
    """Run ssh on the validator host against the node; (status, everything it said)."""
    done = world.host.run(
        "timeout", str(seconds), "ssh", "-F", "none", "-i", KEY, "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "ExitOnForwardFailure=yes", *argv, check=False, stdin=stdin,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_only_what_is_permitted(world: World) -> None:
    node = world.nodes["helsinki"]
    world.node("helsinki", beacon="127.0.0.1:9596")
    world.apply()
    world.authorize("helsinki")
    me = "validator-node@helsinki.example"
    standing = 124  # timeout(1) had to end it

    # What is configured stands.
    assert ssh(world, "-N", "-L", "13000:127.0.0.1:9596", me, seconds=3)[0] == standing
    # No shell, no command, no terminal; the echo would be computed by a shell.
    for words in ((me,), (me, "id"), ("-tt", me, "sh")):
        status, said = ssh(world, *words, stdin="echo pwned$((1+1)); id\n")
        assert "uid=" not in said
        assert "pwned2" not in said
        assert status not in (0, standing)
    node.run("test", "!", "-e", "/tmp/pwned")
    ssh(world, me, "touch /tmp/pwned")
    node.run("test", "!", "-e", "/tmp/pwned")
    # No reverse forward, as none is configured; neither to a port nor anywhere else.
    for listen in ("8000", "0.0.0.0:8000", "localhost:8000"):
        assert ssh(world, "-N", "-R", f"{listen}:127.0.0.1:22", me)[0] == 255
    assert ssh(world, "-N", "-R", "/tmp/taken.sock:127.0.0.1:22", me)[0] == 255
    node.run("test", "!", "-e", "/tmp/taken.sock")
    # Nothing else to connect to: another port, a socket of the node, the node's network.
    for target in ("127.0.0.1:22", "localhost:9596", "/run/dbus/system_bus_socket"):
        world.host.run("systemd-run", "-q", "--unit=attack", "--collect", "ssh", "-F", "none", "-i", KEY,
                       "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                       "-o", "UserKnownHostsFile=/dev/null", "-N", "-L", f"13999:{target}", me)  # fmt: skip
        answer = world.host.run("python3", "-c", ASK, "13999", seconds=30)
        assert answer.stdout == "closed\n", answer.stdout
        world.host.systemctl("stop", "attack.service", check=False)
    # Names are resolved on the node, as its own programs do.
    world.config["nodes"]["helsinki"]["beacon"] = "helsinki.example:9596"  # type: ignore[index]
    world.apply()
    world.authorize("helsinki")
    node.run("systemd-run", "-q", "--unit=beacon", "python3", "-m", "http.server", "--bind",
             "0.0.0.0", "9596")  # fmt: skip
    # What a key permits counts from the next connection.
    world.host.systemctl("restart", "validator-tunnel@helsinki.service")
    world.host.wait("an answer through a name", lambda: world.host.run(
        "python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:13000/', timeout=3)",
        check=False).returncode == 0)  # fmt: skip
    # The account for files forwards nothing, and the one for forwards has no files.
    backup = "validator-backup@helsinki.example"
    assert ssh(world, "-N", "-R", "8000:127.0.0.1:22", backup)[0] == 255
    # Files: below its own directory, and nothing of the node.
    sftp = ["sftp", "-b", "-", "-i", KEY, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "validator-backup@helsinki.example"]  # fmt: skip
    done = world.host.run(
        *sftp, stdin="put /etc/hostname supervisor-backups/x\nls -l /\n", check=False
    )
    assert done.returncode == 0, done.stderr
    assert node.output("ls", "/var/lib/validator-supervisor-node/supervisor-backups") == "x"
    for batch in (
        "get /etc/passwd\n",
        "put /etc/hostname /hostname\n",
        "symlink / root\nget root/etc/passwd\n",
    ):
        assert world.host.run(*sftp, stdin=batch, check=False).returncode != 0

    # A key that is removed does not connect any more.
    key = world.host.output("ssh-keygen", "-y", "-f", KEY)
    assert key in node.output("validator-supervisor-node", "list-validators")
    node.run("validator-supervisor-node", "remove-validator", key)
    assert "Permission denied" in ssh(world, "-N", me)[1]
