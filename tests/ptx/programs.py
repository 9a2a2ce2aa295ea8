"""Every program whose whole answer is recorded; of random ones checksums are (fuzz_answers.py)."""

from __future__ import annotations

import functools

import async_forms
import matrix_forms
import memory_forms


@functools.cache
def all_programs() -> tuple[memory_forms.Program, ...]:
    return (*memory_forms.programs(), *async_forms.programs(), *matrix_forms.programs())
