"""A bar chart as SVG, from nothing: panels below each other, a bar for each (peer, series) with its number behind it."""

from html import escape

WIDTH, LABEL_WIDTH, BAR_HEIGHT, GAP = 860, 190, 15, 9
COLOURS = ("#1f6feb", "#2da44e", "#bf8700", "#8250df")
FONT = "font-family='Helvetica, Arial, sans-serif'"


def short(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 20 else f"{value:.2f}"


def panel(title, unit, series, bars, top):
    """bars: (label, [value or None per series]). Returns the SVG text and the height it took."""
    out = [f"<text x='12' y='{top + 22}' {FONT} font-size='15' font-weight='bold' fill='#1f2328'>{escape(title)}"
           f"<tspan font-weight='normal' dx='8' fill='#59636e'>{escape(unit)}</tspan></text>"]
    at = WIDTH - 14
    for index in range(len(series) - 1, -1, -1):
        at -= 16 + 7 * len(series[index])
        out.append(f"<rect x='{at}' y='{top + 12}' width='10' height='10' fill='{COLOURS[index % len(COLOURS)]}'/>"
                   f"<text x='{at + 14}' y='{top + 21}' {FONT} font-size='12' fill='#1f2328'>{escape(series[index])}</text>")
        at -= 10
    longest = max((value for _, values in bars for value in values if value is not None), default=0) or 1
    room = WIDTH - LABEL_WIDTH - 90
    y = top + 36
    for label, values in bars:
        height = BAR_HEIGHT * len(values)
        out.append(f"<text x='{LABEL_WIDTH - 8}' y='{y + height / 2 + 4:.1f}' {FONT} font-size='12' text-anchor='end' "
                   f"fill='#1f2328'>{escape(label)}</text>")
        for index, value in enumerate(values):
            here = y + index * BAR_HEIGHT
            if value is None:
                out.append(f"<text x='{LABEL_WIDTH + 4}' y='{here + 12}' {FONT} font-size='11' fill='#59636e'>-</text>")
                continue
            width = max(1.0, room * value / longest)
            out.append(f"<rect x='{LABEL_WIDTH}' y='{here + 1}' width='{width:.1f}' height='{BAR_HEIGHT - 2}' "
                       f"fill='{COLOURS[index % len(COLOURS)]}'/>"
                       f"<text x='{LABEL_WIDTH + width + 5:.1f}' y='{here + 12}' {FONT} font-size='11' "
                       f"fill='#1f2328'>{short(value)}</text>")
        y += height + GAP
    out.append(f"<line x1='{LABEL_WIDTH}' y1='{top + 32}' x2='{LABEL_WIDTH}' y2='{y - GAP + 2}' stroke='#818b98'/>")
    return "\n".join(out), y - top + 10


def draw(title, note, panels):
    """panels: (title, unit, series names, bars). The whole picture as text."""
    top, parts = 64, []
    for one in panels:
        text, height = panel(*one, top)
        parts.append(text)
        top += height
    return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{top}' viewBox='0 0 {WIDTH} {top}'>\n"
            f"<rect width='100%' height='100%' fill='#ffffff'/>\n"
            f"<text x='12' y='28' {FONT} font-size='19' font-weight='bold' fill='#1f2328'>{escape(title)}</text>\n"
            f"<text x='12' y='48' {FONT} font-size='12' fill='#59636e'>{escape(note)}</text>\n"
            + "\n".join(parts) + "\n</svg>\n")
