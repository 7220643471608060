"""Draws results as SVG by hand: no library is needed, and the same results give the same bytes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infrastructure_sdk.simulation.results import Result

__all__ = ["draw"]

WIDTH, HEIGHT = 1080, 640
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
LEFT, RIGHT = 70, 24
COLORS = ("#1f6feb", "#d9480f")
GREY, LIGHT, INK, USED = "#8b949e", "#e6e8eb", "#24292f", "#2da44e"


def draw(results: Sequence[Result]) -> str:
    """One or two results of the same workload: running sessions over time, and the figures that matter."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _title(results),
        _timeline(results, 78, 300),
        *_bars(results, 430),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = INK, size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">'
        f"{html.escape(text)}</text>"
    )


def _title(results: Sequence[Result]) -> str:
    names = " and ".join(result.policy for result in results)
    parts = [_text(LEFT, 30, f"Running sessions under {names}", size=18)]
    x = float(LEFT)
    legend = [("always on", GREY), ("in use", USED)]
    legend += [(result.policy, COLORS[i]) for i, result in enumerate(results)]
    for name, color in legend:
        parts.append(f'<rect x="{x:.1f}" y="45" width="14" height="14" rx="2" fill="{color}"/>')
        parts.append(_text(x + 20, 57, name))
        x += 40 + 8 * len(name)
    return "\n".join(parts)


def _nice_step(most: float, steps: int) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides `most` into about so many."""
    if most <= 0:
        return 1.0
    power = 1.0
    while power * 10 * steps <= most:
        power *= 10
    while power * steps > most:
        power /= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * steps >= most)


def _timeline(results: Sequence[Result], top: float, height: float) -> str:
    hours = results[0].hours
    count = max(1, len(hours["ran"]))
    width = WIDTH - LEFT - RIGHT
    most = max([1e-9, *hours["baseline"], *(value for result in results for value in result.hours["ran"])])
    step = _nice_step(most, 4)
    scale = height / (step * 4 if step * 4 >= most else most)

    def line(values: Sequence[float]) -> str:
        return " ".join(
            f"{LEFT + width * (i + 0.5) / count:.1f},{top + height - value * scale:.1f}"
            for i, value in enumerate(values)
        )

    def area(values: Sequence[float], color: str, opacity: float) -> str:
        bottom = f"{top + height:.1f}"
        points = f"{LEFT},{bottom} {line(values)} {LEFT + width},{bottom}"
        return f'<polygon points="{points}" fill="{color}" fill-opacity="{opacity}"/>'

    parts = [_grid(results[0], top, height, step, scale, count)]
    parts.append(area(hours["baseline"], GREY, 0.28))
    parts.append(area(hours["used"], USED, 0.55))
    for i, result in enumerate(results):
        points = line(result.hours["ran"])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLORS[i]}" stroke-width="1.4"/>')
    return "\n".join(parts)


def _grid(result: Result, top: float, height: float, step: float, scale: float, count: int) -> str:
    width = WIDTH - LEFT - RIGHT
    parts = []
    for i in range(5):
        y = top + height - i * step * scale
        if y < top - 1:
            break
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + width}" y2="{y:.1f}" stroke="{LIGHT}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{i * step:g}", anchor="end", color=GREY))
    start = datetime.fromisoformat(result.to_dict()["start"][:19])
    days = max(1, count // 24)
    every = max(1, -(-days // 12))
    for day in range(0, days, every):
        x = LEFT + width * day * 24 / count
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" stroke="{LIGHT}"/>')
        date = start + timedelta(days=day)
        # strftime would follow the locale.
        label = f"{date.day:02d} {MONTHS[date.month - 1]}"
        parts.append(_text(x + 3, top + height + 17, label, color=GREY, size=12))
    return "\n".join(parts)


def _bars(results: Sequence[Result], top: float) -> list[str]:
    """Four groups of bars, each on a scale of its own."""
    first = results[0]
    groups: list[tuple[str, list[tuple[str, float, str, str]]]] = []

    def group(title: str, base: float | None, values: Sequence[float]) -> None:
        rows = [] if base is None else [("always on", base, GREY, _amount(base))]
        rows += [
            (result.policy, value, COLORS[i], _amount(value))
            for i, (result, value) in enumerate(zip(results, values, strict=True))
        ]
        groups.append((title, rows))

    group("Hours run", first.baseline_hours, [result.hours_run for result in results])
    group(
        f"Cost, {first.currency}",
        first.total.cost + first.money_saved,
        [result.total.cost for result in results],
    )
    group("Wrongly suspended", None, [float(result.total.wrongly_suspended) for result in results])
    group("Waited by people, hours", None, [result.total.waited_seconds / 3600 for result in results])
    width = (WIDTH - LEFT - RIGHT) / len(groups)
    parts: list[str] = []
    for i, (title, rows) in enumerate(groups):
        parts += _bar_group(LEFT + i * width, top, width - 24, title, rows)
    return parts


def _amount(value: float) -> str:
    """Whole from a hundred on; below it three digits, so that a bar of a short log is not called 0.

    >>> _amount(1418.6), _amount(2.714), _amount(0.0448), _amount(0)
    ('1,419', '2.71', '0.0448', '0')
    """
    return f"{value:,.0f}" if value >= 100 else f"{round(value, 4):.3g}"


def _bar_group(
    x: float, top: float, width: float, title: str, rows: Sequence[tuple[str, float, str, str]]
) -> list[str]:
    parts = [_text(x, top, title, size=14)]
    most = max([1e-9, *(value for _, value, _, _ in rows)])
    for i, (name, value, color, label) in enumerate(rows):
        y = top + 24 + i * 50
        parts.append(_text(x, y, name if len(name) <= 26 else name[:25] + "…", color=GREY, size=12))
        length = max(1.0, (width - 70) * value / most)
        parts.append(f'<rect x="{x:.1f}" y="{y + 6:.1f}" width="{length:.1f}" height="18" rx="2" fill="{color}"/>')
        parts.append(_text(x + length + 6, y + 20, label))
    return parts
