"""Crash points: what is read of strace's output, and what is written for systemd."""

from lab.crash import Point, commands, drop_in, points, wrapped

TRACE = """\
21 fsync(3)                          = 0
21 rename("/a", "/b")  = 0
22 fsync(4 <unfinished ...>
21 fsync(3)                          = 0
22 <... fsync resumed>)              = 0
22 unlink("/b")                      = ?
22 +++ killed by SIGKILL +++
"""


def test_points_are_counted_by_process_and_call() -> None:
    assert points(TRACE) == [
        Point("fsync", 1), Point("rename", 1), Point("fsync", 2), Point("unlink", 1),
    ]  # fmt: skip
    assert points("") == []
    assert str(Point("fsync", 2)) == "fsync 2"


def test_commands_of_a_unit_and_its_drop_ins() -> None:
    text = "ExecStart=/a\nExecStartPre=/pre\nExecStart=/b %i\nExecStart=\nExecStart=-/c\n"
    assert commands(text, "ExecStart") == ["-/c"]
    assert commands(text, "ExecStartPre") == ["/pre"]
    assert commands(text, "ExecStop") == []


def test_words_go_before_the_program_and_after_its_prefixes() -> None:
    assert wrapped("/usr/bin/a --b %i", ["/bin/sh", "x"]) == "/bin/sh x /usr/bin/a --b %i"
    assert wrapped("-+/usr/bin/a", ["/bin/sh", "x"]) == "-+/bin/sh x /usr/bin/a"


def test_drop_in_replaces_every_line() -> None:
    text = drop_in("ExecStop", ["/a", "/b"])
    assert text.startswith("[Service]\nExecStop=\nExecStop=/a\nExecStop=/b\n")
    assert "\nSystemCallFilter=\n" in text
