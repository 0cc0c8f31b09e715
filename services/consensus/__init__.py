"""The validators: nothing is certified without their quorum."""
