"""Triton's CUDA driver with our launcher: kernels loaded and launched in the program's own context and stream.

Triton compiles its driver module, and up to 3.6 a launcher for each signature, with the machine's C compiler. Ours is
one native module (trun.triton._native), the same for every Triton. Where that is missing, or a kernel needs what it
does not do, Triton's own launches.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from trun.triton._launcher import flatten, signature_entries

# Numbers of TMA's element types are others on the host than in Triton's metadata.
_HOST_ELEMENT = {8: 10, 9: 8, 10: 9}
_TF32 = 11
_GLOBAL, _PROFILE = "_allocator", "_profile_allocator"


def native() -> tuple[ModuleType | None, str]:
    """The native module; None and the reason where it cannot be had."""
    try:
        from trun.triton import _native  # type: ignore[attr-defined, unused-ignore]
    except ImportError as error:
        return None, f"trun.triton._native: {error}"
    return _native, ""


class CudaUtils:
    """What Triton asks of its compiled driver module. Anything more is that module's, compiled when it is asked for."""

    def __init__(self, module: ModuleType, own: Callable[[], Any], with_threads: bool) -> None:
        self._own = own
        self._native = module
        self._with_threads = with_threads
        self.get_device_properties = module.device_properties
        self.get_device_capability = module.device_capability
        self.cuOccupancyMaxActiveClusters = module.max_active_clusters
        self.set_printf_fifo_size = module.set_printf_fifo_size

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, ...]:
        loaded: tuple[int, ...] = self._native.load(name, binary, shared, device)
        return loaded if self._with_threads else loaded[:4]

    def unload_module(self, module: Any) -> None:
        self._native.unload(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own(), name)


class Scratch:
    """Memory that a kernel's hidden parameters point to, from the allocators that the program gave Triton."""

    def __init__(self, sizes: list[tuple[str, int, int]]) -> None:
        self._sizes = sizes  # allocator, bytes for each program, alignment

    def __call__(self, programs: int, stream: int) -> tuple[Any, ...]:
        return tuple(
            self._allocate(name, programs * size, align, stream) if size else None for name, size, align in self._sizes
        )

    @staticmethod
    def _allocate(name: str, size: int, align: int, stream: int) -> Any:
        from triton.runtime import _allocation
        from triton.runtime.driver import driver

        if name == _PROFILE and not getattr(_allocation, "has_profile_allocator", lambda: True)():
            return driver.active.allocate_default_profile_scratch(size, align, stream)
        allocator = getattr(_allocation, name)
        return (allocator.get() if hasattr(allocator, "get") else allocator)(size, align, stream)


def _hidden(metadata: Any, ctas: int) -> list[tuple[str, int, int]]:
    """The hidden parameters, which the version's metadata tells: none up to 3.2, one in 3.3 and 3.4, two since."""
    found = []
    for name, kind in ((_GLOBAL, "global_scratch"), (_PROFILE, "profile_scratch")):
        size = getattr(metadata, f"{kind}_size", None)
        if size is not None:
            found.append((name, size * ctas, getattr(metadata, f"{kind}_align")))
    return found


class Descriptors:
    """Tensor descriptors as the kernel takes them: a tensor map, or a pointer and numbers where it has no TMA."""

    def __init__(self, module: ModuleType, metas: list[Any] | None, flags: int) -> None:
        self._native = module
        self._metas = metas
        self._flags = flags

    def kinds(self, rank: int) -> list[str]:
        first = ["tensormap"] if self._metas else ["*", *["i64"] * (2 * rank), *["i1"] * self._flags]
        return [*first, *["i32"] * rank, *["i64"] * rank]

    def parts(self, index: int, value: Any) -> list[Any]:
        nan = getattr(value, "padding", "zero") == "nan"
        tf32 = bool(getattr(value, "round_f32_to_tf32", False))
        numbers = [*value.shape, *value.strides]
        if not self._metas:
            return [value.base, *numbers, *(nan, tf32)[: self._flags], *numbers]
        meta = self._metas[index]
        shape = list(value.shape)
        if meta["fp4_padded"]:
            shape[-1] *= 2
        if value.strides[-1] != 1:
            raise ValueError(f"the last stride of a tensor descriptor is 1, not {value.strides[-1]}")
        element = _TF32 if tf32 else _HOST_ELEMENT.get(meta["elem_type"], meta["elem_type"])
        given = meta["swizzle"], meta["elem_size"], element, meta["block_size"], shape, value.strides, nan
        return [self._native.tensor_map(value.base.data_ptr(), *given), *numbers]


