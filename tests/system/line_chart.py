"""A line chart over time as SVG, from nothing: panels below each other, each with its own scale, and marks for what happened."""

from html import escape

WIDTH, LEFT, RIGHT, HEIGHT = 980, 70, 16, 150
COLOURS = ("#1f6feb", "#2da44e", "#bf8700", "#8250df")
FONT = "font-family='Helvetica, Arial, sans-serif'"


def rounded_up(value):
    step = 1
    while step * 10 < value:
        step *= 10
    return next(step * factor for factor in (1, 2, 3, 4, 5, 6, 8, 10) if step * factor >= value)


def panel(title, lines, end, marks, top):
    """lines: (label, [(second, value or None)]). A None, or a gap in time, interrupts a line."""
    highest = rounded_up(max((value for _, points in lines for _, value in points if value is not None), default=0) or 1)

    def x(second):
        return LEFT + (WIDTH - LEFT - RIGHT) * second / max(end, 1e-9)

    def y(value):
        return top + 30 + (HEIGHT - 40) * (1 - value / highest)

    out = [f"<text x='12' y='{top + 16}' {FONT} font-size='14' font-weight='bold' fill='#1f2328'>{escape(title)}</text>"]
    for part in (0, 0.5, 1):
        value = highest * part
        out.append(f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(value):.1f}' y2='{y(value):.1f}' stroke='#d1d9e0'/>"
                   f"<text x='{LEFT - 6}' y='{y(value) + 4:.1f}' {FONT} font-size='11' text-anchor='end' fill='#59636e'>{value:g}</text>")
    for second, _ in marks:
        out.append(f"<line x1='{x(second):.1f}' x2='{x(second):.1f}' y1='{y(highest):.1f}' y2='{y(0):.1f}' stroke='#cf222e' "
                   f"stroke-opacity='0.35'/>")
    at = WIDTH - RIGHT
    for index in range(len(lines) - 1, -1, -1):
        label, points = lines[index]
        colour = COLOURS[index % len(COLOURS)]
        at -= 22 + 7 * len(label)
        out.append(f"<rect x='{at}' y='{top + 7}' width='10' height='10' fill='{colour}'/>"
                   f"<text x='{at + 14}' y='{top + 16}' {FONT} font-size='12' fill='#1f2328'>{escape(label)}</text>")
        pieces, piece = [], []
        for second, value in points:
            if value is None:
                pieces.append(piece)
                piece = []
            else:
                piece.append(f"{x(second):.1f},{y(value):.1f}")
        for piece in [*pieces, piece]:
            if piece:
                out.append(f"<polyline points='{' '.join(piece)}' fill='none' stroke='{colour}' stroke-width='1.4'/>")
    return "\n".join(out)


def draw(title, note, panels, end, marks):
    """panels: (title, lines). marks: (second, what happened); they are listed below. The whole picture as text."""
    top, parts = 64, []
    for name, lines in panels:
        parts.append(panel(name, lines, end, marks, top))
        top += HEIGHT
    for number in range(6):
        second = end * number / 5
        at = LEFT + (WIDTH - LEFT - RIGHT) * number / 5
        parts.append(f"<text x='{at:.1f}' y='{top + 4}' {FONT} font-size='11' text-anchor='middle' fill='#59636e'>{second:.0f} s</text>")
    kinds = {}
    for _, what in marks:
        kinds[what] = kinds.get(what, 0) + 1
    top += 26
    for what, count in sorted(kinds.items()):
        parts.append(f"<text x='{LEFT}' y='{top}' {FONT} font-size='12' fill='#cf222e'>{count} x {escape(what)}</text>")
        top += 17
    return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{top}' viewBox='0 0 {WIDTH} {top}'>\n"
            f"<rect width='100%' height='100%' fill='#ffffff'/>\n"
            f"<text x='12' y='28' {FONT} font-size='19' font-weight='bold' fill='#1f2328'>{escape(title)}</text>\n"
            f"<text x='12' y='48' {FONT} font-size='12' fill='#59636e'>{escape(note)}</text>\n"
            + "\n".join(parts) + "\n</svg>\n")
