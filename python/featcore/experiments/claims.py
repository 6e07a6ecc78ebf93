"""`Claim`: what is stated before a run. `Finding`: what the run says to it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from featcore._validation import choice, real

Source = Literal["paper", "derived", "calibrated"]
Relation = Literal["equal", "at_least", "at_most"]
Verdict = Literal["holds", "fails", "inconclusive"]

SOURCES: tuple[Source, ...] = ("paper", "derived", "calibrated")
RELATIONS: tuple[Relation, ...] = ("equal", "at_least", "at_most")
VERDICTS: tuple[Verdict, ...] = ("holds", "fails", "inconclusive")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement about a measurable number, complete before the first run.

    The tolerance of a judgement is `bias` + 3 standard errors over seeds. Everything but the
    standard error stands here, so nothing can be tuned once the outcome is known.

    Parameters
    ----------
    key : str
        Short name, unique within the experiment.
    sentence : str
        What is claimed, for a reader who sees nothing else.
    source : {"paper", "derived", "calibrated"}
        A paper states it; it is derived here; or we measured it once and pinned it.
    reference : str
        Paper with equation or figure; where the derivation stands; or what was measured, and with
        which seeds.
    predicted : float
        The stated value.
    relation : {"equal", "at_least", "at_most"}
        How the measured mean must stand to `predicted`, within the tolerance.
    bias : float
        What the theory itself may be off by, in `unit`; at least 0.
    resolution : float
        Largest value of 3 standard errors at which the measurement still means something. The
        default 0 is for a claim about a number without randomness.
    unit : str
        Unit of predicted, bias and resolution, such as "nats"; empty for pure numbers.

    Raises
    ------
    TypeError, ValueError
        For empty texts, an unknown source or relation, non-finite numbers, a negative bias or
        resolution.

    Examples
    --------
    >>> claim = Claim(
    ...     key="cos10",
    ...     sentence="After 10 steps the mean |cos(w, μ1)| of positive neurons is 0.64.",
    ...     source="calibrated",
    ...     reference="60 seeds, 0 to 59",
    ...     predicted=0.64,
    ...     relation="equal",
    ...     bias=0.01,
    ...     resolution=0.05,
    ... )
    >>> claim.judge([0.641, 0.637, 0.644]).verdict
    'holds'
    """

    key: str
    sentence: str
    source: Source
    reference: str
    predicted: float
    relation: Relation
    bias: float
    resolution: float = 0.0
    unit: str = ""

    def __post_init__(self) -> None:
        for name in ("key", "sentence", "reference"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name}={text!r} must be a non-empty text")
        choice("source", self.source, SOURCES)
        choice("relation", self.relation, RELATIONS)
        set_ = object.__setattr__
        set_(self, "predicted", real("predicted", self.predicted))
        set_(self, "bias", real("bias", self.bias, least=0.0))
        set_(self, "resolution", real("resolution", self.resolution, least=0.0))

    def judge(self, samples: ArrayLike, *, deterministic: bool = False) -> Finding:
        """Hold the claim against what was measured.

        Parameters
        ----------
        samples : array_like, shape (seeds,) or ()
            One value a seed. A seed without a value counts as NaN; do not leave it out.
        deterministic : bool
            The single value given has no randomness: its standard error is 0.

        Returns
        -------
        Finding
            `fails` if a sample is not finite or the mean is outside the tolerance; else
            `inconclusive` with fewer than two seeds or where 3 standard errors exceed
            `resolution`; else `holds`.

        Raises
        ------
        ValueError
            If `samples` has more than one axis, or a deterministic claim gets other than one value.
        """
        array = np.asarray(samples, dtype=np.float64)
        if array.ndim > 1:
            raise ValueError(
                f"samples has shape {array.shape}; pass one value a seed for claim {self.key!r}"
            )
        values = tuple(float(value) for value in array.ravel())
        count = len(values)
        if deterministic and count != 1:
            raise ValueError(
                f"samples has {count} values; deterministic claim {self.key!r} takes one"
            )

        def finding(mean: float, error: float, verdict: Verdict, note: str = "") -> Finding:
            return Finding(
                claim=self,
                samples=values,
                deterministic=deterministic,
                measured=mean,
                standard_error=error,
                tolerance=self.bias + 3 * error,
                verdict=verdict,
                note=note,
            )

        bad = sum(not math.isfinite(value) for value in values)
        if bad:
            return finding(math.nan, math.nan, "fails", f"{bad} of {count} samples not finite")
        if count < 2 and not deterministic:
            mean = values[0] if values else math.nan
            note = f"{count} seed{'' if count == 1 else 's'}: no standard error, give at least 2"
            return finding(mean, math.nan, "inconclusive", note)
        # exact rational arithmetic: equal samples have a standard error of 0, and nothing overflows
        mean = statistics.mean(values)
        error = 0.0 if deterministic else statistics.stdev(values) / math.sqrt(count)
        gap = mean - self.predicted
        worst = {"equal": abs(gap), "at_least": -gap, "at_most": gap}[self.relation]
        if worst > self.bias + 3 * error:  # however noisy: noise must not hide a failure
            return finding(mean, error, "fails")
        if 3 * error > self.resolution:
            note = f"3 SE = {3 * error:.2g} > resolution {self.resolution:.2g}; use more seeds"
            return finding(mean, error, "inconclusive", note)
        return finding(mean, error, "holds")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim with what was measured and the verdict; made by `Claim.judge`.

    Attributes
    ----------
    claim : Claim
        What was stated beforehand.
    samples : tuple of float
        One value a seed, or the single value of a deterministic claim.
    deterministic : bool
        The value has no randomness.
    measured : float
        Mean of the samples; NaN if one of them is not finite or there are none.
    standard_error : float
        Of the mean, from the sample standard deviation; NaN where there is none.
    tolerance : float
        bias + 3 standard errors.
    verdict : {"holds", "fails", "inconclusive"}
        See `Claim.judge`.
    note : str
        Why, where the numbers alone do not say it.
    """

    claim: Claim
    samples: tuple[float, ...]
    deterministic: bool
    measured: float
    standard_error: float
    tolerance: float
    verdict: Verdict
    note: str = ""

    @property
    def seeds(self) -> int:
        """Number of seeds measured; 0 for a deterministic value."""
        return 0 if self.deterministic else len(self.samples)