def _without(types: Any, fixed: set[int]) -> tuple[Any, ...]:
    def plain(kind: Any) -> Any:
        return tuple(map(plain, kind)) if isinstance(kind, (tuple, list)) else str(kind)

    return tuple("constexpr" if at in fixed else plain(kind) for at, kind in enumerate(types))


def _rank(kind: str) -> int:
    """Of "tensordesc<fp16[64, 64]>"."""
    return kind[kind.index("[") : kind.index("]")].count(",") + 1


def needs_tritons_launcher(types: Any, metadata: Any) -> str:
    """Why a kernel is left to Triton's own launcher; empty: it is not."""
    flat = [kind for kind, _ in flatten(types, types)]
    if any(kind.startswith("tensordesc_im2col") for kind in flat):
        return "an im2col descriptor"
    if "gsan" in str(getattr(metadata, "instrumentation_mode", "")):
        return "the global memory sanitizer"
    return ""


def _version() -> tuple[int, int]:
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def make_launcher(module: ModuleType, src: Any, metadata: Any) -> Callable[..., None]:
    """What Triton calls to launch one specialisation: the native launcher itself, or what opens descriptors for it."""
    entries, fixed = signature_entries(src)
    types = _without(entries, fixed)
    cluster = tuple(getattr(metadata, "cluster_dims", None) or (metadata.num_ctas, 1, 1))
    if metadata.num_ctas == 1:
        cluster = (1, 1, 1)
    hidden = _hidden(metadata, cluster[0] * cluster[1] * cluster[2])
    options = (
        32 * metadata.num_warps,
        cluster,
        metadata.shared,
        bool(getattr(metadata, "launch_cooperative_grid", False)),
        bool(getattr(metadata, "launch_pdl", False)),
        len(hidden),
        Scratch(hidden) if any(size for _, size, _ in hidden) else None,
    )
    kinds = [kind for kind, _ in flatten(types, types)]
    if not any(kind.startswith("tensordesc") for kind in kinds):
        launcher: Callable[..., None] = module.launcher(types, *options)
        return launcher
    version = _version()
    metas = getattr(metadata, "tensordesc_meta", None)
    descriptors = Descriptors(module, metas, (version >= (3, 5)) + (version >= (3, 7)))
    opened = [part for kind in kinds for part in (descriptors.kinds(_rank(kind)) if "<" in kind else [kind])]
    launch = module.launcher(tuple(opened), *options)

    def open_and_launch(*arguments: Any) -> None:
        values: list[Any] = []
        seen = 0
        for kind, value in flatten(types, arguments[9:]):
            if kind.startswith("tensordesc"):
                values += descriptors.parts(seen, value)
                seen += 1
            else:
                values.append(value)
        launch(*arguments[:9], *values)

    return open_and_launch


def program_driver(base: Any, module: ModuleType, make_utils: Callable[..., CudaUtils] = CudaUtils) -> type:
    """Triton's CUDA driver ``base`` with our launcher, and without torch where the program has none."""
    from triton.backends.driver import GPUDriver
    from triton.compiler import CompiledKernel

    with_threads = "n_max_threads" in _source_of(CompiledKernel._init_handles)

    def own(name: str) -> Any:
        return base.__init__.__globals__[name]  # of triton.backends.nvidia.driver, whatever it was imported as

    def launcher(src: Any, metadata: Any) -> Callable[..., Any]:
        if needs_tritons_launcher(signature_entries(src)[0], metadata):
            tritons: Callable[..., Any] = own("CudaLauncher")(src, metadata)
            return tritons
        return make_launcher(module, src, metadata)

    class ProgramCudaDriver(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.utils = make_utils(module, lambda: own("CudaUtils")(), with_threads)
            self.launcher_cls = launcher
            if _uses_torch():
                GPUDriver.__init__(self)
            else:
                self.get_device_capability = module.device_capability
                self.get_current_device = module.current_device
                self.set_current_device = module.set_current_device
                self.get_current_stream = lambda device=None: 0

        @staticmethod
        def is_active() -> bool:
            return bool(base.is_active()) if _uses_torch() else bool(module.device_count())

    return ProgramCudaDriver


def _source_of(function: Any) -> str:
    import inspect

    return inspect.getsource(function)


def _uses_torch() -> bool:
    """As Triton decides: from 3.7 on by what the program has imported, before by what is installed."""
    return "torch" in sys.modules or (_version() < (3, 7) and importlib.util.find_spec("torch") is not None)
