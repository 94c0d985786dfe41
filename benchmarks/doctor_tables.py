"""Tables of how often the training doctor is right, from recorded runs.

A fault counts as there where it hurts (`Runs.hurts`); where it does not, to find no fault is right, and to name the
planted cause is not wrong either. Recall is the share of the faults that hurt whose cause was told at all; the cause is
first where the first verdict that was told is it. (The last one may be another: a schedule that falls to 0 mends rates
that were too high.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from judged_runs import Run, Runs
from measuring import MISSING, table
from planted_training import FAULTS, HEALTHY

FIRST_HELD_OUT = 1
"""Seeds from here on were not looked at while thresholds were chosen."""

ALL = "all"
"""The row of all cases together."""

SOON_EPOCHS, SOON_SHARE = 10, 0.2
"""The aim: the cause is told within so many epochs, or within this share of the run."""

FAULT_HEADINGS = [
    *("Case", "Data findings", "Hurts in", "Told, tuned", "told, held out", "First, tuned", "first, held out"),
    *("Epochs until told", "Share of the run", "Said instead"),
]


def fault_table(runs: Runs) -> str:
    """A row per planted fault, and one for all."""
    found = _with_faults(runs)
    rows = [_fault_row(case, of_case, runs) for case in [*FAULTS, ALL] if (of_case := _of(case, found))]
    return table(FAULT_HEADINGS, rows)


def _of(case: str, found: Sequence[Run]) -> list[Run]:
    return [run for run in found if case in (ALL, run.job["case"])]


def _with_faults(runs: Runs) -> list[Run]:
    return [run for run in runs.untreated() if not run.case.is_healthy and runs.clean_of(run) is not None]


def _fault_row(name: str, found: Sequence[Run], runs: Runs) -> list[str]:
    hurt = [run for run in found if runs.hurts(run)]
    epochs, shares = times(hurt)
    instead = Counter(code for run in found for code in said_instead(run, hurts=run in hurt))
    return [
        name,
        MISSING if name == ALL else _counted(Counter(code for run in found for code in run.findings)),
        f"{len(hurt)} of {len(found)}",
        *_by_seed(hurt, lambda run: bool(run.named)),
        *_by_seed(hurt, lambda run: run.named_first),
        f"{median(epochs):g}" if epochs else MISSING,
        f"{median(shares):.0%}" if shares else MISSING,
        _counted(instead),
    ]


def times(found: Sequence[Run]) -> tuple[list[int], list[float]]:
    """Epochs until the cause was told, and their share of the run; of the runs in which it was."""
    epochs = [(run.named_in, run.judgement.epochs) for run in found if run.named_in is not None]
    return [epoch for epoch, _ in epochs], [epoch / planned for epoch, planned in epochs]


def said_instead(run: Run, *, hurts: bool) -> list[str]:
    """The wrong first verdict of a run with a planted fault: one that is not right, or none where the fault hurts."""
    verdict = run.judgement.first
    if verdict is None:
        return ["no fault"] if hurts else []
    return [] if run.named_first else [verdict]


def _by_seed(found: Sequence[Run], is_right: Callable[[Run], bool]) -> list[str]:
    """How many runs are right, of the tuned seeds and of those held out."""
    groups = [[run for run in found if (run.seed >= FIRST_HELD_OUT) is held_out] for held_out in (False, True)]
    return [f"{sum(map(is_right, group))} of {len(group)}" if group else MISSING for group in groups]


def _counted(codes: Counter[str]) -> str:
    return ", ".join(f"`{code}` {count}" for code, count in codes.most_common()) or MISSING


# --- what was said without reason -----------------------------------------------------------------------------------


def healthy_table(runs: Runs) -> str:
    """A row per healthy case, and one for all: runs in which a fault was told in any epoch are false alarms."""
    found = [run for run in runs.untreated() if run.case.is_healthy]
    rows = [_healthy_row(case, of_case) for case in [*HEALTHY, ALL] if (of_case := _of(case, found))]
    return table(["Healthy", "False alarms", "Told"], rows)


def _healthy_row(name: str, found: Sequence[Run]) -> list[str]:
    alarmed = [run for run in found if run.judgement.told]
    told = Counter(code for run in alarmed for code in run.judgement.told)
    return [name, f"{len(alarmed)} of {len(found)}", _counted(told)]


def precision_table(runs: Runs) -> str:
    """A row per finding: of the runs in which it was told, and in which it was the first verdict, how many had it."""
    found = runs.untreated()
    told = Counter(code for run in found for code in run.judgement.told)
    verdicts = Counter(run.judgement.first for run in found if run.judgement.first is not None)
    rows = [
        [
            f"`{code}`",
            *_precision(sum(code in run.named for run in found), count),
            *_precision(sum(run.judgement.first == code and run.named_first for run in found), verdicts[code]),
        ]
        for code, count in sorted(told.items())
    ]
    headings = ["Finding", "Told with reason", "Precision", "First verdict with reason", "Precision of first verdicts"]
    return table(headings, rows)


def _precision(right: int, count: int) -> list[str]:
    return [f"{right} of {count}", f"{right / count:.2f}"] if count else [MISSING, MISSING]


# --- against the aims -----------------------------------------------------------------------------------------------


def aims_table(runs: Runs) -> str:
    """The promised numbers beside the measured ones."""
    hurt = [run for run in _with_faults(runs) if runs.hurts(run)]
    held_out = [run for run in hurt if run.seed >= FIRST_HELD_OUT]
    healthy = [run for run in runs.untreated() if run.case.is_healthy]
    return table(
        ["Aim", "Wanted", "All seeds", "Held out"],
        [
            ["cause told", "≥ 0.90", *(_share(group, lambda run: bool(run.named)) for group in (hurt, held_out))],
            ["cause first", "≥ 0.85", *(_share(group, lambda run: run.named_first) for group in (hurt, held_out))],
            ["told in time, where told", f"≤ {SOON_EPOCHS} epochs or {SOON_SHARE:.0%}", *map(_soon, (hurt, held_out))],
            ["false alarms", "≤ 0.05", _share(healthy, lambda run: bool(run.judgement.told)), MISSING],
        ],
    )


def _share(found: Sequence[Run], holds: Callable[[Run], bool]) -> str:
    count = sum(map(holds, found))
    return f"{count / len(found):.2f} ({count} of {len(found)})" if found else MISSING


def _soon(found: Sequence[Run]) -> str:
    return _share([run for run in found if run.named], is_soon)


def is_soon(run: Run) -> bool:
    """Whether the cause was told as soon as the aim asks."""
    epoch = run.named_in
    return epoch is not None and (epoch <= SOON_EPOCHS or epoch <= SOON_SHARE * run.judgement.epochs)
