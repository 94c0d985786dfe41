"""What `octa train` and `octa plan` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from octa_backend.commands.options import with_config_options
from octa_backend.commands.terminal import console
from octa_backend.errors import OctaError
from octa_backend.settings import load_settings

ScanZip = Annotated[
    Path | None, typer.Argument(help="Zip of scans and masks.", exists=True, dir_okay=False, show_default=False)
]
ScanFolder = Annotated[
    Path | None,
    typer.Option(help="Folder with images/ and masks/, in place of the zip.", exists=True, file_okay=False),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Repair = Annotated[bool, typer.Option("--repair", help="Apply the safe remedies that the checks propose.")]

Out = Annotated[
    Path | None, typer.Option("--out", "--output-dir", help="Folder for checkpoints and model (default: octa_train).")
]
Resume = Annotated[
    Path | None, typer.Option(help="Go on with the training in this folder: OUT, OUT/latest, or its last checkpoint.")
]
TestOnly = Annotated[
    bool, typer.Option("--test-only", help="Score the model in --out on the test split, train nothing.")
]
FocalLoss = Annotated[bool, typer.Option("--focal-loss", help="The same as --loss focal_dice.")]
LossWeights = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="A B", help="Weights of the loss's two components, in their order: BCE (or focal), Dice."),
]
Amp = Annotated[bool, typer.Option("--amp", help="Compute in bf16 or fp16, as the device has it.")]
FindLr = Annotated[
    bool, typer.Option("--find-lr", help="Try learning rates, print a table and a suggestion, train nothing.")
]


@with_config_options
def train(  # noqa: PLR0913 - one parameter per option
    config: dict[str, Any],
    data: ScanZip = None,
    *,
    data_dir: ScanFolder = None,
    out: Out = None,
    resume: Resume = None,
    test_only: TestOnly = False,
    focal_loss: FocalLoss = False,
    loss_weights: LossWeights = None,
    amp: Amp = False,
    device: Device = None,
    find_lr: FindLr = False,
    repair: Repair = False,
    force: Annotated[bool, typer.Option("--force", help="Train although the checks find errors.")] = False,
) -> None:
    """Train on a zip or a folder without a server. Run it again to go on where it stopped; Ctrl-C keeps the best model.

    Names of options may be spelt with underscores.
    """
    from octa_backend.commands import train as train_command  # noqa: PLC0415 - imports torch
    from octa_backend.commands.script_options import ScriptOptions  # noqa: PLC0415 - imports torch
    from octa_backend.service.start_service import StartOptions  # noqa: PLC0415

    wishes = train_command.Wishes(
        data=_scans(data, data_dir),
        out=out,
        resume=resume,
        values=config,
        script=ScriptOptions(focal_loss, loss_weights, amp),
        options=StartOptions(repair="auto" if repair else "none", force=force),
    )
    _refuse_contradictions(wishes.data, resume, test_only=test_only, find_lr=find_lr)
    command = train_command.score if test_only else train_command.find_lr if find_lr else train_command.train
    command(console, wishes, load_settings(device=device))


def _scans(data: Path | None, data_dir: Path | None) -> Path | None:
    """The zip or the folder that was named, or None.

    Raises:
        OctaError: both were.
    """
    if data is not None and data_dir is not None:
        raise OctaError("the scans are named twice, as a zip and by --data-dir; leave one of them out")
    return data_dir if data is None else data


def _refuse_contradictions(data: Path | None, resume: Path | None, *, test_only: bool, find_lr: bool) -> None:
    """See that a training is told what to do, and told it once.

    Raises:
        OctaError: it is not.
    """
    if sum((test_only, find_lr, resume is not None)) > 1:
        raise OctaError("--resume, --test-only and --find-lr do different things; leave all but one of them out")
    if data is None and resume is None and not test_only:
        raise OctaError("name the scans: octa train DATA.zip, or octa train --data-dir FOLDER")


@with_config_options
def plan(
    config: dict[str, Any],
    data: ScanZip = None,
    *,
    data_dir: ScanFolder = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    repair: Repair = False,
    force: Annotated[bool, typer.Option("--force", help="Plan although the checks find errors.")] = False,
) -> None:
    """Show what a training would compute and why, and what it takes; trains nothing and keeps nothing."""
    from octa_backend.commands import plan as plan_command  # noqa: PLC0415 - imports torch
    from octa_backend.service.start_service import StartOptions  # noqa: PLC0415

    scans = _scans(data, data_dir)
    if scans is None:
        raise OctaError("name the scans: octa plan DATA.zip, or octa plan --data-dir FOLDER")
    options = StartOptions(repair="auto" if repair else "none", force=force)
    plan_command.show_plan(console, scans, config, load_settings(device=device), options, as_json=as_json)
