"""What somebody meant who has mistyped a name."""

from collections.abc import Iterable


def question(typed: str, known: Iterable[str], alike: float = 0.6) -> str:
    """Return the question whether the nearest of the known names was meant, or ``""``.

    ``alike`` is how near it must be; 1 is the same.
    """
    import difflib  # imported here: 3 ms, and only after a mistake

    found = difflib.get_close_matches(typed.lower(), sorted(known), 1, alike)
    return f"did you mean {found[0]}?" if found else ""


def hint(typed: str, known: Iterable[str]) -> str:
    """Return the question, or every name there is."""
    there = sorted(known)
    every = f"known: {', '.join(there)}" if there else "none is configured"
    return question(typed, there) or every
