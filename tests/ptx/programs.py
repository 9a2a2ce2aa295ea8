"""Every program whose answer is recorded."""

from __future__ import annotations

import async_forms
import memory_forms
import random_programs

RANDOM_PROGRAMS = 400


def all_programs() -> list[memory_forms.Program]:
    return memory_forms.programs() + async_forms.programs() + random_programs.programs(RANDOM_PROGRAMS)
