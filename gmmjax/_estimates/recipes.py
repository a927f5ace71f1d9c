"""The static part of sums of E[log a − log b]: which logarithms, of which densities."""

from typing import NamedTuple

from gmmjax._sampling.settings import Sampling

BLEND = -1  # stands for the density Σ_l b_l p_l of all mixtures


class LogRatio(NamedTuple):
    """E[log of − log over] under a mixture; all are named by their position, `BLEND` by its own.

    None leaves a logarithm out.
    """

    under: int
    of: int | None
    over: int | None


class Options(NamedTuple):
    """What to do with the points."""

    stick_the_landing: bool
    control_variate: bool


class Logarithm(NamedTuple):
    """± the logarithm of the density of one mixture, or of a blend of several."""

    sign: int
    mixtures: tuple[int, ...]
    detached: bool  # its parameters are constants of differentiation


class Recipe(NamedTuple):
    """The static part of one integrand."""

    index: int
    under: int
    logarithms: tuple[Logarithm, ...]
    densities: tuple[tuple[int, bool], ...]  # (mixture, detached), in the order of their features


def recipes_of(ratios, count, stick_the_landing):
    """Which logarithms each integrand has, and which densities they need."""
    sampled_by_all = count > 1 and len(ratios) == count
    recipes = []
    for index, ratio in enumerate(ratios):
        without_score = {ratio.under, BLEND} if sampled_by_all else {ratio.under}
        logarithms = []
        for sign, name in ((1, ratio.of), (-1, ratio.over)):
            if name is not None:
                members = tuple(range(count)) if name == BLEND else (name,)
                detached = stick_the_landing and name in without_score
                logarithms.append(Logarithm(sign, members, detached))
        densities = {(i, log.detached) for log in logarithms for i in log.mixtures}
        recipes.append(Recipe(index, ratio.under, tuple(logarithms), tuple(sorted(densities))))
    return recipes


class Problem(NamedTuple):
    """All that is static of an estimate."""

    ratios: tuple[LogRatio, ...]
    num_mixtures: int
    sampling: Sampling
    options: Options

    @property
    def recipes(self) -> list[Recipe]:
        return recipes_of(self.ratios, self.num_mixtures, self.options.stick_the_landing)

    @property
    def is_balanced(self) -> bool:
        """Whether integrands are logarithms of ratios, which are small where densities agree."""
        return all(len(recipe.logarithms) == 2 for recipe in self.recipes)
