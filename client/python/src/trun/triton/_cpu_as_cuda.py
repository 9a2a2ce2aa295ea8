"""torch's "cuda" devices as the emulator, on a machine without a GPU.

A "cuda" tensor is a CPU tensor whose storage is a block of the session: its address is the kernels' own, so nothing is
copied for a launch, and an address stored in memory means the same to kernels. torch's operators compute on it as on
any CPU tensor; what they make from such tensors becomes one too. It holds in the thread that installs it and in every
thread that starts afterwards.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from trun.errors import TrunError
from trun.session import Device, Session
from trun.triton._driver import EmulatorEvent, EmulatorStream
from trun.triton._generator import DefaultGenerator
from trun.triton._memory import HostMemory

_CUDA = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_COMPILE_DISABLED = "TORCH_COMPILE_DISABLE"  # torch reads it when torch._dynamo is imported


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.device):
        return bool(value.type == "cuda")
    return isinstance(value, str) and value.partition(":")[0] == "cuda"


class _Bytes:
    """A block as NumPy sees it; torch keeps it alive through the array."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__array_interface__ = {"version": 3, "shape": (nbytes,), "typestr": "|u1", "data": (address, False)}


class _Mode(TorchFunctionMode):  # type: ignore[misc]
    def __init__(self, owner: CudaOnCpu) -> None:
        super().__init__()
        self._owner = owner

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._owner.call(func, args, kwargs or {})


