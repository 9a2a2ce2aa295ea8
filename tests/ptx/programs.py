"""Every program whose answer is recorded."""

from __future__ import annotations

import functools

import async_forms
import matrix_forms
import memory_forms
import random_programs

RANDOM_PROGRAMS = 400


@functools.cache
def all_programs() -> tuple[memory_forms.Program, ...]:
    return (
        *memory_forms.programs(),
        *async_forms.programs(),
        *matrix_forms.programs(),
        *random_programs.programs(RANDOM_PROGRAMS),
    )
