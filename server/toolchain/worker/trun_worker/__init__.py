"""The parts of a compile worker."""
