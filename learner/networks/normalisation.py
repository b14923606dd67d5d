"""Normalisation of observations and rewards by running moments.

The moments are kept in double precision apart from the graph, which holds what follows from them in
single precision. A round trains with the statistics of the version that rolled it throughout; its
data change those of the next version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learner.experience.fragments import Carried, in_turns
from learner.losses import returns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from learner.experience.on_policy import FragmentKey

CLIP = 10.0
"""Normalised observations and scaled rewards stay within +- this."""

EPSILON = 1e-8
"""Added to a variance before its root is divided by."""


_Numbers = TypeVar("_Numbers", "NDArray[np.float64]", Tensor)


def _merged(
    one: tuple[_Numbers, _Numbers],
    other: tuple[_Numbers, _Numbers],
    share: float | Tensor,
    others_share: float | Tensor,
) -> tuple[_Numbers, _Numbers]:
    """Mean and variance of two lots of data together, from those of each and their shares of it.

    Chan et al., "Algorithms for computing the sample variance" (1983), eq. 1.5.
    """
    delta = other[0] - one[0]
    spread = one[1] * share + other[1] * others_share + delta * delta * share * others_share
    return one[0] + delta * others_share, spread


class RunningMoments:
    """Mean and variance of everything seen so far, merged batch by batch.

    Before any data the mean is 0 and the variance 1, so that normalising changes nothing.

    Attributes:
        mean: [*shape] float64.
        variance: [*shape] float64, of the population.
        count: Rows seen.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean = np.zeros(shape)
        self.variance = np.ones(shape)
        self.count = 0.0

    def update(self, rows: NDArray[np.floating[Any]]) -> None:
        """Merges the moments of `rows` [N, *shape]; N may be 0."""
        added = rows.shape[0]
        if added == 0:
            return
        mean = rows.mean(0, dtype=np.float64)
        variance = rows.var(0, dtype=np.float64)
        total = self.count + added
        self.mean, self.variance = _merged(
            (self.mean, self.variance), (mean, variance), self.count / total, added / total
        )
        self.count = total

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""
        return {
            "mean": torch.tensor(self.mean, dtype=torch.float64),
            "variance": torch.tensor(self.variance, dtype=torch.float64),
            "count": torch.tensor(self.count, dtype=torch.float64),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave."""
        self.mean = tensors["mean"].cpu().numpy().astype(np.float64, copy=True)
        self.variance = tensors["variance"].cpu().numpy().astype(np.float64, copy=True)
        self.count = float(tensors["count"])


class ObservationNormaliser(nn.Module):
    """(observation - mean) scale, clipped to +-10, with the statistics as buffers of the graph."""

    mean: Tensor
    scale: Tensor
    limit: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("limit", torch.tensor(CLIP), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, F] float32 to the same."""
        normalised = (observations - self.mean) * self.scale
        # `clamp` with numbers becomes two nodes more.
        return torch.minimum(torch.maximum(normalised, -self.limit), self.limit)

    def take(self, moments: RunningMoments) -> None:
        """Makes these moments the statistics from now on."""
        self.mean.copy_(torch.tensor(moments.mean))
        self.scale.copy_(torch.tensor(1.0 / np.sqrt(moments.variance + EPSILON)))


class ObservationStatistics:
    """The moments behind a normaliser; None of them where observations are taken as they are."""

    def __init__(self, normaliser: ObservationNormaliser | None) -> None:
        self._normaliser = normaliser
        self._moments = RunningMoments(() if normaliser is None else tuple(normaliser.mean.shape))

    @property
    def used(self) -> bool:
        """Whether there is a normaliser."""
        return self._normaliser is not None

    def take_in(self, rows: NDArray[np.floating[Any]]) -> None:
        """Merges raw observations [N, F], and lets the normaliser have what follows."""
        if self._normaliser is not None:
            self._moments.update(rows)
            self._normaliser.take(self._moments)

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint; the normaliser's buffers are saved with the policy."""
        return self._moments.tensors() if self.used else {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave."""
        if self.used:
            self._moments.load_tensors(tensors)


class BoundedNormaliser(nn.Module):
    """Numbers less their mean over their deviation, of all seen so far, then into (-1, 1).

        y = (x - mean) / deviation,  z = y / (1 + |y|)

    The moments are those of `RunningMoments`, on the device that the numbers are on. Before any
    data the mean is 0 and the deviation 1.

    Args:
        width: F.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(width, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, rows: Tensor, weights: Tensor) -> None:
        """Merges the moments of rows [N, F] float32; those with a weight [N] of 0 do not count."""
        wide, counted = rows.double(), weights.double().unsqueeze(1)
        added = counted.sum()
        mean = (wide * counted).sum(0) / added
        variance = ((wide - mean).square() * counted).sum(0) / added
        total = self.count + added
        mean, variance = _merged(
            (self.mean, self.variance), (mean, variance), self.count / total, added / total
        )
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        self.count.copy_(total)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., F] float32 to the same."""
        deviation = (self.variance + EPSILON).sqrt().float()
        return F.softsign((rows - self.mean.float()) / deviation)


class ValueNormaliser:
    """Returns less their mean over their deviation, by moments that forget slowly.

        m <- beta m + (1 - beta) mean(R),  mean = m / (1 - beta^n)      after n batches

    and the same of R^2: exponential averages without the bias of their start. Yu et al. 2022,
    https://arxiv.org/abs/2103.01955, section 5.1. Before any data nothing changes.

    Args:
        decay: beta.
    """

    def __init__(self, decay: float = 0.99999) -> None:
        self._decay = decay
        self._moments = np.zeros(3)  # of R, of R^2, and of 1: what the others are divided by

    @property
    def mean(self) -> float:
        """Of returns."""
        return float(self._moments[0] / self._moments[2]) if self._moments[2] else 0.0

    @property
    def deviation(self) -> float:
        """Of returns; their variance counts as 0.01 at least."""
        if not self._moments[2]:
            return 1.0
        variance = self._moments[1] / self._moments[2] - self.mean**2
        return float(np.sqrt(max(variance, 1e-2)))

    def update(self, returns: NDArray[np.floating[Any]]) -> None:
        """Takes in a batch [N]; N may be 0."""
        if returns.size:
            wide = returns.astype(np.float64)
            found = np.array([wide.mean(), np.square(wide).mean(), 1.0])
            self._moments = self._decay * self._moments + (1.0 - self._decay) * found

    def normalise(self, returns: Tensor) -> Tensor:
        """Returns to values, of any shape."""
        return (returns - self.mean) / self.deviation

    def denormalise(self, values: Tensor) -> Tensor:
        """Values to returns, of any shape."""
        return values * self.deviation + self.mean

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""
        return {"moments": torch.tensor(self._moments)}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave."""
        self._moments = tensors["moments"].cpu().numpy().astype(np.float64, copy=True)


class SlotReturns:
    """The running discounted returns of slots whose fragments come in any order and number."""

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._running: Carried[float] = Carried()

    def sums(
        self,
        rewards: NDArray[np.float32],
        ended: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        keys: Sequence[FragmentKey],
    ) -> NDArray[np.float64]:
        """[T, B], after each row; 0 in columns without a valid row."""
        found = np.zeros(rewards.shape)
        for columns in in_turns(keys, np.flatnonzero(valid.any(0))):
            before = [self._running.before(keys[b], rows=len(rewards)) for b in columns]
            found[:, columns], after = returns.discounted_sums(
                rewards[:, columns],
                ended[:, columns],
                valid[:, columns],
                np.array([running or 0.0 for running in before]),
                self._gamma,
            )
            for b, running in zip(columns, after, strict=True):
                self._running.keep(keys[b], float(running))
        return found


class RewardScaler:
    """Divides rewards by the standard deviation of the running discounted return, clipped to +-10.

    Each environment column has a running return of its own, which goes on from round to round and
    starts over after an end. Rewards are not centred: that would change the task.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._moments = RunningMoments(())
        self._running = np.zeros(0)
        self._by_slot = SlotReturns(gamma)

    def scale(
        self,
        rewards: NDArray[np.float32],
        ended: NDArray[np.bool_],
        valid: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """[T, B] raw to [T, B] scaled, with the statistics of the rounds before.

        The first round has none before it, and is scaled with its own: raw rewards would teach the
        values a scale that is wrong from the next round on, and large ones would be clipped away.
        """
        moments = self._moments
        if not moments.count:
            start = np.zeros(rewards.shape[1:])
            sums, _ = returns.discounted_sums(rewards, ended, valid, start, self._gamma)
            moments = RunningMoments(())
            moments.update(sums[valid])
        factor = 1.0 / np.sqrt(moments.variance + EPSILON)
        return np.clip(rewards * factor, -CLIP, CLIP).astype(np.float32)

    def update(
        self,
        rewards: NDArray[np.float32],
        ended: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        keys: Sequence[FragmentKey] | None = None,
    ) -> None:
        """Takes in a batch, all [T, B].

        With `keys`, [B], a column is what its key says; without, column b is always the same slot.
        """
        if keys is not None:
            sums = self._by_slot.sums(rewards, ended, valid, keys)
        else:
            if self._running.shape != rewards.shape[1:]:
                # Another number of environments: columns are no longer who they were.
                self._running = np.zeros(rewards.shape[1:])
            sums, self._running = returns.discounted_sums(
                rewards, ended, valid, self._running, self._gamma
            )
        self._moments.update(sums[valid])

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""
        running = torch.tensor(self._running, dtype=torch.float64)
        return {**self._moments.tensors(), "running": running}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave."""
        self._moments.load_tensors(tensors)
        self._running = tensors["running"].cpu().numpy().astype(np.float64, copy=True)


class RewardStandardiser:
    """Rewards of each agent less their mean, over their deviation, of all that were drawn so far.

    Papoudakis et al. 2021 (https://arxiv.org/abs/2006.07869) train so. A constant that is added to
    every reward leaves the order of policies as it is only where they cannot change how long an
    episode is.

    Args:
        agents: A.
    """

    def __init__(self, agents: int) -> None:
        self._moments = [RunningMoments(()) for _ in range(agents)]

    def standardise(
        self, rewards: NDArray[np.float32], alive: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Takes rewards [M, A] of agents that acted [M, A] in, and answers them standardised."""
        for agent, moments in enumerate(self._moments):
            moments.update(rewards[alive[:, agent], agent])
        mean = np.array([moments.mean for moments in self._moments])
        variance = np.array([moments.variance for moments in self._moments])
        centred: NDArray[np.float64] = rewards - mean
        return (centred / np.sqrt(variance + EPSILON)).astype(np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""
        found = [moments.tensors() for moments in self._moments]
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave."""
        for agent, moments in enumerate(self._moments):
            moments.load_tensors({name: tensor[agent] for name, tensor in tensors.items()})
