"""The losses of MONAI that ours are made of. Importing this module imports MONAI, which takes seconds."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():  # what MONAI calls is for MONAI to keep up to date
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    from monai.losses import DiceLoss, FocalLoss, GeneralizedDiceLoss, SoftclDiceLoss, TverskyLoss

__all__ = ["DiceLoss", "FocalLoss", "GeneralizedDiceLoss", "SoftclDiceLoss", "TverskyLoss"]
