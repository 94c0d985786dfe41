"""How far a predicted mask of a volume agrees with a known one; imports torch."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch

from octa_backend.data.volume_case import check_lies_as
from octa_backend.data.volume_files import read_volume_header, read_volume_mask
from octa_backend.errors import MaskDoesNotFit, ScanDoesNotFit
from octa_backend.inference.ensemble import Together
from octa_backend.inference.mask_evaluation import classes_of_mask
from octa_backend.service.predict_service import ImageFile
from octa_backend.service.volume_segmenting import SegmentedVolume, millilitres
from octa_backend.training.ignored import IGNORED, dataset_class, network_classes
from octa_backend.training.metrics import ScanScore, counts_at_all, mean_of_classes, score_classes

METRICS = tuple(field.name for field in fields(ScanScore))


def compared(models: Together, segmented: SegmentedVolume, known: ImageFile, max_voxels: int) -> dict[str, Any]:
    """Dice, IoU, precision and recall of each class, and by how many ml its volume is off.

    Raises:
        UnreadableScan, ScanTooLarge: the mask is none.
        MaskDoesNotFit: it lies elsewhere than the case, has another size, or values that are no classes of the models.
    """
    header = read_volume_header(known.content, known.name)
    try:
        check_lies_as(segmented.image, segmented.case.name, known.name, header)
    except ScanDoesNotFit as error:
        raise MaskDoesNotFit(error.message) from error
    values = read_volume_mask(known.content, known.name, max_voxels).values
    if values.min() < 0:
        raise MaskDoesNotFit(f"mask {known.name} has values below 0; masks hold the numbers of classes")
    target = network_classes(
        classes_of_mask(values, known.name, models.mask_values, models.classes), models.ignore_index
    )
    predicted = network_classes(segmented.mask, models.ignore_index)
    predicted[target == IGNORED] = 0
    count = models.classes - (models.ignore_index is not None)
    scores = score_classes(torch.from_numpy(predicted), torch.from_numpy(target), count)
    names = dict(enumerate(label.name for label in models.labels))
    classes = []
    for index, score in enumerate(scores, start=1):
        number = dataset_class(index, models.ignore_index)
        more = int(np.count_nonzero(predicted == index)) - int(np.count_nonzero(target == index))
        classes.append(
            {
                "class": number,
                "name": names.get(number, f"class {number}"),
                **(asdict(score) if score is not None else dict.fromkeys(METRICS)),
                "volume_error_ml": None if segmented.voxel_ml is None else millilitres(more, segmented.voxel_ml),
            }
        )
    counts = counts_at_all(torch.from_numpy(target))
    mean = asdict(mean_of_classes(scores)) if counts else dict.fromkeys(METRICS)
    return {"mask": known.name, "mean": mean, "classes": classes}
