"""``python -m kernreg``."""

from kernreg.cli import main

main()
