"""`python -m infrastructure_sdk.cli`."""

from infrastructure_sdk.cli.app import main

main()
