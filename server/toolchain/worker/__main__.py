"""A compile worker: exactly one Triton, driven by trund over frames on descriptor 3 (docs/formats/frames.md).

Started by trund as `python -s -B -X utf8 FOLDER`, where FOLDER holds this file and the package trun_worker and nothing
else, with an emptied environment; TMPDIR is a folder of its own, and descriptor 2 is a file that trund also holds: what
MLIR and LLVM print there is read back for messages. Imports the standard library and Triton only, and works with every
Triton from 3.0 to 3.9.
"""

import sys

from trun_worker.serving import main

sys.exit(main())
