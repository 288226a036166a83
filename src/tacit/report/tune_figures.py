"""The plot of a search, as PNG bytes: the scores in their order beside what the best is worth elsewhere, and which settings mattered."""

from __future__ import annotations

from tacit.report.figures import COLOURS, as_png, bare, figure


def tuning_plot(scores: list[float | None], shares: dict[str, float], held: tuple[float, float, float]) -> bytes:
    """scores: of each trial, None where it has none. shares: setting → share of the variance. held: area on the held-out fold with its interval."""
    drawn = figure(11.0, 0.28 * max(len(shares), 6) + 2.2)
    left, right = drawn.subplots(1, 2, width_ratios=(1.35, 1.0))
    known = [(k, s) for k, s in enumerate(scores) if s is not None]
    best, line = float("-inf"), []
    for _, score in known:
        best = max(best, score)
        line.append(best)
    left.plot([k for k, _ in known], [s for _, s in known], "o", ms=4.5, color=COLOURS[0], alpha=0.75, label="a trial, out of fold")
    left.step([k for k, _ in known], line, where="post", lw=1.5, color=COLOURS[0], label="best so far (optimistic)")
    if scores and scores[0] is not None:
        left.axhline(scores[0], lw=1, ls=":", color="#5b6b7a", label="settings as they were (trial 0)")
    low = min([s for _, s in known] + [held[1]])
    without = [k for k, s in enumerate(scores) if s is None]
    if without:
        left.plot(without, [low] * len(without), "x", ms=6, color=COLOURS[1], label="pruned or failed")
    area, least, most = held
    at = len(scores) + max(0.03 * len(scores), 0.6)
    left.errorbar(
        [at], [area], yerr=[[max(area - least, 0)], [max(most - area, 0)]], fmt="D", ms=6, capsize=4, color=COLOURS[2], label="best, held-out patients, 95%"
    )
    left.set_xlabel("trial", fontsize=9)
    left.set_ylabel("mean area under the ROC curves", fontsize=9)
    left.xaxis.get_major_locator().set_params(integer=True)
    bare(left)
    left.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    names = list(shares)[::-1]
    if names:
        bars = right.barh(names, [shares[n] for n in names], color=COLOURS[4], height=0.65)
        right.bar_label(bars, [f"{100 * shares[n]:.0f}%" for n in names], fontsize=8, padding=3)
        right.set_xlim(0, 1.15 * max(max(shares.values()), 0.01))
    else:
        right.text(0.5, 0.5, "too few trials differ\nto say which settings mattered", ha="center", va="center", fontsize=9, transform=right.transAxes)
        right.set_yticks([])
    right.set_xlabel("share of the scores' variance (fANOVA)", fontsize=9)
    bare(right)
    return as_png(drawn)
