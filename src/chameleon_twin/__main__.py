#!/usr/bin/env python
"""The command ``chameleon-twin``, also ``python -m chameleon_twin``."""

from chameleon_twin.cli import main

if __name__ == "__main__":  # its processes read this file, too
    main()