class CudaOnCpu:
    def __init__(
        self, memory_of: Callable[[], HostMemory], forget: Callable[[TrunError, Session], bool], device: Device
    ) -> None:
        self._memory_of = memory_of
        self._forget = forget
        self._capability = divmod(int(device.target.split(":")[1]), 10)
        self._device = device
        self._mode: _Mode | None = None
        self._patched: list[tuple[Any, str, Any]] = []
        self._compile_disabled: str | None = None
        tensor = torch.Tensor
        self._special: dict[Any, Callable[..., Any]] = {
            tensor.device.__get__: self._device_of,
            tensor.is_cuda.__get__: self._is_cuda_tensor,
            tensor.get_device: lambda t: 0 if self._holds(t) else -1,
            tensor.cuda: lambda t, *_, **__: self._to_device(t),
            tensor.cpu: lambda t, *_, **__: self._to_host(t),
            tensor.pin_memory: lambda t, *_, **__: t,
            tensor.is_pinned: lambda t, *_, **__: False,
            tensor.numpy: self._numpy,
            tensor.record_stream: lambda t, *_: None,
        }

    # What torch's functions do.

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        special = self._special.get(func)
        if special is not None:
            return special(*args, **kwargs)
        if func is torch.Tensor.to:
            return self._to(*args, **kwargs)
        device = kwargs.get("device")
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        if device is not None and _is_cuda(device):
            return self._adopt_all(func(*args, **{**kwargs, "device": _CPU}))
        out = func(*args, **kwargs)
        if device is None and isinstance(out, (torch.Tensor, tuple, list)) and self._any_held(args, kwargs):
            return self._adopt_all(out)
        return out

    def _holds(self, tensor: torch.Tensor) -> bool:
        if type(tensor) is not torch.Tensor and not isinstance(tensor, torch.nn.Parameter):
            return False
        try:
            address = tensor.untyped_storage().data_ptr()
        except (NotImplementedError, RuntimeError):  # meta, sparse and the like have no storage
            return False
        if address == 0:
            return tensor.numel() == 0 and getattr(tensor, "_trun_cuda", False)
        return self._memory_of().is_lent(address)

    def _any_held(self, args: Any, kwargs: Any) -> bool:
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor):
                if self._holds(value):
                    return True
            elif isinstance(value, (list, tuple)) and self._any_held(value, {}):
                return True
        return False

    def _adopt_all(self, out: Any) -> Any:
        return tree_map_only(torch.Tensor, self._adopt, out)

    def _adopt(self, tensor: torch.Tensor) -> torch.Tensor:
        """Moves the tensor's storage into a block: the same tensor, elsewhere in memory."""
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or type(tensor).__name__ == "FakeTensor":
            return tensor
        storage = tensor.untyped_storage()
        nbytes = storage.nbytes()
        if nbytes == 0:
            tensor._trun_cuda = True
            return tensor
        if self._memory_of().is_lent(storage.data_ptr()):
            return tensor
        moved = self._new_storage(nbytes)
        moved.copy_(storage)
        with torch.no_grad():
            placed = torch.empty(0, dtype=tensor.dtype).set_(
                moved, tensor.storage_offset(), tensor.size(), tensor.stride()
            )
            if tensor.is_conj():
                placed = placed.conj()
            if tensor.is_neg():
                placed = placed._neg_view()
            tensor.data = placed
        return tensor

    def _new_storage(self, nbytes: int) -> torch.UntypedStorage:
        memory = self._memory_of()
        try:
            block = memory.lend(nbytes)
        except TrunError as error:
            if not self._forget(error, memory.session):
                raise
            memory = self._memory_of()
            block = memory.lend(nbytes)
        array = np.asarray(_Bytes(block.host, nbytes))
        weakref.finalize(array.base, memory.end_loan, block)
        return torch.from_numpy(array).untyped_storage()

    def _device_of(self, tensor: torch.Tensor) -> torch.device:
        return _CUDA if self._holds(tensor) else tensor.device

    def _is_cuda_tensor(self, tensor: torch.Tensor) -> bool:
        return self._holds(tensor)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self._holds(tensor) else self._adopt(tensor.clone(memory_format=torch.preserve_format))

    def _to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone(memory_format=torch.preserve_format) if self._holds(tensor) else tensor

    def _numpy(self, tensor: torch.Tensor, **kwargs: Any) -> Any:
        if self._holds(tensor):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first."
            )
        return tensor.numpy(**kwargs)

    def _to(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        wanted = kwargs.pop("device", None)
        rest = list(args)
        if rest and isinstance(rest[0], (str, torch.device)):
            wanted = rest.pop(0)
        elif rest and isinstance(rest[0], int) and not isinstance(rest[0], bool):
            wanted = torch.device("cuda", rest.pop(0))
        elif rest and isinstance(rest[0], torch.Tensor):
            like = rest.pop(0)
            wanted = self._device_of(like)
            kwargs.setdefault("dtype", like.dtype)
        kwargs.pop("non_blocking", None)
        if rest and isinstance(rest[0], torch.dtype):
            kwargs["dtype"] = rest.pop(0)
        copy = kwargs.pop("copy", False)
        held = self._holds(tensor)
        to_cuda = held if wanted is None else _is_cuda(wanted)
        if wanted is not None and not to_cuda and torch.device(wanted).type != "cpu":
            return tensor.to(wanted, **kwargs)
        out = tensor.to(**kwargs) if kwargs else tensor
        if out is tensor and (copy or held != to_cuda):
            out = tensor.clone(memory_format=torch.preserve_format)
        return self._adopt(out) if to_cuda else out

    # torch.cuda.

    def install(self) -> None:
        cuda = torch.cuda
        properties = types.SimpleNamespace(
            name=self._device.name,
            major=self._capability[0],
            minor=self._capability[1],
            total_memory=self._device.memory_bytes,
            multi_processor_count=self._device.multiprocessors,
            shared_memory_per_block=48 << 10,
            shared_memory_per_block_optin=self._device.max_shared_bytes,
            regs_per_multiprocessor=65536,
            warp_size=32,
            max_threads_per_multi_processor=2048,
        )

        # Each name gets a function of its own: torch._dynamo knows its functions by identity.
        def nothing() -> Any:
            @contextlib.contextmanager
            def context(*_: Any, **__: Any) -> Iterator[None]:
                yield

            return context

        def ignore() -> Any:
            return lambda *_, **__: None

        generator = DefaultGenerator()
        replaced: dict[str, Any] = {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "init": ignore(),
            "_lazy_init": ignore(),
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": ignore(),
            "device": nothing(),
            "stream": nothing(),
            "synchronize": ignore(),
            "empty_cache": ignore(),
            "default_generators": (generator,),
            "manual_seed": lambda seed: generator.manual_seed(seed) and None,
            "manual_seed_all": lambda seed: generator.manual_seed(seed) and None,
            "initial_seed": generator.initial_seed,
            "get_rng_state": lambda device=None: generator.whole_state(),
            "set_rng_state": lambda new_state, device=None: generator.set_whole_state(new_state),
            "get_device_capability": lambda device=None: self._capability,
            "get_device_properties": lambda device=None: properties,
            "get_device_name": lambda device=None: self._device.name,
            "current_stream": lambda device=None: EmulatorStream(),
            "default_stream": lambda device=None: EmulatorStream(),
            "Stream": EmulatorStream,
            "Event": EmulatorEvent,
            "mem_get_info": lambda device=None: (self._device.memory_bytes, self._device.memory_bytes),
            "memory_allocated": lambda device=None: 0,
            "max_memory_allocated": lambda device=None: 0,
            "reset_peak_memory_stats": ignore(),
        }
        for name, value in replaced.items():
            self._patch(cuda, name, value)
        self._patch(torch._C, "_cuda_getCurrentRawStream", lambda device: 0)
        # What torch.compile would make for these tensors is code for a CPU's, or a GPU's: functions run as they are.
        self._compile_disabled = os.environ.get(_COMPILE_DISABLED)
        os.environ[_COMPILE_DISABLED] = "1"
        if "torch._dynamo" in sys.modules:
            self._patch(sys.modules["torch._dynamo"].config, "disable", True)
        self._mode = _Mode(self)
        self._mode.__enter__()
        self._patch_backward()
        run = threading.Thread.run

        def run_with_cuda(thread: threading.Thread) -> None:
            with _Mode(self):  # torch keeps its modes by thread
                run(thread)

        self._patch(threading.Thread, "run", run_with_cuda)

    def _patch_backward(self) -> None:
        """A mode is off while it handles a function, and backward() is one that runs functions of the program.

        The gradients that these get may be the engine's own tensors, which no function has shown to the mode.
        """
        owner, name = torch.autograd.Function, "_engine_run_backward"
        engine, forward = getattr(torch.autograd, name), owner.__dict__["apply"].__func__
        node = torch.autograd.function.BackwardCFunction
        backward = node.__dict__["apply"]

        def run_backward(*args: Any, **kwargs: Any) -> Any:
            with _Mode(self):
                return engine(*args, **kwargs)

        def apply_forward(cls: Any, *args: Any, **kwargs: Any) -> Any:
            out = forward(cls, *args, **kwargs)
            if self._any_held(args, kwargs):
                for tensor in out if isinstance(out, (tuple, list)) else (out,):
                    if isinstance(tensor, torch.Tensor) and isinstance(tensor.grad_fn, node):
                        tensor.grad_fn._trun_cuda = True
            return out

        def apply_backward(context: Any, *args: Any) -> Any:
            return backward(context, *(self._adopt_all(args) if getattr(context, "_trun_cuda", False) else args))

        self._patch(torch.autograd, name, run_backward)
        self._patch(owner, "apply", classmethod(apply_forward))
        self._patch(node, "apply", apply_backward)

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self._patched.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, value)

    def uninstall(self) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None
        for owner, name, value in reversed(self._patched):
            if value is None:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        self._patched.clear()
        if self._compile_disabled is None:
            os.environ.pop(_COMPILE_DISABLED, None)
        else:
            os.environ[_COMPILE_DISABLED] = self._compile_disabled
