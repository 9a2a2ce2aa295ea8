"""A program as a tree of steps, so that it can be made smaller and stay a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Step:
    """Lines that stay or go together."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """`parts` between `lines`: lines[0], parts[0], lines[1] … A branch, a loop, or the whole module."""

    lines: tuple[tuple[str, ...], ...]
    parts: tuple[tuple[Node, ...], ...]


Node = Step | Block


def text(node: Node) -> Iterator[str]:
    if isinstance(node, Step):
        yield from node.lines
        return
    yield from node.lines[0]
    for part, after in zip(node.parts, node.lines[1:], strict=True):
        for child in part:
            yield from text(child)
        yield from after


def size(node: Node) -> int:
    """How many nodes may go."""
    return 1 + sum(size(child) for part in node.parts for child in part) if isinstance(node, Block) else 1


def without(root: Block, dropped: range) -> Block:
    """Without the nodes of these numbers and what is in them. They are numbered as they stand; the root has none."""
    number = 0

    def kept(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        nonlocal number
        found: list[Node] = []
        for node in nodes:
            if number in dropped:
                number += size(node)
                continue
            number += 1
            found.append(node if isinstance(node, Step) else replace(node, parts=tuple(map(kept, node.parts))))
        return tuple(found)

    return replace(root, parts=tuple(map(kept, root.parts)))


def opened(root: Block) -> Iterator[Block]:
    """The program once for each branch or loop, with what is in it in its place."""

    def variants(nodes: tuple[Node, ...]) -> Iterator[tuple[Node, ...]]:
        for i, node in enumerate(nodes):
            if isinstance(node, Step):
                continue
            yield nodes[:i] + tuple(child for part in node.parts for child in part) + nodes[i + 1 :]
            for k, part in enumerate(node.parts):
                for smaller in variants(part):
                    parts = (*node.parts[:k], smaller, *node.parts[k + 1 :])
                    yield nodes[:i] + (replace(node, parts=parts),) + nodes[i + 1 :]

    for k, part in enumerate(root.parts):
        for smaller in variants(part):
            yield replace(root, parts=(*root.parts[:k], smaller, *root.parts[k + 1 :]))


def shrink(root: Block, still: Callable[[Block], bool], attempts: int = 400) -> Block:
    """The smallest program found for which `still` holds, by leaving out ever smaller pieces."""

    def left() -> bool:
        nonlocal attempts
        attempts -= 1
        return attempts >= 0

    changed = True
    while changed:
        changed = False
        piece = max(1, (size(root) - 1) // 2)
        while piece > 0:
            at = size(root) - 1
            while at > 0:
                candidate = without(root, range(max(0, at - piece), at))
                if not left():
                    return root
                if still(candidate):
                    root, changed = candidate, True
                at = min(at - piece, size(root) - 1)
            piece //= 2
        for candidate in opened(root):
            if not left():
                return root
            if still(candidate):
                root, changed = candidate, True
                break
    return root


def steps(node: Node) -> Iterator[Step]:
    if isinstance(node, Step):
        yield node
    else:
        for part in node.parts:
            for child in part:
                yield from steps(child)


def leaving_out(root: Block, gone: Callable[[Step], bool]) -> Block:
    parts = []
    for part in root.parts:
        kept = (child for child in part if isinstance(child, Block) or not gone(child))
        parts.append(tuple(leaving_out(child, gone) if isinstance(child, Block) else child for child in kept))
    return replace(root, parts=tuple(parts))
