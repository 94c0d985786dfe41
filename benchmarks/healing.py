"""What the doctor's remedies are worth: a faulty run is treated as its verdict says, and compared with the clean run.

Where a run ended without a fault although one was told on its way, the remedy is that of the first verdict told.

A remedy is applied as `service.remedy_service` does it: its changes go into the configuration, or the dataset is
repaired, and the child begins with the best weights of its parent where the remedy goes on from them. The child has as
many epochs as the clean run. Where it is not as good yet and the doctor still names a fault with a remedy, that one is
applied to the child, and so on. The same run with `auto_heal` (and `repair=auto`) stands beside it: nobody applies
anything. Healthy runs that were given a false alarm are run with it, too, to see whether it does harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from judged_runs import HURTS, Run, Runs
from measuring import MISSING, Numbers, number, table
from planted_training import FAULTS
from recorded_runs import AUTO_HEAL

MOST_REMEDIES = 3
"""So many remedies one after the other; a user would hardly wait for more."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """A run with a fault, and the runs that remedies made of it, each of the one before.

    Attributes:
        runs: the faulty one first.
        clean: the run without the fault.
        by_itself: the faulty run with `auto_heal`, where it is there.
    """

    runs: tuple[Run, ...]
    clean: Run
    by_itself: Run | None = None

    @property
    def gap(self) -> float:
        """Dice that the fault costs."""
        return self.clean.dice - self.runs[0].dice

    @property
    def is_healed(self) -> bool:
        return self.clean.dice - self.runs[-1].dice <= HURTS

    def regained(self, remedies: int) -> float:
        """Share of the gap that the last of at most so many remedies won back; below 0 it made things worse."""
        return self._share(self.runs[: remedies + 1][-1])

    @property
    def regained_by_itself(self) -> float | None:
        """The same share with `auto_heal`."""
        return None if self.by_itself is None else self._share(self.by_itself)

    def _share(self, run: Run) -> float:
        return (run.dice - self.runs[0].dice) / self.gap


def auto_job(run: Run) -> Numbers:
    """The run once more, healing itself."""
    return {**run.job, "remedies": [{"code": AUTO_HEAL, "changes": {"auto_heal": True}, "from_checkpoint": False}]}


def auto_jobs(runs: Runs) -> list[Numbers]:
    """Runs to do once more with `auto_heal`: faults that cost Dice, and false alarms.

    An emulated fp16 is left out: the trainer computes it in float32, so there is no precision to change.
    """
    faulty = [one.runs[0] for one in treatments(runs) if one.gap >= HURTS]
    alarms = [run for run in runs.untreated() if run.case.is_healthy and run.judgement.told]
    return [auto_job(run) for run in (*faulty, *alarms) if run.case.options.get("precision") != "fp16"]


def next_job(treatment: Treatment) -> Numbers | None:
    """The child to train next; None where nothing is left to do, or nothing that the doctor would do."""
    last = treatment.runs[-1]
    remedy = last.judgement.remedy
    done = last.job["remedies"]
    if treatment.gap < HURTS or treatment.is_healed or remedy is None or len(done) >= MOST_REMEDIES:
        return None
    return {**last.job, "remedies": [*done, {**asdict(remedy), "changes": dict(remedy.changes)}]}


def treatments(runs: Runs) -> list[Treatment]:
    """Of every recorded fault whose clean run is there, with the children as far as they are there."""
    found = []
    for faulty in runs.untreated():
        clean = runs.clean_of(faulty)
        if not faulty.case.is_healthy and clean is not None:
            found.append(_followed(Treatment((faulty,), clean, runs.find(auto_job(faulty))), runs))
    return found


def _followed(treatment: Treatment, runs: Runs) -> Treatment:
    job = next_job(treatment)
    child = runs.find(job) if job else None
    return treatment if child is None else _followed(replace(treatment, runs=(*treatment.runs, child)), runs)


# --- table ----------------------------------------------------------------------------------------------------------

HEADINGS = [
    *("Case", "Remedies", "Gap in", "Faulty", "First remedy", "Last remedy", "Clean"),
    *("Regained, first: mean", "first: worst", "last: mean", "last: worst", "Healed", "Remedies needed"),
    *("By itself", "regained: mean", "regained: worst"),
]


def healing_table(runs: Runs) -> str:
    """A row per fault: Dice on sound scans, means over the runs that have a gap and were treated where they can be."""
    found = treatments(runs)
    return table(HEADINGS, [_row(case, of_case) for case in FAULTS if (of_case := _of(case, found))])


def _of(case: str, found: Sequence[Treatment]) -> list[Treatment]:
    return [one for one in found if one.runs[0].job["case"] == case]


def _row(case: str, found: Sequence[Treatment]) -> list[str]:
    hurt = [one for one in found if one.gap >= HURTS]
    gaps = [one for one in hurt if len(one.runs) > 1 or next_job(one) is None]
    waiting = f", {len(hurt) - len(gaps)} not treated yet" if len(gaps) < len(hurt) else ""
    named = [case, _remedies(gaps), f"{len(hurt)} of {len(found)}{waiting}"]
    if not gaps:
        return [*named, MISSING if hurt else "no gap", *[MISSING] * (len(HEADINGS) - len(named) - 1)]
    dices = [[one.runs[0].dice, one.runs[:2][-1].dice, one.runs[-1].dice, one.clean.dice] for one in gaps]
    shares = [[one.regained(limit) for one in gaps] for limit in (1, MOST_REMEDIES)]
    healed = [one for one in gaps if one.is_healed]
    return [
        *named,
        *(number(fmean(column), 3) for column in zip(*dices, strict=True)),
        *(f"{value:.0%}" for share in shares for value in (fmean(share), min(share))),
        f"{len(healed)} of {len(gaps)}",
        number(fmean(len(one.runs) - 1 for one in healed), 1) if healed else MISSING,
        *_by_itself(gaps),
    ]


def _by_itself(gaps: Sequence[Treatment]) -> list[str]:
    """Dice with `auto_heal`, and mean and worst share of the gap that it won back."""
    found = [one for one in gaps if one.by_itself is not None]
    dices = [one.by_itself.dice for one in found if one.by_itself is not None]
    shares = [share for one in found if (share := one.regained_by_itself) is not None]
    if not dices:
        return [MISSING] * 3
    return [number(fmean(dices), 3), f"{fmean(shares):.0%}", f"{min(shares):.0%}"]


def harm_table(runs: Runs) -> str:
    """What `auto_heal` did to the runs that had it: Dice minus that of the same run without."""
    rows = []
    for name, is_healthy in (("faults", False), ("healthy runs with a false alarm", True)):
        pairs = [(run, runs.find(auto_job(run))) for run in runs.untreated() if run.case.is_healthy is is_healthy]
        gained = [treated.dice - run.dice for run, treated in pairs if treated is not None]
        worse = sum(value < -HURTS for value in gained)
        mean = number(fmean(gained), 3) if gained else MISSING
        rows.append([name, str(len(gained)), mean, number(min(gained), 3) if gained else MISSING, str(worse)])
    return table(["auto_heal on", "Runs", "Dice gained: mean", "worst", f"worse by over {HURTS}"], rows)


def _remedies(found: Sequence[Treatment]) -> str:
    """What was applied first, with the number of runs; `none` where the verdict had no remedy."""
    firsts = Counter(one.runs[1].job["remedies"][0]["code"] if len(one.runs) > 1 else "none" for one in found)
    return ", ".join(f"`{code}` {count}" for code, count in firsts.most_common()) or MISSING
