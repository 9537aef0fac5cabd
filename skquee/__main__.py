"""``python -m skquee`` is the command ``skquee``."""

from skquee.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
