"""``python -m opensora``."""

from opensora.cli import main

if __name__ == "__main__":
    main()
