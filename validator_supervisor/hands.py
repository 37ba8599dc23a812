"""In whose hands it is what a configuration names: files that root reads, the group of a user."""

import grp
import pwd
import stat
from pathlib import Path

from validator_supervisor.config import Config
from validator_supervisor.document import Value
from validator_supervisor.validators import Ethereum


def check(document: Value, config: Config, *, owner: int = 0) -> None:
    """Check what only the host knows of a configuration; ``owner`` is whose such files are.

    Raises ConfigError where somebody else could change an ``environment_file`` (systemd reads it as
    root, and it is the environment of jobs of root, too), or where the group of an Ethereum
    validator's user, which may read its keys, has other members.
    """
    for validator in config.validators.values():
        member = document.mapping()["validators"].mapping()[validator.name].mapping()
        if validator.environment_file and (path := _not(owner, Path(validator.environment_file))):
            raise member["environment_file"].error(
                f"{path} could be changed by others, and root reads it",
                "it and every directory above it must be root's, and writable by root alone",
            )
        if isinstance(validator, Ethereum) and (others := _sharing(validator.user)):
            raise _user_of(document, validator.name).error(
                f"the group of {validator.user}, which may read its keys, has others: {others[0]}",
                "give the user a group of its own, or leave user: out",
            )


def _user_of(document: Value, name: str) -> Value:
    here = document.mapping()["validators"].mapping()[name]
    return here.mapping().get("user", here)


def _not(owner: int, path: Path) -> Path | None:
    """Return what of a path is not in the hands of ``owner`` alone, of what there is."""
    for one in (path, *path.parents):
        try:
            found = one.lstat()
        except FileNotFoundError:
            continue
        if found.st_uid != owner or found.st_mode & 0o022 or stat.S_ISLNK(found.st_mode):
            return one
    return None


def _sharing(user: str) -> list[str]:
    """Return who else is in a user's own group."""
    try:
        group = grp.getgrgid(pwd.getpwnam(user).pw_gid)
    except KeyError:  # not made yet: with a group of its own
        return []
    primary = {one.pw_name for one in pwd.getpwall() if one.pw_gid == group.gr_gid}
    return sorted({*group.gr_mem, *primary} - {user})
