"""What a unit has said last."""


def last_warning(unit: str) -> str:
    """Return the last lines at priority warning of a unit's processes, if we may read them."""
    from validator_supervisor.run import run  # most of the time all is well

    argv = ["/usr/bin/journalctl", "--quiet", "--no-pager", "--output=cat"]
    argv += ["--lines=3", "--priority=warning", "--boot", f"_SYSTEMD_UNIT={unit}"]
    return run(argv, seconds=10, check=False).stdout.decode(errors="replace").strip()
