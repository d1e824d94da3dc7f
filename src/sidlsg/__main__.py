"""`python -m sidlsg`, and with several processes `torchrun … -m sidlsg`: the command line."""

from sidlsg.cli.app import main

if __name__ == "__main__":
    main()
