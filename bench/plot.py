"""Draw the curves as an SVG with small plots side by side. The load is on a logarithmic axis, and the CPU use is on a
linear axis.
"""

import math

WIDTH, HEIGHT, EDGE = 300, 220, 48

Curve = tuple[str, list[tuple[float, float]]]
"""A curve consists of a quantity's name and a list of points. Each point consists of a load and the server's CPU use
under that load, as a percentage of one core.
"""


def svg(curves: list[Curve]) -> str:
    """Return the content of the SVG file."""
    plots = "".join(_plot(number * WIDTH, *curve) for number, curve in enumerate(curves))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(curves)} {HEIGHT}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>{plots}</svg>\n'
    )


def _plot(left: float, title: str, points: list[tuple[float, float]]) -> str:
    top = max(10.0, math.ceil(max(y for _, y in points) / 10) * 10)
    low, high = (math.log10(points[index][0]) for index in (0, -1))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low) / ((high - low) or 1)
        return left + EDGE + across * (WIDTH - 1.5 * EDGE), HEIGHT - EDGE - y / top * (HEIGHT - 1.7 * EDGE)

    heading = f"CPU of the server by {title}"
    placed = [place(x, y) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2563eb"/>'
        f'<text x="{x:.1f}" y="{HEIGHT - EDGE + 16}" text-anchor="middle">{size:,.0f}</text>'
        for (x, y), (size, _) in zip(placed, points, strict=True)
    )
    scale = "".join(
        f'<text x="{left + EDGE - 6}" y="{place(points[0][0], y)[1] + 4:.1f}" text-anchor="end">{y:.0f} %</text>'
        for y in (0, top / 2, top)
    )
    return (
        f'<text x="{left + WIDTH / 2}" y="20" text-anchor="middle" font-size="13">{heading}</text>'
        f'{scale}<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="2"/>{marks}'
    )
