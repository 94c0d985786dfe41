"""How far optimizer steps move the weights, per gradient group and per layer, and the gradients of each layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

Members = Mapping[str, Sequence[int]]
"""Groups or layers by name, each with the places of its parameters among the network's."""


class WeightChanges:
    """Measures single steps: the weights before one are copied, and compared with those after it.

    Norms stay on the device, one number per parameter, until they are asked for.

    Args:
        network: with its four gradient groups.
    """

    def __init__(self, network: nn.Module) -> None:
        named = dict(network.named_parameters())
        self._parameters = list(named.values())
        place = {id(parameter): index for index, parameter in enumerate(self._parameters)}
        groups: Mapping[str, list[nn.Parameter]] = network.gradient_groups()  # type: ignore[operator]
        self._groups: Members = {name: [place[id(p)] for p in group] for name, group in groups.items()}
        self._layers: Members = _by_layer(named)
        self._all = list(range(len(self._parameters)))
        self._of_groups = sorted({index for group in self._groups.values() for index in group})
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._before: list[Tensor] = []
        self._places: list[int] = []
        self._measured: list[tuple[list[int], Tensor]] = []
        self._gradients: Tensor | None = None
        self._whole: tuple[list[int], Tensor] | None = None

    @torch.no_grad()
    def before_update(self, *, every_layer: bool) -> None:
        """Copy the weights of the groups, or of all layers, and then measure the layers' gradients as well."""
        self._places = self._all if every_layer else self._of_groups
        weights = self._watched()
        self._before = [torch.empty_like(weight) for weight in weights]
        torch._foreach_copy_(self._before, weights)
        if every_layer:
            zero = weights[0].new_zeros(1)
            gradients = [zero if p.grad is None else p.grad for p in self._parameters]
            self._gradients = torch.stack(torch._foreach_norm(gradients))

    @torch.no_grad()
    def after_update(self) -> None:
        """Compare with the copy, if one was made before this step."""
        if not self._before:
            return
        weights = self._watched()
        torch._foreach_sub_(self._before, weights)
        norms = torch.stack([*torch._foreach_norm(self._before), *torch._foreach_norm(weights)])
        self._measured.append((self._places, norms))
        if self._places is self._all:
            self._whole = self._measured[-1]
        self._before = []

    def _watched(self) -> list[Tensor]:
        return [self._parameters[index].detach() for index in self._places]

    def group_ratios(self) -> dict[str, float]:
        """|change| / |weights after it| per group, the mean over the steps that were measured.

        Weights that are 0 and stay so have the ratio 0.
        """
        totals = dict.fromkeys(self._groups, 0.0)
        for places, norms in zip(*self._transferred(), strict=True):
            for name, ratio in _ratios(self._groups, places, norms).items():
                totals[name] += ratio / len(self._measured)
        return totals

    def _transferred(self) -> tuple[list[list[int]], list[list[float]]]:
        """Where the measured parameters stand, and their norms, brought from the device all at once."""
        places = [measured for measured, _ in self._measured]
        numbers = iter(torch.cat([norms for _, norms in self._measured]).tolist())
        return places, [[next(numbers) for _ in range(2 * len(measured))] for measured in places]

    def layer_ratios(self) -> dict[str, float]:
        """The ratios per layer at the last step at which every layer was measured; empty if there was none."""
        if self._whole is None:
            return {}
        places, norms = self._whole
        return _ratios(self._layers, places, norms.tolist())

    def layer_gradients(self) -> dict[str, float]:
        """The gradients' L2 norms per layer at that step, 0 where a layer has none; empty if there was none."""
        if self._gradients is None:
            return {}
        norms = self._gradients.tolist()
        return {name: math.hypot(*(norms[index] for index in layer)) for name, layer in self._layers.items()}

    @torch.no_grad()
    def group_norms(self) -> dict[str, float]:
        """L2 norms of the groups' weights as they are now."""
        names = list(self._groups)
        groups = [[self._parameters[index].detach() for index in self._groups[name]] for name in names]
        norms = torch.stack([torch.nn.utils.get_total_norm(group) for group in groups]).tolist()
        return dict(zip(names, norms, strict=True))


def _by_layer(named: Iterable[str]) -> Members:
    layers: dict[str, list[int]] = {}
    for index, name in enumerate(named):
        layers.setdefault(name.rpartition(".")[0], []).append(index)
    return layers


def _ratios(members: Members, places: Sequence[int], norms: Sequence[float]) -> dict[str, float]:
    """Ratios from the parameters' norms: first of all changes, then of all weights."""
    changes = dict(zip(places, norms, strict=False))
    weights = dict(zip(places, norms[len(places) :], strict=True))
    ratios = {}
    for name, indices in members.items():
        change, weight = (math.hypot(*(values[index] for index in indices)) for values in (changes, weights))
        ratios[name] = change / weight if weight else 0.0
    return ratios
