"""What is measured, beside what it is compared with."""

import statistics


def median(values):
    return statistics.median(values)


def ratios(values, references):
    """The median of the ratios of each round: rounds differ more than what is compared within one."""
    return median([value / reference for value, reference in zip(values, references) if reference])


def number(value, unit):
    if value is None:
        return "-"
    text = f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{text} {unit}".strip()


class Table:
    """Rows of: what, result, reference (and which), ratio, aim. Printed as they come, and again at the end."""

    HEAD = ("measurement", "egressd", "reference", "of", "ratio", "aim", "")
    WIDTHS = (50, 14, 14, 18, 7, 12, 6)

    def __init__(self):
        self.lines, self.missed, self.hints = [], 0, []
        self.line(self.HEAD)
        self.line(["-" * width for width in self.WIDTHS])

    def line(self, cells):
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, self.WIDTHS)).rstrip()
        self.lines.append(text)
        print(text, flush=True)

    def section(self, title):
        self.line(("",) * len(self.WIDTHS))
        self.line((f"[{title}]",) + ("",) * (len(self.WIDTHS) - 1))

    def row(self, what, unit, result, reference=None, of="", ratio=None, aim="", met=None):
        if ratio is None and reference:
            ratio = result / reference
        if met is False:
            self.missed += 1
        self.line((what, number(result, unit), number(reference, unit), of, "-" if ratio is None else f"{ratio:.3f}",
                   aim, "" if met is None else "ok" if met else "MISSED"))

    def note(self, text):
        self.lines.append(f"    {text}")
        print(f"    {text}", flush=True)

    def hint(self, text):
        self.hints.append(text)
