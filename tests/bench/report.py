"""What ./bench prints (pure)."""

from collections.abc import Mapping, Sequence

from tests.bench.row import Row, Sample

HEAD = ("NAME", "OURS", "UNIT", "PEER", "", "RATIO", "DIFFERENCE", "GOAL", "MET")
RIGHT = {1, 4, 5, 6}


def as_json(
    rows: Sequence[Row], failures: Mapping[str, str], run: Mapping[str, object]
) -> dict[str, object]:
    """Return the whole run: where and when, each row, and what could not be measured."""
    return {**run, "rows": [row.as_json() for row in rows], "failures": dict(failures)}


def as_text(
    rows: Sequence[Row], failures: Mapping[str, str], run: Mapping[str, object]
) -> list[str]:
    """Return the lines of the table, and below it what each row is and what the run was."""
    table = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(HEAD))]
    lines = ["  ".join(_padded(cells, widths)).rstrip() for cells in table]
    lines.append("")
    for row in rows:
        lines.append(f"{row.name}: {row.what}" + (f"; {row.note}" if row.note else ""))
    lines += [f"{name} could not be measured: {why}" for name, why in failures.items()]
    missed = [row.name for row in rows if not row.met]
    lines += ["", ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in run.items())]
    lines += [f"{len(rows) - len(missed)} of {len(rows)} goals met" + _missed(missed)]
    return lines


def status(rows: Sequence[Row], failures: Mapping[str, str]) -> int:
    """Return the exit status: 1 when a goal is missed or something could not be measured."""
    return int(bool(failures) or not all(row.met for row in rows))


def _missed(names: Sequence[str]) -> str:
    return f"; missed: {', '.join(names)}" if names else ""


def _cells(row: Row) -> tuple[str, ...]:
    peer, ratio, difference = row.peer, row.ratio, row.difference
    return (
        row.name,
        _sample(row.ours),
        row.unit,
        peer.name if peer else "-",
        _number(peer.sample.value) if peer else "-",
        "-" if ratio is None else f"{ratio:.2f}",
        "-" if difference is None else f"{'+' if difference >= 0 else ''}{_number(difference)}",
        row.goal.text(row.unit),
        "yes" if row.met else "NO",
    )


def _sample(sample: Sample) -> str:
    if sample.n == 1:
        return _number(sample.value)
    return f"{_number(sample.value)} ({_number(sample.low)}..{_number(sample.high)}, n={sample.n})"


def _number(value: float) -> str:
    """Return three digits, as many as a measurement on a shared machine is good for."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = enumerate(zip(cells, widths, strict=True))
    return [c.rjust(width) if i in RIGHT else c.ljust(width) for i, (c, width) in pairs]
