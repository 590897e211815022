"""`python -m pba_service` is `pba`."""

from pba_service.cli import main

if __name__ == "__main__":
    main()
