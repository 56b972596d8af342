"""Sums of gradients over processes, exchanged in buckets while the backward pass is still running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hw_asr.runtime.processes import Processes

BUCKET_BYTES = 25 * 2**20
"""A layer or two of a large model: enough for the full bandwidth, few enough that the first leaves early."""


class GradientExchange:
    """Makes every gradient the sum over all processes; with one process alone it does nothing.

    A step calls `start`, then `announce_last` before the last of its backward passes, then `finish`. Gradients are
    views of the buckets' buffers, so nothing is copied, and a parameter without a gradient counts as zero. Every
    process sends every bucket once a step, in the same order, even if it has left the step early: buckets have a
    process group of their own, so other messages cannot get between them.

    Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", 2020, section 3.2.

    Args:
        parameters: on their device; those that require no gradient in a step are left out of it, on every process.
        processes: who exchanges.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], processes: Processes) -> None:
        self._parameters = list(parameters)
        self._trained: list[nn.Parameter] = []
        self._buckets: list[_Bucket] = []
        self._hooks: list[Any] = []
        self._sent = 0
        self._is_last = False
        self._group = dist.new_group() if processes.size > 1 else None

    def start(self) -> None:
        """Set all gradients to zero."""
        if self._group is None:
            return
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        if [*map(id, trained)] != [*map(id, self._trained)]:
            self._divide(trained)
        self._sent, self._is_last = 0, False
        for bucket in self._buckets:
            bucket.reset()

    def announce_last(self) -> None:
        """From now on, send a bucket as soon as all of its gradients are there."""
        self._is_last = True

    def finish(self) -> None:
        """Send what has not been sent, and wait until every gradient is the sum over all processes."""
        self._send(len(self._buckets))
        for bucket in self._buckets:
            bucket.work.wait()

    def _divide(self, trained: list[nn.Parameter]) -> None:
        """Divide the parameters into buckets, in place of the present ones."""
        for hook in self._hooks:
            hook.remove()
        self._trained, self._buckets, self._hooks = trained, [], []
        for number, members in enumerate(_cut(reversed(trained), BUCKET_BYTES)):  # the last layers are ready first
            self._buckets.append(_Bucket(members))
            for parameter in members:
                hook = parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    lambda _, number=number: self._count(number)
                )
                self._hooks.append(hook)

    def _count(self, number: int) -> None:
        """Called when a parameter of a bucket has its gradient of a backward pass."""
        if not self._is_last:
            return
        self._buckets[number].missing -= 1
        ready = self._sent
        while ready < len(self._buckets) and self._buckets[ready].missing <= 0:
            ready += 1
        self._send(ready)

    def _send(self, end: int) -> None:
        for bucket in self._buckets[self._sent : end]:
            bucket.work = dist.all_reduce(bucket.flat, group=self._group, async_op=True)
        self._sent = max(self._sent, end)


class _Bucket:
    """Parameters whose gradients lie one after the other in `flat`."""

    work: Any

    def __init__(self, members: list[nn.Parameter]) -> None:
        self.flat: Tensor = torch.zeros(sum(member.numel() for member in members), dtype=members[0].dtype,
                                        device=members[0].device)  # fmt: skip
        self.missing = 0
        self._members = members

    def reset(self) -> None:
        self.flat.zero_()
        self.missing = len(self._members)
        parts = torch.split(self.flat, [parameter.numel() for parameter in self._members])
        for parameter, part in zip(self._members, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def _cut(parameters: Iterable[nn.Parameter], bucket_bytes: int) -> Iterator[list[nn.Parameter]]:
    """Cut into runs of one type, each as short as `bucket_bytes` allows."""
    members: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if members and (size >= bucket_bytes or parameter.dtype != members[0].dtype):
            yield members
            members, size = [], 0
        members.append(parameter)
        size += parameter.numel() * parameter.element_size()
    if members:
        yield members
