"""Medians, spread and ratios of what peers.py measured, as text."""
import statistics


def value(figure, run):
    """Of one run, in the figure's unit."""
    seconds = run["wall_s" if figure["clock"] == "wall" else "cpu_s"]
    if figure["unit"] == "s":
        return seconds
    return run["n"] / max(seconds, 1e-9)


def ratios(figure, peer):
    """How many times as fast as the peer, round by round."""
    ours = figure["sides"][figure["ours"]]
    out = []
    for a, b in zip(ours, figure["sides"][peer]):
        x, y = value(figure, a), value(figure, b)
        out.append(y / x if figure["unit"] == "s" else x / y)
    return out


def spread(values):
    """Median, and how far the values lie from it on both sides, in percent."""
    m = statistics.median(values)
    return m, 100 * (min(values) / m - 1), 100 * (max(values) / m - 1)


def verdict(ratio, goal):
    return "" if goal is None else "met" if ratio >= goal else "missed"


def rows(figure):
    """name, side, median, spread, share of the limit, ratio, its range, goal, verdict"""
    out = []
    for side, runs in figure["sides"].items():
        values = [value(figure, r) for r in runs]
        if not values:
            continue
        m, low, high = spread(values)
        share = ratio = span = goal = met = ""
        if side == figure["ours"] and figure.get("limit"):
            limit = statistics.median(figure["limit"])
            share = f"{100 * (limit / m if figure['unit'] == 's' else m / limit):.0f} % of {limit:.3g}"
        if side != figure["ours"]:
            each = ratios(figure, side)
            wanted = figure["goals"].get(side)
            ratio, span = f"{statistics.median(each):.2f}", f"{min(each):.2f} to {max(each):.2f}"
            goal = "" if wanted is None else f"{wanted:g}"
            met = verdict(statistics.median(each), wanted)
        out.append([figure["name"], side, f"{m:.4g} {figure['unit']}", f"{low:+.0f} {high:+.0f} %", share, ratio, span,
                    goal, met])
    return out


RANK = ("encode a base", "prefill", "decode, ", "4 texts", "4 pages", "nano", "encode 1024", "decode 32", "encode, ", "")
HEAD = ["what", "program", "median", "spread", "of the limit", "ratio", "range", "goal", ""]


def order(result):
    """Figures measured at different times, in the order of the list."""
    return [result["figures"][k] for k in sorted(result["figures"], key=lambda k: RANK.index(next(
        (r for r in RANK if k.startswith(r)), RANK[-1])))]


def plain(result):
    table = [HEAD] + [r for f in order(result) for r in rows(f)]
    width = [max(len(r[i]) for r in table) for i in range(len(HEAD))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip() for r in table]
    for name, text in result["notes"].items():
        lines.append(f"{name}: {text}")
    return "\n".join(lines)


def markdown(result):
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    for f in order(result):
        for i, r in enumerate(rows(f)):
            lines.append("| " + " | ".join(["" if i else r[0]] + r[1:]) + " |")
    return "\n".join(lines + [""] + [f"- {name}: {text}" for name, text in result["notes"].items()])
