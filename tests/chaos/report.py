"""The table at the end of a campaign."""

from __future__ import annotations

from collections import Counter

from tests.chaos.rounds import Result
from tests.chaos.schedule import WITH_HANGS, Round


def line_of(result: Result) -> str:
    """One round in a line."""
    round_ = result.round
    parts = [f"seed {round_.seed}", round_.kind, _what(round_)]
    parts.append("exits " + ", ".join(map(str, result.codes)))
    if round_.kills:
        parts.append(f"{len(result.hits)} of {len(round_.kills)} kills hit")
    if result.lost:
        parts.append(f"given up {len(result.lost)}")
    return f"{'FAILED' if result.wrong else 'ok':6}  {'; '.join(parts)}; {result.seconds:.1f} s"


def _what(round_: Round) -> str:
    said = f"{round_.engine} {round_.placement}" if round_.engine != "local" else "local"
    said += f", {round_.left} videos done before" if round_.left else ""
    if round_.kills:
        said += ", kill " + ", ".join(
            f"{kill.role} {kill.moment.delay_s:.3f} s after {kill.moment.after} {kill.moment.count}"
            for kill in round_.kills
        )
    if mark := round_.mark:
        often = f"{mark.times} times" if mark.times else "always"
        said += f", {mark.video} frame {mark.frame}: {mark.how} in {mark.stage}, {often}"
    said += f", {round_.disk} at {round_.disk_share:.0%}" if round_.disk else ""
    return said + (f", {round_.rpc}" if round_.rpc else "")


def failed(result: Result) -> str:
    """What was wrong, and how to see it again."""
    lines = [f"  {what[:400]}" for what in result.wrong]
    return "\n".join([*lines, f"  again: python -m tests.chaos --replay {result.round.seed}"])


def table(results: list[Result], seconds: float) -> str:
    """Rounds by kind: how many, what became of the disturbed runs, how long they took."""
    lines = [
        f"{'kind':10} {'rounds':>6} {'failed':>6} {'undisturbed':>11} {'given up':>8} "
        f"{'seconds':>7}  exit codes of the disturbed runs"
    ]
    kinds = sorted({result.round.kind for result in results})
    for name, some in [(k, [r for r in results if r.round.kind == k]) for k in kinds] + [
        ("all", results)
    ]:
        codes = Counter(result.codes[0] for result in some if result.codes)
        exits = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
        missed = sum(bool(r.round.kills) and not r.hits for r in some)
        mean = sum(r.seconds for r in some) / max(1, len(some))
        lines.append(
            f"{name:10} {len(some):6} {sum(bool(r.wrong) for r in some):6} {missed:11} "
            f"{sum(bool(r.lost) for r in some):8} {mean:7.1f}  {exits}"
        )
    if not WITH_HANGS:
        lines.append("Rounds with clips that hang are left out: nothing ends them yet.")
    lines.append(f"{len(results)} rounds in {seconds / 60:.1f} min")
    return "\n".join(lines)
