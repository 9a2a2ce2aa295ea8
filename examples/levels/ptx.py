"""A PTX file with its metadata JSON in the place of the source, from a folder and as text."""

from __future__ import annotations

import json
import pathlib
import tempfile

import matmul
import trun


def main() -> None:
    with trun.connect() as session, tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        problem = matmul.Problem(session)
        made = problem.save(folder).metadata["target"]
        kernel = problem.run(ptx_dir=folder)
        text, metadata = (folder / "matmul.ptx").read_text(), json.loads((folder / "matmul.json").read_text())
        assert problem.run(ptx_src=text, metadata_json=metadata).asm["ptx"] == kernel.asm["ptx"] == text
        print(f"{text.count(chr(10))} lines of PTX; it was made for sm_{made['arch']}")
        assert "python" not in kernel.asm, "the source was compiled, not the file"
    print("right")


if __name__ == "__main__":
    main()
