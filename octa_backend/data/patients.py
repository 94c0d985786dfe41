"""Which patient a scan is of: read from its name, in the light of the other names of its dataset."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from octa_backend.data.stems import LAYERS

SCANS_OF_A_NAME, NAMES = 10, 8
"""Words in front of the eye and a number name patients ("smith_OD_1") where so many of them have at most so many scans
each: sets have fewer diagnoses, kinds of scan and sites, and more scans of each."""

_SEPARATOR = r"[ _\-.]"
_EYE_WORD = r"(?:od|os|left|right|eye[ _\-]?[12lr])"

# "001_OD", "p12_left", "patient12_eye2", "003-OS-visit2"; with a number behind the eye: "normal_OD_12"
_EYE_WORD_AFTER = re.compile(
    rf"^(?P<id>.+?){_SEPARATOR}+{_EYE_WORD}(?:{_SEPARATOR}+(?P<number>\d{{1,5}})(?!\d|-\d\d-\d\d)|{_SEPARATOR}|$)",
    re.IGNORECASE,
)
# "001OD", "Image_01L", "patient3_R", "12-l_2": glued to a number, or one letter behind a number
_EYE_AFTER_NUMBER = re.compile(
    rf"^(?P<id>.*\d)(?:(?:od|os|left|right)|{_SEPARATOR}*[lr])(?:{_SEPARATOR}.*)?$", re.IGNORECASE
)
# "OD_001", "left-12", "L_01"
_EYE_BEFORE = re.compile(rf"^(?:od|os|left|right|[lr]){_SEPARATOR}+(?P<id>[^ _\-.]*\d[^ _\-.]*)", re.IGNORECASE)
# "patient12", "patient_12_scan3", "p07_b", "sub-01_ses-02"
_PATIENT_WORD = re.compile(
    rf"^(?P<id>(?:.*{_SEPARATOR})?(?:(?:patient|patid|pat|pid|pt|subject|subj|sub){_SEPARATOR}?|p)\d+)(?![^ _\-.])",
    re.IGNORECASE,
)
# Words in front that do not say who it is: "Image_01", "patient1", "SVC_1" and "3x3_01" are "01", "1", "1" and "01".
_PLAIN_WORD = re.compile(
    rf"^(?:(?:image|img|scan|fundus|octa|oct|eye|case|patient|patid|pat|pid|pt|subject|subj|sub|id|p|s|{'|'.join(LAYERS)})"
    rf"(?:{_SEPARATOR}+|(?=\d)|$)|(?:\d+[x×]\d+(?:mm)?|\d+mm(?:[x×]\d+mm)?)(?:{_SEPARATOR}+|$))",
    re.IGNORECASE,
)


class OfPatient(Protocol):
    """A scan of which the patient may be known."""

    @property
    def patient(self) -> str | None:
        """The patient that the name shows, or None."""


def patients_of(names: Iterable[str]) -> dict[str, str | None]:
    """The patients that the names of a dataset's scans show, see `patient_of`."""
    known = list(names)
    groups = _groups(known)
    return {name: patient_of(name, groups) for name in known}


def patient_of(name: str, groups: Collection[str] = ()) -> str | None:
    """The patient that a scan's name shows, or None.

    Names of eye pairs ("001_OD", "Image_01L", "p12_left", "OS-7") and names with a patient word ("patient12_eye2",
    "sub-01_ses-02") show one; bare numbers and words do not. Both eyes of a patient give the same answer: the name
    without the eye and without words such as "image", "patient", "SVC" or "3x3" in front, in lower case. Of a name with
    folders in front, a folder counts only with a patient word: "p12/image".

    Args:
        name: of the scan.
        groups: words in front of the eye that many patients share, such as diagnoses, in lower case. With one of them
            the number behind the eye counts: "normal_OD_12" and "normal_OS_12" are of the patient "normal_12".
    """
    *folders, stem = [part.strip() for part in name.replace("\\", "/").split("/")]
    if found := _PATIENT_WORD.match(stem):
        return _without_plain_words(found["id"]) or None
    plain = _without_plain_words(stem)
    for pattern in (_EYE_BEFORE, _EYE_WORD_AFTER, _EYE_AFTER_NUMBER):
        if found := pattern.match(plain):
            identity = found["id"].strip(" _-.")
            number = found.groupdict().get("number")
            return (number and f"{identity}_{number}") if identity in groups else identity or None
    in_folder = next((found for folder in reversed(folders) if (found := _PATIENT_WORD.match(folder))), None)
    return _without_plain_words(in_folder["id"]) or None if in_folder else None


def by_patient(indices: Sequence[int], scans: Sequence[OfPatient]) -> list[list[int]]:
    """Some scans by patient, scans of unknown patients alone; all alone where patients say too little."""
    alone = [[index] for index in indices]
    known = [index for index in indices if scans[index].patient is not None]
    if 2 * len(known) < len(indices):
        return alone
    groups: dict[str | int, list[int]] = defaultdict(list)
    for index in indices:
        patient = scans[index].patient
        groups[index if patient is None else patient].append(index)
    return list(groups.values()) if len(groups) > 1 else alone


def _groups(names: Iterable[str]) -> frozenset[str]:
    """Words without a digit, in front of an eye and a number, that many patients share: "normal" of "normal_OD_12".

    Names of patients are many, with few scans each. Else a whole diagnosis would be one patient, of whom all scans
    validate or none.
    """
    scans: Counter[str] = Counter()
    numbered = set()
    for name in names:
        stem = name.replace("\\", "/").rpartition("/")[2].strip()
        found = None if _PATIENT_WORD.match(stem) else _EYE_WORD_AFTER.match(_without_plain_words(stem))
        if found and not re.search(r"\d", found["id"]):
            word = found["id"].strip(" _-.")
            scans[word] += 1
            if found["number"]:
                numbered.add(word)
    few = {word for word, count in scans.items() if count <= SCANS_OF_A_NAME}
    return frozenset(numbered - few if len(few) >= NAMES else numbered)


def _without_plain_words(identity: str) -> str:
    """ "Image_Patient-01" -> "01"."""
    while (shorter := _PLAIN_WORD.sub("", identity, count=1)) != identity:
        identity = shorter
    return identity.strip(" _-.").lower()
