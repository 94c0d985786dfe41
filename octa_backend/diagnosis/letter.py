"""The story of a run as a physician's letter in Markdown: history, evidence, verdict, remedy, what was ruled out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from octa_backend.diagnosis.doctor import Diagnosis
from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.letter_words import CAUSES, SHAPES, WORDS
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.run_history import EpochRecord, RunHistory, StartChecks
from octa_backend.diagnosis.start_words import start_lines
from octa_backend.diagnosis.text import Language, render

ROWS = 12
"""Epochs that the table shows: the first, the last and evenly spread ones between."""


def write_letter(history: RunHistory, diagnosis: Diagnosis, name: str, language: Language) -> str:
    """The letter as Markdown text.

    Args:
        history: the run.
        diagnosis: of the same history.
        name: of the run, as its user knows it.
        language: of all sentences; codes and fields keep their names.
    """
    return "\n".join(_Letter(history, diagnosis, language).lines(name)) + "\n"


class _Letter:
    """Makes the letter's lines, section by section."""

    def __init__(self, history: RunHistory, diagnosis: Diagnosis, language: Language) -> None:
        self.history, self.diagnosis, self.language = history, diagnosis, language

    def say(self, word: str, **values: Any) -> str:
        """A text of the letter in the reader's language, with its facts filled in."""
        return render(WORDS[word], values, self.language)

    def lines(self, name: str) -> Iterator[str]:
        """The whole letter, line by line."""
        yield f"# {self.say('title', name=name)}"
        yield from self.section("run", [self.facts()])
        yield from self.section("history", self.course())
        yield from self.section("verdict", self.verdict())
        yield from self.section("remedy", self.remedy(self.diagnosis.verdict))
        yield from self.section("evidence", self.evidence())
        yield from self.section("others", [f"- {self.sentence(found)}" for found in self.diagnosis.others])
        yield from self.section("ruled_out", self.causes(self.diagnosis.ruled_out))
        yield from self.section("doubtful", self.causes(self.diagnosis.doubtful))
        yield from self.section("not_judged", self.causes(self.diagnosis.not_judged))

    def section(self, word: str, body: Iterable[str]) -> Iterator[str]:
        """A heading and what stands below it; nothing where there is nothing."""
        lines = list(body)
        if lines:
            yield from ("", f"## {self.say(word)}", "", *lines)

    def facts(self) -> str:
        """What was trained, on what, and how far."""
        facts, config = self.history.facts, self.history.facts.config
        return self.say(
            "facts",
            **{name: config.get(name) for name in ("model", "loss", "optimizer", "lr", "scheduler")},
            parameters=round(facts.parameters / 1e6, 2),
            train=facts.train_scans,
            val=facts.val_scans,
            foreground=round(100 * facts.foreground_fraction, 1),
            done=len(self.history.epochs),
            planned=self.history.epochs_planned,
        )

    def course(self) -> Iterator[str]:
        """What was tried before the first step, and the epochs."""
        yield from (f"- {line}" for line in start_lines(self.history.start, self.language))
        if self.history.epochs:
            if self.history.start != StartChecks():
                yield ""
            yield from self.table()

    def table(self) -> Iterator[str]:
        """The losses and the Dice of some epochs, and the best one."""
        yield self.say("columns")
        yield "|---|---|---|---|---|"
        for epoch in _spread(self.history.epochs):
            losses = f"{epoch.train_loss:.4f} | {epoch.val_loss:.4f} | {epoch.val_dice:.4f}"
            yield f"| {epoch.epoch} | {epoch.lr:.3g} | {losses} |"
        best = max(self.history.epochs, key=lambda epoch: epoch.val_dice)
        yield ""
        yield self.say("best", dice=f"{best.val_dice:.4f}", epoch=best.epoch)

    def verdict(self) -> Iterator[str]:
        """What the doctor found, and how sure that is."""
        found = self.diagnosis.verdict
        yield f"**{self.sentence(found)}** (`{found.code}`)"
        if "confidence" in found.evidence:
            yield self.say("sure", percent=round(100 * found.evidence["confidence"]))

    def remedy(self, found: Finding) -> Iterator[str]:
        """What helps against a finding, and whether the run goes on or begins anew."""
        shown = describe(found, self.language)["remedy"]
        if shown is None:
            yield self.say("nothing" if found.severity is Severity.INFO else "by_hand")
            return
        changes = ", ".join(f"`{name}={value}`" for name, value in shown["changes"].items())
        yield f"- {shown['title']} (`{shown['code']}`{': ' if changes else ''}{changes})"
        yield f"- {self.say('goes_on' if shown['from_checkpoint'] else 'begins_anew')}"

    def evidence(self) -> Iterator[str]:
        """What the verdict rests on: its numbers, the losses' shape, the outlook, the nearest row of the matrix."""
        plateau, outlook, resembles = self.diagnosis.plateau, self.diagnosis.outlook, self.diagnosis.resembles
        for name, value in self.diagnosis.verdict.evidence.items():
            if value is not None and name != "confidence":
                yield f"- `{name}`: {value}"
        if plateau is not None:
            shape = render(SHAPES[plateau["verdict"]], {}, self.language)
            numbers = {name: f"{plateau[name]:.2g}" for name in ("variance", "improvement")}
            losses = ", ".join(f"{loss:.4f}" for loss in plateau["last_losses"])
            classic = self.say("plateau" if plateau["is_plateau"] else "no_plateau")
            yield f"- {self.say('shape', shape=shape, losses=losses, classic=classic, **numbers)}"
        if outlook is not None:
            yield f"- {self.say('outlook', gain=f'{outlook.gain:.4f}', limit=f'{outlook.limit:.4f}')}"
        if resembles is not None:
            yield f"- {self.say('resembles', row=resembles.row.name, distance=f'{resembles.distance:.2f}')}"

    def causes(self, codes: Iterable[str]) -> Iterator[str]:
        """A line for each code of a cause."""
        for code in codes:
            yield f"- {render(CAUSES[code], {}, self.language)} (`{code}`)"

    def sentence(self, found: Finding) -> str:
        """The message of a finding in the reader's language."""
        return str(describe(found, self.language)["message"])


def _spread(epochs: tuple[EpochRecord, ...]) -> list[EpochRecord]:
    if len(epochs) <= ROWS:
        return list(epochs)
    places = {round(at * (len(epochs) - 1) / (ROWS - 1)) for at in range(ROWS)}
    return [epochs[place] for place in sorted(places)]
