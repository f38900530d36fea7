"""``python -m gan_lab`` is the command line."""

from gan_lab.cli import main

if __name__ == "__main__":
    main()
