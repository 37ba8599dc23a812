"""What is expected to go wrong, in one shape: a code, a message and what to do about it."""

# sysexits.h: EX_TEMPFAIL. The caller may try again.
TEMPORARY = 75
REFUSED = 1
# Latched: nothing starts until a person has looked. No client that we know exits so.
HALT = 78


class SupervisorError(Exception):
    """An expected failure.

    ``code`` is a noun in CamelCase; over D-Bus it becomes
    ``org.validatorsupervisor1.Error.<code>``. ``message`` says what happened,
    ``hint`` what the operator can do. ``exit_status`` is 1 (refused or
    misconfigured) or 75 (temporary).
    """

    def __init__(
        self, code: str, message: str, hint: str = "", *, exit_status: int = REFUSED
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(SupervisorError):
    """A configuration that does not say what it should; ``place`` is FILE:LINE:COLUMN: KEY."""

    def __init__(self, place: str, message: str, hint: str = "") -> None:
        super().__init__("InvalidConfiguration", f"{place}: {message}" if place else message, hint)


class FormatError(SupervisorError):
    """Bytes that are not what they should be; ``noun`` names it (``Keystore``: InvalidKeystore)."""

    def __init__(self, noun: str, message: str, hint: str = "") -> None:
        super().__init__(f"Invalid{noun}", message, hint)
