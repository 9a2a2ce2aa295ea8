"""torch.cuda.default_generators where the device is the emulator."""

from __future__ import annotations

import torch

_DEVICE = torch.device("cuda", 0)


class DefaultGenerator:
    """Seed and offset, which kernels that draw numbers of their own read and advance, as CUDA's generator has them.

    torch's functions draw from the host's generator: what seeds this one seeds that one, too. Thread-compatible.
    """

    device = _DEVICE

    def __init__(self) -> None:
        self._seed: int = torch.default_generator.initial_seed()
        self._offset = 0

    def manual_seed(self, seed: int) -> DefaultGenerator:
        torch.default_generator.manual_seed(seed)
        self._seed, self._offset = seed, 0
        return self

    def initial_seed(self) -> int:
        return self._seed

    def seed(self) -> int:
        self.manual_seed(torch.default_generator.seed())
        return self._seed

    def get_offset(self) -> int:
        return self._offset

    def set_offset(self, offset: int) -> None:
        self._offset = offset

    def get_state(self) -> torch.Tensor:
        signed = self._seed - (1 << 64) if self._seed >= 1 << 63 else self._seed
        return torch.tensor([signed, self._offset], dtype=torch.int64).view(torch.uint8)

    def set_state(self, state: torch.Tensor) -> None:
        self._seed, self._offset = state.view(torch.int64).tolist()

    # What torch.cuda.get_rng_state() and set_rng_state() pass: this state, and the host generator's.

    def whole_state(self) -> torch.Tensor:
        return torch.cat([self.get_state(), torch.get_rng_state()])

    def set_whole_state(self, state: torch.Tensor) -> None:
        own = self.get_state().numel()
        self.set_state(state[:own].clone())
        torch.set_rng_state(state[own:].clone())
