"""Run the command line with ``python -m gan_lab``."""

from gan_lab.cli import main

if __name__ == "__main__":
    main()
